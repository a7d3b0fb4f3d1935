package examples_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each start method that there is runs the function in a process of its own, and the
// other says why it is none.
func TestProcess(t *testing.T) {
	stdout, stderr, code := run(t, command(t, "process"))
	require.Empty(t, stderr)
	require.Zero(t, code)
	parts := strings.Split(stdout, "\n\n")
	require.Len(t, parts, 4, stdout)
	program := regexp.MustCompile(`^os.getpid\(\) +(\d+)$`).FindStringSubmatch(parts[0])
	require.Len(t, program, 2, stdout)
	lecture := regexp.MustCompile(`^set_start_method +(\w+)
p = Process\(target=who\); p.start\(\); p.pid +(\d+)
and inside: os.getpid\(\), os.getppid\(\) +(\d+) (\d+) <nil>
p.join\(\) +<nil>
p.name, p.is_alive\(\), p.exitcode +who false 0
p.exitcode of an exception +1
which its future tells from a crash +false no lecture today
p.exitcode of sys.exit\(3\) +3
which its future tells from a crash +true executor: worker process \d+ was lost while it ran task "leave": exit status 3
p = Process\(target=nap\); p.is_alive\(\) +true
p.terminate\(\); p.join\(\) +<nil> <nil>
p.is_alive\(\), p.exitcode +false -15$`)
	for i, method := range []string{"Spawn", "ForkServer"} {
		m := lecture.FindStringSubmatch(parts[i+1])
		require.Len(t, m, 5, parts[i+1])
		require.Equal(t, method, m[1])
		require.Equal(t, m[2], m[3], "the process that Start tells of is the one that ran it")
		require.NotEqual(t, program[1], m[2])
		require.Equal(t, program[1], m[4])
	}
	require.Regexp(t, `^set_start_method +Fork\nwhich answers +worker: Start of task "who": .*without exec.*\n$`, parts[3])
}
