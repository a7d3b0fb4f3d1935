package threadpool_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/threadpool"
)

// observe is an Observer.
type observe func(executor.Event)

func (o observe) Observe(e executor.Event) { o(e) }

// Shutdown waits for a cancellation that another goroutine is in the middle of. It
// used to return before that was counted and its observer told. // SHU-07
func TestShutdownWaitsForCancelUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, goOn := make(chan struct{}), make(chan struct{})
		p, err := threadpool.New(threadpool.Config{Workers: 1, Observer: observe(func(e executor.Event) {
			if e.Kind == executor.EventCancel {
				close(told)
				<-goOn
			}
		})})
		require.NoError(t, err)
		release := make(chan struct{})
		executor.SubmitFunc(t.Context(), p, func(context.Context) (int, error) { <-release; return 0, nil })
		queued := executor.SubmitFunc(t.Context(), p, func(context.Context) (int, error) { return 0, nil })
		go queued.Cancel()
		<-told

		var done atomic.Bool
		go func() {
			_ = p.Shutdown(context.Background())
			done.Store(true)
		}()
		close(release)
		synctest.Wait()
		early := done.Load()
		close(goOn)
		synctest.Wait()
		require.False(t, early, "Shutdown returned while a call was being cancelled")
		require.True(t, done.Load())
		s := p.Stats()
		require.Equal(t, s.Submitted, s.Succeeded+s.Failed+s.Cancelled)
		require.True(t, queued.IsCancelled())
	})
}

// A pool that a synctest bubble dropped unused does no harm when it is collected. Its
// cleanup used to close a channel of the bubble from outside, which is fatal.
func TestDropUnusedInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := threadpool.New(threadpool.Config{})
		require.NoError(t, err)
	})
	collected := make(chan struct{})
	func() { // collected no earlier than the pool: cleanups run in a queue
		x := new([64]int)
		runtime.AddCleanup(x, func(int) { close(collected) }, 0)
	}()
	require.Eventually(t, func() bool {
		runtime.GC()
		select {
		case <-collected:
			return true
		default:
			return false
		}
	}, 30*time.Second, time.Millisecond)
}

// A map that is under way when the pool grows keeps the new workers busy too.
func TestMapFollowsResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := threadpool.New(threadpool.Config{Workers: 1})
		require.NoError(t, err)
		defer p.Close()
		var now, most atomic.Int32
		task := executor.LocalTask(func(_ context.Context, n int) (int, error) {
			defer now.Add(-1)
			for c, m := now.Add(1), most.Load(); c > m && !most.CompareAndSwap(m, c); m = most.Load() {
			}
			time.Sleep(time.Second) // virtual time
			return n, nil
		})
		args := func(yield func(int) bool) {
			for i := 0; i < 200 && yield(i); i++ {
			}
		}
		for v, err := range executor.Map(t.Context(), p, task, args) {
			require.NoError(t, err)
			if v == 0 {
				require.NoError(t, p.Resize(16))
			}
		}
		require.EqualValues(t, 16, most.Load())
	})
}

// The zero Workers is as many as Go runs at the same time; Resize changes it. // THR-01
func TestCapacity(t *testing.T) {
	p, err := threadpool.New(threadpool.Config{})
	require.NoError(t, err)
	defer p.Close()
	require.Equal(t, runtime.GOMAXPROCS(0), p.Capacity())
	require.NoError(t, p.Resize(7))
	require.Equal(t, 7, p.Capacity())
}
