// Package examples_test runs the example programs as a newcomer does, and reads what
// they print.
package examples_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write what the programs print to testdata, to be read before it is committed")

// programs is the folder of the built programs.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(built{m})
}

// built runs the tests with the programs built before, and removed after.
type built struct{ *testing.M }

func (b built) Run() int {
	dir, err := os.MkdirTemp("", "examples")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./...").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	programs = dir
	return b.M.Run()
}

// limit is far more than any of the programs needs.
const limit = 2 * time.Minute

// command returns the command that runs a program. When the test is over it sees
// that no process is left of it, workers included: they bear the test's mark.
func command(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	cmd := exec.CommandContext(ctx, filepath.Join(programs, program), args...)
	mark := fmt.Sprintf("EXAMPLES_TEST=%d.%s", os.Getpid(), t.Name())
	cmd.Env = append(os.Environ(), mark)
	t.Cleanup(func() {
		cancel()
		require.Empty(t, marked(t, mark), "processes that the program left behind")
	})
	return cmd
}

// marked returns the processes that have mark in their environment; none where
// there is no /proc to look it up.
func marked(t *testing.T, mark string) (pids []string) {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	for _, name := range environments {
		env, err := os.ReadFile(name)
		if err == nil && bytes.Contains(env, []byte(mark+"\x00")) { // an error: it has just ended
			pids = append(pids, filepath.Base(filepath.Dir(name)))
		}
	}
	return pids
}

// run runs cmd to its end and returns what it printed and its exit code.
func run(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestOutput compares whole outputs: each of their lines is the proof of something.
func TestOutput(t *testing.T) {
	for _, program := range []string{"hello", "futures", "pool"} {
		t.Run(program, func(t *testing.T) {
			stdout, stderr, code := run(t, command(t, program))
			require.Empty(t, stderr)
			require.Zero(t, code)
			golden := filepath.Join("testdata", program+".txt")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(stdout), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), stdout)
		})
	}
}
