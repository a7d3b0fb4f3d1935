package future_test

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/futures/future"
)

// FUT-25, FUT-26, FUT-29: the first outcome stays.
func TestSecondOutcome(t *testing.T) {
	for name, first := range map[string]struct {
		end  func(*future.Promise[int])
		v    int
		err  error
		text string
	}{
		"value":  {func(p *future.Promise[int]) { require.NoError(t, p.Resolve(7)) }, 7, nil, "finished"},
		"error":  {func(p *future.Promise[int]) { require.NoError(t, p.Reject(errCall)) }, 0, errCall, "finished"},
		"cancel": {func(p *future.Promise[int]) { require.True(t, p.Future().Cancel()) }, 0, future.ErrCancelled, "cancelled"},
	} {
		for _, run := range []bool{false, true} {
			p := future.NewPromise[int]()
			if run && name != "cancel" {
				require.True(t, p.Start())
			}
			first.end(p)
			for _, err := range []error{p.Resolve(8), p.Reject(errors.New("late"))} {
				require.ErrorIs(t, err, future.ErrInvalidState, name)
				require.ErrorContains(t, err, first.text, name)
			}
			v, err := p.Future().Result(t.Context())
			require.Equal(t, first.v, v, name)
			require.True(t, err == first.err, name)
		}
	}
}

// FUT-25, FUT-29: of many who complete a promise one succeeds; the others find it done.
func TestOneOutcome(t *testing.T) {
	for range 500 {
		p := future.NewPromise[int]()
		f := p.Future()
		var won atomic.Int32
		var all sync.WaitGroup
		lost := func(err error) {
			if !errors.Is(err, future.ErrInvalidState) || !f.IsDone() {
				t.Errorf("lost with %v, future %v", err, f)
			}
		}
		for i := range 4 {
			all.Go(func() {
				if err := p.Resolve(i + 1); err != nil {
					lost(err)
					return
				}
				won.Add(1)
				if v, _ := f.Result(ended()); v != i+1 {
					t.Errorf("resolved with %d, and the future has %d", i+1, v)
				}
			})
		}
		all.Go(func() {
			if err := p.Reject(errCall); err != nil {
				lost(err)
				return
			}
			won.Add(1)
		})
		all.Go(func() {
			if f.Cancel() {
				won.Add(1)
			}
		})
		all.Wait()
		require.EqualValues(t, 1, won.Load())
	}
}

func TestNilError(t *testing.T) {
	p := future.NewPromise[int]()
	require.Panics(t, func() { _ = p.Reject(nil) })
	require.Equal(t, future.Pending, p.Future().State())
	require.Panics(t, func() { future.Rejected[int](nil) })
}

func TestSameFuture(t *testing.T) {
	p := future.NewPromise[int]()
	require.Same(t, p.Future(), p.Future())
}

func TestOnInterrupt(t *testing.T) {
	var got []error
	note := func(cause error) { got = append(got, cause) }

	t.Run("set in time", func(t *testing.T) {
		got = nil
		p := future.NewPromise[int]()
		p.OnInterrupt(note)
		require.True(t, p.Start())
		require.True(t, p.Future().Interrupt(errCause))
		require.True(t, p.Future().Interrupt(errCall), "each time")
		require.Equal(t, []error{errCause, errCall}, got)
		require.True(t, p.Future().IsRunning(), "the call decides what becomes of it")
		require.NoError(t, p.Reject(errCause))
	})
	t.Run("set late", func(t *testing.T) {
		got = nil
		p := future.NewPromise[int]()
		require.True(t, p.Start())
		require.False(t, p.Future().Interrupt(errCause), "nobody knows how")
		require.False(t, p.Future().Interrupt(errCall))
		p.OnInterrupt(nil)
		require.Empty(t, got)
		p.OnInterrupt(note)
		require.Equal(t, []error{errCause}, got, "at once, for the first")
		p.OnInterrupt(note)
		require.Len(t, got, 1, "once")
		require.True(t, p.Future().Interrupt(errCall))
	})
	t.Run("set after the end", func(t *testing.T) {
		got = nil
		p := future.NewPromise[int]()
		require.True(t, p.Start())
		require.False(t, p.Future().Interrupt(errCause))
		require.NoError(t, p.Resolve(1))
		p.OnInterrupt(note)
		require.Empty(t, got)
	})
	t.Run("not for a pending one", func(t *testing.T) {
		got = nil
		p := future.NewPromise[int]()
		p.OnInterrupt(note)
		require.True(t, p.Future().Interrupt(errCause))
		require.Empty(t, got)
		require.False(t, p.Start())
	})
	t.Run("taken back", func(t *testing.T) {
		got = nil
		p := future.NewPromise[int]()
		p.OnInterrupt(note)
		p.OnInterrupt(nil)
		require.True(t, p.Start())
		require.False(t, p.Future().Interrupt(errCause))
		require.Empty(t, got)
	})
}

func TestOnCancel(t *testing.T) {
	asked, allow := 0, false
	p := future.NewPromise[int]()
	p.OnCancel(func() bool { asked++; return allow })
	called := 0
	p.Future().AddDoneCallback(func(*future.Future[int]) { called++ })

	require.False(t, p.Future().Cancel())
	require.False(t, p.Future().Interrupt(errCause))
	require.Equal(t, 2, asked)
	require.Equal(t, future.Pending, p.Future().State())
	require.Zero(t, called)

	allow = true
	require.True(t, p.Future().Cancel())
	require.True(t, p.Future().Cancel())
	require.Equal(t, 3, asked, "of a pending future only")
	require.Equal(t, 1, called)
	require.False(t, p.Start())

	p = future.NewPromise[int]()
	p.OnCancel(func() bool { t.Error("asked about a running future"); return true })
	require.True(t, p.Start())
	require.False(t, p.Future().Cancel())
	require.NoError(t, p.Resolve(1))
	require.False(t, p.Future().Cancel())
}

// An OnCancel that starts the call itself has refused, whatever it says.
func TestOnCancelThatStarts(t *testing.T) {
	p := future.NewPromise[int]()
	p.OnCancel(func() bool { return p.Start() })
	require.False(t, p.Future().Cancel())
	require.Equal(t, future.Running, p.Future().State())
}

// A future that is done holds its outcome, and none of the functions set on its promise.
func TestHooksAreDropped(t *testing.T) {
	for name, end := range map[string]func(*future.Promise[int]){
		"value":  func(p *future.Promise[int]) { _ = p.Resolve(7) },
		"error":  func(p *future.Promise[int]) { _ = p.Reject(errCall) },
		"cancel": func(p *future.Promise[int]) { p.Future().Cancel() },
	} {
		for _, late := range []bool{false, true} {
			p := future.NewPromise[int]()
			w := func() weak.Pointer[[1 << 10]byte] {
				held := new([1 << 10]byte)
				set := func() {
					p.OnInterrupt(func(error) { held[0]++ })
					p.OnCancel(func() bool { return held[0] == 0 })
				}
				if late {
					end(p)
				}
				set()
				if !late {
					p.Future().AddDoneCallback(func(*future.Future[int]) { held[1]++ })
					end(p)
				}
				return weak.Make(held)
			}()
			require.True(t, p.Future().IsDone())
			require.True(t, collected(w), "%s, set late: %v", name, late)
			runtime.KeepAlive(p)
		}
	}
}
