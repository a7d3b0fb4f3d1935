package proctest

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Within returns a context that ends long after anything that works.
func Within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

// Announce makes a file, by which a test knows that a task runs, and in which process.
func Announce(path string) {
	Note(path, os.Getpid())
}

// Note makes a file that holds a process ID, all at once.
func Note(path string, pid int) {
	if err := os.WriteFile(path+".new", []byte(strconv.Itoa(pid)), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		panic(err)
	}
}

// Await waits for the file and returns the process ID in it.
func Await(ctx context.Context, path string) (int, error) {
	for {
		if b, err := os.ReadFile(path); err == nil {
			return strconv.Atoi(string(b))
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// AwaitGone waits until process n has ended: it is no more, or a zombie that whoever
// adopted it has yet to reap.
func AwaitGone(tb testing.TB, n int) {
	tb.Helper()
	for ctx := Within(tb); Alive(n); {
		select {
		case <-ctx.Done():
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n))
			tb.Fatalf("process %d is still there: %s", n, stat)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// Alive reports whether process n has not ended.
func Alive(n int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n))
	if err != nil {
		return false
	}
	if !strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " Z") {
		return true
	}
	// The first thread of a process may have ended before the others, which hold its files.
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", n))
	return err == nil && len(threads) > 1
}
