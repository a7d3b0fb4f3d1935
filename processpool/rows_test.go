//go:build linux

package processpool_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// belated returns a value and leaves something behind that ends the process, once a file
// is there.
var belated = executor.NewTask("belated", func(_ context.Context, path string) (int, error) {
	go func() {
		_, _ = await(context.Background(), path)
		os.Exit(7)
	}()
	return os.Getpid(), nil
})

// A worker that dies between two calls, of what the first has left behind, costs neither:
// that one has its result, and the next runs elsewhere. // DEA-17
func TestCrashAfterResult(t *testing.T) { byEach(t, testCrashAfterResult) }

func testCrashAfterResult(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 1, Worker: hushed}))
	path := filepath.Join(t.TempDir(), "now")
	f := executor.Submit(ctx, p, belated, path)
	first, err := f.Result(ctx)
	require.NoError(t, err)
	announce(path)
	awaitGone(t, first)
	next, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	require.NotEqual(t, first, next)
	again, err := f.Result(ctx)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, executor.Stats{Submitted: 2, Succeeded: 2, WorkersLost: 1}, counts(p))
}

// forgetful makes a pool, keeps nothing of it but futures, and returns what became of
// them and the processes that the pool has left.
var forgetful = executor.NewTask("forgetful", func(ctx context.Context, m int) ([]string, error) {
	submit := func() (lost *future.Future[int], kept *future.Future[int], err error) {
		quiet := worker.Config{Output: hushed.Output, Logger: slog.New(slog.DiscardHandler)}
		p, err := processpool.New(by(worker.StartMethod(m), processpool.Config{Workers: 2, Worker: quiet}))
		if err != nil {
			return nil, nil, err
		}
		return executor.Submit(ctx, p, crashAt, crash{}), executor.Submit(ctx, p, pid, struct{}{}), nil
	}
	lost, kept, err := submit()
	if err != nil {
		return nil, err
	}
	for range 3 {
		runtime.GC()
	}
	n, err := kept.Result(ctx)
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprint(lost.Exception(ctx)), strconv.Itoa(n)}, nil
})

// A pool that nobody has any more goes on with what it was given, and sees its workers
// die. The program ends all the same, and they with it. // DEA-20, POL-29
func TestForgottenPool(t *testing.T) {
	byEach(t, func(t *testing.T, m worker.StartMethod) {
		ctx := within(t)
		program, err := worker.Start(ctx, forgetful, int(m), worker.Config{})
		require.NoError(t, err)
		got, err := program.Future().Result(ctx)
		require.NoError(t, err)
		require.Contains(t, got[0], "was lost while it ran task \"crashAt\": exit status 3")
		require.NoError(t, program.Join(ctx))
		code, exited := program.ExitCode()
		require.True(t, exited)
		require.Zero(t, code)
		n, err := strconv.Atoi(got[1])
		require.NoError(t, err)
		awaitGone(t, n)
	})
}

// 200 workers work at once. // POL-31
func TestManyWorkers(t *testing.T) {
	byEach(t, func(t *testing.T, m worker.StartMethod) {
		ctx := within(t)
		n := 200
		if testing.Short() {
			n = 20
		}
		p := open(t, by(m, processpool.Config{Workers: n, Worker: worker.Config{GOMAXPROCS: 1, KillGrace: -1}}))
		dir := t.TempDir()
		var fs []*future.Future[int]
		for i := range n {
			fs = append(fs, executor.Submit(ctx, p, deaf, filepath.Join(dir, strconv.Itoa(i))))
		}
		var pids []int
		for i := range n {
			n, err := await(ctx, filepath.Join(dir, strconv.Itoa(i)))
			require.NoError(t, err)
			pids = append(pids, n)
		}
		slices.Sort(pids)
		require.Len(t, slices.Compact(pids), n)
		require.Len(t, p.Workers(), n)
		require.NoError(t, p.Kill())
		for _, f := range fs {
			var lost *executor.WorkerLostError
			require.ErrorAs(t, f.Exception(ctx), &lost)
			require.Equal(t, syscall.SIGKILL, lost.Signal)
		}
		for _, n := range pids {
			require.ErrorIs(t, syscall.Kill(n, 0), syscall.ESRCH)
		}
	})
}

type factors struct{ A, B int }

var multiply = executor.NewTask("multiply", func(_ context.Context, f factors) (int, error) { return f.A * f.B, nil })

// What starmap spreads is a struct's fields. // POL-03, PRC-04
func TestMapOfSeveralArguments(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 2})
	var args []factors
	var want []int
	for i := range 100 {
		args = append(args, factors{i, i + 1})
		want = append(want, i*(i+1))
	}
	for _, chunk := range []int{1, 7} {
		var got []int
		for n, err := range executor.Map(ctx, p, multiply, slices.Values(args), executor.WithChunk(chunk)) {
			require.NoError(t, err)
			got = append(got, n)
		}
		require.Equal(t, want, got)
	}
}

// With one call a worker, all that was submitted is done after a shutdown that does not
// wait: each worker that leaves is followed by another. // PRO-12, PRO-16, POL-27
func TestShutdownWhileRecycling(t *testing.T) {
	byEach(t, func(t *testing.T, m worker.StartMethod) {
		ctx := within(t)
		p := open(t, by(m, processpool.Config{Workers: 2, MaxTasksPerChild: 1}))
		fs := executor.SubmitAll(ctx, p, pid, make([]struct{}, 20))
		ended, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, p.Shutdown(ended), context.Canceled)
		all, err := future.All(ctx, fs...)
		require.NoError(t, err)
		slices.Sort(all)
		require.Len(t, slices.Compact(all), 20)
		require.NoError(t, p.Shutdown(ctx))
		require.Empty(t, p.Workers())
	})
}

// If no worker can follow the one that leaves, what is queued fails with the
// cause. // PRO-15
func TestNoReplacement(t *testing.T) {
	ctx := within(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "worker")
	require.NoError(t, os.Symlink(exe, link))
	p := open(t, processpool.Config{Workers: 1, MaxTasksPerChild: 2, Worker: worker.Config{Command: []string{link}}})
	pids(t, p, 1)
	require.NoError(t, os.Remove(link))
	last := executor.Submit(ctx, p, pid, struct{}{})
	queued := executor.SubmitAll(ctx, p, pid, make([]struct{}, 10))
	require.NoError(t, last.Exception(ctx))
	for _, f := range queued {
		err := f.Exception(ctx)
		require.ErrorAs(t, err, new(*executor.BrokenError))
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}

// brooding has a pool of its own, with a worker that goes on and on.
var brooding = executor.NewTask("brooding", func(ctx context.Context, path string) (int, error) {
	p, err := processpool.New(processpool.Config{Workers: 1})
	if err != nil {
		return 0, err
	}
	return executor.Apply(context.WithoutCancel(ctx), p, deaf, path)
})

// A kill reaches the workers of workers. // SHU-22
func TestKillReachesNestedPools(t *testing.T) {
	byEach(t, func(t *testing.T, m worker.StartMethod) {
		ctx := within(t)
		p := open(t, by(m, processpool.Config{Workers: 1}))
		path := filepath.Join(t.TempDir(), "deaf")
		f := executor.Submit(ctx, p, brooding, path)
		nested, err := await(ctx, path)
		require.NoError(t, err)
		require.NoError(t, p.Kill())
		awaitGone(t, nested)
		require.ErrorAs(t, f.Exception(ctx), new(*executor.WorkerLostError))
	})
}
