package future_test

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/futures/future"
)

func text(n int) (string, error) { return strconv.Itoa(n), nil }

// when are the two orders of Then and of the end of its future.
var when = map[string]func(p *future.Promise[int], end func(*future.Promise[int]), then func()){
	"before": func(p *future.Promise[int], end func(*future.Promise[int]), then func()) { then(); end(p) },
	"after":  func(p *future.Promise[int], end func(*future.Promise[int]), then func()) { end(p); then() },
}

func TestThen(t *testing.T) {
	for name, order := range when {
		for how, end := range ends {
			t.Run(how+"/"+name, func(t *testing.T) {
				p := future.NewPromise[int]()
				f := p.Future()
				calls := 0
				var g *future.Future[string]
				order(p, end, func() {
					g = future.Then(f, func(n int) (string, error) {
						calls++
						return text(n)
					})
				})
				require.Equal(t, f.State(), g.State(), "a cancellation passes as one")
				v, err := g.Result(t.Context())
				if how == "value" {
					require.NoError(t, err)
					require.Equal(t, "7", v)
					require.Equal(t, 1, calls)
					return
				}
				require.True(t, err == f.Exception(t.Context()), "the very error")
				require.Empty(t, v)
				require.Zero(t, calls)
			})
		}
	}
}

func TestThenError(t *testing.T) {
	g := future.Then(future.Resolved(1), func(int) (string, error) { return "half", errCall })
	v, err := g.Result(t.Context())
	require.True(t, err == errCall)
	require.Empty(t, v, "the zero value with an error")
	require.Equal(t, future.Finished, g.State())
}

func TestThenPanic(t *testing.T) {
	for name, order := range when {
		t.Run(name, func(t *testing.T) {
			p := future.NewPromise[int]()
			var g, h *future.Future[string]
			next := 0
			order(p, ends["value"], func() {
				g = future.Then(p.Future(), func(int) (string, error) { panic(errCause) })
				h = future.Then(p.Future(), func(int) (string, error) { panic("just text") })
				g.AddDoneCallback(func(*future.Future[string]) { next++ })
				p.Future().AddDoneCallback(func(*future.Future[int]) { next++ })
			})
			require.Equal(t, 2, next)
			var pe *future.PanicError
			err := g.Exception(t.Context())
			require.ErrorAs(t, err, &pe)
			require.Equal(t, errCause, pe.Value)
			require.ErrorIs(t, err, errCause)
			require.EqualError(t, err, "panic: enough")
			require.Contains(t, string(pe.Stack), "TestThenPanic", "the stack of the panic")

			require.ErrorAs(t, h.Exception(t.Context()), &pe)
			require.Equal(t, "just text", pe.Value)
			require.NoError(t, pe.Unwrap())
		})
	}
}

func TestThenGoexit(t *testing.T) {
	for name, order := range when {
		t.Run(name, func(t *testing.T) {
			captureLog(t)
			p := future.NewPromise[int]()
			var g *future.Future[string]
			var called sync.WaitGroup
			called.Add(2)
			next := false
			order(p, ends["value"], func() {
				g = future.Then(p.Future(), func(int) (string, error) { runtime.Goexit(); return "", nil })
				g.AddDoneCallback(func(*future.Future[string]) { called.Done() })
				g.AddDoneCallback(func(*future.Future[string]) { called.Done() })
				p.Future().AddDoneCallback(func(*future.Future[int]) { next = true })
			})
			require.True(t, next)
			called.Wait()
			err := g.Exception(t.Context())
			require.ErrorContains(t, err, "Goexit")
			require.Equal(t, future.Finished, g.State())
		})
	}
}

// Cancelling what Then made leaves its future alone, and nothing on it.
func TestThenCancel(t *testing.T) {
	p := future.NewPromise[int]()
	f := p.Future()
	derive := func() (*future.Future[string], weak.Pointer[[1 << 10]byte]) {
		held := new([1 << 10]byte)
		g := future.Then(f, func(int) (string, error) {
			t.Error("called although it was cancelled")
			return string(held[:]), nil
		})
		return g, weak.Make(held)
	}
	g, w := derive()
	h, x := derive()
	require.False(t, collected(w))
	require.True(t, g.Cancel())
	require.True(t, h.Interrupt(errCause))
	require.True(t, collected(w))
	require.True(t, collected(x))
	require.Equal(t, future.Pending, f.State())
	require.NoError(t, p.Resolve(7))
	require.Equal(t, future.Cancelled, g.State())
	require.ErrorIs(t, h.Exception(t.Context()), errCause)
	runtime.KeepAlive(g)
}

// While fn runs the new future is running, and nobody can interrupt it.
func TestThenRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := future.NewPromise[int]()
		g := future.Then(p.Future(), func(n int) (string, error) {
			time.Sleep(time.Second) // virtual time
			return text(n)
		})
		require.Equal(t, future.Pending, g.State())
		go func() { _ = p.Resolve(7) }()
		synctest.Wait()
		require.Equal(t, future.Running, g.State())
		require.False(t, g.Cancel())
		require.False(t, g.Interrupt(errCause))
		v, err := g.Result(t.Context())
		require.NoError(t, err)
		require.Equal(t, "7", v)
	})
}

// What Then made, once it is done, does not keep what it was made of.
func TestThenLetsGo(t *testing.T) {
	for how, end := range map[string]func(p *future.Promise[*[1 << 10]byte], g *future.Future[int]){
		"value":  func(p *future.Promise[*[1 << 10]byte], _ *future.Future[int]) { _ = p.Resolve(new([1 << 10]byte)) },
		"error":  func(p *future.Promise[*[1 << 10]byte], _ *future.Future[int]) { _ = p.Reject(errCall) },
		"cancel": func(p *future.Promise[*[1 << 10]byte], _ *future.Future[int]) { p.Future().Cancel() },
		"cancel of the new one": func(_ *future.Promise[*[1 << 10]byte], g *future.Future[int]) {
			g.Cancel()
		},
	} {
		t.Run(how, func(t *testing.T) {
			g, w := func() (*future.Future[int], weak.Pointer[future.Future[*[1 << 10]byte]]) {
				p := future.NewPromise[*[1 << 10]byte]()
				g := future.Then(p.Future(), func(*[1 << 10]byte) (int, error) { return 1, nil })
				end(p, g)
				return g, weak.Make(p.Future())
			}()
			require.True(t, g.IsDone())
			require.True(t, collected(w))
			runtime.KeepAlive(g)
		})
	}
}

func TestThenOrder(t *testing.T) {
	p := future.NewPromise[int]()
	var got []string
	note := func(s string) { got = append(got, s) }
	p.Future().AddDoneCallback(func(*future.Future[int]) { note("first") })
	g := future.Then(p.Future(), func(n int) (int, error) { note("fn"); return n, nil })
	g.AddDoneCallback(func(*future.Future[int]) { note("of the new one") })
	p.Future().AddDoneCallback(func(*future.Future[int]) { note("last") })
	require.NoError(t, p.Resolve(1))
	require.Equal(t, []string{"first", "fn", "of the new one", "last"}, got)
}

func TestThenChain(t *testing.T) {
	const depth = 10_000
	chain := func(f *future.Future[int]) *future.Future[int] {
		for range depth {
			f = future.Then(f, func(n int) (int, error) { return n + 1, nil })
		}
		return f
	}
	for name, order := range when {
		for how, end := range ends {
			t.Run(how+"/"+name, func(t *testing.T) {
				p := future.NewPromise[int]()
				var last *future.Future[int]
				order(p, end, func() { last = chain(p.Future()) })
				v, err := last.Result(ended())
				if how == "value" {
					require.NoError(t, err)
					require.Equal(t, 7+depth, v)
				} else {
					require.True(t, err == p.Future().Exception(t.Context()))
				}
			})
		}
	}
}

// Then, the end of its future and a Cancel of the new one may come at any time.
func TestThenRace(t *testing.T) {
	for range 1000 {
		p := future.NewPromise[int]()
		var g *future.Future[string]
		var all sync.WaitGroup
		all.Go(func() {
			g = future.Then(p.Future(), text)
			g.Cancel()
		})
		all.Go(func() { _ = p.Resolve(7) })
		all.Wait()
		v, err := g.Result(t.Context())
		if (v != "7" || err != nil) && !errors.Is(err, future.ErrCancelled) {
			t.Fatal(v, err)
		}
		require.Equal(t, future.Finished, p.Future().State())
	}
}
