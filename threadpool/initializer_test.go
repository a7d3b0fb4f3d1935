package threadpool_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// TestInitializer sees that it runs once in each worker, before its first call.
func TestInitializer(t *testing.T) { // INI-01
	var ran atomic.Int64
	init := executor.Bind(executor.LocalTask(func(_ context.Context, by int) (int, error) {
		ran.Add(int64(by))
		return 0, nil
	}), 10)
	ctx, p := open(t, threadpool.Config{Workers: 3, Initializer: init})
	g := newGate()
	fs := executor.SubmitAll(ctx, p, g.task(), make([]int, 3))
	g.await(ctx, t, 3)
	require.Equal(t, int64(30), ran.Load())
	close(g.open)
	_, err := future.All(ctx, append(fs, executor.SubmitAll(ctx, p, double, make([]int, 100))...)...)
	require.NoError(t, err)
	require.Equal(t, int64(30), ran.Load())
}

// TestSlowInitializer sees that a worker that takes its time to begin holds no call
// up that another worker could run.
func TestSlowInitializer(t *testing.T) { // INI-07
	synctest.Test(t, func(t *testing.T) {
		var first atomic.Bool
		slow := make(chan struct{})
		init := executor.Bind(executor.LocalTask(func(context.Context, int) (int, error) {
			if !first.CompareAndSwap(false, true) {
				<-slow
			}
			return 0, nil
		}), 0)
		ctx, p := open(t, threadpool.Config{Workers: 2, Initializer: init})
		g := newGate()
		fs := executor.SubmitAll(ctx, p, g.task(), []int{1, 2}) // the second starts the slow worker
		synctest.Wait()
		require.Equal(t, executor.Stats{Workers: 2, Running: 1, Queued: 1, Submitted: 2}, p.Stats())
		close(g.open)
		_, err := future.All(ctx, fs...)
		require.NoError(t, err)
		close(slow)
		synctest.Wait()
		require.Equal(t, executor.Stats{Workers: 2, Idle: 2, Submitted: 2, Succeeded: 2}, p.Stats())
	})
}

// TestBrokenPool sees what a failing initializer does: all that is queued, and all
// that comes, fails with an error of its own that has the cause; one line is logged;
// what runs goes on.
func TestBrokenPool(t *testing.T) { // INI-02, THR-10
	cause := errors.New("no such library")
	for name, fail := range map[string]func() error{
		"Error":  func() error { return cause },
		"Panic":  func() error { panic(cause) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			var works atomic.Bool
			works.Store(true)
			init := executor.LocalTask(func(context.Context, int) (int, error) {
				if works.Load() {
					return 0, nil
				}
				return 0, fail()
			})
			ctx, p := open(t, threadpool.Config{
				Workers:     2,
				Initializer: executor.Bind(init, 0),
				Logger:      slog.New(slog.NewTextHandler(&log, nil)),
			})
			g := newGate()
			running := executor.Submit(ctx, p, g.task(), 1)
			g.await(ctx, t, 1)
			works.Store(false)
			queued := executor.SubmitAll(ctx, p, double, []int{1, 2, 3})
			seen := map[*executor.BrokenError]bool{}
			for _, f := range append(queued, executor.Submit(ctx, p, double, 4)) {
				var broken *executor.BrokenError
				require.ErrorAs(t, f.Exception(ctx), &broken)
				require.False(t, seen[broken], "an error of its own")
				seen[broken] = true
				if name != "Goexit" {
					require.ErrorIs(t, broken, cause)
				}
			}
			require.Error(t, p.Resize(5))
			require.True(t, running.IsRunning())
			close(g.open)
			require.NoError(t, running.Exception(ctx))
			require.NoError(t, p.Shutdown(ctx))
			s := p.Stats()
			require.Equal(t, executor.Stats{Submitted: s.Submitted, Succeeded: 1, Failed: s.Submitted - 1}, s)
			require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
		})
	}
}

// TestBrokenWhileWaiting breaks a pool while a submit waits for room.
func TestBrokenWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := make(chan struct{})
		init := executor.Bind(executor.LocalTask(func(context.Context, int) (int, error) {
			<-fail
			return 0, errors.New("at last")
		}), 0)
		ctx, p := open(t, threadpool.Config{
			Workers: 1, QueueLimit: 1, Initializer: init, Logger: quiet,
		})
		var mu sync.Mutex
		var fs []*future.Future[int]
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				f := executor.Submit(ctx, p, double, i)
				mu.Lock()
				defer mu.Unlock()
				fs = append(fs, f)
			})
		}
		synctest.Wait()
		require.Len(t, fs, 2, "one for the worker that starts, one for the queue")
		close(fail)
		wg.Wait()
		for _, f := range fs {
			var broken *executor.BrokenError
			require.ErrorAs(t, f.Exception(ctx), &broken)
		}
	})
}

// TestCloseEndsInitializer sees that Close interrupts an initializer, and that the
// pool is then closed rather than broken.
func TestCloseEndsInitializer(t *testing.T) {
	var log bytes.Buffer
	begun := make(chan struct{})
	init := executor.Bind(executor.LocalTask(func(ctx context.Context, _ int) (int, error) {
		close(begun)
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}), 0)
	ctx, p := open(t, threadpool.Config{Workers: 1, Initializer: init, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	f := executor.Submit(ctx, p, double, 1)
	<-begun
	require.NoError(t, p.Close())
	require.True(t, f.IsCancelled())
	require.ErrorIs(t, f.Exception(ctx), executor.ErrShutdown)
	require.Empty(t, log.String())
}
