package threadpool_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// In these tests calls take no time at all, by the clock of their bubble, so that
// workers take as many ahead as they ever do; one among them does not end, and what
// its worker has taken ahead must not wait for it.

// burst is how many calls come at a time. What is behind the one at slowPlaces is in
// the hands of its worker, in part or as a whole.
const burst = 1000

var slowPlaces = []int{0, 1, 5, 40, 200, burst - 2, burst - 1}

// A slowBurst is calls of which one waits.
type slowBurst struct {
	slow  int                         // its argument
	wait  func(context.Context) error // what it does
	order []int                       // arguments in the order in which calls began
	mu    sync.Mutex                  // guards order
}

func (b *slowBurst) call(ctx context.Context, n int) (int, error) {
	b.mu.Lock()
	b.order = append(b.order, n)
	b.mu.Unlock()
	if n == b.slow {
		return n, b.wait(ctx)
	}
	return n, nil
}

// submit queues the burst while all workers are at the gate, and lets them go.
func (b *slowBurst) submit(ctx context.Context, t *testing.T, p *threadpool.Pool, workers int) []*future.Future[int] {
	g := newGate()
	for range workers {
		executor.Submit(ctx, p, g.task(), 0)
	}
	g.await(ctx, t, workers)
	args := make([]int, burst)
	for i := range args {
		args[i] = i
	}
	fs := executor.SubmitAll(ctx, p, executor.LocalTask(b.call), args)
	close(g.open)
	return fs
}

// forSlowPlaces runs test in a bubble of its own for each place of the slow call.
func forSlowPlaces(t *testing.T, test func(t *testing.T, slow int)) {
	for _, slow := range slowPlaces {
		t.Run(fmt.Sprintf("slow=%d", slow), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, slow) })
		})
	}
}

// others waits for all of fs but the slow one.
func (b *slowBurst) others(ctx context.Context, fs []*future.Future[int]) error {
	for i, f := range fs {
		if i == b.slow {
			continue
		}
		if _, err := f.Result(ctx); err != nil {
			return fmt.Errorf("call %d: %w", i, err)
		}
	}
	return nil
}

// TestNothingStaysBehindASlowCall has a call go on until all others are done, without
// a word to the pool. The other worker runs them.
func TestNothingStaysBehindASlowCall(t *testing.T) {
	forSlowPlaces(t, func(t *testing.T, slow int) {
		ctx, p := open(t, threadpool.Config{Workers: 2})
		rest := make(chan struct{})
		b := &slowBurst{slow: slow, wait: func(context.Context) error { <-rest; return nil }}
		fs := b.submit(ctx, t, p, 2)
		require.NoError(t, b.others(ctx, fs))
		close(rest)
		_, err := fs[slow].Result(ctx)
		require.NoError(t, err)
	})
}

// TestWaitForWhatWasTakenAhead has a call wait for all others under its own context.
// What its own, only worker has taken ahead is among them.
func TestWaitForWhatWasTakenAhead(t *testing.T) {
	forSlowPlaces(t, func(t *testing.T, slow int) {
		ctx, p := open(t, threadpool.Config{Workers: 1})
		all := make(chan []*future.Future[int], 1)
		b := &slowBurst{slow: slow}
		b.wait = func(ctx context.Context) error { return b.others(ctx, <-all) }
		fs := b.submit(ctx, t, p, 1)
		all <- fs
		_, err := fs[slow].Result(ctx)
		require.NoError(t, err)
		require.IsIncreasing(t, b.order)
	})
}

// TestWaitForWhatAnotherTookAhead has the last call wait for all others. Some of them
// are in the hands of a worker whose call does not end, and the queue is empty.
func TestWaitForWhatAnotherTookAhead(t *testing.T) {
	forSlowPlaces(t, func(t *testing.T, slow int) {
		ctx, p := open(t, threadpool.Config{Workers: 2})
		rest := make(chan struct{})
		b := &slowBurst{slow: slow, wait: func(context.Context) error { <-rest; return nil }}
		all := make(chan []*future.Future[int], 1)
		waiter := executor.LocalTask(func(ctx context.Context, _ int) (int, error) { return 0, b.others(ctx, <-all) })

		g := newGate()
		for range 2 {
			executor.Submit(ctx, p, g.task(), 0)
		}
		g.await(ctx, t, 2)
		args := make([]int, burst)
		for i := range args {
			args[i] = i
		}
		fs := executor.SubmitAll(ctx, p, executor.LocalTask(b.call), args)
		last := executor.Submit(ctx, p, waiter, 0)
		close(g.open)
		synctest.Wait()
		all <- fs
		require.NoError(t, last.Exception(ctx))
		close(rest)
	})
}

// TestMoreWorkersForWhatWasTakenAhead gives the pool a second worker while the only
// one has calls in hand that it cannot come to.
func TestMoreWorkersForWhatWasTakenAhead(t *testing.T) {
	forSlowPlaces(t, func(t *testing.T, slow int) {
		ctx, p := open(t, threadpool.Config{Workers: 1})
		rest := make(chan struct{})
		b := &slowBurst{slow: slow, wait: func(context.Context) error { <-rest; return nil }}
		fs := b.submit(ctx, t, p, 1)
		synctest.Wait() // the slow call runs
		require.NoError(t, p.Resize(2))
		require.NoError(t, b.others(ctx, fs))
		close(rest)
	})
}

// TestPriorityOverWhatWasTakenAhead submits a more urgent call while the worker has
// others in hand. It is the next.
func TestPriorityOverWhatWasTakenAhead(t *testing.T) {
	forSlowPlaces(t, func(t *testing.T, slow int) {
		ctx, p := open(t, threadpool.Config{Workers: 1})
		rest := make(chan struct{})
		b := &slowBurst{slow: slow, wait: func(context.Context) error { <-rest; return nil }}
		fs := b.submit(ctx, t, p, 1)
		synctest.Wait()
		urgent := executor.Submit(ctx, p, executor.LocalTask(b.call), burst, executor.WithPriority(1))
		low := executor.Submit(ctx, p, executor.LocalTask(b.call), burst+1, executor.WithPriority(-1))
		close(rest)
		for _, f := range append(fs, urgent, low) {
			require.NoError(t, f.Exception(ctx))
		}
		want := make([]int, 0, burst+2)
		for i := range burst {
			if want = append(want, i); i == slow {
				want = append(want, burst)
			}
		}
		require.Equal(t, append(want, burst+1), b.order)
	})
}

// TestCloseWithCallsTakenAhead closes a pool whose worker has calls in hand: the one
// that runs is interrupted, and all behind it are cancelled.
func TestCloseWithCallsTakenAhead(t *testing.T) {
	forSlowPlaces(t, func(t *testing.T, slow int) {
		ctx, p := open(t, threadpool.Config{Workers: 1})
		b := &slowBurst{slow: slow, wait: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }}
		fs := b.submit(ctx, t, p, 1)
		synctest.Wait()
		require.NoError(t, p.Close())
		for i, f := range fs {
			err := f.Exception(ctx)
			switch {
			case i < slow:
				require.NoError(t, err)
			case i == slow:
				require.Equal(t, future.Finished, f.State())
				require.ErrorIs(t, err, executor.ErrShutdown)
			default:
				require.True(t, f.IsCancelled(), "call %d, behind the one that ran, ended with %v", i, err)
				require.ErrorIs(t, err, executor.ErrShutdown)
			}
		}
		require.Equal(t, executor.Stats{
			Submitted: burst + 1, Succeeded: uint64(slow) + 1, Failed: 1, Cancelled: uint64(burst - slow - 1),
		}, p.Stats())
	})
}

// TestGoexitWithCallsTakenAhead ends the worker's goroutine while it has calls in
// hand. Another worker runs them.
func TestGoexitWithCallsTakenAhead(t *testing.T) {
	forSlowPlaces(t, func(t *testing.T, slow int) {
		ctx, p := open(t, threadpool.Config{Workers: 1})
		b := &slowBurst{slow: slow, wait: func(context.Context) error { runtime.Goexit(); return nil }}
		fs := b.submit(ctx, t, p, 1)
		require.NoError(t, b.others(ctx, fs))
		require.ErrorContains(t, fs[slow].Exception(ctx), "Goexit")
	})
}

// TestCancelWhatWasTakenAhead cancels all that is behind the call that runs. None of
// it starts, and the pool counts it once.
func TestCancelWhatWasTakenAhead(t *testing.T) {
	forSlowPlaces(t, func(t *testing.T, slow int) {
		ctx, p := open(t, threadpool.Config{Workers: 1})
		rest := make(chan struct{})
		b := &slowBurst{slow: slow, wait: func(context.Context) error { <-rest; return nil }}
		fs := b.submit(ctx, t, p, 1)
		synctest.Wait()
		for _, f := range fs[slow+1:] {
			require.True(t, f.Cancel())
		}
		require.Equal(t, executor.Stats{
			Workers: 1, Running: 1, Submitted: burst + 1, Succeeded: uint64(slow) + 1, Cancelled: uint64(burst - slow - 1),
		}, p.Stats())
		close(rest)
		require.NoError(t, fs[slow].Exception(ctx))
		require.NoError(t, p.Shutdown(ctx))
		require.Len(t, b.order, slow+1)
	})
}

// TestSlowCallUnderASteadyStream keeps the queue full while a call does not end: each
// call of the stream submits the next. What was taken ahead behind the slow one is done
// all the same.
func TestSlowCallUnderASteadyStream(t *testing.T) {
	for _, slow := range slowPlaces {
		t.Run(fmt.Sprintf("slow=%d", slow), func(t *testing.T) {
			ctx, p := open(t, threadpool.Config{Workers: 2})
			rest := make(chan struct{})
			b := &slowBurst{slow: slow, wait: func(context.Context) error { <-rest; return nil }}
			var stop atomic.Bool
			var stream executor.Task[int, int]
			stream = executor.LocalTask(func(context.Context, int) (int, error) {
				if !stop.Load() {
					executor.Submit(ctx, p, stream, 0)
				}
				return 0, nil
			})
			fs := b.submit(ctx, t, p, 2)
			executor.SubmitAll(ctx, p, stream, make([]int, 500))
			require.NoError(t, b.others(ctx, fs))
			stop.Store(true)
			close(rest)
		})
	}
}
