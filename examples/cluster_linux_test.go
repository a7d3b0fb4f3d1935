package examples_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool/embed"
)

// clusterCommand is command for the cluster program. When the test is over it sees that the
// program has left no file behind.
func clusterCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left, "files that the program left behind")
	})
	cmd := command(t, "cluster", args...)
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	return cmd
}

// shares returns how many numbers each process has checked, by the table in output.
func shares(t *testing.T, output string) map[int]int {
	t.Helper()
	checked := map[int]int{}
	for _, m := range regexp.MustCompile(`(?m)^ *\S+ +(\d+) +(\d+) +\d+(?:  killed)?$`).FindAllStringSubmatch(output, -1) {
		pid, _ := strconv.Atoi(m[1])
		checked[pid], _ = strconv.Atoi(m[2])
	}
	return checked
}

// One command is a server, two workers and their client.
func TestCluster(t *testing.T) {
	stdout, stderr, code := run(t, clusterCommand(t))
	require.Zero(t, code, stderr)
	require.Equal(t, "10 of 40\n20 of 40\n30 of 40\n40 of 40\n", stderr)
	require.Regexp(t, `(?m)^40 of 40 checked, 30 prime, in \d+\.\d{3} s\nwrong answers: 0$`, stdout)
	require.NotContains(t, stdout, "is prime", "the program's own numbers are not listed")
	checked := shares(t, stdout)
	require.Len(t, checked, 2, stdout)
	sum := 0
	for _, n := range checked {
		sum += n
	}
	require.Equal(t, 40, sum)
}

// A worker that is killed while it runs a call costs time, and no call.
func TestClusterKill(t *testing.T) {
	stdout, stderr, code := run(t, clusterCommand(t, "-kill", "-workers", "3", "-slots", "1"))
	require.Zero(t, code, stderr)
	killed := regexp.MustCompile(`(?m)^worker process (\d+) was killed; begun again: (\d+); lost: 0$`).FindStringSubmatch(stdout)
	require.Len(t, killed, 3, stdout)
	require.NotEqual(t, "0", killed[2], stdout)
	require.Contains(t, stderr, "worker process "+killed[1]+" has ended: ")
	require.Regexp(t, `(?m)^40 of 40 checked, 30 prime, .*\n.*\nwrong answers: 0$`, stdout)
}

func TestClusterNumbers(t *testing.T) {
	stdout, stderr, code := run(t, clusterCommand(t, "2", "9", "922", "112272535095293"))
	require.Zero(t, code, stderr)
	require.True(t, strings.HasPrefix(stdout, "2 is prime\n9 is not prime\n922 is not prime\n112272535095293 is prime\n\n"), stdout)
}

// Ctrl-C ends the program with a table of what it has done, and leaves nothing.
func TestClusterInterrupted(t *testing.T) {
	numbers := append(strings.Fields(strings.Repeat("97 ", 8)), strings.Fields(strings.Repeat("9223372036854775783 ", 12))...)
	cmd := clusterCommand(t, numbers...)
	stdout, rest := interrupted(t, cmd, "5 of 20\n")
	require.Equal(t, 130, cmd.ProcessState.ExitCode(), "%s", rest)
	require.Contains(t, rest, "cluster: stopped: interrupt signal received\n")
	require.Contains(t, stdout, "97 is prime\n")
	require.Contains(t, stdout, "9223372036854775783 was not checked\n")
	require.Regexp(t, `(?m)^([5-8]) of 20 checked, ([5-8]) prime, `, stdout)
}

// interrupted runs cmd and interrupts it when it has written line to its standard error. It
// returns what it wrote to its standard output, and to its standard error after the line.
func interrupted(t *testing.T, cmd *exec.Cmd, line string) (stdout, stderr string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout = &out
	errs, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(errs)
	for got := ""; got != line; {
		got, err = lines.ReadString('\n')
		require.NoError(t, err, got)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	_ = cmd.Wait() // the exit code says it
	return out.String(), string(rest)
}

// Two workers and a client that know nothing of each other but the servers' URL and the
// pool's name.
func TestClusterApart(t *testing.T) {
	s, err := embed.Start(t.Context(), embed.Config{})
	require.NoError(t, err)
	defer s.Close()
	file := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(file, []byte(s.URL()+"\n"), 0o600))

	pids := map[int]bool{}
	var workers []*exec.Cmd
	for range 2 {
		cmd := clusterCommand(t, "-url", "@"+file, "-worker", "-slots", "1", "-name", "apart")
		cmd.Stderr = io.Discard // it says that it waits for the pool's streams, and the like
		require.NoError(t, cmd.Start())
		workers = append(workers, cmd)
		pids[cmd.Process.Pid] = true
	}
	stdout, stderr, code := run(t, clusterCommand(t, "-url", "@"+file, "-name", "apart"))
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "40 of 40 checked, 30 prime, in ")
	checked := shares(t, stdout)
	require.NotEmpty(t, checked)
	for pid := range checked {
		require.Contains(t, pids, pid, stdout)
	}
	for _, cmd := range workers {
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		require.NoError(t, cmd.Wait(), "Ctrl-C is a worker's ordinary end")
	}

	// Who brings its own workers, too, and kills one of them.
	stdout, stderr, code = run(t, clusterCommand(t, "-url", "@"+file, "-workers", "2", "-kill", "-name", "another"))
	require.Zero(t, code, stderr)
	require.Regexp(t, `(?m)^worker process \d+ was killed; begun again: \d+; lost: 0$`, stdout)
}

// A worker does not say the password that it is refused for.
func TestClusterRefused(t *testing.T) {
	s, err := embed.Start(t.Context(), embed.Config{})
	require.NoError(t, err)
	defer s.Close()
	_, stderr, code := run(t, clusterCommand(t, "-worker", "-url", strings.Replace(s.URL(), "futures:", "futures:wrong", 1)))
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "Authorization Violation")
	require.NotContains(t, stderr, "wrong")
}

func TestClusterBadInput(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"number":               {[]string{"7", "1.5"}, `cluster: argument 2: "1.5" is not a whole number of at most 2^63-1`},
		"flag":                 {[]string{"-speed", "9"}, "cluster: flag provided but not defined: -speed"},
		"no workers":           {[]string{"-workers", "0"}, "cluster: -workers 0: somebody must do the work"},
		"less than none":       {[]string{"-url", "nats://host", "-workers", "-1"}, "cluster: -workers -1: must not be negative"},
		"slots":                {[]string{"-slots", "-1"}, "cluster: -slots -1: must not be negative"},
		"worker of nothing":    {[]string{"-worker"}, "cluster: -worker: of which servers?"},
		"worker with a number": {[]string{"-worker", "-url", "nats://host", "7"}, "cluster: -worker: a worker takes no numbers"},
		"the only one":         {[]string{"-kill", "-workers", "1"}, "cluster: -kill with -workers 1: start two or more"},
		"none to kill":         {[]string{"-kill", "-url", "nats://host"}, "cluster: -kill with -workers 0: start two or more"},
		"no file":              {[]string{"-url", "@none"}, "cluster: -url: open none: "},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := run(t, clusterCommand(t, tt.args...))
			require.Equal(t, 2, code)
			require.Empty(t, stdout)
			require.True(t, strings.HasPrefix(stderr, tt.want), "stderr = %q, want %q", stderr, tt.want)
		})
	}
}
