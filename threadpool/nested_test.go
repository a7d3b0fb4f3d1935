package threadpool_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/lend"
	"example.com/futures/threadpool"
)

// TestNestedDepth has each call wait for one more, far deeper than there are
// workers, and sees that the workers that this took are gone afterwards.
func TestNestedDepth(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("workers=%d", workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const depth = 2000
				ctx, p := open(t, threadpool.Config{Workers: workers})
				var down executor.Task[int, int]
				down = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
					if n == 0 {
						return 0, nil
					}
					below, err := executor.Apply(ctx, p, down, n-1)
					return below + 1, err
				})
				n, err := executor.Apply(ctx, p, down, depth)
				require.NoError(t, err)
				require.Equal(t, depth, n)
				synctest.Wait()
				require.LessOrEqual(t, p.Stats().Workers, workers)
				require.Equal(t, executor.Stats{
					Workers: p.Stats().Workers, Idle: p.Stats().Workers,
					Submitted: depth + 1, Succeeded: depth + 1,
				}, p.Stats())
			})
		})
	}
}

// TestNestedWaits has calls wait for calls of their own pool in every way there is.
func TestNestedWaits(t *testing.T) {
	ways := map[string]func(context.Context, *threadpool.Pool, []*future.Future[int]) error{
		"Result": func(ctx context.Context, _ *threadpool.Pool, fs []*future.Future[int]) error {
			for _, f := range fs {
				if _, err := f.Result(ctx); err != nil {
					return err
				}
			}
			return nil
		},
		"DerivedContext": func(ctx context.Context, _ *threadpool.Pool, fs []*future.Future[int]) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return fs[0].Exception(ctx)
		},
		"All": func(ctx context.Context, _ *threadpool.Pool, fs []*future.Future[int]) error {
			_, err := future.All(ctx, fs...)
			return err
		},
		"Any": func(ctx context.Context, _ *threadpool.Pool, fs []*future.Future[int]) error {
			_, err := future.Any(ctx, fs...)
			return err
		},
		"Wait": func(ctx context.Context, _ *threadpool.Pool, fs []*future.Future[int]) error {
			_, _, err := future.Wait(ctx, future.AllCompleted, fs...)
			return err
		},
		"AsCompleted": func(ctx context.Context, _ *threadpool.Pool, fs []*future.Future[int]) error {
			n := 0
			for range future.AsCompleted(ctx, fs...) {
				n++
			}
			if n != len(fs) {
				return fmt.Errorf("AsCompleted yields %d futures, want %d", n, len(fs))
			}
			return nil
		},
		"Map": func(ctx context.Context, p *threadpool.Pool, _ []*future.Future[int]) error {
			for _, err := range executor.Map(ctx, p, double, slices.Values([]int{1, 2, 3})) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"Goroutines": func(ctx context.Context, _ *threadpool.Pool, fs []*future.Future[int]) error {
			var wg sync.WaitGroup
			for _, f := range fs {
				wg.Go(func() { _ = f.Exception(ctx) })
			}
			wg.Wait()
			return nil
		},
	}
	for name, wait := range ways {
		t.Run(name, func(t *testing.T) {
			ctx, p := open(t, threadpool.Config{Workers: 2})
			parent := executor.LocalTask(func(ctx context.Context, _ int) (int, error) {
				return 0, wait(ctx, p, executor.SubmitAll(ctx, p, double, []int{1, 2, 3}))
			})
			_, err := future.All(ctx, executor.SubmitAll(ctx, p, parent, make([]int, 50))...)
			require.NoError(t, err)
			require.NoError(t, p.Shutdown(ctx))
			s := p.Stats() // a child that nobody waited for is cancelled when its parent ends
			require.Equal(t, executor.Stats{Submitted: s.Submitted, Succeeded: s.Succeeded, Cancelled: s.Submitted - s.Succeeded}, s)
		})
	}
}

// TestNestedEachOther has two calls that need one another's results and a pool of one.
func TestNestedEachOther(t *testing.T) {
	ctx, p := open(t, threadpool.Config{Workers: 1})
	ping, pong := future.NewPromise[int](), future.NewPromise[int]()
	f := executor.SubmitFunc(ctx, p, func(ctx context.Context) (int, error) {
		n, err := ping.Future().Result(ctx)
		if err != nil {
			return 0, err
		}
		return n, pong.Resolve(n + 1)
	})
	g := executor.SubmitFunc(ctx, p, func(ctx context.Context) (int, error) {
		if err := ping.Resolve(1); err != nil {
			return 0, err
		}
		return pong.Future().Result(ctx)
	})
	n, err := g.Result(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NoError(t, f.Exception(ctx))
}

// TestLeftBehindWait has tasks leave goroutines that wait under their contexts. The
// places that these lent must be the next call's again, once each.
func TestLeftBehindWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, p := open(t, threadpool.Config{Workers: 2})
		never := future.NewPromise[int]()
		leaves := executor.LocalTask(func(ctx context.Context, n int) (int, error) {
			for range 3 {
				go func() { _ = never.Future().Exception(ctx) }()
			}
			synctest.Wait() // they wait, so the place is lent
			return n, nil
		})
		for i := range 20 {
			n, err := executor.Apply(ctx, p, leaves, i)
			require.NoError(t, err)
			require.Equal(t, i, n)
		}
		g := newGate()
		fs := executor.SubmitAll(ctx, p, g.task(), make([]int, 5))
		synctest.Wait()
		require.Equal(t, 2, p.Stats().Running, "as many as there are workers, no fewer and no more")
		require.Equal(t, 2, p.Stats().Workers)
		close(g.open)
		_, err := future.All(ctx, fs...)
		require.NoError(t, err)
	})
}

// TestLentAndGone has a task return with its place still lent. The place is the next
// call's, once, whenever the one who lent it comes back.
func TestLentAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, p := open(t, threadpool.Config{Workers: 2})
		lenders := make(chan lend.Lender, 20)
		lends := executor.LocalTask(func(ctx context.Context, n int) (int, error) {
			l := lend.From(ctx)
			l.Lend()
			lenders <- l
			return n, nil
		})
		for range 2 {
			for i := range 10 {
				n, err := executor.Apply(ctx, p, lends, i)
				require.NoError(t, err)
				require.Equal(t, i, n)
			}
			g := newGate()
			fs := executor.SubmitAll(ctx, p, g.task(), make([]int, 5))
			synctest.Wait()
			require.Equal(t, 2, p.Stats().Running)
			for range 10 {
				(<-lenders).Reclaim()
			}
			fs = append(fs, executor.SubmitAll(ctx, p, g.task(), make([]int, 5))...)
			synctest.Wait()
			require.Equal(t, 2, p.Stats().Running)
			require.Equal(t, 2, p.Stats().Workers)
			close(g.open)
			_, err := future.All(ctx, fs...)
			require.NoError(t, err)
		}
	})
}

// TestNestedRoom has tasks submit to their own pool whose queue is full: they lend
// their places while they wait for room, or nothing would ever leave the queue.
func TestNestedRoom(t *testing.T) {
	ctx, p := open(t, threadpool.Config{Workers: 2, QueueLimit: 1})
	parent := executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		_, err := future.All(ctx, executor.SubmitAll(ctx, p, double, make([]int, 10))...)
		return n, err
	})
	_, err := future.All(ctx, executor.SubmitAll(ctx, p, parent, make([]int, 20))...)
	require.NoError(t, err)
	require.NoError(t, p.Shutdown(ctx))
	require.Equal(t, executor.Stats{Submitted: 220, Succeeded: 220}, p.Stats())
}

// TestInTask sees which pool a task's context belongs to, with pools nested.
func TestInTask(t *testing.T) {
	ctx, outer := open(t, threadpool.Config{Workers: 1})
	_, inner := open(t, threadpool.Config{Workers: 1})
	_, other := open(t, threadpool.Config{Workers: 1})
	require.False(t, executor.InTask(ctx, outer))
	f := executor.SubmitFunc(ctx, outer, func(ctx context.Context) ([3]bool, error) {
		return executor.SubmitFunc(ctx, inner, func(ctx context.Context) ([3]bool, error) {
			return [3]bool{executor.InTask(ctx, outer), executor.InTask(ctx, inner), executor.InTask(ctx, other)}, nil
		}).Result(ctx)
	})
	in, err := f.Result(ctx)
	require.NoError(t, err)
	require.Equal(t, [3]bool{true, true, false}, in)
}
