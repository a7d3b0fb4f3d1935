package ipc_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"
)

// A maker makes a handle of one kind, and uses it: with a second handle, under a ctx that
// ends while it waits, and beside another process, so that everything that a handle may have
// was there.
type maker func(t *testing.T, with func(shelf)) []io.Closer

// A shelf is what the other process has: those that the maker has set.
type shelf struct {
	Lock    *ipc.Lock
	RLock   *ipc.RLock
	A, B    *ipc.Semaphore
	Event   *ipc.Event
	Cond    *ipc.Cond
	Barrier *ipc.Barrier
	Value   *ipc.Value[checked]
	Array   *ipc.Array[int]
	Queue   *ipc.Queue[[]byte]
	Conn    *ipc.Conn[gift]
}

func init() {
	role("has a shelf", func(shelf, []string) { say("on"); heard("end") })
}

// tried has fn wait for nothing.
func tried(t *testing.T, fn func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, fn(ctx), context.DeadlineExceeded)
}

// made returns what a constructor has; the test closes it.
func made[T any](v T, err error) T { return get(v, err) }

var makers = map[string]maker{
	"Lock": func(t *testing.T, with func(shelf)) []io.Closer {
		l := made(ipc.NewLock())
		m := again(t, l)
		require.NoError(t, l.Lock(t.Context()))
		with(shelf{Lock: l})
		tried(t, m.Lock)
		return []io.Closer{l, m}
	},
	"RLock": func(t *testing.T, with func(shelf)) []io.Closer {
		l := made(ipc.NewRLock())
		m := again(t, l)
		_, err := l.Lock(t.Context())
		require.NoError(t, err)
		with(shelf{RLock: l})
		tried(t, func(ctx context.Context) error { _, err := m.Lock(ctx); return err })
		return []io.Closer{l, m}
	},
	"Semaphore": func(t *testing.T, with func(shelf)) []io.Closer {
		s, b := made(ipc.NewSemaphore(0)), made(ipc.NewBoundedSemaphore(1))
		require.NoError(t, b.Acquire(t.Context(), 1))
		c := again(t, b)
		with(shelf{A: s, B: b})
		tried(t, func(ctx context.Context) error { return s.Acquire(ctx, 1) })
		tried(t, func(ctx context.Context) error { return c.Acquire(ctx, 1) })
		return []io.Closer{s, b, c}
	},
	"Event": func(t *testing.T, with func(shelf)) []io.Closer {
		e := made(ipc.NewEvent())
		f := again(t, e)
		with(shelf{Event: e})
		tried(t, f.Wait)
		return []io.Closer{e, f}
	},
	"Cond": func(t *testing.T, with func(shelf)) []io.Closer {
		l := made(ipc.NewLock())
		c := made(ipc.NewCond(l))
		d := again(t, c) // with a lock of its own
		require.NoError(t, d.L.Lock(t.Context()))
		with(shelf{Cond: c})
		tried(t, d.Wait)
		return []io.Closer{l, c, d}
	},
	"Barrier": func(t *testing.T, with func(shelf)) []io.Closer {
		b := made(ipc.NewBarrier(2))
		c := again(t, b)
		with(shelf{Barrier: b})
		tried(t, func(ctx context.Context) error { _, err := c.Wait(ctx); return err })
		return []io.Closer{b, c}
	},
	"Value": func(t *testing.T, with func(shelf)) []io.Closer {
		v, w := made(ipc.NewValue(1)), made(ipc.NewValue(newChecked(1)))
		u := again(t, w)
		with(shelf{Value: w})
		require.NoError(t, w.Update(t.Context(), func(*checked) {
			tried(t, func(ctx context.Context) error { return u.Update(ctx, func(*checked) {}) })
		}))
		return []io.Closer{v, w, u}
	},
	"Array": func(t *testing.T, with func(shelf)) []io.Closer {
		a := made(ipc.NewArray[int](10_000))
		b := again(t, a)
		with(shelf{Array: a})
		require.NoError(t, a.Update(t.Context(), func([]int) {
			tried(t, func(ctx context.Context) error { return b.Update(ctx, func([]int) {}) })
		}))
		return []io.Closer{a, b}
	},
	"Queue": func(t *testing.T, with func(shelf)) []io.Closer {
		q := made(ipc.NewQueue[[]byte](2))
		r := again(t, q)
		require.NoError(t, q.Put(t.Context(), make([]byte, 100_000)))
		_, err := r.Get(t.Context())
		require.NoError(t, err)
		with(shelf{Queue: q})
		tried(t, func(ctx context.Context) error { _, err := r.Get(ctx); return err })
		return []io.Closer{q, r}
	},
	"Pipe": func(t *testing.T, with func(shelf)) []io.Closer {
		a, b, err := ipc.Pipe[gift](true)
		require.NoError(t, err)
		c := again(t, b)
		q := made(ipc.NewQueue[int](1))
		require.NoError(t, a.Send(t.Context(), gift{1, q}))
		g, err := c.Recv(t.Context())
		require.NoError(t, err)
		require.NoError(t, a.Send(t.Context(), gift{2, q})) // which nobody receives
		with(shelf{Conn: b})
		tried(t, func(ctx context.Context) error { _, err := a.Recv(ctx); return err })
		return []io.Closer{a, b, c, q, g.Queue}
	},
}

// TestCloseLeavesNothing: after Close descriptors and memory are given back, without any help of
// the garbage collector's.
func TestCloseLeavesNothing(t *testing.T) {
	for name, make := range makers {
		t.Run(name, func(t *testing.T) {
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			before, maps := inUse(t), mapped(t)
			p := (*process)(nil)
			handles := make(t, func(s shelf) {
				p = start(t, "has a shelf", s, "")
				p.hear("on")
				before++ // that of package os
			})
			for _, h := range handles {
				require.NoError(t, h.Close())
			}
			for ctx := proctest.Within(t); inUse(t) > before || mapped(t) > maps; { // who watched the process, or ctx, ends
				require.NoErrorf(t, ctx.Err(), "%v", proctest.Descriptors())
				time.Sleep(time.Millisecond) // between two looks
			}
			p.tell("end")
			p.ends()
		})
	}
}

// TestDroppedHandlesAreCollected: a handle that nobody has any more is given back, too.
func TestDroppedHandlesAreCollected(t *testing.T) {
	for name, make := range makers {
		t.Run(name, func(t *testing.T) {
			before, maps := inUse(t), mapped(t)
			p := (*process)(nil)
			func() {
				make(t, func(s shelf) {
					p = start(t, "has a shelf", s, "")
					p.hear("on")
					before++ // likewise
				})
			}()
			for ctx := proctest.Within(t); inUse(t) > before || mapped(t) > maps; {
				require.NoErrorf(t, ctx.Err(), "%v", proctest.Descriptors())
				runtime.GC()
				time.Sleep(time.Millisecond) // cleanups run on another goroutine
			}
			p.tell("end")
			p.ends()
		})
	}
}

// inUse returns how many descriptors there are of objects, of processes and of sockets.
func inUse(t *testing.T) (n int) {
	t.Helper()
	for _, what := range proctest.Descriptors() {
		if strings.Contains(what, "futures-ipc") || strings.Contains(what, "pidfd") || strings.Contains(what, "socket") {
			n++
		}
	}
	return n
}

// A thousand goroutines wait each for an event of its own, and then all for one lock, without
// a thread each.
func TestAThousandWaitWithoutAThreadEach(t *testing.T) {
	const many = 1000
	l := newLock(t)
	require.NoError(t, l.Lock(t.Context()))
	other := again(t, l) // the lock is not in the hands of the handle by which they wait
	defer other.Close()
	events := make([]*ipc.Event, many)
	for i := range events {
		events[i] = newEvent(t)
	}
	var all sync.WaitGroup
	n := 0
	for i := range many {
		all.Go(func() {
			if err := errors.Join(events[i].Wait(proctest.Within(t)), other.Lock(proctest.Within(t))); err != nil {
				t.Error(err)
				return
			}
			n++
			if err := other.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
	proctest.Blocked(t, many, "ipc.(*Event).Wait(")
	require.Less(t, threads(t), 100)
	for _, e := range events {
		require.NoError(t, e.Set())
	}
	proctest.Blocked(t, many, "ipc.(*Lock).Lock(")
	require.Less(t, threads(t), 100)
	require.NoError(t, l.Unlock())
	all.Wait()
	require.Equal(t, many, n)
}
