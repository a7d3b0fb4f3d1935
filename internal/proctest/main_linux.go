package proctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleName is the variable by which a test starts its binary as something else than a
// worker: a program that is to be killed, for example.
const roleName = "FUTURES_TEST_ROLE"

func init() {
	// A program that was built with -race sleeps for a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
}

// Main is the TestMain of a package whose tests start processes, after worker.Main: it
// runs the tests, or, in a process that Self has started, play, and ends the process.
// Goroutines that options say are other people's may be left behind.
func Main(m *testing.M, play func(role string), options ...goleak.Option) {
	if r, ok := os.LookupEnv(roleName); ok {
		os.Unsetenv(roleName)
		play(r)
		fmt.Fprintln(os.Stderr, "no such role:", r)
		os.Exit(2)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // tests lose workers on purpose
	before := Descriptors()
	code := m.Run()
	if code == 0 {
		code = leaks(before, options)
	}
	os.Exit(code)
}

// Self returns a command that runs the test binary in a role.
func Self(ctx context.Context, role string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleName+"="+role)
	return cmd
}

// leaks says what the tests have left behind.
func leaks(before map[string]string, options []goleak.Option) int {
	code := 0
	complain := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "left behind by the tests: "+format+"\n", args...)
		code = 1
	}
	err := goleak.Find(options...)
	for end := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(end); err = goleak.Find(options...) {
		time.Sleep(100 * time.Millisecond) // between two looks: a library's own may end by a timer
	}
	if err != nil {
		complain("%v", err)
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		complain("a child process: wait4 = %d, %v", pid, err)
	}
	for fd, what := range Opened(before) {
		complain("descriptor %s, %s", fd, what)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		complain("mapped pages: %v", err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "futures-") {
			complain("a mapped page, %s", strings.TrimSpace(line))
		}
	}
	if files, _ := filepath.Glob("/dev/shm/*futures*"); len(files) > 0 {
		complain("files, %v", files)
	}
	return code
}

// Descriptors returns the open descriptors of this process and what they are, but for
// those that the runtime keeps.
func Descriptors() map[string]string {
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

// Opened returns the descriptors that are open now and were not before.
func Opened(before map[string]string) map[string]string {
	now := Descriptors()
	for fd, what := range before {
		if now[fd] == what {
			delete(now, fd)
		}
	}
	return now
}
