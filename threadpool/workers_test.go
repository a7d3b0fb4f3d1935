package threadpool_test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// TestSaturation sees that calls run on all workers and never on more.
func TestSaturation(t *testing.T) { // THR-02
	const workers, calls = 4, 60
	ctx, p := open(t, threadpool.Config{Workers: workers})
	g := newGate()
	fs := executor.SubmitAll(ctx, p, g.task(), make([]int, calls))
	g.await(ctx, t, workers)
	require.Equal(t, executor.Stats{Workers: workers, Queued: calls - workers, Running: workers, Submitted: calls}, p.Stats())

	var running, most atomic.Int64
	count := executor.LocalTask(func(context.Context, int) (int, error) {
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		runtime.Gosched()
		running.Add(-1)
		return 0, nil
	})
	fs = append(fs, executor.SubmitAll(ctx, p, count, make([]int, 10_000))...)
	close(g.open)
	_, err := future.All(ctx, fs...)
	require.NoError(t, err)
	require.LessOrEqual(t, most.Load(), int64(workers))
	require.Equal(t, workers, p.Stats().Workers)
}

// TestWorkersOnDemand sees that a worker is started where there is no idle one, and
// that an idle one is taken where there is.
func TestWorkersOnDemand(t *testing.T) { // THR-03, THR-08
	synctest.Test(t, func(t *testing.T) {
		ctx, p := open(t, threadpool.Config{Workers: 5})
		require.Zero(t, p.Stats().Workers, "before the first call")
		for i := range 3 {
			n, err := executor.Apply(ctx, p, double, i)
			require.NoError(t, err)
			require.Equal(t, 2*i, n)
			synctest.Wait() // until the worker is idle again
			require.Equal(t, 1, p.Stats().Workers, "one after another")
			require.Equal(t, 1, p.Stats().Idle)
		}
		g := newGate()
		fs := executor.SubmitAll(ctx, p, g.task(), make([]int, 3))
		g.await(ctx, t, 3)
		require.Equal(t, 3, p.Stats().Workers, "three at once")
		close(g.open)
		_, err := future.All(ctx, fs...)
		require.NoError(t, err)
	})
}

// TestKeepAlive sees that workers end when they have idled for long enough, the
// ones that are needed last.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, p := open(t, threadpool.Config{Workers: 3, KeepAlive: 10 * time.Second})
		g := newGate()
		fs := executor.SubmitAll(ctx, p, g.task(), make([]int, 3))
		g.await(ctx, t, 3)
		close(g.open)
		_, err := future.All(ctx, fs...)
		require.NoError(t, err)
		require.Equal(t, 3, p.Stats().Workers)

		time.Sleep(6 * time.Second) // virtual time
		_, err = executor.Apply(ctx, p, double, 1)
		require.NoError(t, err)
		time.Sleep(5 * time.Second) // virtual time
		require.Equal(t, 1, p.Stats().Workers, "the one that had a call")
		time.Sleep(6 * time.Second) // virtual time
		require.Zero(t, p.Stats().Workers)

		n, err := executor.Apply(ctx, p, double, 21)
		require.NoError(t, err)
		require.Equal(t, 42, n)
		require.Equal(t, 1, p.Stats().Workers)
	})
}

// TestKeepAliveRace has workers expire at the moment at which calls come.
func TestKeepAliveRace(t *testing.T) {
	ctx, p := open(t, threadpool.Config{Workers: 2, KeepAlive: time.Microsecond})
	for i := range 3000 {
		n, err := executor.Apply(ctx, p, double, i)
		require.NoError(t, err)
		require.Equal(t, 2*i, n)
		if i%3 == 0 {
			runtime.Gosched()
		}
	}
}

// TestGoexit sees that a task which ends its goroutine costs no call and no place.
func TestGoexit(t *testing.T) { // EXE-13, DEA-07
	ctx, p := open(t, threadpool.Config{Workers: 1})
	g := newGate()
	exits := executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		_, _ = g.pass(ctx, n)
		runtime.Goexit()
		return 0, nil
	})
	first := executor.Submit(ctx, p, exits, 1)
	g.await(ctx, t, 1)
	var fs []*future.Future[int]
	for i := range 100 {
		fs = append(fs, executor.Submit(ctx, p, double, i), executor.Submit(ctx, p, exits, i))
	}
	close(g.open)
	require.ErrorContains(t, first.Exception(ctx), "Goexit")
	for i, f := range fs {
		n, err := f.Result(ctx)
		if i%2 == 0 {
			require.NoError(t, err)
			require.Equal(t, i/2*2, n)
		} else {
			require.ErrorContains(t, err, "Goexit")
		}
	}
	require.NoError(t, p.Shutdown(ctx))
	require.Equal(t, executor.Stats{Submitted: 201, Succeeded: 100, Failed: 101}, p.Stats())
}

// TestGoexitWhileLent ends a task whose place is lent, with a call behind it that
// needs the place.
func TestGoexitWhileLent(t *testing.T) {
	ctx, p := open(t, threadpool.Config{Workers: 1})
	waits := make(chan struct{})
	f := executor.SubmitFunc(ctx, p, func(ctx context.Context) (int, error) {
		child := future.NewPromise[int]()
		go func() {
			close(waits)
			_ = child.Future().Exception(ctx) // lends, until the task is gone
		}()
		<-waits
		runtime.Goexit()
		return 0, nil
	})
	require.ErrorContains(t, f.Exception(ctx), "Goexit")
	for i := range 10 {
		n, err := executor.Apply(ctx, p, double, i)
		require.NoError(t, err)
		require.Equal(t, 2*i, n)
	}
}

// TestResize grows a pool with calls queued, which start at once, and shrinks it,
// which ends idle workers at once and busy ones after their call.
func TestResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, p := open(t, threadpool.Config{Workers: 2})
		require.EqualError(t, p.Resize(0), "threadpool: Resize to 0 workers: want 1 or more")
		require.Error(t, p.Resize(-3))

		one, two := newGate(), newGate()
		fs := executor.SubmitAll(ctx, p, one.task(), make([]int, 6))
		one.await(ctx, t, 2)
		require.NoError(t, p.Resize(5))
		one.await(ctx, t, 3)
		require.Equal(t, executor.Stats{Workers: 5, Running: 5, Queued: 1, Submitted: 6}, p.Stats())

		require.NoError(t, p.Resize(2))
		require.Equal(t, 5, p.Stats().Workers, "busy workers go on")
		fs = append(fs, executor.SubmitAll(ctx, p, two.task(), make([]int, 3))...)
		close(one.open)
		synctest.Wait()
		require.Equal(t, executor.Stats{Workers: 2, Running: 2, Queued: 1, Submitted: 9, Succeeded: 6}, p.Stats())
		close(two.open)
		_, err := future.All(ctx, fs...)
		require.NoError(t, err)

		synctest.Wait()
		require.Equal(t, 2, p.Stats().Idle)
		require.NoError(t, p.Resize(1))
		synctest.Wait()
		require.Equal(t, 1, p.Stats().Workers, "idle workers end at once")
		require.NoError(t, p.Shutdown(ctx))
		require.ErrorIs(t, p.Resize(3), executor.ErrShutdown)
	})
}

// TestResizeUnderLoad sees that no call is lost, and no limit overstepped for long,
// while the limit changes all the time.
func TestResizeUnderLoad(t *testing.T) {
	ctx, p := open(t, threadpool.Config{Workers: 2})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n = n%8 + 1 {
			select {
			case <-stop:
				return
			default:
				if err := p.Resize(n); err != nil {
					t.Errorf("Resize(%d) = %v", n, err)
				}
				runtime.Gosched()
			}
		}
	})
	for round := range 50 {
		args := make([]int, 200)
		for i := range args {
			args[i] = round + i
		}
		got, err := future.All(ctx, executor.SubmitAll(ctx, p, double, args)...)
		require.NoError(t, err)
		for i, n := range got {
			require.Equal(t, 2*args[i], n)
		}
	}
	close(stop)
	wg.Wait()
	require.NoError(t, p.Resize(1))
	require.NoError(t, p.Shutdown(ctx))
	require.Equal(t, executor.Stats{Submitted: 10_000, Succeeded: 10_000}, p.Stats())
}

// TestPriority sees that higher priorities go first and that equals keep their order.
func TestPriority(t *testing.T) {
	ctx, p := open(t, threadpool.Config{Workers: 1})
	g := newGate()
	blocker := executor.Submit(ctx, p, g.task(), 0)
	g.await(ctx, t, 1)
	type key struct{ priority, seq int }
	var got []key // only the one worker writes it
	note := executor.LocalTask(func(_ context.Context, k key) (int, error) {
		got = append(got, k)
		return 0, nil
	})
	priorities := []int{0, 5, -3, 0, 7, 5, 0, -3, 1 << 40, 7}
	const rounds = 100 // several chunks of the queue for each priority
	var fs []*future.Future[int]
	for seq := range rounds * len(priorities) {
		k := key{priorities[seq%len(priorities)], seq}
		fs = append(fs, executor.Submit(ctx, p, note, k, executor.WithPriority(k.priority)))
	}
	close(g.open)
	_, err := future.All(ctx, append(fs, blocker)...)
	require.NoError(t, err)
	require.Len(t, got, rounds*len(priorities))
	for i := 1; i < len(got); i++ {
		a, b := got[i-1], got[i]
		if a.priority < b.priority || a.priority == b.priority && a.seq >= b.seq {
			t.Fatalf("%v ran before %v", a, b)
		}
	}
}

// TestProcessFromTask starts a process from a task, which ends as it should.
func TestProcessFromTask(t *testing.T) { // THR-05
	ctx, p := open(t, threadpool.Config{Workers: 2})
	f := executor.SubmitFunc(ctx, p, func(ctx context.Context) (int, error) {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
		err := cmd.Run()
		return cmd.ProcessState.ExitCode(), err
	})
	code, err := f.Result(ctx)
	require.NoError(t, err)
	require.Zero(t, code)
}
