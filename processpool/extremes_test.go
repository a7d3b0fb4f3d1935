//go:build linux

package processpool_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// tight leaves a worker n bytes of address space beyond what it has.
var tight = executor.NewTask("tight", func(_ context.Context, n uint64) (struct{}, error) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return struct{}{}, err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		return struct{}{}, err
	}
	all := pages*uint64(os.Getpagesize()) + n
	return struct{}{}, unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: all, Max: all})
})

// quitter ends the goroutine that asks for its text.
type quitter struct{}

func (quitter) Error() string  { runtime.Goexit(); return "" }
func (quitter) String() string { return quitter{}.Error() }

var quit = executor.NewTask("quit", func(_ context.Context, panics bool) (int, error) {
	if panics {
		panic(fmt.Stringer(quitter{}))
	}
	return 0, quitter{}
})

// An argument that a worker dies of while it reads it ends as lost after three
// workers, and the pool goes on. It used to break the pool, and with it all that was
// queued.
func TestArgumentThatKillsItsReader(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: hushed, Initializer: executor.Bind(tight, 160<<20)})
	f := executor.Submit(ctx, p, echo, make([]byte, 512<<20))
	g := executor.Submit(ctx, p, double, 1)
	var lost *executor.WorkerLostError
	require.ErrorAs(t, f.Exception(ctx), &lost)
	require.NoError(t, g.Exception(ctx))
	require.Equal(t, executor.Stats{Submitted: 2, Succeeded: 1, Failed: 1, WorkersLost: 3}, counts(p))
}

// Limits that do not fit into a Duration when they are added up are as good as none.
// They used to be over at once, and the pool broke.
func TestLimitsBeyondDuration(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{
		KillGrace: math.MaxInt64, StartTimeout: math.MaxInt64, MaxMessage: math.MaxInt64,
	}})
	for _, limit := range []time.Duration{time.Minute, math.MaxInt64} {
		got, err := executor.Apply(ctx, p, double, 1, executor.WithTimeout(limit))
		require.NoError(t, err)
		require.Equal(t, 2, got)
	}
}

// The time of a call begins when its worker takes it up. One that was over before that
// used to have its worker killed, again and again until the pool broke.
func TestTimeLimitBeforeStart(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{KillGrace: -1}})
	for range 20 {
		_, err := executor.Apply(ctx, p, double, 1, executor.WithTimeout(1))
		if err != nil { // it may be killed half-way, but for its limit alone
			require.ErrorIs(t, err, executor.ErrTimeout)
		}
	}
	require.NoError(t, executor.Submit(ctx, p, double, 1).Exception(ctx))
}

// An error, and a panic's value, whose text cannot be had since its method ends the
// goroutine, is an error that says so. The call used to hang.
func TestErrorThatEndsItsGoroutine(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	for _, panics := range []bool{false, true} {
		require.ErrorContains(t, executor.Submit(ctx, p, quit, panics).Exception(ctx), "runtime.Goexit")
		n := 0
		for _, err := range executor.Map(ctx, p, quit, slices.Values([]bool{panics, panics}), executor.WithChunk(2)) {
			require.ErrorContains(t, err, "runtime.Goexit")
			n++
		}
		require.Equal(t, 2, n)
	}
	require.NoError(t, executor.Submit(ctx, p, double, 1).Exception(ctx))
}

// losses passes on how workers were lost.
type losses chan error

func (l losses) Observe(e executor.Event) {
	if e.Kind == executor.EventWorkerLost {
		l <- e.Err
	}
}

// A worker that is killed with frames unread was killed, and broke no protocol.
func TestKilledWithFramesUnread(t *testing.T) {
	ctx := within(t)
	lost := make(losses, 1)
	processpool.Without(t, "no arena")
	p := open(t, processpool.Config{Workers: 1, Observer: lost})
	n, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(n, syscall.SIGSTOP))
	f := executor.Submit(ctx, p, echo, make([]byte, 64<<20))
	for unread(t, n) == 0 {
		runtime.Gosched()
	}
	require.NoError(t, syscall.Kill(n, syscall.SIGKILL))
	require.NoError(t, f.Exception(ctx))
	require.NotContains(t, (<-lost).Error(), "protocol")
}

// unread returns how many bytes wait for process n on its socket.
func unread(t *testing.T, n int) int {
	pidfd, err := unix.PidfdOpen(n, 0)
	require.NoError(t, err)
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 3, 0)
	if err != nil && strings.Contains(err.Error(), "not permitted") {
		t.Skipf("the kernel does not let a process look at its child, so this cannot be seen: %v", err)
	}
	require.NoError(t, err)
	defer unix.Close(fd)
	bytes, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	require.NoError(t, err)
	return bytes
}
