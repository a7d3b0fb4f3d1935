package clusterpool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
)

// errAsked is a cause that is known on both sides.
var errAsked = errors.New("clusterpool_test: somebody asked for it")

func init() { executor.RegisterError("clusterpool_test.errAsked", errAsked) }

// pause lets a time pass that is too short for a timer.
func pause(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
		runtime.Gosched()
	}
}

// awaitQueued waits until so many calls are in the queue, those that run included.
func awaitQueued(t testing.TB, url, name string, calls uint64) {
	t.Helper()
	js, err := jetstream.New(api(t, url))
	require.NoError(t, err)
	until(t, "calls are in the queue", func() bool {
		s, err := js.Stream(t.Context(), name+"_TASKS")
		return err == nil && s.CachedInfo().State.Msgs == calls
	})
}

// requireQueueEmpty requires that the queue has, or soon has, no call any more.
func requireQueueEmpty(t testing.TB, url, name string) {
	t.Helper()
	awaitQueued(t, url, name, 0)
}

// Cancel races the start of a call. What is cancelled never starts, and what is not ends
// with its value.
func TestCancelRace(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	awaitWorkers(t, p, 1)
	const calls = 1300
	cancelled, running, done := map[int64]bool{}, 0, 0
	var fs []*future.Future[int64]
	for i := range int64(calls) {
		f := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: i})
		most := 500 * time.Microsecond
		if i%4 == 0 { // on a busy machine, too, some are done by then
			most = 4 * time.Millisecond
		}
		pause(time.Duration(rand.Int64N(int64(most))))
		wasDone := f.IsDone()
		switch {
		case f.Cancel():
			require.False(t, wasDone)
			require.True(t, f.IsCancelled())
			cancelled[i] = true
		case wasDone:
			done++
		default:
			running++
		}
		fs = append(fs, f)
	}
	for i, f := range fs {
		v, err := f.Result(proctest.Within(t))
		if cancelled[int64(i)] {
			require.ErrorIs(t, err, future.ErrCancelled)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, noted(int64(i)), v)
	}
	require.NotEmpty(t, cancelled)
	require.NotZero(t, running)
	require.NotZero(t, done)
	starts := j.Starts()
	require.Empty(t, clustertest.Twice(starts))
	require.Len(t, starts, calls-len(cancelled))
	for i := range cancelled {
		require.NotContains(t, starts, i)
	}
	requireFinals(t, f, calls)
	requireQueueEmpty(t, s.URL(), name)
	st := p.Stats()
	require.Equal(t, [3]uint64{calls - uint64(len(cancelled)), 0, uint64(len(cancelled))}, [3]uint64{st.Succeeded, st.Failed, st.Cancelled})
	t.Logf("%d cancelled, %d were running, %d were done", len(cancelled), running, done)
}

// Cancel of a call that waits answers, as does the end of its context.
func TestCancelWaiting(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	fs := notes(t, p, note{Dir: j.Dir()}, 0, 50)
	began := time.Now()
	for _, f := range fs {
		require.True(t, f.Cancel())
		require.True(t, f.Cancel()) // as often as one likes
		require.ErrorIs(t, f.Exception(t.Context()), future.ErrCancelled)
	}
	require.Less(t, time.Since(began), time.Second)

	ctx, cancel := context.WithCancelCause(t.Context())
	over := executor.Submit(ctx, p, noteTask, note{Dir: j.Dir(), Call: 50})
	cancel(errAsked)
	require.ErrorIs(t, over.Exception(proctest.Within(t)), errAsked)
	require.True(t, over.IsCancelled())

	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	late := executor.Submit(ctx, p, noteTask, note{Dir: j.Dir(), Call: 51})
	require.ErrorIs(t, late.Exception(proctest.Within(t)), context.DeadlineExceeded)
	require.True(t, late.IsCancelled())

	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 52, 60), 52)
	require.Len(t, j.Starts(), 8)
	requireFinals(t, f, 60)
	requireQueueEmpty(t, s.URL(), name)
}

// While the servers do not answer, Cancel does: with false, after about 2 s. What was asked of
// them is done when they go on.
func TestCancelFrozenServer(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	fs := notes(t, p, note{Dir: j.Dir()}, 0, 4)
	awaitQueued(t, s.URL(), name, 4)
	ctx, cancel := context.WithCancelCause(t.Context())
	over := executor.Submit(ctx, p, noteTask, note{Dir: j.Dir(), Call: 4})
	s.Stop()
	began := time.Now()
	cancel(errAsked)
	require.False(t, fs[0].Cancel())
	took := time.Since(began)
	require.Greater(t, took, 1500*time.Millisecond)
	require.Less(t, took, 4*time.Second)
	require.False(t, fs[0].IsDone())
	s.Cont()
	require.ErrorIs(t, fs[0].Exception(proctest.Within(t)), future.ErrCancelled)
	require.ErrorIs(t, over.Exception(proctest.Within(t)), errAsked)
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	requireNotes(t, fs[1:], 1)
	require.NotContains(t, j.Starts(), int64(0))
	require.NotContains(t, j.Starts(), int64(4))
	requireFinals(t, f, 5)
	t.Logf("Cancel took %v", took)
}

// Interrupt reaches the task, with its cause, also if it comes as soon as the call runs.
func TestInterrupt(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	j := clustertest.NewJournal(t)
	name := poolName(t)
	const long = time.Minute // nothing here waits for a lease
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Lease: long})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	serve(t, job{URL: s.URL(), Name: name, Slots: 4, Lease: long})
	awaitWorkers(t, p, 1)
	const calls = 500
	for i := range int64(calls) {
		f := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: i, Sleep: long})
		for !f.IsRunning() {
			runtime.Gosched()
		}
		require.True(t, f.Interrupt(errAsked))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		require.ErrorIs(t, f.Exception(ctx), errAsked, "call %d", i)
		cancel()
		require.False(t, f.IsCancelled())
	}
	require.Equal(t, j.Starts(), j.Ends())
	requireFinals(t, f, calls)
}

// The context of a call that runs is the task's: its deadline and its cause travel.
func TestContextOfRunning(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	awaitWorkers(t, p, 1)

	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	f := executor.Submit(ctx, p, noteTask, note{Dir: j.Dir(), Sleep: time.Minute})
	began := time.Now()
	err := f.Exception(proctest.Within(t))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), 5*time.Second)
	require.False(t, f.IsCancelled())

	ctx, cancel := context.WithCancelCause(t.Context())
	f = executor.Submit(ctx, p, noteTask, note{Dir: j.Dir(), Call: 1, Sleep: time.Minute})
	until(t, "it has begun", func() bool { return j.Starts()[1] == 1 })
	cancel(errAsked)
	require.ErrorIs(t, f.Exception(proctest.Within(t)), errAsked)

	err = executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 2, Sleep: time.Minute}, executor.WithTimeout(100*time.Millisecond)).Exception(proctest.Within(t))
	require.ErrorIs(t, err, executor.ErrTimeout)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, j.Ends(), 3)
}

// Close ends thousands of calls that wait, and those that run.
func TestClosePending(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	awaitWorkers(t, p, 1)
	const calls = 4000
	fs := notes(t, p, note{Dir: j.Dir(), Sleep: time.Minute}, 0, calls)
	until(t, "two run", func() bool { return len(j.Starts()) == 2 })
	began := time.Now()
	require.NoError(t, p.Close())
	took := time.Since(began)
	require.Less(t, took, 8*time.Second)
	starts := j.Starts()
	require.LessOrEqual(t, len(starts), 4) // those that a slot became free for
	for i, f := range fs {
		require.True(t, f.IsDone())
		require.ErrorIs(t, f.Exception(t.Context()), executor.ErrShutdown)
		require.Equal(t, starts[int64(i)] == 0, f.IsCancelled(), "call %d", i)
	}
	require.ErrorIs(t, executor.Submit(t.Context(), p, noteTask, note{}).Exception(t.Context()), executor.ErrShutdown)
	require.NoError(t, p.Close())
	requireFinals(t, f, calls)
	requireQueueEmpty(t, s.URL(), name)
	t.Logf("Close took %v", took)
}

// Shutdown with CancelPending cancels what waits, and waits for what runs.
func TestShutdownCancelPending(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	awaitWorkers(t, p, 1)
	const calls = 3000
	gate := filepath.Join(t.TempDir(), "gate")
	fs := notes(t, p, note{Dir: j.Dir(), Gate: gate}, 0, calls)
	until(t, "two run", func() bool { return len(j.Starts()) == 2 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Shutdown(ctx, executor.CancelPending()), context.Canceled)
	proctest.Announce(gate)
	require.NoError(t, p.Shutdown(t.Context()))
	starts := j.Starts()
	cancelled := 0
	for i, f := range fs {
		v, err := f.Result(t.Context())
		if f.IsCancelled() {
			require.ErrorIs(t, err, executor.ErrShutdown)
			require.NotContains(t, starts, int64(i))
			cancelled++
			continue
		}
		require.NoError(t, err)
		require.Equal(t, noted(int64(i)), v)
	}
	require.Equal(t, calls-len(starts), cancelled)
	require.Equal(t, 2, len(starts))
	requireFinals(t, f, calls)
	requireQueueEmpty(t, s.URL(), name)
}

// Close comes as calls start. They are cancelled or interrupted, and never waited for as long
// as a call takes that does not listen.
func TestCloseRace(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	j := clustertest.NewJournal(t)
	name := poolName(t)
	serve(t, job{URL: s.URL(), Name: name, Slots: 4})
	cancelled, interrupted := 0, 0
	for i := range 150 {
		p, err := clusterpool.New(t.Context(), clusterpool.Config{URL: s.URL(), Name: name, Lease: lease})
		require.NoError(t, err)
		fs := notes(t, p, note{Dir: j.Dir(), Sleep: time.Minute}, 4*i, 4*i+4)
		pause(time.Duration(rand.Int64N(int64(2 * time.Millisecond))))
		began := time.Now()
		require.NoError(t, p.Close())
		require.Less(t, time.Since(began), 5*time.Second)
		starts := j.Starts()
		for k, f := range fs {
			require.True(t, f.IsDone())
			require.ErrorIs(t, f.Exception(t.Context()), executor.ErrShutdown)
			if f.IsCancelled() {
				cancelled++
				require.NotContains(t, starts, int64(4*i+k))
			} else {
				interrupted++
			}
		}
	}
	require.NotZero(t, cancelled)
	require.NotZero(t, interrupted)
	t.Logf("%d cancelled, %d interrupted", cancelled, interrupted)
}

// Close ends although the server is dead: what waited is given up, what ran is lost.
func TestCloseServerDead(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	awaitWorkers(t, p, 1)
	const calls = 2000
	fs := notes(t, p, note{Dir: j.Dir(), Sleep: time.Minute}, 0, calls)
	until(t, "two run", func() bool { return p.Stats().Running == 2 })
	s.Kill()
	fs = append(fs, notes(t, p, note{Dir: j.Dir()}, calls, calls+10)...) // to nobody
	began := time.Now()
	require.NoError(t, p.Close())
	took := time.Since(began)
	require.Less(t, took, 20*time.Second)
	for _, f := range fs {
		require.True(t, f.IsDone())
		require.Error(t, f.Exception(t.Context()))
	}
	st := p.Stats()
	require.Equal(t, [3]int{}, [3]int{st.Queued, st.Running, st.Idle})
	require.Equal(t, st.Submitted, st.Failed+st.Cancelled)
	t.Logf("Close took %v; %+v", took, st)
}
