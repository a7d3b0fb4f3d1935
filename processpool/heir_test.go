//go:build linux

package processpool_test

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// A diary passes on what happens to workers.
type diary chan executor.Event

func (d diary) Observe(e executor.Event) {
	switch e.Kind {
	case executor.EventWorkerStart, executor.EventWorkerEnd, executor.EventWorkerLost:
		d <- e
	default:
	}
}

// next waits for an event of the kind and returns the worker's process ID.
func (d diary) next(ctx context.Context, t *testing.T, kind executor.EventKind) int {
	t.Helper()
	select {
	case e := <-d:
		require.Equal(t, kind, e.Kind, "of process %d: %v", e.Worker, e.Err)
		return e.Worker
	case <-ctx.Done():
		t.Fatalf("no %v", kind)
		return 0
	}
}

// An estate is a pool whose only worker has its last call, and an heir that is ready.
type estate struct {
	*processpool.Pool
	diary       diary
	elder, heir int                // process IDs
	release     context.CancelFunc // ends it
}

func bequeath(t *testing.T, m worker.StartMethod) *estate {
	t.Helper()
	ctx := within(t)
	d := make(diary, 100)
	e := &estate{Pool: open(t, by(m, processpool.Config{Workers: 1, MaxTasksPerChild: 1, Observer: d})), diary: d}
	call, release := context.WithCancel(ctx)
	path := filepath.Join(t.TempDir(), "patient")
	executor.Submit(call, e.Pool, patient, path)
	e.release = release
	t.Cleanup(release)
	e.elder = d.next(ctx, t, executor.EventWorkerStart)
	_, err := await(ctx, path)
	require.NoError(t, err)
	e.heir = d.next(ctx, t, executor.EventWorkerStart)
	require.NotEqual(t, e.elder, e.heir)
	require.Len(t, e.Workers(), 1)
	require.Equal(t, e.elder, e.Workers()[0].PID)
	require.Equal(t, 1, e.Stats().Workers)
	return e
}

// The worker that follows one which has had its fill is ready before that is gone, has
// its index, and runs the next call. // PRO-09, POL-26
func TestHeirIsReadyBefore(t *testing.T) {
	byEach(t, func(t *testing.T, m worker.StartMethod) {
		ctx := within(t)
		e := bequeath(t, m)
		next := executor.Submit(ctx, e.Pool, pid, struct{}{})
		require.Equal(t, future.Pending, next.State()) // the heir does not work yet
		e.release()
		got, err := next.Result(ctx)
		require.NoError(t, err)
		require.Equal(t, e.heir, got)
		awaitGone(t, e.elder)
		require.NoError(t, e.Shutdown(ctx))
		require.Zero(t, e.Stats().WorkersLost)
	})
}

// Whatever becomes of the elder, its heir or the pool while the heir waits, calls run on
// and nothing is left.
func TestHeirAndFate(t *testing.T) {
	fates := map[string]func(t *testing.T, e *estate){
		"elder is killed": func(t *testing.T, e *estate) {
			require.NoError(t, syscall.Kill(e.elder, syscall.SIGKILL))
			require.Equal(t, []int{e.heir}, pids(t, e.Pool, 1))
		},
		"heir is killed": func(t *testing.T, e *estate) {
			require.NoError(t, syscall.Kill(e.heir, syscall.SIGKILL))
			require.Equal(t, e.heir, e.diary.next(within(t), t, executor.EventWorkerLost))
			e.release()
			require.NotContains(t, pids(t, e.Pool, 1), e.heir)
		},
		"heir is killed just then": func(t *testing.T, e *estate) {
			e.release()
			require.NoError(t, syscall.Kill(e.heir, syscall.SIGKILL))
			pids(t, e.Pool, 3)
		},
		"both are killed": func(t *testing.T, e *estate) {
			require.NoError(t, syscall.Kill(e.heir, syscall.SIGKILL))
			require.NoError(t, syscall.Kill(e.elder, syscall.SIGKILL))
			pids(t, e.Pool, 3)
		},
		"more workers": func(t *testing.T, e *estate) {
			require.NoError(t, e.Resize(2))
			pids(t, e.Pool, 3)
			e.release()
			pids(t, e.Pool, 3)
		},
		"close": func(t *testing.T, e *estate) { require.NoError(t, e.Close()) },
		"kill":  func(t *testing.T, e *estate) { require.NoError(t, e.Kill()) },
		"terminate": func(t *testing.T, e *estate) {
			require.NoError(t, e.Terminate())
		},
		"shutdown": func(t *testing.T, e *estate) {
			e.release()
			require.NoError(t, e.Shutdown(within(t)))
		},
	}
	for name, befalls := range fates {
		t.Run(name, func(t *testing.T) {
			byEach(t, func(t *testing.T, m worker.StartMethod) {
				e := bequeath(t, m)
				befalls(t, e)
				require.NoError(t, e.Close())
				awaitGone(t, e.elder)
				awaitGone(t, e.heir)
				s := e.Stats()
				require.Equal(t, s.Submitted, s.Succeeded+s.Failed+s.Cancelled)
				require.Zero(t, s.Workers+s.Running+s.Queued)
			})
		})
	}
}

// Under load no worker has more than its fill, and there are no more places than workers.
func TestRecyclingUnderLoad(t *testing.T) {
	byEach(t, func(t *testing.T, m worker.StartMethod) {
		ctx := within(t)
		p := open(t, by(m, processpool.Config{Workers: 2, MaxTasksPerChild: 7}))
		calls := map[int]int{}
		for _, f := range executor.SubmitAll(ctx, p, pid, make([]struct{}, 500)) {
			n, err := f.Result(ctx)
			require.NoError(t, err)
			calls[n]++
			require.LessOrEqual(t, p.Stats().Workers, 2)
		}
		for n, c := range calls {
			require.LessOrEqual(t, c, 7, "calls of process %d", n)
		}
		require.GreaterOrEqual(t, len(calls), 500/7)
		require.Zero(t, p.Stats().WorkersLost)
	})
}
