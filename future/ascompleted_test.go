package future_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/futures/future"
)

// ASC-01, ASC-02, ASC-06
func TestAsCompleted(t *testing.T) {
	const limit = 100 // seconds
	for _, tt := range []struct {
		name   string
		events []event
		ended  bool
		want   []int
	}{
		{name: "nothing"}, // ASC-08
		{name: "as they finish", events: []event{{"value", 3}, {"error", 1}, {"cancel", 2}}, want: []int{1, 2, 0}},
		{name: "done before, in the order given", events: []event{{"value", 2}, {"error", 0}, {"value", 1}, {"value", 0}}, want: []int{1, 3, 2, 0}},
		{name: "not all in time", events: []event{{}, {"value", 1}, {"value", limit + 1}, {"value", 0}}, want: []int{3, 1}},
		{name: "poll", events: []event{{"value", 0}, {}, {"interrupt", 0}}, ended: true, want: []int{0, 2}},
		{name: "poll of pending ones", events: []event{{}, {}}, ended: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := playing(t, tt.events)
				ctx, cancel := context.WithTimeout(t.Context(), limit*time.Second)
				defer cancel()
				if tt.ended {
					cancel()
				}
				var got []int
				for i, f := range future.AsCompleted(ctx, fs...) {
					require.Same(t, fs[i], f)
					require.True(t, f.IsDone())
					got = append(got, i)
				}
				require.Equal(t, tt.want, got)
				if len(got) < len(fs) {
					require.Error(t, ctx.Err())
				}
			})
		})
	}
}

// ASC-03: at the first index.
func TestAsCompletedDuplicates(t *testing.T) {
	p, done := future.NewPromise[int](), future.Resolved(1)
	f := p.Future()
	var got []int
	for i := range future.AsCompleted(t.Context(), f, done, f, done, f) {
		got = append(got, i)
		_ = p.Resolve(2) // the first time round
	}
	require.Equal(t, []int{1, 0}, got)
}

// ASC-02: what is done when ctx ends under way is still yielded.
func TestAsCompletedDrains(t *testing.T) {
	ps := []*future.Promise[int]{future.NewPromise[int](), future.NewPromise[int](), future.NewPromise[int](), future.NewPromise[int]()}
	require.NoError(t, ps[1].Resolve(1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []int
	for i := range future.AsCompleted(ctx, ps[0].Future(), ps[1].Future(), ps[2].Future(), ps[3].Future()) {
		if got = append(got, i); len(got) == 1 {
			require.NoError(t, ps[3].Resolve(3))
			require.NoError(t, ps[0].Resolve(0))
			cancel()
		}
	}
	require.Equal(t, []int{1, 3, 0}, got)
}

// ASC-06: also when a waiter of one future finishes the next, and more waiters of the
// one are still to be woken.
func TestAsCompletedOrderOfAChain(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			p, q := future.NewPromise[int](), future.NewPromise[int]()
			for range 50 {
				go func() {
					_ = p.Future().Exception(t.Context())
					_ = q.Resolve(2) // refused, but for the first
				}()
				go func() {
					<-p.Future().Done()
					_ = q.Resolve(2)
				}()
			}
			synctest.Wait() // all wait
			go func() {
				synctest.Wait() // so does the iteration
				_ = p.Resolve(1)
			}()
			var got []int
			for i := range future.AsCompleted(t.Context(), q.Future(), p.Future()) {
				got = append(got, i)
			}
			require.Equal(t, []int{1, 0}, got)
		})
	}
}

// ASC-07: a break, a panic and an ended ctx leave nothing on the unfinished futures.
func TestAsCompletedLeavesNothing(t *testing.T) {
	fs := []*future.Future[int]{at(future.Pending).Future(), future.Resolved(1), at(future.Running).Future()}
	for name, once := range map[string]func(){
		"break": func() {
			for range future.AsCompleted(t.Context(), fs...) {
				break
			}
		},
		"ended ctx": func() {
			for range future.AsCompleted(ended(), fs...) {
			}
		},
		"panic": func() {
			defer func() { _ = recover() }()
			for range future.AsCompleted(t.Context(), fs...) {
				panic("in the body")
			}
		},
		"never ranged over": func() { future.AsCompleted(t.Context(), fs...) },
	} {
		t.Run(name, func(t *testing.T) {
			repeat := func(n int) {
				for range n {
					once()
				}
			}
			repeat(100)
			require.Less(t, growth(func() { repeat(5_000) }), int64(256<<10))
		})
	}
	runtime.KeepAlive(fs)
}

// ASC-04
func TestAsCompletedLetsGo(t *testing.T) {
	const n = 10
	ps := make([]*future.Promise[*[1 << 10]byte], n)
	fs := make([]*future.Future[*[1 << 10]byte], n)
	for i := range ps {
		ps[i] = future.NewPromise[*[1 << 10]byte]()
		fs[i] = ps[i].Future()
	}
	it := future.AsCompleted(t.Context(), fs...)
	clear(fs)
	finish := func(i int) {
		require.NoError(t, ps[i].Resolve(new([1 << 10]byte)))
		ps[i] = nil
	}
	finish(0)
	finish(1) // one more that is ready when the range begins
	var yielded []weak.Pointer[future.Future[*[1 << 10]byte]]
	var values []weak.Pointer[[1 << 10]byte]
	for i, f := range it {
		for j := range yielded {
			require.True(t, collected(values[j]), "the value of %d, at %d", j, i)
			require.True(t, collected(yielded[j]), "future %d, at %d", j, i)
		}
		v, err := f.Result(t.Context())
		require.NoError(t, err)
		values = append(values, weak.Make(v))
		yielded = append(yielded, weak.Make(f))
		if i > 0 && i+1 < n {
			finish(i + 1)
		}
	}
	require.Len(t, yielded, n)
}

// The iterator may be ranged over in pieces.
func TestAsCompletedInPieces(t *testing.T) {
	p := future.NewPromise[int]()
	it := future.AsCompleted(t.Context(), future.Resolved(0), p.Future(), future.Resolved(2))
	var got []int
	for i := range it {
		got = append(got, i)
		break
	}
	require.NoError(t, p.Resolve(1))
	for i := range it {
		got = append(got, i)
	}
	require.Equal(t, []int{0, 1, 2}, got)
	for range it {
		t.Error("yielded twice")
	}
}

// ASC-05
func TestAllSaysHowManyAreUnfinished(t *testing.T) {
	_, err := future.All(ended(), future.Resolved(1), at(future.Pending).Future(), at(future.Running).Future())
	require.EqualError(t, err, "future: 2 of 3 futures were not done when the wait ended: context canceled")
}

func TestAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vs, err := future.All(t.Context(), future.Resolved(3), future.Resolved(1), future.Resolved(2))
		require.NoError(t, err)
		require.Equal(t, []int{3, 1, 2}, vs)

		for _, ctx := range []context.Context{t.Context(), ended()} {
			vs, err = future.All[int](ctx)
			require.NoError(t, err)
			require.NotNil(t, vs)
			require.Empty(t, vs)
		}

		f := future.Resolved(7)
		vs, err = future.All(ended(), f, future.Resolved(1), f)
		require.NoError(t, err, "done: no ctx is asked")
		require.Equal(t, []int{7, 1, 7}, vs)

		begin := time.Now()
		fs := playing(t, []event{{"value", 1}, {}, {"error", 2}, {"cancel", 3}})
		vs, err = future.All(t.Context(), fs...)
		require.True(t, err == errCall)
		require.Nil(t, vs)
		require.Equal(t, 2*time.Second, time.Since(begin), "at once")
		require.Equal(t, future.Pending, fs[1].State(), "the others go on")

		fs = playing(t, []event{{"cancel", 1}, {"value", 2}})
		_, err = future.All(t.Context(), fs...)
		require.ErrorIs(t, err, future.ErrCancelled)

		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errCause)
		defer cancel()
		_, err = future.All(ctx, fs[1], at(future.Pending).Future())
		require.ErrorIs(t, err, future.ErrNotDone)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errCause)
	})
}

func TestAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		fs := playing(t, []event{{"error", 1}, {"value", 3}, {}, {"cancel", 2}})
		v, err := future.Any(t.Context(), fs...)
		require.NoError(t, err)
		require.Equal(t, 7, v)
		require.Equal(t, 3*time.Second, time.Since(begin))
		require.Equal(t, future.Pending, fs[2].State(), "the others go on")

		v, err = future.Any(ended(), fs...)
		require.NoError(t, err, "done: no ctx is asked")
		require.Equal(t, 7, v)

		fs = playing(t, []event{{"interrupt", 2}, {"error", 1}})
		v, err = future.Any(t.Context(), fs...)
		require.Zero(t, v)
		require.ErrorIs(t, err, errCall)
		require.ErrorIs(t, err, errCause)
		require.ErrorIs(t, err, future.ErrCancelled)
		require.EqualError(t, err, "future: cancelled: enough\nthe call failed", "in the order given")

		for _, ctx := range []context.Context{t.Context(), ended()} {
			_, err = future.Any[int](ctx)
			require.EqualError(t, err, "future: Any of no futures")
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = future.Any(ctx, future.Rejected[int](errCall), at(future.Pending).Future())
		require.ErrorIs(t, err, future.ErrNotDone)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
