package threadpool_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// TestShutdownLeavesNothing sees that all calls have ended and all goroutines are
// gone by the time Shutdown, or Close, returns, and that either may be repeated.
func TestShutdownLeavesNothing(t *testing.T) { // SHU-04, SHU-08, SHU-18
	for name, end := range map[string]func(context.Context, *threadpool.Pool) error{
		"Shutdown": func(ctx context.Context, p *threadpool.Pool) error { return p.Shutdown(ctx) },
		"Close":    func(_ context.Context, p *threadpool.Pool) error { return p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, p := open(t, threadpool.Config{Workers: 8})
			before := goleak.IgnoreCurrent()
			fs := executor.SubmitAll(ctx, p, double, make([]int, 50))
			require.NoError(t, end(ctx, p))
			for _, f := range fs {
				require.True(t, f.IsDone())
			}
			require.Zero(t, p.Stats().Workers)
			require.NoError(t, goleak.Find(before))
			require.NoError(t, p.Shutdown(ctx))
			require.NoError(t, p.Close())
			require.ErrorIs(t, executor.Submit(ctx, p, double, 1).Exception(ctx), executor.ErrShutdown)
		})
	}
}

// TestShutdownUnused ends a pool that never had a worker.
func TestShutdownUnused(t *testing.T) {
	ctx, p := open(t, threadpool.Config{})
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.NoError(t, p.Shutdown(ended), "nothing to wait for, so an ended ctx is no reason for an error")
}

// TestShutdownInTask sees that a task may shut its own pool down: it begins, and
// says that it cannot be waited for.
func TestShutdownInTask(t *testing.T) { // SHU-19, THR-12
	ctx, p := open(t, threadpool.Config{Workers: 1})
	f := executor.SubmitFunc(ctx, p, func(ctx context.Context) ([2]error, error) {
		err := p.Shutdown(ctx)
		return [2]error{err, executor.Submit(ctx, p, double, 1).Exception(ctx)}, nil
	})
	errs, err := f.Result(ctx)
	require.NoError(t, err)
	require.EqualError(t, errs[0], "threadpool: Shutdown: begun, but not waited for: the caller is a task of this pool, which would wait for itself")
	require.ErrorIs(t, errs[1], executor.ErrShutdown)
	require.NoError(t, p.Shutdown(ctx))
}

// TestShutdownGivesUp sees what Shutdown answers when its ctx ends first, that the
// calls go on, and that it may be followed by another Shutdown, or by Close.
func TestShutdownGivesUp(t *testing.T) { // SHU-06, SHU-11, SHU-20, SHU-24
	for name, again := range map[string]func(context.Context, *threadpool.Pool, *gate) error{
		"Shutdown": func(ctx context.Context, p *threadpool.Pool, g *gate) error {
			close(g.open)
			return p.Shutdown(ctx)
		},
		"Close": func(_ context.Context, p *threadpool.Pool, _ *gate) error { return p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, p := open(t, threadpool.Config{Workers: 2})
			g := newGate()
			fs := executor.SubmitAll(ctx, p, g.task(), []int{1, 2, 3})
			g.await(ctx, t, 2)
			why := errors.New("out of patience")
			ended, cancel := context.WithCancelCause(ctx)
			cancel(why)
			err := p.Shutdown(ended)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, why)
			require.True(t, fs[0].IsRunning())
			require.Equal(t, future.Pending, fs[2].State())

			require.NoError(t, again(ctx, p, g))
			for i, f := range fs {
				n, err := f.Result(ctx)
				switch {
				case name == "Shutdown":
					require.NoError(t, err)
					require.Equal(t, i+1, n)
				default:
					require.ErrorIs(t, err, executor.ErrShutdown)
				}
			}
			require.Equal(t, name == "Close", fs[2].IsCancelled())
			require.False(t, fs[0].IsCancelled(), "it ran")
		})
	}
}

// TestCancelPending cancels what is queued and waits for what runs.
func TestCancelPending(t *testing.T) { // SHU-05, SHU-12
	synctest.Test(t, func(t *testing.T) {
		ctx, p := open(t, threadpool.Config{Workers: 2})
		g := newGate()
		fs := executor.SubmitAll(ctx, p, g.task(), make([]int, 50))
		g.await(ctx, t, 2)
		var err error
		go func() { err = p.Shutdown(ctx, executor.CancelPending()) }()
		synctest.Wait()
		for _, f := range fs[2:] {
			require.True(t, f.IsCancelled())
			require.ErrorIs(t, f.Exception(ctx), executor.ErrShutdown)
		}
		require.Equal(t, executor.Stats{Workers: 2, Running: 2, Submitted: 50, Cancelled: 48}, p.Stats())
		close(g.open)
		synctest.Wait()
		require.NoError(t, err)
		require.Equal(t, executor.Stats{Submitted: 50, Succeeded: 2, Cancelled: 48}, p.Stats())
	})
}

// TestShutdownRace shuts pools down while others submit, and sees that each call
// either ran or says that it did not, and that the counters know which.
func TestShutdownRace(t *testing.T) { // SHU-01, SHU-07, EXE-07
	for i := range 300 {
		ctx, p := open(t, threadpool.Config{Workers: 2, QueueLimit: i % 3})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var succeeded, refused int
		start := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-start
				for n := range 20 {
					got, err := executor.Submit(ctx, p, double, n).Result(ctx)
					mu.Lock()
					switch {
					case err == nil && got == 2*n:
						succeeded++
					case errors.Is(err, executor.ErrShutdown):
						refused++
					default:
						t.Errorf("a call ends with %d, %v", got, err)
					}
					mu.Unlock()
				}
			})
		}
		for j := range 2 {
			wg.Go(func() {
				<-start
				var err error
				if (i+j)%2 == 0 {
					err = p.Close()
				} else {
					err = p.Shutdown(ctx)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		s := p.Stats()
		require.Equal(t, 80, succeeded+refused)
		require.Equal(t, uint64(succeeded), s.Succeeded)
		require.Equal(t, executor.Stats{Submitted: s.Submitted, Succeeded: s.Succeeded, Cancelled: s.Submitted - s.Succeeded}, s)
	}
}
