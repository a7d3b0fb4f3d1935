//go:build unix

package examples_test

import (
	"bufio"
	"bytes"
	"io"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// quick is a prime that takes 10 ms or more: long enough to be sent on its own.
const quick = "112272535095293 "

// large are primes that take seconds each.
const large = "9223372036854775783 9223372036854775643 9223372036854775549 9223372036854775507 9223372036854775433 "

// long is a list whose first quarter is done at once, which the program says. The
// rest would take minutes.
func long() string { return strings.Repeat(quick, 24) + strings.Repeat(large, 13) }

// Ctrl-C, or SIGTERM, ends the program with a table of what it has done, and leaves
// no process.
func TestPrimesInterrupted(t *testing.T) {
	for _, tt := range []struct {
		backend string
		signal  syscall.Signal
		cause   string
	}{
		{"serial", syscall.SIGINT, "interrupt"},
		{"threads", syscall.SIGINT, "interrupt"},
		{"processes", syscall.SIGINT, "interrupt"},
		{"processes", syscall.SIGTERM, "terminated"},
	} {
		t.Run(tt.backend+"/"+tt.cause, func(t *testing.T) {
			cmd := command(t, "primes", "-backend", tt.backend, "-workers", "2", "-")
			cmd.Stdin = strings.NewReader(long())
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewReader(stderr)
			first, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, tt.backend+": 23 of 89 (25 %)\n", first)
			require.NoError(t, cmd.Process.Signal(tt.signal))
			rest, err := io.ReadAll(lines)
			require.NoError(t, err)
			require.Error(t, cmd.Wait())
			require.Equal(t, 130, cmd.ProcessState.ExitCode(), "%s", rest)
			require.Equal(t, "primes: stopped: "+tt.cause+" signal received\n", string(rest))
			require.Contains(t, stdout.String(), "9223372036854775783 was not checked\n")
			row := rows(stdout.String())[tt.backend]
			require.Len(t, row, 10, "%s", &stdout)
			require.Equal(t, "-", row[3], "a run that was cut short has no speed-up")
			require.Contains(t, []string{"23", "24"}, row[6])
			require.Equal(t, []string{"of", "89"}, row[7:9])
			require.Equal(t, row[6], row[9], "what was checked is prime")
		})
	}
}

// On a terminal each backend has a live bar, and the key Ctrl-C, which signals every
// process of the terminal, ends the program as SIGINT does.
func TestPrimesTerminal(t *testing.T) {
	cmd := command(t, "primes", "-backend", "threads,processes", "-workers", "2", "-file", "-")
	cmd.Env = append(cmd.Env, "TERM=xterm", "LANG=C.UTF-8")
	cmd.Stdin = strings.NewReader(strings.Repeat("112272535095293 ", 8))
	terminal, tty, err := pty.Open()
	require.NoError(t, err)
	defer terminal.Close()
	require.NoError(t, pty.Setsize(terminal, &pty.Winsize{Rows: 24, Cols: 100}))
	cmd.Stdout, cmd.Stderr = tty, tty
	require.NoError(t, cmd.Start())
	require.NoError(t, tty.Close())
	shown, _ := io.ReadAll(terminal) // ends with EIO on Linux, once the last writer has gone
	require.NoError(t, cmd.Wait(), "%s", shown)
	for _, want := range []string{
		`threads +  0% \|`, `threads +100% \|█+\| \(8/8\)`,
		`processes +  0% \|`, `processes +100% \|█+\| \(8/8\)`,
		`all agree: yes`,
	} {
		require.Regexp(t, regexp.MustCompile(want), string(shown))
	}
}

func TestPrimesTerminalCtrlC(t *testing.T) {
	numbers := append(strings.Fields(strings.Repeat(quick, 4)), strings.Fields(strings.Repeat(large, 4))...)
	cmd := command(t, "primes", append([]string{"-backend", "processes", "-workers", "2"}, numbers...)...)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 100})
	require.NoError(t, err)
	defer terminal.Close()
	var shown bytes.Buffer
	for buf := make([]byte, 4096); !strings.Contains(shown.String(), "(4/24)"); {
		n, err := terminal.Read(buf)
		shown.Write(buf[:n])
		require.NoError(t, err, "%s", &shown)
	}
	_, err = terminal.Write([]byte{3}) // Ctrl-C
	require.NoError(t, err)
	rest, _ := io.ReadAll(terminal) // ends with EIO, as above
	require.Error(t, cmd.Wait())
	require.Equal(t, 130, cmd.ProcessState.ExitCode(), "%s", rest)
	require.Contains(t, string(rest), "primes: stopped: interrupt signal received")
	require.Contains(t, string(rest), "4 of 24")
}
