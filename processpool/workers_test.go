//go:build linux

package processpool_test

import (
	"context"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// hold occupies n workers and returns the calls that do.
func hold(t *testing.T, p *processpool.Pool, n int) []*future.Future[string] {
	t.Helper()
	ctx := within(t)
	var fs []*future.Future[string]
	for range n {
		path := filepath.Join(t.TempDir(), "patient")
		fs = append(fs, executor.Submit(ctx, p, patient, path))
		_, err := await(ctx, path)
		require.NoError(t, err)
	}
	return fs
}

func pids(t *testing.T, p *processpool.Pool, n int) []int {
	t.Helper()
	ctx := within(t)
	var all []int
	for range n {
		v, err := executor.Apply(ctx, p, pid, struct{}{})
		require.NoError(t, err)
		all = append(all, v)
	}
	return all
}

// Workers start on demand, and an idle one is reused first. // PRO-07, PRO-08, SHU-13
func TestWorkersOnDemand(t *testing.T) {
	p := open(t, processpool.Config{Workers: 5})
	require.Empty(t, p.Workers())
	all := pids(t, p, 20)
	require.Len(t, slices.Compact(all), 1)
	require.Len(t, p.Workers(), 1)
	held := hold(t, p, 2)
	require.Len(t, p.Workers(), 2)
	require.Equal(t, []string{"patient", "patient"}, []string{p.Workers()[0].Task, p.Workers()[1].Task})
	for _, f := range held {
		f.Interrupt(errReason)
		require.NoError(t, f.Exception(t.Context()))
	}
	pids(t, p, 20)
	require.Len(t, p.Workers(), 2)
}

// A worker is replaced after so many calls, also where a chunk is larger than
// that. // PRO-09, PRO-11, POL-26, POL-27
func TestMaxTasksPerChild(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, MaxTasksPerChild: 3})
	all := pids(t, p, 7)
	require.Equal(t, []int{all[0], all[0], all[0], all[3], all[3], all[3], all[6]}, all)
	require.NotEqual(t, all[0], all[3])
	require.NotEqual(t, all[3], all[6])
	i := 0
	seen := map[int]int{}
	for n, err := range executor.Map(ctx, p, pid, slices.Values(make([]struct{}, 11)), executor.WithChunk(11)) {
		require.NoError(t, err)
		seen[n]++
		i++
	}
	require.Equal(t, 11, i)
	require.Len(t, seen, 4)
	require.Zero(t, p.Stats().WorkersLost)
	fs := executor.SubmitAll(ctx, p, double, make([]int, 20))
	require.NoError(t, p.Shutdown(ctx)) // PRO-12, PRO-16
	for _, f := range fs {
		require.NoError(t, f.Exception(ctx))
	}
}

// An idle worker ends after KeepAlive, and another starts when it is needed.
func TestKeepAlive(t *testing.T) {
	p := open(t, processpool.Config{Workers: 1, KeepAlive: time.Millisecond})
	first := pids(t, p, 1)
	awaitGone(t, first[0])
	require.NotEqual(t, first, pids(t, p, 1))
	require.Zero(t, p.Stats().WorkersLost)
}

// Resize takes effect at once on what is queued and what is idle.
func TestResize(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	require.ErrorContains(t, p.Resize(0), "want 1 or more")
	held := hold(t, p, 1)
	path := filepath.Join(t.TempDir(), "patient")
	second := executor.Submit(ctx, p, patient, path)
	require.False(t, second.IsRunning())
	require.NoError(t, p.Resize(2))
	_, err := await(ctx, path)
	require.NoError(t, err)
	require.NoError(t, p.Resize(1))
	require.Len(t, p.Workers(), 2)
	busy := p.Workers()
	held[0].Interrupt(errReason)
	require.NoError(t, held[0].Exception(ctx))
	awaitGone(t, busy[0].PID) // the first to be free is one too many
	second.Interrupt(errReason)
	require.NoError(t, second.Exception(ctx))
	require.Equal(t, []int{busy[1].PID}, slices.Compact(pids(t, p, 5)))
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.Resize(2), executor.ErrShutdown)
}

// Terminate and Kill end what runs as a lost worker, cancel what is queued, refuse what
// comes, and leave no process. // PRO-18, PRO-19, PRO-22, PRO-23, SHU-21
func TestForcedStop(t *testing.T) { byEach(t, testForcedStop) }

func testForcedStop(t *testing.T, m worker.StartMethod) {
	tests := map[string]struct {
		stop   func(*processpool.Pool) error
		signal syscall.Signal
	}{
		"terminate": {(*processpool.Pool).Terminate, syscall.SIGTERM},
		"kill":      {(*processpool.Pool).Kill, syscall.SIGKILL},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			require.NoError(t, tt.stop(open(t, by(m, processpool.Config{})))) // nothing was started

			p := open(t, by(m, processpool.Config{Workers: 2}))
			path := filepath.Join(t.TempDir(), "deaf")
			running := executor.Submit(ctx, p, deaf, path, executor.WithRetries(5))
			_, err := await(ctx, path)
			require.NoError(t, err)
			held := hold(t, p, 1)
			queued := executor.SubmitAll(ctx, p, double, make([]int, 1000))
			workers := p.Workers()
			require.NoError(t, tt.stop(p))
			for _, f := range []interface{ Exception(context.Context) error }{running, held[0]} {
				var lost *executor.WorkerLostError
				require.ErrorAs(t, f.Exception(ctx), &lost)
				require.Equal(t, tt.signal, lost.Signal)
			}
			for _, f := range queued {
				require.ErrorIs(t, f.Exception(ctx), future.ErrCancelled)
				require.ErrorIs(t, f.Exception(ctx), executor.ErrShutdown)
			}
			for _, w := range workers {
				require.ErrorIs(t, syscall.Kill(w.PID, 0), syscall.ESRCH) // reaped, too
			}
			require.ErrorIs(t, executor.Submit(ctx, p, double, 1).Exception(ctx), executor.ErrShutdown)
			require.Empty(t, p.Workers())
			require.Zero(t, p.Stats().WorkersLost, "workers that died without being asked to")
			require.NoError(t, tt.stop(p))
		})
	}
}

// A worker that is just being started does not escape. // PRO-14
func TestKillWhileStarting(t *testing.T) { byEach(t, testKillWhileStarting) }

func testKillWhileStarting(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	for range 20 {
		p := open(t, by(m, processpool.Config{Workers: 4}))
		fs := executor.SubmitAll(ctx, p, double, make([]int, 8))
		require.NoError(t, p.Kill())
		require.Empty(t, p.Workers())
		for _, f := range fs {
			require.True(t, f.IsDone())
		}
	}
}

// A worker that ignores SIGTERM is killed when the grace is over.
func TestTerminateStubborn(t *testing.T) { byEach(t, testTerminateStubborn) }

func testTerminateStubborn(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 1, Worker: worker.Config{KillGrace: 20 * time.Millisecond}}))
	path := filepath.Join(t.TempDir(), "stubborn")
	f := executor.Submit(ctx, p, stubborn, path)
	_, err := await(ctx, path)
	require.NoError(t, err)
	require.NoError(t, p.Terminate())
	var lost *executor.WorkerLostError
	require.ErrorAs(t, f.Exception(ctx), &lost)
	require.Equal(t, syscall.SIGKILL, lost.Signal)
}

// A crash while the pool drains loses its own call; the rest is done. // SHU-15
func TestCrashWhileDraining(t *testing.T) { byEach(t, testCrashWhileDraining) }

func testCrashWhileDraining(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 2, Worker: hushed}))
	var fs []*future.Future[int]
	for i := range 50 {
		fs = append(fs, executor.Submit(ctx, p, crashAt, crash{N: i, At: i / 10 * 10}))
	}
	require.NoError(t, p.Shutdown(ctx))
	for i, f := range fs {
		require.True(t, f.IsDone())
		require.Equal(t, i%10 == 0, f.Exception(ctx) != nil, i)
	}
	require.Equal(t, executor.Stats{Submitted: 50, Succeeded: 45, Failed: 5, WorkersLost: 5}, counts(p))
	require.NoError(t, p.Shutdown(ctx)) // SHU-18
}

// A shutdown without waiting loses nothing, and the workers are gone in the
// end. // SHU-06, SHU-11, SHU-20, SHU-24
func TestShutdownWithoutWaiting(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	held := hold(t, p, 1)
	queued := executor.Submit(ctx, p, double, 21)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, p.Shutdown(ended), context.Canceled)
	require.True(t, held[0].IsRunning())
	require.False(t, queued.IsDone())
	held[0].Interrupt(errReason)
	n, err := queued.Result(ctx)
	require.NoError(t, err)
	require.Equal(t, 42, n)
	require.NoError(t, p.Shutdown(ctx))
	require.Empty(t, p.Workers())
}

// Pools come and go. // SHU-17
func TestManyPools(t *testing.T) { byEach(t, testManyPools) }

func testManyPools(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	for i := range 30 {
		p := open(t, by(m, processpool.Config{Workers: 2}))
		require.NoError(t, executor.Submit(ctx, p, double, i).Exception(ctx))
		require.Error(t, executor.Submit(ctx, p, explode, bomb{encode: anError}).Exception(ctx))
		require.NoError(t, p.Close())
	}
}

// Workers that kill one another lose their own calls and nothing else. // DEA-18
func TestMutualKill(t *testing.T) { byEach(t, testMutualKill) }

func testMutualKill(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	for _, n := range []int{1, 2, 5, 13} {
		p := open(t, by(m, processpool.Config{Workers: n}))
		hold(t, p, n)
		for _, w := range p.Workers() {
			require.NoError(t, syscall.Kill(w.PID, syscall.SIGKILL))
		}
		for i, f := range executor.SubmitAll(ctx, p, double, []int{1, 2, 3}) {
			v, err := f.Result(ctx)
			require.NoError(t, err)
			require.Equal(t, 2*(i+1), v)
		}
		lost := func() bool { return p.Stats().WorkersLost == uint64(n) }
		require.Eventually(t, lost, time.Minute, time.Millisecond) // the last of them may be noticed after the calls
	}
}

// An interrupted chunk ends the item that runs, and those behind it never run: they
// count as cancelled.
func TestInterruptedChunk(t *testing.T) {
	ctx, cancel := context.WithCancelCause(within(t))
	defer cancel(nil)
	p := open(t, processpool.Config{Workers: 1})
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "0"), filepath.Join(dir, "1"), filepath.Join(dir, "2")}
	go func() {
		_, _ = await(ctx, paths[0])
		cancel(errReason)
	}()
	for _, err := range executor.Map(ctx, p, patient, slices.Values(paths), executor.WithChunk(3)) {
		if err != nil {
			require.ErrorIs(t, err, errReason)
		}
	}
	require.NoError(t, p.Shutdown(within(t)))
	require.NoFileExists(t, paths[1])
	require.NoFileExists(t, paths[2])
	require.Equal(t, executor.Stats{Submitted: 3, Succeeded: 1, Cancelled: 2}, counts(p))
}
