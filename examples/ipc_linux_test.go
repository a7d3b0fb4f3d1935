package examples_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// output returns what a program prints that has nothing to complain of.
func output(t *testing.T, program string) string {
	t.Helper()
	stdout, stderr, code := run(t, command(t, program))
	require.Empty(t, stderr)
	require.Zero(t, code)
	return stdout
}

// Without a lock something is lost, however long it takes; with one, or with ipc.Add, nothing is.
func TestRace(t *testing.T) {
	stdout := output(t, "race")
	rows := regexp.MustCompile(`(?m)^(.*?) +(\d+) +(\d+) +(\d+) +(\d+[a-zµ]+)$`).FindAllStringSubmatch(stdout, -1)
	require.GreaterOrEqual(t, len(rows), 3, stdout)
	for i, row := range rows {
		var added, counted, lost int
		for j, n := range []*int{&added, &counted, &lost} {
			var err error
			*n, err = strconv.Atoi(row[2+j])
			require.NoError(t, err)
		}
		_, err := time.ParseDuration(row[5])
		require.NoError(t, err)
		require.Equal(t, added, counted+lost, stdout)
		switch fromEnd := len(rows) - i; fromEnd {
		case 1:
			require.Equal(t, "ipc.Add", row[1])
			require.Zero(t, lost, stdout)
		case 2:
			require.Equal(t, "the same, under an ipc.Lock", row[1])
			require.Zero(t, lost, stdout)
		case 3:
			require.Positive(t, lost, stdout)
		default:
			require.Zero(t, lost, stdout)
		}
	}
}

// A child that is through, and one that is killed, are the end of the pipe.
func TestPipe(t *testing.T) {
	require.Equal(t, strings.TrimPrefix(`
conn.recv()                                      1 TO BE
conn.recv()                                      2 OR NOT
conn.recv()                                      3 TO BE
conn.recv(), when the child is through: io.EOF   true
conn.send(): io.ErrClosedPipe                    true

conn.poll(), conn.recv()                         true 1 WHO <nil>
conn.poll(), conn.recv()                         true 2 IS <nil>
conn.recv(), when the child is killed: io.EOF    true
p.exitcode                                       -9
`, "\n"), output(t, "pipe"))
}

// Nothing is lost with a putter that ends at once, nor what a killed consumer had not taken.
func TestQueue(t *testing.T) {
	require.Equal(t, strings.TrimPrefix(`
1000 times q.put(job); os._exit(0); p.join()         <nil>
q.qsize()                                            1000
1000 times q.get(): the sum of 0 to 999              499500

a consumer has taken a job of two producers          true
it is killed: p.exitcode                             -9
q.qsize()                                            99 of 100
q.join(), with that job put again                    <nil>
q.shutdown()                                         <nil>
two others got io.EOF, and have done                 100
different jobs among them                            100
`, "\n"), output(t, "queue"))
}

// Memory that processes share has what each of them wrote, whether in place or under Update.
func TestSharedMemory(t *testing.T) {
	require.Regexp(t, `^64 MiB, filled by 4 processes in place +[\d.]+m?s
the sum is as calculated +true
64 MiB, filled by 4 processes and sent +[\d.]+m?s
the sum is as calculated +true
a struct updated by them: count, average +40000 19999.5
min, max +0 39999
a struct that cannot be shared +ipc: new Value: Label of struct { Count int; Label string } has type string, which has no fixed layout: use \[N\]byte
$`, output(t, "sharedmemory"))
}
