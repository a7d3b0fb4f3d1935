//go:build linux

package processpool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// role is the variable by which a test starts this binary as something else than a
// worker: a program that is to be killed, for example.
const role = "PROCESSPOOL_TEST_ROLE"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // for the workers, which would take a second each to end
	worker.Main()
	if r, ok := os.LookupEnv(role); ok {
		os.Unsetenv(role)
		play(r)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // tests lose workers on purpose
	before := descriptors()
	code := m.Run()
	if code == 0 {
		code = leaks(before)
	}
	os.Exit(code)
}

// leaks says what the tests have left behind.
func leaks(before map[string]string) int {
	code := 0
	complain := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "left behind by the tests: "+format+"\n", args...)
		code = 1
	}
	if err := goleak.Find(); err != nil {
		complain("%v", err)
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		complain("a child process: wait4 = %d, %v", pid, err)
	}
	for fd, what := range descriptors() {
		if before[fd] == "" {
			complain("descriptor %s, %s", fd, what)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil || strings.Contains(string(maps), "futures-worker") {
		complain("a mapped page: %v", err)
	}
	return code
}

// descriptors returns the open descriptors of this process and what they are, but for
// those that the runtime keeps.
func descriptors() map[string]string {
	all := map[string]string{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		what, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(what, "/proc/") && strings.HasSuffix(what, "/fd") { // the directory itself
			continue
		}
		if what == "anon_inode:[eventpoll]" || what == "anon_inode:[eventfd]" || strings.HasPrefix(what, "/sys/fs/cgroup/") {
			continue
		}
		all[e.Name()] = what
	}
	return all
}

// hushed is for workers that crash on purpose, and say so at length.
var hushed = worker.Config{Output: func(int, string, []byte) {}}

// open returns a pool that is closed at the end of the test.
func open(tb testing.TB, cfg processpool.Config) *processpool.Pool {
	tb.Helper()
	p, err := processpool.New(cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, p.Close()) })
	return p
}

// within returns a context that ends long after anything that works.
func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

// self returns a command that runs this binary in a role.
func self(ctx context.Context, r string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), role+"="+r)
	return cmd
}
