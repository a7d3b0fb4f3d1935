package future_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"example.com/futures/future"
)

// ends are the ways in which a pending future is done.
var ends = map[string]func(*future.Promise[int]){
	"value":     func(p *future.Promise[int]) { _ = p.Resolve(7) },
	"error":     func(p *future.Promise[int]) { _ = p.Reject(errCall) },
	"cancel":    func(p *future.Promise[int]) { p.Future().Cancel() },
	"interrupt": func(p *future.Promise[int]) { p.Future().Interrupt(errCause) },
}

// FUT-01, FUT-02, FUT-03: a callback has the future and its outcome, before the call
// that completed it returns.
func TestCallback(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			p := future.NewPromise[int]()
			f := p.Future()
			var got []any
			f.AddDoneCallback(func(g *future.Future[int]) {
				v, err := g.Result(t.Context())
				got = append(got, g == f, g.State(), v, err)
			})
			require.Empty(t, got)
			end(p)
			v, err := f.Result(t.Context())
			require.Equal(t, []any{true, f.State(), v, err}, got)
		})
	}
}

// FUT-05, FUT-06, FUT-07: a callback added to a done future has run when the call returns.
func TestCallbackAddedLate(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			p := future.NewPromise[int]()
			end(p)
			var got *future.Future[int]
			p.Future().AddDoneCallback(func(f *future.Future[int]) { got = f })
			require.Same(t, p.Future(), got)
		})
	}
}

// FUT-30: in the order added, one function twice if it was added twice, and one that
// a callback adds at once.
func TestCallbackOrder(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			p := future.NewPromise[int]()
			f := p.Future()
			var got []string
			note := func(s string) func(*future.Future[int]) {
				return func(*future.Future[int]) { got = append(got, s) }
			}
			twice := note("twice")
			f.AddDoneCallback(note("a"))
			f.AddDoneCallback(twice)
			f.AddDoneCallback(func(f *future.Future[int]) {
				got = append(got, "b begins")
				f.AddDoneCallback(note("within b"))
				got = append(got, "b ends")
			})
			f.AddDoneCallback(twice)
			end(p)
			require.Equal(t, []string{"a", "twice", "b begins", "within b", "b ends", "twice"}, got)
			end(p)
			require.Len(t, got, 6, "once each")
		})
	}
}

// FUT-04, FUT-08: a panic is logged with the future's name, and disturbs nobody.
func TestCallbackPanics(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			log := captureLog(t)
			p := future.NewPromise[int]()
			f := p.Future()
			next := false
			f.AddDoneCallback(func(*future.Future[int]) { panic("broken callback") })
			f.AddDoneCallback(func(*future.Future[int]) { next = true })
			end(p)
			require.True(t, next)
			require.Contains(t, log.String(), "broken callback")
			require.Contains(t, log.String(), f.String())

			f.AddDoneCallback(func(*future.Future[int]) { panic("broken late") })
			require.Contains(t, log.String(), "broken late")
		})
	}
}

// FUT-04, FUT-08: likewise a Goexit, which must not end the goroutine that completed
// the future.
func TestCallbackGoexit(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			log := captureLog(t)
			p := future.NewPromise[int]()
			f := p.Future()
			var got []int
			for i := range 5 {
				f.AddDoneCallback(func(*future.Future[int]) {
					got = append(got, i)
					if i%2 == 0 {
						runtime.Goexit()
					}
				})
			}
			survived := false
			var completer sync.WaitGroup
			completer.Go(func() {
				end(p)
				survived = true
			})
			completer.Wait()
			require.True(t, survived)
			require.Equal(t, []int{0, 1, 2, 3, 4}, got)
			require.Contains(t, log.String(), "Goexit")

			completer.Go(func() {
				survived = false
				f.AddDoneCallback(func(*future.Future[int]) { runtime.Goexit() })
				survived = true
			})
			completer.Wait()
			require.True(t, survived)
		})
	}
}

// FUT-32: who waits has the result while the first callback still runs.
func TestWaitersBeforeCallbacks(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := future.NewPromise[int]()
				f := p.Future()
				var woken sync.WaitGroup
				woken.Add(4)
				f.AddDoneCallback(func(*future.Future[int]) { woken.Wait() })
				go func() {
					_ = f.Exception(t.Context())
					woken.Done()
				}()
				go func() {
					<-f.Done()
					woken.Done()
				}()
				go func() {
					_, _, _ = future.Wait(t.Context(), future.AllCompleted, f)
					woken.Done()
				}()
				go func() {
					for range future.AsCompleted(t.Context(), f) {
						woken.Done()
					}
				}()
				synctest.Wait()
				end(p) // a deadlock, if a callback came first
				require.True(t, f.IsDone())
			})
		})
	}
}

// A callback may do with futures what anybody may.
func TestCallbackMayDoAnything(t *testing.T) {
	p, q, r := future.NewPromise[int](), future.NewPromise[int](), future.NewPromise[int]()
	var got []string
	r.Future().AddDoneCallback(func(*future.Future[int]) { got = append(got, "r") })
	q.Future().AddDoneCallback(func(*future.Future[int]) {
		got = append(got, "q")
		require.NoError(t, r.Resolve(3))
	})
	p.Future().AddDoneCallback(func(f *future.Future[int]) {
		require.True(t, q.Future().Cancel())
		require.False(t, f.Cancel())
		require.False(t, f.Interrupt(nil))
		require.ErrorIs(t, p.Resolve(2), future.ErrInvalidState)
		_, err := future.All(t.Context(), f, r.Future())
		require.NoError(t, err)
		got = append(got, "p")
	})
	require.NoError(t, p.Resolve(1))
	require.Equal(t, []string{"q", "r", "p"}, got)
}

func TestNilCallback(t *testing.T) {
	require.Panics(t, func() { at(future.Pending).Future().AddDoneCallback(nil) })
	require.Panics(t, func() { future.Resolved(1).AddDoneCallback(nil) })
	require.Panics(t, func() { future.Then[int, int](future.Resolved(1), nil) })
}

// Whether it comes before the end or after, each callback runs once.
func TestCallbacksRace(t *testing.T) {
	for range 200 {
		p := future.NewPromise[int]()
		var ran [20]atomic.Int32
		var all sync.WaitGroup
		for i := range ran {
			all.Go(func() {
				p.Future().AddDoneCallback(func(f *future.Future[int]) {
					if !f.IsDone() {
						t.Error("called before it was done")
					}
					ran[i].Add(1)
				})
			})
		}
		all.Go(func() { _ = p.Resolve(1) })
		all.Go(func() { p.Future().Cancel() })
		all.Wait()
		for i := range ran {
			require.EqualValues(t, 1, ran[i].Load())
		}
	}
}
