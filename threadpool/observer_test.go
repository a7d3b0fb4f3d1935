package threadpool_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// A recorder is an Observer that keeps what it is told.
type recorder struct {
	mu     sync.Mutex
	events []executor.Event
}

func (r *recorder) Observe(e executor.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// all returns the events so far.
func (r *recorder) all() []executor.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// of returns the events of one call, 0 for those of no call.
func (r *recorder) of(id uint64) []executor.Event {
	var events []executor.Event
	for _, e := range r.all() {
		if e.Call == id {
			events = append(events, e)
		}
	}
	return events
}

// TestObserver sees the events of calls that succeed, fail and are cancelled, in
// order, by the time their futures are done, and those of the workers.
func TestObserver(t *testing.T) { // THR-06
	synctest.Test(t, func(t *testing.T) {
		const workers = 3
		rec := new(recorder)
		ctx, p := open(t, threadpool.Config{Workers: workers, Observer: rec})
		begin := time.Now()
		failure := errors.New("the call's own")
		nap := executor.LocalTask(func(_ context.Context, n int) (int, error) {
			time.Sleep(time.Duration(n) * time.Second) // virtual time
			if n > workers {
				return 0, failure
			}
			return n, nil
		})
		fs := executor.SubmitAll(ctx, p, nap, []int{1, 2, 3, 4, 5})
		require.True(t, fs[4].Cancel())

		calls := map[uint64]bool{}
		for _, e := range rec.all() {
			if e.Kind == executor.EventSubmit {
				require.Equal(t, 1, e.Items)
				require.NotZero(t, e.Call)
				calls[e.Call] = true
			}
		}
		require.Len(t, calls, 5)
		_, _, err := future.Wait(ctx, future.AllCompleted, fs...)
		require.NoError(t, err)

		var ran []time.Duration
		cancelled := 0
		for id := range calls {
			events := rec.of(id)
			require.Equal(t, executor.EventSubmit, events[0].Kind)
			require.Equal(t, begin, events[0].Time)
			if events[1].Kind == executor.EventCancel {
				require.ErrorIs(t, events[1].Err, future.ErrCancelled)
				require.Len(t, events, 2)
				cancelled++
				continue
			}
			require.Len(t, events, 3)
			start, finish := events[1], events[2]
			require.Equal(t, executor.EventStart, start.Kind)
			require.Equal(t, executor.EventFinish, finish.Kind)
			require.Equal(t, start.Worker, finish.Worker)
			require.Less(t, start.Worker, workers)
			require.GreaterOrEqual(t, start.Worker, 0)
			require.Equal(t, finish.Time.Sub(start.Time), finish.Ran)
			require.Equal(t, finish.Ran == 4*time.Second, errors.Is(finish.Err, failure))
			ran = append(ran, finish.Ran)
		}
		require.Equal(t, 1, cancelled)
		require.ElementsMatch(t, []time.Duration{1 * time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second}, ran)

		require.NoError(t, p.Shutdown(ctx))
		count := map[executor.EventKind]int{}
		for _, e := range rec.of(0) {
			count[e.Kind]++
			require.Less(t, e.Worker, workers)
		}
		require.Equal(t, map[executor.EventKind]int{executor.EventWorkerStart: workers, executor.EventWorkerEnd: workers}, count)
	})
}

// A stopper is an Observer that stops at events of one kind until it is told to go on.
type stopper struct {
	at      executor.EventKind
	reached chan struct{}
	goOn    chan struct{}
}

func newStopper(at executor.EventKind) *stopper {
	return &stopper{at, make(chan struct{}, 1), make(chan struct{})}
}

func (s *stopper) Observe(e executor.Event) {
	if e.Kind == s.at {
		s.reached <- struct{}{}
		<-s.goOn
	}
}

// TestShutdownWhileAnnounced shuts a pool down, or closes it, while it tells the
// observer of a call that it has accepted: the end waits for that call, which is run,
// or cancelled.
func TestShutdownWhileAnnounced(t *testing.T) {
	for name, end := range map[string]func(context.Context, *threadpool.Pool) error{
		"Shutdown": func(ctx context.Context, p *threadpool.Pool) error { return p.Shutdown(ctx) },
		"Close":    func(_ context.Context, p *threadpool.Pool) error { return p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				obs := newStopper(executor.EventSubmit)
				ctx, p := open(t, threadpool.Config{Observer: obs})
				var f *future.Future[int]
				go func() { f = executor.Submit(ctx, p, double, 21) }()
				<-obs.reached
				ended := make(chan error, 1)
				go func() { ended <- end(ctx, p) }()
				synctest.Wait()
				require.Empty(t, ended)
				close(obs.goOn)
				require.NoError(t, <-ended)
				synctest.Wait()
				n, err := f.Result(ctx)
				if name == "Shutdown" {
					require.NoError(t, err)
					require.Equal(t, 42, n)
				} else {
					require.True(t, f.IsCancelled())
					require.ErrorIs(t, err, executor.ErrShutdown)
				}
			})
		})
	}
}

// TestShutdownWaitsForClose has Close be slow to cancel what was queued, and sees
// that a Shutdown beside it does not return before.
func TestShutdownWaitsForClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		obs := newStopper(executor.EventCancel)
		ctx, p := open(t, threadpool.Config{Workers: 1, Observer: obs})
		g := newGate()
		running := executor.Submit(ctx, p, g.task(), 1)
		g.await(ctx, t, 1)
		queued := executor.Submit(ctx, p, double, 2)
		ended := make(chan error, 2)
		go func() { ended <- p.Close() }()
		<-obs.reached
		close(g.open)
		require.NoError(t, running.Exception(ctx))
		go func() { ended <- p.Shutdown(ctx) }()
		synctest.Wait()
		require.Zero(t, p.Stats().Workers)
		require.False(t, queued.IsDone())
		require.Empty(t, ended)
		close(obs.goOn)
		for range 2 {
			require.NoError(t, <-ended)
			require.True(t, queued.IsDone())
		}
	})
}
