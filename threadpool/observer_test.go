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
			time.Sleep(time.Duration(n) * time.Second)
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
