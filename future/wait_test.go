package future_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/future"
)

// An event is how and when a future of a table test is done, in seconds; at 0 it is
// done before the test begins, and without a how never.
type event struct {
	how string // a key of ends
	at  int
}

// playing returns futures that are done as events say. It is for a synctest bubble;
// the promises that are never done are cancelled when the test ends.
func playing(t *testing.T, events []event) []*future.Future[int] {
	fs := make([]*future.Future[int], len(events))
	for i, e := range events {
		p := future.NewPromise[int]()
		fs[i] = p.Future()
		switch {
		case e.how == "":
		case e.at == 0:
			ends[e.how](p)
		default:
			timer := time.AfterFunc(time.Duration(e.at)*time.Second, func() { ends[e.how](p) })
			t.Cleanup(func() { timer.Stop() })
		}
	}
	return fs
}

var untils = []future.Until{future.FirstCompleted, future.FirstException, future.AllCompleted}

// WAI-02, WAI-03, WAI-04, WAI-05, WAI-06, WAI-07, WAI-08, WAI-09, WAI-11, WAI-12
func TestWait(t *testing.T) {
	const limit = 100 // seconds
	type seconds = int
	for _, tt := range []struct {
		name   string
		until  future.Until
		events []event
		ended  bool    // ctx has ended before
		done   []int   // which are done
		after  seconds // when Wait returns; limit: with an error
	}{
		{name: "first completed", until: future.FirstCompleted, // WAI-02
			events: []event{{"value", 3}, {"value", 2}, {}}, done: []int{1}, after: 2},
		{
			name: "first completed fails", until: future.FirstCompleted,
			events: []event{{}, {"error", 2}}, done: []int{1}, after: 2,
		},
		{name: "first completed is cancelled", until: future.FirstCompleted, // WAI-03
			events: []event{{}, {"cancel", 2}}, done: []int{1}, after: 2},
		{name: "first completed, some before", until: future.FirstCompleted, // WAI-04
			events: []event{{"value", 1}, {"error", 0}, {}, {"cancel", 0}}, done: []int{1, 3}, after: 0},
		{
			name: "first completed, none", until: future.FirstCompleted,
			events: []event{{}, {}}, after: limit,
		},
		{
			name: "first completed, two at once", until: future.FirstCompleted,
			events: []event{{"value", 0}, {"value", 0}}, done: []int{0, 1}, after: 0,
		},

		{name: "first exception", until: future.FirstException, // WAI-05
			events: []event{{"value", 1}, {"error", 3}, {"value", 2}, {}}, done: []int{0, 1, 2}, after: 3},
		{name: "first exception, values before", until: future.FirstException, // WAI-06
			events: []event{{"value", 0}, {"cancel", 0}, {"error", 2}, {}}, done: []int{0, 1, 2}, after: 2},
		{name: "first exception, failed before", until: future.FirstException, // WAI-07
			events: []event{{}, {"error", 0}, {"value", 0}}, done: []int{1, 2}, after: 0},
		{name: "a cancellation is no exception", until: future.FirstException, // WAI-12
			events: []event{{"cancel", 1}, {"cancel", 0}, {}}, done: []int{0, 1}, after: limit},
		{name: "an interrupt while pending is none", until: future.FirstException, // WAI-12
			events: []event{{"interrupt", 1}, {"error", 2}, {}}, done: []int{0, 1}, after: 2},
		{
			name: "no exception", until: future.FirstException,
			events: []event{{"value", 1}, {"cancel", 2}}, done: []int{0, 1}, after: 2,
		},

		{name: "all completed", until: future.AllCompleted, // WAI-08
			events: []event{{"value", 4}, {"error", 1}, {"cancel", 2}, {"value", 0}}, done: []int{0, 1, 2, 3}, after: 4},
		{
			name: "all completed before", until: future.AllCompleted,
			events: []event{{"value", 0}, {"error", 0}}, done: []int{0, 1}, after: 0,
		},
		{name: "not all", until: future.AllCompleted, // WAI-09
			events: []event{{"value", 1}, {"value", limit + 1}, {"error", 0}}, done: []int{0, 2}, after: limit},

		{name: "poll of all", until: future.AllCompleted, ended: true, // WAI-09
			events: []event{{"value", 0}, {}}, done: []int{0}, after: limit},
		{
			name: "poll of all that are done", until: future.AllCompleted, ended: true,
			events: []event{{"value", 0}, {"error", 0}}, done: []int{0, 1}, after: 0,
		},
		{
			name: "poll of the first", until: future.FirstCompleted, ended: true,
			events: []event{{}, {"value", 0}}, done: []int{1}, after: 0,
		},
		{
			name: "poll of a failed one", until: future.FirstException, ended: true,
			events: []event{{}, {"error", 0}}, done: []int{1}, after: 0,
		},
		{
			name: "poll of pending ones", until: future.FirstException, ended: true,
			events: []event{{}, {}}, after: limit,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := playing(t, tt.events)
				ctx, cancel := context.WithTimeout(t.Context(), limit*time.Second)
				defer cancel()
				if tt.ended {
					cancel()
				}
				begin := time.Now()
				done, pending, err := future.Wait(ctx, tt.until, fs...)
				after := int(time.Since(begin) / time.Second)

				var wantDone, wantPending []*future.Future[int]
				for i, f := range fs {
					if len(tt.done) > len(wantDone) && tt.done[len(wantDone)] == i {
						wantDone = append(wantDone, f)
					} else {
						wantPending = append(wantPending, f)
					}
				}
				require.Equal(t, wantDone, done)
				require.Equal(t, wantPending, pending)
				if tt.after == limit {
					require.ErrorIs(t, err, future.ErrNotDone)
					require.ErrorIs(t, err, ctx.Err())
					require.ErrorContains(t, err, fmt.Sprintf("%d of %d", len(pending), len(fs)))
				} else {
					require.NoError(t, err)
				}
				if !tt.ended {
					require.Equal(t, tt.after, after)
				} else {
					require.Zero(t, after)
				}
			})
		})
	}
}

// WAI-11
func TestWaitForNothing(t *testing.T) {
	for _, until := range untils {
		for _, ctx := range []context.Context{t.Context(), ended()} {
			done, pending, err := future.Wait[*future.Future[int]](ctx, until)
			require.NoError(t, err)
			require.Empty(t, done)
			require.Empty(t, pending)
		}
	}
}

// WAI-01
func TestWaitForDuplicates(t *testing.T) {
	a, b := future.Resolved(1), at(future.Pending).Future()
	done, pending, err := future.Wait(t.Context(), future.FirstCompleted, b, a, b, a, a)
	require.NoError(t, err)
	require.Equal(t, []*future.Future[int]{a}, done)
	require.Equal(t, []*future.Future[int]{b}, pending)

	done, pending, err = future.Wait(ended(), future.AllCompleted, b, b)
	require.ErrorContains(t, err, "1 of 1")
	require.Empty(t, done)
	require.Len(t, pending, 1)
}

func TestWaitWithUnknownUntil(t *testing.T) {
	require.Panics(t, func() { _, _, _ = future.Wait(t.Context(), future.Until(9), future.Resolved(1)) })
}

// WAI-10
func TestWaitForAHundred(t *testing.T) {
	for range 50 {
		ps := make([]*future.Promise[int], 100)
		fs := make([]*future.Future[int], len(ps))
		for i := range ps {
			ps[i] = future.NewPromise[int]()
			fs[i] = ps[i].Future()
		}
		var all sync.WaitGroup
		start := make(chan struct{})
		for i, p := range ps {
			all.Go(func() {
				<-start
				if p.Start() {
					_ = p.Resolve(i)
				}
			})
		}
		close(start)
		done, pending, err := future.Wait(t.Context(), future.AllCompleted, fs...)
		require.NoError(t, err)
		require.Equal(t, fs, done)
		require.Empty(t, pending)
		all.Wait()
	}
}

// What somebody has seen done is reported as done, even when ctx ends right then and
// the completer, busy with other waiters, has not yet got round to this one.
func TestWaitSeesWhatOthersSaw(t *testing.T) {
	for range 50 {
		p := future.NewPromise[int]()
		f := p.Future()
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if done, _, _ := future.Wait(ctx, future.AllCompleted, f); len(done) != 1 {
					t.Error("Wait says that it is pending")
				}
			})
			all.Go(func() {
				n := 0
				for range future.AsCompleted(ctx, f) {
					n++
				}
				if n != 1 {
					t.Errorf("AsCompleted yields %d futures", n)
				}
			})
		}
		all.Go(func() {
			for !f.IsDone() {
				runtime.Gosched()
			}
			cancel()
		})
		all.Go(func() { _ = p.Resolve(1) })
		all.Wait()
	}
}

// WAI-14
func TestWaitLeavesNothing(t *testing.T) {
	fs := []*future.Future[int]{at(future.Pending).Future(), at(future.Running).Future(), future.Resolved(1)}
	poll := func(n int) {
		for range n {
			if _, _, err := future.Wait(ended(), future.AllCompleted, fs...); err == nil {
				t.Fatal("done")
			}
			if _, _, err := future.Wait(ended(), future.FirstCompleted, fs...); err != nil {
				t.Fatal(err)
			}
		}
	}
	poll(100)
	require.Less(t, growth(func() { poll(5_000) }), int64(256<<10))
	require.Equal(t, future.Pending, fs[0].State())
}

// A foreign future is none of this package's.
type foreign struct {
	done chan struct{}
	err  error // written before done is closed
}

func newForeign() *foreign { return &foreign{done: make(chan struct{})} }

func (f *foreign) end(err error) {
	f.err = err
	close(f.done)
}

func (f *foreign) Done() <-chan struct{} { return f.done }
func (f *foreign) Cancel() bool          { return false }

func (f *foreign) State() future.State {
	select {
	case <-f.done:
		return future.Finished
	default:
		return future.Running
	}
}

func (f *foreign) Exception(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WAI-15: futures of any type and any origin are waited for in one call. In a bubble
// a goroutine that Wait left behind would be found.
func TestWaitForMixedTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := future.NewPromise[int](), future.NewPromise[string]()
		f, never := newForeign(), newForeign()
		early := newForeign()
		early.end(nil)
		fs := []future.Waitable{a.Future(), f, b.Future(), early, never, f}

		done, pending, err := future.Wait(t.Context(), future.FirstCompleted, fs...)
		require.NoError(t, err)
		require.Equal(t, []future.Waitable{early}, done)
		require.Equal(t, []future.Waitable{a.Future(), f, b.Future(), never}, pending)

		go func() {
			time.Sleep(time.Second) // virtual time
			require.NoError(t, a.Resolve(1))
			time.Sleep(time.Second) // virtual time
			f.end(errCall)
		}()
		begin := time.Now()
		done, pending, err = future.Wait(t.Context(), future.FirstException, fs...)
		require.NoError(t, err)
		require.Equal(t, 2*time.Second, time.Since(begin))
		require.Equal(t, []future.Waitable{a.Future(), f, early}, done)
		require.Equal(t, []future.Waitable{b.Future(), never}, pending)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done, pending, err = future.Wait(ctx, future.AllCompleted, fs...)
		require.ErrorIs(t, err, future.ErrNotDone)
		require.Len(t, done, 3)
		require.Len(t, pending, 2)
		require.True(t, b.Future().Cancel())
	})
}

// A gated future is one of this package, but done only when its gate is open, too.
type gated struct {
	*future.Future[int]
	gate *foreign
}

func (g gated) Done() <-chan struct{} { return g.gate.Done() }
func (g gated) State() future.State   { return g.gate.State() }

// A type that embeds a *Future is asked by its own methods.
func TestWaitForEmbedded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gated{future.Resolved(1), newForeign()}
		_, pending, err := future.Wait(ended(), future.AllCompleted, g)
		require.ErrorIs(t, err, future.ErrNotDone)
		require.Equal(t, []gated{g}, pending)
		go func() {
			time.Sleep(time.Second) // virtual time
			g.gate.end(nil)
		}()
		done, _, err := future.Wait(t.Context(), future.AllCompleted, g, g)
		require.NoError(t, err)
		require.Equal(t, []gated{g}, done)
	})
}

// A valued future is cancelled. It cannot be compared while its tag holds a slice,
// although its type can.
type valued struct{ tag any }

func (valued) Done() <-chan struct{}           { return nil }
func (valued) State() future.State             { return future.Cancelled }
func (valued) Cancel() bool                    { return true }
func (valued) Exception(context.Context) error { return errors.New("cancelled") }

func TestWaitForWhatCannotBeCompared(t *testing.T) {
	done, _, err := future.Wait(t.Context(), future.AllCompleted,
		valued{tag: []int{1}}, valued{tag: []int{1}}, valued{tag: 1}, valued{tag: 1})
	require.NoError(t, err)
	require.Len(t, done, 3)
}
