//go:build linux

package processpool_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/ring"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

var errReason = errors.New("the reason")

func init() { executor.RegisterError("processpool_test.errReason", errReason) }

// killedFor asserts that err is that of a call whose worker was killed for reason.
func killedFor(t *testing.T, err error, reason error) {
	t.Helper()
	var lost *executor.WorkerLostError
	require.ErrorAs(t, err, &lost)
	require.ErrorIs(t, err, reason)
	require.Equal(t, syscall.SIGKILL, lost.Signal)
	require.NotErrorIs(t, err, future.ErrCancelled)
}

// A call that ignores the end of its context has its worker killed after the grace,
// and is not run again: its error says why, and that a worker was lost.
func TestKillGrace(t *testing.T) {
	tests := []struct {
		name   string
		reason error
		submit func(ctx context.Context, p *processpool.Pool, path string) (*future.Future[int], func(*future.Future[int]))
	}{
		{"interrupt", errReason, func(ctx context.Context, p *processpool.Pool, path string) (*future.Future[int], func(*future.Future[int])) {
			return executor.Submit(ctx, p, deaf, path, executor.WithRetries(3)),
				func(f *future.Future[int]) { f.Interrupt(errReason) }
		}},
		{"context", errReason, func(ctx context.Context, p *processpool.Pool, path string) (*future.Future[int], func(*future.Future[int])) {
			ctx, cancel := context.WithCancelCause(ctx)
			return executor.Submit(ctx, p, deaf, path, executor.WithRetries(3)),
				func(*future.Future[int]) { cancel(errReason) }
		}},
		{"time limit", executor.ErrTimeout, func(ctx context.Context, p *processpool.Pool, path string) (*future.Future[int], func(*future.Future[int])) {
			return executor.Submit(ctx, p, deaf, path, executor.WithRetries(3), executor.WithTimeout(50*time.Millisecond)),
				func(*future.Future[int]) {}
		}},
		{"close", executor.ErrShutdown, func(ctx context.Context, p *processpool.Pool, path string) (*future.Future[int], func(*future.Future[int])) {
			return executor.Submit(ctx, p, deaf, path, executor.WithRetries(3)),
				func(*future.Future[int]) { p.Close() }
		}},
	}
	for _, grace := range []time.Duration{-1, 20 * time.Millisecond} {
		for _, tt := range tests {
			t.Run(tt.name+"/"+grace.String(), func(t *testing.T) {
				ctx := within(t)
				p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{KillGrace: grace}})
				path := filepath.Join(t.TempDir(), "deaf")
				f, end := tt.submit(ctx, p, path)
				if tt.name != "time limit" {
					_, err := await(ctx, path)
					require.NoError(t, err)
					require.True(t, f.IsRunning())
				}
				end(f)
				killedFor(t, f.Exception(ctx), tt.reason)
				if tt.name != "close" {
					n, err := executor.Apply(ctx, p, double, 21)
					require.NoError(t, err)
					require.Equal(t, 42, n)
				}
				require.Zero(t, p.Stats().Retried)
				require.Equal(t, uint64(1), p.Stats().WorkersLost)
			})
		}
	}
}

// A task sees how its caller's context ended, with the cause, whatever it was.
func TestContextEnds(t *testing.T) {
	p := open(t, processpool.Config{Workers: 1})
	ctx := within(t)
	tests := map[string]struct {
		ctx  func() (context.Context, func())
		want string
	}{
		"cancelled": {func() (context.Context, func()) {
			c, cancel := context.WithCancelCause(ctx)
			return c, func() { cancel(errReason) }
		}, "context canceled|the reason"},
		"deadline": {func() (context.Context, func()) {
			c, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			t.Cleanup(cancel)
			return c, func() {}
		}, "context deadline exceeded|context deadline exceeded"},
		"deadline with a cause": {func() (context.Context, func()) {
			c, cancel := context.WithTimeoutCause(ctx, 200*time.Millisecond, errReason)
			t.Cleanup(cancel)
			return c, func() {}
		}, "context deadline exceeded|the reason"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "patient")
			c, end := tt.ctx()
			f := executor.Submit(c, p, patient, path)
			_, err := await(ctx, path)
			require.NoError(t, err)
			end()
			got, err := f.Result(ctx)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
	t.Run("time limit", func(t *testing.T) {
		got, err := executor.Apply(ctx, p, patient, filepath.Join(t.TempDir(), "patient"), executor.WithTimeout(time.Millisecond))
		require.NoError(t, err)
		require.Equal(t, "context deadline exceeded|"+executor.ErrTimeout.Error(), got)
	})
	require.Zero(t, p.Stats().WorkersLost)
}

// 64 MiB travel whole, both ways, also next to calls that are interrupted. // PRO-29
func TestLargePayload(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	large := make([]byte, 64<<20)
	for i := range large {
		large[i] = byte(i >> 12)
	}
	for range 2 {
		got, err := executor.Apply(ctx, p, echo, large)
		require.NoError(t, err)
		require.True(t, bytes.Equal(large, got))
		n, err := executor.Apply(ctx, p, double, 1) // the streams have started anew
		require.NoError(t, err)
		require.Equal(t, 2, n)
	}
	// A chunk whose answers would fill the socket while its arguments still come.
	args := slices.Repeat([][]byte{large[:4<<20]}, 8)
	for got, err := range executor.Map(ctx, p, echo, slices.Values(args), executor.WithChunk(8)) {
		require.NoError(t, err)
		require.True(t, bytes.Equal(args[0], got))
	}
}

// A value over the limit fails its own call, in either direction. // PRO-28
func TestMaxMessage(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{MaxMessage: 100_000}})
	grow := executor.Submit(ctx, p, repeat, 200_000)
	require.ErrorContains(t, grow.Exception(ctx), "over the limit of 100000")
	require.ErrorContains(t, grow.Exception(ctx), "result")
	arg := executor.Submit(ctx, p, echo, make([]byte, 100_001))
	require.ErrorContains(t, arg.Exception(ctx), "over the limit of 100000")
	require.ErrorContains(t, arg.Exception(ctx), "argument")
	got, err := executor.Apply(ctx, p, echo, make([]byte, 90_000))
	require.NoError(t, err)
	require.Len(t, got, 90_000)
	require.Zero(t, p.Stats().WorkersLost)
}

var repeat = executor.NewTask("repeat", func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil })

// onItsWay has p give a worker that is stopped, and reads no more than a socket holds, a
// call with a large argument.
func onItsWay(t *testing.T, p *processpool.Pool) (n int, f *future.Future[[]byte]) {
	t.Helper()
	ctx := within(t)
	n, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(n, syscall.SIGSTOP))
	f = executor.Submit(ctx, p, echo, make([]byte, 64<<20))
	for processpool.Given(p) == 0 {
		runtime.Gosched()
	}
	require.False(t, f.IsRunning())
	return n, f
}

// byWay runs test once for each way in which large arguments travel.
func byWay(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	for _, without := range []string{"all", "no ring", "no arena"} {
		t.Run(without, func(t *testing.T) {
			processpool.Without(t, without)
			test(t)
		})
	}
}

// A worker that is killed while a large argument is on its way to it loses nothing, for
// it has not taken the call up. // DEA-15
func TestKilledWhileArgumentIsWritten(t *testing.T) {
	byWay(t, func(t *testing.T) {
		p := open(t, processpool.Config{Workers: 1})
		n, f := onItsWay(t, p)
		require.NoError(t, syscall.Kill(n, syscall.SIGKILL))
		got, err := f.Result(within(t))
		require.NoError(t, err)
		require.Len(t, got, 64<<20)
		require.Equal(t, executor.Stats{Submitted: 2, Succeeded: 2, WorkersLost: 1}, counts(p))
	})
}

// A worker that is killed while it writes a large result to its socket, since there is no
// memory for that, or too little, loses that call. // DEA-15
func TestKilledWhileResultIsWritten(t *testing.T) {
	for without, size := range map[string]int{"no ring": 64 << 20, "all": ring.ArenaLen/2 + 1} {
		t.Run(without, func(t *testing.T) {
			processpool.Without(t, without)
			ctx := within(t)
			p := open(t, processpool.Config{Workers: 1})
			f := executor.Submit(ctx, p, selfStopping, size)
			var lost *executor.WorkerLostError
			require.ErrorAs(t, f.Exception(ctx), &lost)
			require.Equal(t, syscall.SIGKILL, lost.Signal)
			require.NoError(t, executor.Submit(ctx, p, double, 1).Exception(ctx))
		})
	}
}

// Close returns while 64 MiB are on their way to a worker that does not read. // SHU-26
func TestCloseWhileArgumentIsWritten(t *testing.T) {
	byWay(t, func(t *testing.T) {
		p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{KillGrace: 10 * time.Millisecond}})
		_, f := onItsWay(t, p)
		require.NoError(t, p.Close())
		require.ErrorIs(t, f.Exception(within(t)), executor.ErrShutdown)
	})
}

// Of ten large calls one is done; the others are cancelled, or interrupted on their
// way, and the pool closes. // SHU-27
func TestCancelLargeThenClose(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	large := make([]byte, 100_000_000)
	fs := executor.SubmitAll(ctx, p, echo, slices.Repeat([][]byte{large}, 10))
	got, err := fs[0].Result(ctx)
	require.NoError(t, err)
	require.Len(t, got, len(large))
	cancelled := 0
	for _, f := range slices.Backward(fs) {
		if f.Cancel() {
			cancelled++
		} else {
			require.NotEqual(t, future.Pending, f.State(), "it is, or was, with the worker")
		}
	}
	require.NotZero(t, cancelled)
	require.NoError(t, p.Close())
	for _, f := range fs {
		require.True(t, f.IsDone())
	}
}
