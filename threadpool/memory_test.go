package threadpool_test

import (
	"context"
	"runtime"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// load is something to be found in memory, or not.
type load struct{ bytes [1 << 10]byte }

// collected waits until the garbage collector has taken what w points to.
func collected[T any](ctx context.Context, t *testing.T, what string, w weak.Pointer[T]) {
	t.Helper()
	for w.Value() != nil {
		if ctx.Err() != nil {
			require.FailNow(t, what+" is kept alive")
		}
		runtime.GC()
	}
}

// TestNothingOfDoneCallsIsKept sees that an idle pool keeps neither function,
// argument, result nor future of the calls that it ran.
func TestNothingOfDoneCallsIsKept(t *testing.T) { // EXE-04
	ctx, p := open(t, threadpool.Config{Workers: 2})
	weaks := func() []weak.Pointer[load] {
		captured, arg := new(load), new(load)
		task := executor.LocalTask(func(_ context.Context, arg *load) (*load, error) {
			result := new(load)
			result.bytes[0] = captured.bytes[0] + arg.bytes[0]
			return result, nil
		})
		f := executor.Submit(ctx, p, task, arg)
		result, err := f.Result(ctx)
		require.NoError(t, err)
		return []weak.Pointer[load]{weak.Make(captured), weak.Make(arg), weak.Make(result)}
	}()
	for i, what := range []string{"the function", "the argument", "the result"} {
		collected(ctx, t, what, weaks[i])
	}
}

// TestArgumentOfKeptFuture sees that a future keeps its result, but not the
// argument, nor the pool.
func TestArgumentOfKeptFuture(t *testing.T) {
	ctx := patience(t)
	f, arg, pool := func() (*future.Future[int], weak.Pointer[load], weak.Pointer[threadpool.Pool]) {
		p, err := threadpool.New(threadpool.Config{})
		require.NoError(t, err)
		arg := new(load)
		f := executor.Submit(ctx, p, executor.LocalTask(func(context.Context, *load) (int, error) { return 42, nil }), arg)
		require.NoError(t, f.Exception(ctx))
		return f, weak.Make(arg), weak.Make(p)
	}()
	collected(ctx, t, "the argument", arg)
	collected(ctx, t, "the pool", pool)
	n, err := f.Result(ctx)
	require.NoError(t, err)
	require.Equal(t, 42, n)
}

// TestCancelledCallsAreForgotten cancels all but one of the calls that are queued
// behind one that goes on and on. What they hold is let go at once; the calls
// themselves once they are more than half of the queue, so that a handful is left.
func TestCancelledCallsAreForgotten(t *testing.T) {
	const calls = 10_000
	ctx, p := open(t, threadpool.Config{Workers: 1})
	g := newGate()
	executor.Submit(ctx, p, g.task(), 0)
	g.await(ctx, t, 1)
	last := executor.Submit(ctx, p, double, 21, executor.WithPriority(-1))
	futures := make([]weak.Pointer[future.Future[int]], calls)
	args := make([]weak.Pointer[load], calls)
	func() {
		task := executor.LocalTask(func(context.Context, *load) (int, error) { return 0, nil })
		for i := range futures {
			arg := new(load)
			f := executor.Submit(ctx, p, task, arg, executor.WithPriority(i%3))
			futures[i], args[i] = weak.Make(f), weak.Make(arg)
		}
		for _, f := range futures {
			require.True(t, f.Value().Cancel())
		}
	}()
	require.Equal(t, executor.Stats{Workers: 1, Running: 1, Queued: 1, Submitted: calls + 2, Cancelled: calls}, p.Stats())
	for _, w := range args {
		collected(ctx, t, "the argument of a cancelled call", w)
	}
	kept := 0
	for _, w := range futures {
		if w.Value() != nil {
			kept++
		}
	}
	require.Less(t, kept, 200, "cancelled calls in the queue")
	close(g.open)
	n, err := last.Result(ctx)
	require.NoError(t, err, "what is not cancelled stays")
	require.Equal(t, 42, n)
}

// TestNotDroppedWhileSubmitting has a submit, the last that anybody does with the
// pool, wait for room for as long as the garbage collector needs to see that.
func TestNotDroppedWhileSubmitting(t *testing.T) {
	ctx := patience(t)
	before := goleak.IgnoreCurrent()
	g := newGate()
	waiting, submitted := make(chan struct{}), make(chan *future.Future[int], 1)
	func() {
		p, err := threadpool.New(threadpool.Config{Workers: 1, QueueLimit: 1})
		require.NoError(t, err)
		executor.SubmitAll(ctx, p, g.task(), []int{1, 2})
		go func(p executor.Executor) {
			close(waiting)
			submitted <- executor.Submit(ctx, p, double, 21)
		}(p)
	}()
	g.await(ctx, t, 1)
	<-waiting
	for range 10 {
		runtime.GC()
	}
	close(g.open)
	n, err := (<-submitted).Result(ctx)
	require.NoError(t, err)
	require.Equal(t, 42, n)
	for goleak.Find(before) != nil { // now it may be dropped, which nobody else would wait for
		require.NoError(t, ctx.Err())
		runtime.GC()
	}
}

// TestDroppedPool sees that a pool that nobody can use any more is collected, its
// workers with it, when it is idle and when it is not: then it finishes first what
// it was given.
func TestDroppedPool(t *testing.T) { // SHU-10
	for name, busy := range map[string]bool{"Idle": false, "Busy": true} {
		t.Run(name, func(t *testing.T) {
			ctx := patience(t)
			before := goleak.IgnoreCurrent()
			g := newGate()
			var fs []*future.Future[int]
			pool := func() weak.Pointer[threadpool.Pool] {
				p, err := threadpool.New(threadpool.Config{Workers: 2})
				require.NoError(t, err)
				fs = executor.SubmitAll(ctx, p, g.task(), make([]int, 5))
				g.await(ctx, t, 2)
				if !busy {
					close(g.open)
					_, err := future.All(ctx, fs...)
					require.NoError(t, err)
				}
				return weak.Make(p)
			}()
			collected(ctx, t, "the pool", pool)
			if busy {
				close(g.open)
				_, err := future.All(ctx, fs...)
				require.NoError(t, err)
			}
			require.NoError(t, goleak.Find(before))
		})
	}
}
