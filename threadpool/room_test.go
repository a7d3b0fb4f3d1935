package threadpool_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// full returns a pool whose one worker stands at the gate and whose queue holds
// limit calls.
func full(t *testing.T, limit int, reject bool) (context.Context, *threadpool.Pool, *gate, []*future.Future[int]) {
	t.Helper()
	ctx, p := open(t, threadpool.Config{Workers: 1, QueueLimit: limit, RejectWhenFull: reject})
	g := newGate()
	fs := []*future.Future[int]{executor.Submit(ctx, p, g.task(), 0)}
	g.await(ctx, t, 1)
	fs = append(fs, executor.SubmitAll(ctx, p, double, make([]int, limit))...)
	require.Equal(t, limit, p.Stats().Queued)
	return ctx, p, g, fs
}

// TestFreeWorkersNeedNoRoom fills all workers and then the queue to its last place,
// as fast as it can: not one call is refused, and the next one is.
func TestFreeWorkersNeedNoRoom(t *testing.T) {
	for range 200 {
		ctx, p := open(t, threadpool.Config{Workers: 4, QueueLimit: 2, RejectWhenFull: true})
		g := newGate()
		fs := executor.SubmitAll(ctx, p, g.task(), make([]int, 6))
		require.ErrorIs(t, executor.Submit(ctx, p, double, 1).Exception(ctx), executor.ErrQueueFull)
		g.await(ctx, t, 4)
		require.ErrorIs(t, executor.Submit(ctx, p, double, 1).Exception(ctx), executor.ErrQueueFull)
		close(g.open)
		_, err := future.All(ctx, fs...)
		require.NoError(t, err)
		require.NoError(t, p.Shutdown(ctx))
		require.Equal(t, executor.Stats{Submitted: 6, Succeeded: 6}, p.Stats(), "refused calls do not count")
	}
}

// TestRoomInOrder has submits wait for room and sees that they get it by priority
// and then in the order in which they came, and that nobody gets it out of turn.
func TestRoomInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, p, g, fs := full(t, 1, false)
		in := make(chan int, 10) // those who got in
		late := make([]*future.Future[int], 6)
		for i, priority := range []int{0, 0, 1, 0, 2, 1} {
			go func() {
				late[i] = executor.Submit(ctx, p, double, i, executor.WithPriority(priority))
				in <- i
			}()
			synctest.Wait() // until it waits for room
		}
		require.Equal(t, 1, p.Stats().Queued, "those who wait for room are not queued")
		queued := fs[1]
		for _, want := range []int{4, 2, 5, 0, 1, 3} {
			require.True(t, queued.Cancel())
			synctest.Wait()
			require.Len(t, in, 1)
			require.Equal(t, want, <-in)
			queued = late[want]
		}
		close(g.open)
		require.NoError(t, queued.Exception(ctx))
	})
}

// TestRoomByCancel sees that a cancelled call gives its room away at once, without
// a worker coming by.
func TestRoomByCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, p, g, fs := full(t, 2, false)
		var late *future.Future[int]
		go func() { late = executor.Submit(ctx, p, double, 21) }()
		synctest.Wait()
		require.Nil(t, late)
		require.True(t, fs[1].Cancel())
		synctest.Wait()
		require.NotNil(t, late)
		require.Equal(t, executor.Stats{Workers: 1, Running: 1, Queued: 2, Submitted: 4, Cancelled: 1}, p.Stats())
		close(g.open)
		n, err := late.Result(ctx)
		require.NoError(t, err)
		require.Equal(t, 42, n)
	})
}

// TestRoomByResize sees that more workers make room.
func TestRoomByResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, p, g, _ := full(t, 2, false)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := future.All(ctx, executor.SubmitAll(ctx, p, double, make([]int, 3))...)
			if err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		require.NoError(t, p.Resize(2))
		<-done
		close(g.open)
	})
}

// TestNoRoom sees the ways in which a submit that waits for room gives up, and that
// it leaves the queue as it was.
func TestNoRoom(t *testing.T) {
	cause := errors.New("the caller's own reason")
	for name, c := range map[string]struct {
		end  func(*threadpool.Pool, context.CancelCauseFunc, context.Context) error
		want error
	}{
		"ContextEnds": {func(_ *threadpool.Pool, cancel context.CancelCauseFunc, _ context.Context) error {
			cancel(cause)
			return nil
		}, cause},
		"Shutdown": {func(p *threadpool.Pool, _ context.CancelCauseFunc, ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			if err := p.Shutdown(ctx); !errors.Is(err, context.Canceled) {
				return errors.New("Shutdown under an ended ctx: want context.Canceled")
			}
			return nil
		}, executor.ErrShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, p, g, fs := full(t, 2, false)
				callers, cancel := context.WithCancelCause(ctx)
				defer cancel(nil)
				late := make([]*future.Future[int], 3)
				for i := range late {
					go func() { late[i] = executor.Submit(callers, p, double, i) }()
				}
				synctest.Wait()
				require.NoError(t, c.end(p, cancel, ctx))
				synctest.Wait()
				for _, f := range late {
					require.ErrorIs(t, f.Exception(ctx), c.want)
				}
				require.Equal(t, 2, p.Stats().Queued)
				close(g.open)
				_, err := future.All(ctx, fs...)
				require.NoError(t, err)
				require.Equal(t, uint64(3), p.Stats().Submitted)
			})
		})
	}
}

// TestRoomOfMap sees that a map waits for room where a submit is refused, that it
// leaves the bound of the queue alone, and that a chunk larger than the queue gets in.
func TestRoomOfMap(t *testing.T) {
	ctx, p := open(t, threadpool.Config{Workers: 2, QueueLimit: 3, RejectWhenFull: true})
	for _, chunk := range []int{1, 2, 10} {
		args := make([]int, 100)
		for i := range args {
			args[i] = i
		}
		i := 0
		for n, err := range executor.Map(ctx, p, double, slices.Values(args), executor.WithChunk(chunk), executor.WithBuffer(50)) {
			require.NoError(t, err)
			require.Equal(t, 2*i, n)
			i++
		}
		require.Equal(t, len(args), i)
	}
}

// TestRoomStress submits from many goroutines to a short queue, cancels some of it,
// and sees that every call ends and that the bound holds.
func TestRoomStress(t *testing.T) {
	const limit = 5
	ctx, p := open(t, threadpool.Config{Workers: 3, QueueLimit: limit})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range 500 {
				ctx, cancel := context.WithCancel(ctx)
				f := executor.Submit(ctx, p, double, i, executor.WithPriority(i%3))
				switch {
				case i%7 == 0:
					cancel()
				case i%5 == 0:
					f.Cancel()
				}
				// What was handed to a worker that has yet to wake up is in no queue.
				if q := p.Stats().Queued; q > limit+3 {
					t.Errorf("%d calls are queued, want at most %d", q, limit+3)
				}
				if err := f.Exception(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, future.ErrCancelled) {
					t.Errorf("call %d ends with %v", i, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	require.NoError(t, p.Shutdown(ctx))
	s := p.Stats()
	require.Equal(t, s.Submitted, s.Succeeded+s.Cancelled+s.Failed)
	require.Zero(t, s.Queued)
	require.Zero(t, s.Running)
}
