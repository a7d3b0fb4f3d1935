package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// A place of the tests: a key, and a value.
type spot struct {
	X    int
	Name string
	in   [2]bool
}

type note struct {
	Text  string
	Parts map[string][]int
	At    *int
}

// made returns what a constructor has made.
func made[P Proxy](p P, err error) func(t testing.TB) P {
	return func(t testing.TB) P {
		t.Helper()
		require.NoError(t, err)
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
}

func TestDict(t *testing.T) { // MGR-15
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		d := made(NewDict[spot, note](ctx, m))(t)
		k := spot{1, "a", [2]bool{false, true}}
		_, ok, err := d.Get(ctx, k)
		require.NoError(t, err)
		require.False(t, ok)
		seven := 7
		v := note{"x", map[string][]int{"p": {1, 2}}, &seven}
		require.NoError(t, d.Set(ctx, k, v))
		got, ok, err := d.Get(ctx, k)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, v, got)
		got.Parts["p"][0] = 9 // a copy: MGR-12
		got, _, err = d.Get(ended(), k)
		require.NoError(t, err, "what need not wait is done under a ctx that has ended")
		require.Equal(t, v, got)
		_, ok, err = d.Get(ctx, spot{1, "a", [2]bool{true, true}})
		require.NoError(t, err)
		require.False(t, ok, "unexported fields are of the key")

		require.NoError(t, d.SetAll(ctx, map[spot]note{{X: 2}: {Text: "two"}, {X: 3}: {Text: "three"}, k: {Text: "one"}}))
		require.NoError(t, d.SetAll(ctx, nil))
		n, err := d.Len(ctx)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		all, err := d.All(ctx)
		require.NoError(t, err)
		require.Equal(t, map[spot]note{{X: 2}: {Text: "two"}, {X: 3}: {Text: "three"}, k: {Text: "one"}}, all)
		require.NoError(t, d.Delete(ctx, spot{X: 2}))
		require.NoError(t, d.Delete(ctx, spot{X: 2}))
		got, ok, err = d.Pop(ctx, spot{X: 3})
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, "three", got.Text)
		_, ok, err = d.Pop(ctx, spot{X: 3})
		require.NoError(t, err)
		require.False(t, ok)

		require.NoError(t, d.Update(ctx, k, func(v *note) { v.Text += "!" }))
		require.NoError(t, d.Update(ctx, spot{X: 8}, func(v *note) { v.Text += "new" }))
		got, _, err = d.Get(ctx, k)
		require.NoError(t, err)
		require.Equal(t, "one!", got.Text)
		got, _, err = d.Get(ctx, spot{X: 8})
		require.NoError(t, err)
		require.Equal(t, "new", got.Text)

		// Somebody else writes in between.
		runs := 0
		require.NoError(t, d.Update(ctx, k, func(v *note) {
			if runs++; runs == 1 {
				require.NoError(t, d.Set(ctx, k, note{Text: "other"}))
			} else if runs == 2 {
				require.NoError(t, d.Delete(ctx, k))
			}
			v.Text += "+"
		}))
		require.Equal(t, 3, runs)
		got, _, err = d.Get(ctx, k)
		require.NoError(t, err)
		require.Equal(t, "+", got.Text)
		require.ErrorIs(t, d.Update(ended(), k, func(*note) {
			require.NoError(t, d.Set(ctx, k, note{Text: "other"}))
		}), context.Canceled)
		require.PanicsWithValue(t, "oh", func() { _ = d.Update(ctx, k, func(v *note) { v.Text = "?"; panic("oh") }) })
		got, _, err = d.Get(ctx, k)
		require.NoError(t, err)
		require.Equal(t, "other", got.Text)
		require.Panics(t, func() { _ = d.Update(ctx, k, nil) })

		floats := made(NewDict[float64, int](ctx, m))(t)
		nan := 0.0
		require.ErrorContains(t, floats.Set(ctx, nan/nan, 1), "manager: dict set: the key is not a number (NaN)")
		require.NoError(t, d.Close())
		require.ErrorIs(t, d.Set(ctx, k, v), ipc.ErrClosed)
		require.NoError(t, floats.Close())
		empty(t, m)
	})
	t.Run("types that cannot travel", func(t *testing.T) {
		_, m := served(t)
		_, err := NewDict[*int, int](t.Context(), m)
		require.ErrorContains(t, err, "a key of type *int cannot travel")
		_, err = NewDict[string, struct{ A, b int }](t.Context(), m)
		require.ErrorContains(t, err, "field struct.b (int) is unexported")
		_, err = NewList[func()](t.Context(), m)
		require.Error(t, err)
		_, err = NewQueue[chan int](t.Context(), m, 1)
		require.Error(t, err)
		_, err = NewValue(t.Context(), m, struct{ f func() }{})
		require.Error(t, err)
		_, err = NewArray[chan int](t.Context(), m, 1)
		require.Error(t, err)
		empty(t, m)
	})
}

func TestList(t *testing.T) { // MGR-10, MGR-14
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		l := made(NewList[string](ctx, m))(t)
		all, err := l.All(ctx)
		require.NoError(t, err)
		require.Empty(t, all)
		require.NoError(t, l.Append(ctx))
		require.NoError(t, l.Append(ctx, "a", "b", strings.Repeat("c", 100_000)))
		require.NoError(t, l.Insert(ctx, 1, "ab"))
		require.NoError(t, l.Insert(ctx, 4, "d"))
		require.NoError(t, l.Set(ctx, 3, "c"))
		all, err = l.All(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "ab", "b", "c", "d"}, all)
		s, err := l.Pop(ctx, 0)
		require.NoError(t, err)
		require.Equal(t, "a", s)
		s, err = l.Get(ended(), 0)
		require.NoError(t, err)
		require.Equal(t, "ab", s)
		n, err := l.Len(ctx)
		require.NoError(t, err)
		require.Equal(t, 4, n)
		_, err = l.Get(ctx, 4)
		require.EqualError(t, err, "manager: list get: index 4 is out of range: the length is 4")
		_, err = l.Pop(ctx, -1)
		require.EqualError(t, err, "manager: list pop: index -1 is out of range: the length is 4")
		require.EqualError(t, l.Set(ctx, 4, ""), "manager: list set: index 4 is out of range: the length is 4")
		require.EqualError(t, l.Insert(ctx, 5, ""), "manager: list insert: index 5 is out of range: the length is 4")
		units := made(NewList[struct{}](ctx, m))(t)
		require.NoError(t, units.Append(ctx, struct{}{}, struct{}{}))
		us, err := units.All(ctx)
		require.NoError(t, err)
		require.Len(t, us, 2)
	})
}

func TestNamespace(t *testing.T) { // MGR-17
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		n := made(NewNamespace(ctx, m))(t)
		var i int
		ok, err := n.Get(ctx, "i", &i)
		require.NoError(t, err)
		require.False(t, ok)
		l := made(NewList[int](ctx, m))(t)
		one := 1
		values := map[string]any{
			"i": 5, "s": "text", "b": []byte{1, 2}, "note": note{"x", nil, &one}, "map": map[string]int{"a": 1},
			"unit": struct{}{}, "ptr": &one, "slice": []note{{Text: "y"}}, "list": l, "big": strings.Repeat("x", 1<<20), "d": time.Second,
		}
		for name, v := range values {
			require.NoError(t, n.Set(ctx, name, v), name)
		}
		for name, into := range map[string]any{
			"i": new(int), "s": new(string), "b": new([]byte), "note": new(note), "map": new(map[string]int),
			"unit": new(struct{}), "ptr": new(*int), "slice": new([]note), "big": new(string), "d": new(time.Duration),
		} {
			ok, err := n.Get(ctx, name, into)
			require.NoError(t, err, name)
			require.True(t, ok, name)
			switch p := into.(type) {
			case *int:
				require.Equal(t, 5, *p)
			case **int:
				require.Equal(t, 1, **p)
			case *note:
				require.Equal(t, values[name], *p)
			case *[]note:
				require.Equal(t, values[name], *p)
			case *string:
				require.Equal(t, values[name], *p)
			case *time.Duration:
				require.Equal(t, time.Second, *p)
			}
		}
		var live *List[int]
		ok, err = n.Get(ctx, "list", &live)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, live.Append(ctx, 1))
		count, err := l.Len(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, count, "a proxy stays live") // MGR-11
		require.NoError(t, live.Close())

		var s string = "as it was"
		ok, err = n.Get(ctx, "i", &s)
		require.EqualError(t, err, `manager: namespace get "i": its type is int, not string`)
		require.False(t, ok)
		require.Equal(t, "as it was", s)
		_, err = n.Get(ctx, "i", new(int64))
		require.Error(t, err)
		_, err = n.Get(ctx, "d", new(int64))
		require.Error(t, err)
		_, err = n.Get(ctx, "i", new(any))
		require.Error(t, err)
		_, err = n.Get(ctx, "i", 5)
		require.EqualError(t, err, `manager: namespace get "i": int is no pointer to store to`)
		_, err = n.Get(ctx, "i", (*int)(nil))
		require.Error(t, err)
		_, err = n.Get(ctx, "i", nil)
		require.Error(t, err)
		require.Error(t, n.Set(ctx, "i", nil))
		require.Error(t, n.Set(ctx, "i", func() {}))
		require.Error(t, n.Set(ctx, "i", struct{ a int }{}))
		require.NoError(t, n.Set(ctx, "i", "of another type now"))
		ok, err = n.Get(ended(), "i", &s)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, n.Delete(ctx, "i"))
		require.NoError(t, n.Delete(ctx, "i"))
		ok, err = n.Get(ctx, "i", &s)
		require.NoError(t, err)
		require.False(t, ok)
		require.NoError(t, l.Close())
		require.NoError(t, n.Close())
		empty(t, m)
	})
}

func TestValueAndArray(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		v := made(NewValue(ctx, m, note{Text: "a"}))(t)
		got, err := v.Load(ctx)
		require.NoError(t, err)
		require.Equal(t, note{Text: "a"}, got)
		require.NoError(t, v.Store(ended(), note{Text: "b"}))
		runs := 0
		require.NoError(t, v.Update(ctx, func(n *note) {
			if runs++; runs == 1 {
				require.NoError(t, v.Store(ctx, note{Text: "c"}))
			}
			n.Text += "!"
		}))
		got, err = v.Load(ctx)
		require.NoError(t, err)
		require.Equal(t, "c!", got.Text)
		require.Equal(t, 2, runs)
		require.Panics(t, func() { _ = v.Update(ctx, nil) })

		_, err = NewArray[int](ctx, m, -1)
		require.EqualError(t, err, "manager: new Array[int]: it cannot have -1 elements")
		_, err = NewArray[int](ctx, m, int(^uint(0)>>1))
		require.Error(t, err)
		a := made(NewArray[note](ctx, m, 3))(t)
		all, err := a.All(ctx)
		require.NoError(t, err)
		require.Equal(t, make([]note, 3), all)
		require.NoError(t, a.Set(ctx, 2, note{Text: "x"}))
		got, err = a.Get(ctx, 2)
		require.NoError(t, err)
		require.Equal(t, "x", got.Text)
		got, err = a.Get(ctx, 1)
		require.NoError(t, err)
		require.Zero(t, got)
		all, err = a.All(ctx)
		require.NoError(t, err)
		require.Equal(t, []note{{}, {}, {Text: "x"}}, all)
		n, err := a.Len(ctx)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		_, err = a.Get(ctx, 3)
		require.EqualError(t, err, "manager: array get: index 3 is out of range: the length is 3")
		require.EqualError(t, a.Set(ctx, -1, note{}), "manager: array set: index -1 is out of range: the length is 3")
		require.NoError(t, v.Close())
		require.NoError(t, a.Close())
		empty(t, m)
	})
}

// MGR-11, MGR-12, MGR-13, MGR-18: what is held is live, and lives on.
func TestHeldProxies(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		outer := made(NewDict[string, *List[int]](ctx, m))(t)
		inner := made(NewList[int](ctx, m))(t)
		require.NoError(t, outer.Set(ctx, "a", inner))
		require.NoError(t, outer.Set(ctx, "b", inner))
		require.NoError(t, inner.Append(ctx, 1))
		require.NoError(t, inner.Close())
		again, ok, err := outer.Get(ctx, "a")
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, again.Append(ctx, 2))
		all, err := again.All(ctx)
		require.NoError(t, err)
		require.Equal(t, []int{1, 2}, all)
		require.NoError(t, again.Close())
		both, err := outer.All(ctx)
		require.NoError(t, err)
		for _, l := range both {
			n, err := l.Len(ctx)
			require.NoError(t, err)
			require.Equal(t, 2, n)
			require.NoError(t, l.Close())
		}
		require.NoError(t, outer.Delete(ctx, "a"))
		again, _, err = outer.Pop(ctx, "b")
		require.NoError(t, err)
		n, err := again.Len(ctx)
		require.NoError(t, err, "what was popped lives as long as its proxy")
		require.Equal(t, 2, n)
		require.NoError(t, again.Close())
		require.Eventually(t, func() bool { return stat(t, m).objects == 1 }, 10*time.Second, time.Millisecond)

		queues := made(NewList[*Queue[string]](ctx, m))(t)
		q := made(NewQueue[string](ctx, m, 2))(t)
		require.NoError(t, queues.Append(ctx, q, q))
		require.NoError(t, q.Put(ctx, "x"))
		require.NoError(t, q.Close())
		q2, err := queues.Pop(ctx, 1)
		require.NoError(t, err)
		require.NoError(t, queues.Set(ctx, 0, q2), "in place of itself")
		s, err := q2.Get(ctx)
		require.NoError(t, err)
		require.Equal(t, "x", s)
		require.NoError(t, q2.Close())

		// Queues, values and conditions hold, too.
		via := made(NewQueue[*Event](ctx, m, 1))(t)
		e := made(NewEvent(ctx, m))(t)
		require.NoError(t, via.Put(ctx, e))
		require.NoError(t, e.Set(ctx))
		require.NoError(t, e.Close())
		e, err = via.Get(ctx)
		require.NoError(t, err)
		set, err := e.IsSet(ctx)
		require.NoError(t, err)
		require.True(t, set)
		v := made(NewValue(ctx, m, e))(t)
		require.NoError(t, e.Close())
		e, err = v.Load(ctx)
		require.NoError(t, err)
		require.NoError(t, v.Store(ctx, nil))
		none, err := v.Load(ctx)
		require.NoError(t, err)
		require.Nil(t, none)
		require.NoError(t, e.Close())

		l := made(NewLock(ctx, m))(t)
		c := made(NewCond(ctx, m, l))(t)
		conds := made(NewList[*Cond](ctx, m))(t)
		require.NoError(t, conds.Append(ctx, c))
		require.NoError(t, c.Close())
		require.NoError(t, l.Close())
		c, err = conds.Pop(ctx, 0)
		require.NoError(t, err)
		require.NoError(t, c.L.Lock(ctx))
		require.NoError(t, c.NotifyAll(ctx))
		require.NoError(t, c.L.Unlock(ctx))
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.L.Lock(ctx), ipc.ErrClosed, "its own L is closed with it")
		for _, p := range []Proxy{outer, queues, via, v, conds} {
			require.NoError(t, p.Close())
		}
		empty(t, m)
	})
}

type tree struct {
	Name string
	Kids *List[tree]
}

func TestListInItself(t *testing.T) { // MGR-13
	ctx := t.Context()
	m := started(t)
	l := made(NewList[tree](ctx, m))(t)
	require.NoError(t, l.Append(ctx, tree{"self", l}))
	require.NoError(t, l.Append(ctx, tree{"leaf", nil}))
	self, err := l.Get(ctx, 0)
	require.NoError(t, err)
	n, err := self.Kids.Len(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NoError(t, self.Kids.Close())
	_, err = l.Pop(ctx, 0)
	require.NoError(t, err)
	require.NoError(t, l.Append(ctx, tree{"self", l}))
	require.NoError(t, l.Close())
}

func TestQueue(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		_, err := NewQueue[int](ctx, m, 0)
		require.Error(t, err)
		q := made(NewQueue[note](ctx, m, 1))(t)
		_, err = q.TryGet(ctx)
		require.ErrorIs(t, err, ipc.ErrEmpty)
		_, err = q.Get(ended())
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, q.Put(ended(), note{Text: "1"}))
		require.ErrorIs(t, q.TryPut(ctx, note{Text: "2"}), ipc.ErrFull)
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, q.Put(short, note{Text: "2"}), context.DeadlineExceeded)
		n, err := q.Len(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.ErrorIs(t, q.Join(ended()), context.Canceled)
		joined := make(chan error, 1)
		go func() { joined <- q.Join(ctx) }()
		put := make(chan error, 1)
		go func() { put <- q.Put(ctx, note{Text: "2"}) }()
		got, err := q.Get(ctx)
		require.NoError(t, err)
		require.Equal(t, "1", got.Text)
		require.NoError(t, <-put)
		require.NoError(t, q.TaskDone(ended()))
		got, err = q.Get(ctx)
		require.NoError(t, err)
		require.Equal(t, "2", got.Text)
		require.NoError(t, q.TaskDone(ctx))
		require.NoError(t, <-joined)
		require.EqualError(t, q.TaskDone(ctx), "manager: queue task done: all items that were put are done already")
		require.NoError(t, q.Put(ctx, note{Text: "3"}))
		require.NoError(t, q.Shutdown(ctx))
		require.Equal(t, io.ErrClosedPipe, q.Put(ctx, note{}))
		require.Equal(t, io.ErrClosedPipe, q.TryPut(ctx, note{}))
		_, err = q.Get(ctx)
		require.NoError(t, err)
		_, err = q.Get(ctx)
		require.Equal(t, io.EOF, err)
		_, err = q.TryGet(ctx)
		require.Equal(t, io.EOF, err)
		require.NoError(t, q.Close())
		_, err = q.Get(ctx)
		require.ErrorIs(t, err, ipc.ErrClosed)
		empty(t, m)
	})
}

func TestLocks(t *testing.T) { // MGR-20, MGR-21
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		l := made(NewLock(ctx, m))(t)
		require.NoError(t, l.Lock(ended()))
		ok, err := l.TryLock(ctx)
		require.NoError(t, err)
		require.False(t, ok)
		require.ErrorIs(t, l.Lock(ended()), context.Canceled)
		waits := make(chan error, 1)
		go func() { waits <- l.Lock(ctx) }()
		require.NoError(t, l.Unlock(ended()))
		require.NoError(t, <-waits)
		require.NoError(t, l.Unlock(ctx))
		require.ErrorIs(t, l.Unlock(ctx), ipc.ErrNotHeld)
		require.NoError(t, l.Recover(ctx))
		require.NoError(t, l.Unlock(ctx))

		r, other := made(NewRLock(ctx, m))(t), made(NewRLock(ctx, m))(t)
		one, err := r.Lock(ctx)
		require.NoError(t, err)
		again, err := r.Lock(one)
		require.NoError(t, err)
		require.Equal(t, one, again)
		both, err := other.Lock(one)
		require.NoError(t, err)
		again, err = r.Recover(both)
		require.NoError(t, err)
		require.Equal(t, both, again)
		_, err = other.Lock(both)
		require.NoError(t, err)
		same, err := r.Lock(ended())
		require.ErrorIs(t, err, context.Canceled, "another ctx is somebody else")
		require.Equal(t, ended(), same)
		for range 3 {
			_, err = r.Lock(ended())
			require.Error(t, err)
			require.NoError(t, r.Unlock(ended()))
		}
		require.ErrorIs(t, r.Unlock(one), ipc.ErrNotHeld)
		two, err := r.Lock(one)
		require.NoError(t, err)
		require.NotEqual(t, one, two, "it owned nothing any more")
		require.NoError(t, r.Unlock(two))

		s := made(NewBoundedSemaphore(ctx, m, 2))(t)
		require.NoError(t, s.Acquire(ctx, 2))
		ok, err = s.TryAcquire(ctx, 1)
		require.NoError(t, err)
		require.False(t, ok)
		require.EqualError(t, s.Acquire(ctx, 3), "manager: acquire: n is 3, and the semaphore has 2")
		require.ErrorIs(t, s.Acquire(ended(), 1), context.Canceled)
		require.NoError(t, s.Release(ended(), 1))
		require.NoError(t, s.Acquire(ended(), 1))
		require.NoError(t, s.Release(ctx, 2))
		require.ErrorIs(t, s.Release(ctx, 1), ipc.ErrNotHeld)
		_, err = NewSemaphore(ctx, m, -1)
		require.Error(t, err)
		u := made(NewSemaphore(ctx, m, 0))(t)
		require.NoError(t, u.Release(ctx, 5))
		require.NoError(t, u.Acquire(ctx, 5))
		require.Error(t, u.Acquire(ctx, -1))
		for _, p := range []Proxy{l, r, other, s, u} {
			require.NoError(t, p.Close())
		}
		empty(t, m)
	})
}

func TestEventCondBarrier(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		e := made(NewEvent(ctx, m))(t)
		require.ErrorIs(t, e.Wait(ended()), context.Canceled)
		waits := make(chan error, 1)
		go func() { waits <- e.Wait(ctx) }()
		require.NoError(t, e.Set(ended()))
		require.NoError(t, <-waits)
		set, err := e.IsSet(ctx)
		require.NoError(t, err)
		require.True(t, set)
		require.NoError(t, e.Wait(ended()))
		require.NoError(t, e.Clear(ctx))
		set, err = e.IsSet(ctx)
		require.NoError(t, err)
		require.False(t, set)

		l := made(NewLock(ctx, m))(t)
		c := made(NewCond(ctx, m, l))(t)
		require.Same(t, l, c.L)
		require.ErrorIs(t, c.Wait(ctx), ipc.ErrNotHeld)
		require.ErrorIs(t, c.Notify(ctx, 1), ipc.ErrNotHeld)
		require.ErrorIs(t, c.NotifyAll(ctx), ipc.ErrNotHeld)
		require.Error(t, c.Notify(ctx, -1))
		require.NoError(t, l.Lock(ctx))
		require.ErrorIs(t, c.Wait(ended()), context.Canceled)
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, c.Wait(short), context.DeadlineExceeded)
		require.NoError(t, l.Unlock(ctx), "it is held again")
		ready := make(chan struct{})
		go func() {
			if err := l.Lock(ctx); err != nil {
				waits <- err
				return
			}
			close(ready)
			err := c.Wait(ctx)
			waits <- errors.Join(err, l.Unlock(ctx))
		}()
		<-ready
		require.NoError(t, l.Lock(ctx))
		require.NoError(t, c.Notify(ended(), 1))
		require.NoError(t, l.Unlock(ctx))
		require.NoError(t, <-waits)
		_, err = NewCond(ctx, m, nil)
		require.Error(t, err)
		require.NoError(t, Publish(ctx, m, "cond", c))
		found, err := Lookup[*Cond](ctx, m, "cond")
		require.NoError(t, err)
		require.NoError(t, found.L.Lock(ctx))
		require.NoError(t, c.NotifyAll(ctx), "it is the same lock")
		require.NoError(t, found.Close())
		require.NoError(t, l.Unlock(ctx))
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.Wait(ctx), ipc.ErrClosed)
		require.NoError(t, l.Lock(ctx), "L stays open")
		require.NoError(t, l.Unlock(ctx))

		_, err = NewBarrier(ctx, m, 0)
		require.Error(t, err)
		b := made(NewBarrier(ctx, m, 2))(t)
		index := make(chan int, 2)
		pass := func() {
			i, err := b.Wait(ctx)
			index <- i
			waits <- err
		}
		go pass()
		require.Eventually(t, func() bool { n, err := b.Waiting(ctx); return err == nil && n == 1 }, 10*time.Second, time.Millisecond)
		i, err := b.Wait(ended())
		require.NoError(t, err)
		require.Equal(t, 1, i)
		require.Zero(t, <-index)
		require.NoError(t, <-waits)
		_, err = b.Wait(ended())
		require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
		require.ErrorIs(t, err, context.Canceled)
		_, err = b.Wait(ctx)
		require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
		require.NoError(t, b.Reset(ctx))
		short, cancel = context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		_, err = b.Wait(short)
		require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, b.Reset(ctx))
		_, err = b.Wait(short) // it has ended before
		require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, b.Reset(ctx))
		require.NoError(t, b.Abort(ctx))
		_, err = b.Wait(ctx)
		require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
		for _, p := range []Proxy{e, l, c, b} {
			require.NoError(t, p.Close())
		}
		empty(t, m)
	})
}

// kit is one proxy of each type, for a child.
type kit struct {
	Dict    *Dict[string, int]
	List    *List[int]
	Names   *Namespace
	Queue   *Queue[string]
	Value   *Value[int]
	Array   *Array[int]
	Lock    *Lock
	RLock   *RLock
	Sem     *Semaphore
	Bound   *Semaphore
	Event   *Event
	Back    *Event
	Cond    *Cond
	Barrier *Barrier
}

func newKit(t *testing.T, m *Manager) kit {
	ctx := t.Context()
	k := kit{
		Dict: made(NewDict[string, int](ctx, m))(t), List: made(NewList[int](ctx, m))(t), Names: made(NewNamespace(ctx, m))(t),
		Queue: made(NewQueue[string](ctx, m, 10))(t), Value: made(NewValue(ctx, m, 0))(t), Array: made(NewArray[int](ctx, m, 3))(t),
		Lock: made(NewLock(ctx, m))(t), RLock: made(NewRLock(ctx, m))(t), Sem: made(NewSemaphore(ctx, m, 0))(t),
		Bound: made(NewBoundedSemaphore(ctx, m, 3))(t), Event: made(NewEvent(ctx, m))(t), Back: made(NewEvent(ctx, m))(t),
		Barrier: made(NewBarrier(ctx, m, 2))(t),
	}
	k.Cond = made(NewCond(ctx, m, k.Lock))(t)
	return k
}

func (k kit) close() {
	for _, p := range []Proxy{k.Dict, k.List, k.Names, k.Queue, k.Value, k.Array, k.Lock, k.RLock, k.Sem, k.Bound, k.Event, k.Back, k.Cond, k.Barrier} {
		_ = p.Close()
	}
}

// useKit uses all of a kit in a child, while the parent uses the other side.
var useKit = executor.NewTask("manager_test.useKit", func(ctx context.Context, k kit) (int, error) {
	pid := os.Getpid()
	steps := []func() error{
		func() error { return k.Dict.Set(ctx, "pid", pid) },
		func() error { return k.Dict.Update(ctx, "n", func(n *int) { *n += 5 }) },
		func() error { return k.List.Append(ctx, pid, 2) },
		func() error { return k.Names.Set(ctx, "pid", pid) },
		func() error { return k.Value.Update(ctx, func(n *int) { *n += pid }) },
		func() error { return k.Array.Set(ctx, 1, pid) },
		func() error { // the event is set by the parent
			if err := k.Event.Wait(ctx); err != nil {
				return err
			}
			return k.Back.Set(ctx)
		},
		func() error {
			s, err := k.Queue.Get(ctx)
			if err != nil {
				return err
			}
			if err := k.Queue.TaskDone(ctx); err != nil {
				return err
			}
			return k.Queue.Put(ctx, s+" from the child")
		},
		func() error {
			if err := k.Lock.Unlock(ctx); !errors.Is(err, ipc.ErrNotHeld) {
				return fmt.Errorf("unlock of another's lock: %w", err) // MGR-20
			}
			if ok, err := k.Lock.TryLock(ctx); ok || err != nil {
				return fmt.Errorf("the parent's lock: %v, %w", ok, err)
			}
			ctx2, err := k.RLock.Lock(ctx)
			if err != nil {
				return err
			}
			if _, err := k.RLock.Lock(ctx2); err != nil {
				return err
			}
			return errors.Join(k.RLock.Unlock(ctx2), k.RLock.Unlock(ctx2))
		},
		func() error { return errors.Join(k.Sem.Release(ctx, 2), k.Bound.Acquire(ctx, 2)) },
		func() error { _, err := k.Barrier.Wait(ctx); return err },
		func() error { return k.Lock.Lock(ctx) }, // the parent lets go of it
		func() error { return errors.Join(k.Back.Clear(ctx), k.Cond.Wait(ctx)) },
		func() error { return k.Cond.L.Unlock(ctx) }, // the same lock
		func() error { return k.Bound.Release(ctx, 2) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return 0, fmt.Errorf("step %d: %w", i, err)
		}
	}
	return pid, nil
})

func TestProxiesInAChild(t *testing.T) { // MGR-19, MGR-22
	ways(t, func(t *testing.T, m *Manager) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		k := newKit(t, m)
		require.NoError(t, k.Lock.Lock(ctx))
		pool, err := processpool.New(processpool.Config{Workers: 1})
		require.NoError(t, err)
		defer pool.Close()
		f := executor.Submit(ctx, pool, useKit, k)
		fail := context.AfterFunc(ctx, func() { pool.Close() })
		defer fail()
		ended := make(chan struct{})
		go func() { // so that the test does not wait for a child that has failed
			defer close(ended)
			if _, err := f.Result(ctx); err != nil {
				t.Errorf("the child: %v", err)
				cancel()
			}
		}()
		require.NoError(t, k.Event.Set(ctx))
		require.NoError(t, k.Back.Wait(ctx))
		require.NoError(t, k.Queue.Put(ctx, "hello"))
		require.NoError(t, k.Sem.Acquire(ctx, 2))
		i, err := k.Barrier.Wait(ctx)
		require.NoError(t, err)
		require.Contains(t, []int{0, 1}, i)
		s, err := k.Queue.Get(ctx)
		require.NoError(t, err)
		require.Equal(t, "hello from the child", s)
		require.NoError(t, k.Queue.TaskDone(ctx))
		require.NoError(t, k.Queue.Join(ctx))
		ok, err := k.Bound.TryAcquire(ctx, 2)
		require.NoError(t, err)
		require.False(t, ok, "the child has them")
		require.NoError(t, k.Lock.Unlock(ctx))
		for { // until the child waits for the condition
			require.NoError(t, k.Lock.Lock(ctx))
			set, err := k.Back.IsSet(ctx)
			require.NoError(t, err)
			if !set {
				break
			}
			require.NoError(t, k.Lock.Unlock(ctx))
		}
		require.NoError(t, k.Cond.Notify(ctx, 1))
		require.NoError(t, k.Lock.Unlock(ctx))
		pid, err := f.Result(ctx)
		require.NoError(t, err)
		<-ended

		n, _, err := k.Dict.Get(ctx, "pid")
		require.NoError(t, err)
		require.Equal(t, pid, n)
		n, _, err = k.Dict.Get(ctx, "n")
		require.NoError(t, err)
		require.Equal(t, 5, n)
		all, err := k.List.All(ctx)
		require.NoError(t, err)
		require.Equal(t, []int{pid, 2}, all)
		ok, err = k.Names.Get(ctx, "pid", &n)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, pid, n)
		n, err = k.Value.Load(ctx)
		require.NoError(t, err)
		require.Equal(t, pid, n)
		n, err = k.Array.Get(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, pid, n)
		require.NoError(t, k.Bound.Acquire(ctx, 3))
		ok, err = k.Lock.TryLock(ctx)
		require.NoError(t, err)
		require.True(t, ok)
		k.close()
		if m.conn.how == nil { // else what they travelled by is good for a minute
			empty(t, m)
		}
	})
}

type counting struct {
	Value *Value[int]
	Dict  *Dict[string, map[string]int]
	Times int
}

var countTask = executor.NewTask("manager_test.count", count)

func count(ctx context.Context, c counting) (struct{}, error) {
	for range c.Times {
		if err := c.Value.Update(ctx, func(n *int) { *n++ }); err != nil {
			return struct{}{}, err
		}
		if err := c.Dict.Update(ctx, "k", func(m *map[string]int) {
			if *m == nil {
				*m = map[string]int{}
			}
			(*m)["n"]++
		}); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

func TestUpdateLosesNothing(t *testing.T) {
	ctx, m := t.Context(), started(t)
	pool, err := processpool.New(processpool.Config{Workers: 2})
	require.NoError(t, err)
	defer pool.Close()
	c := counting{made(NewValue(ctx, m, 0))(t), made(NewDict[string, map[string]int](ctx, m))(t), 50}
	var wg sync.WaitGroup
	for range 4 {
		f := executor.Submit(ctx, pool, countTask, c)
		wg.Go(func() {
			if _, err := f.Result(ctx); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := count(ctx, c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n, err := c.Value.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, 400, n)
	counts, _, err := c.Dict.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, map[string]int{"n": 400}, counts)
}

// dieTask takes hold of what is in the kit, tells of it by Back, and waits until it is killed.
var dieTask = executor.NewTask("manager_test.die", func(ctx context.Context, k kit) (struct{}, error) {
	ctx = context.WithoutCancel(ctx)
	if err := k.Lock.Lock(ctx); err != nil {
		return struct{}{}, err
	}
	waits := make(chan error, 10)
	go func() { waits <- k.Cond.Wait(ctx) }()
	rctx, err := k.RLock.Lock(ctx)
	if err != nil {
		return struct{}{}, err
	}
	if _, err := k.RLock.Lock(rctx); err != nil {
		return struct{}{}, err
	}
	go func() { _, err := k.Barrier.Wait(ctx); waits <- err }()
	go func() { _, err := k.Queue.Get(ctx); waits <- err }()
	if err := k.Bound.Acquire(ctx, 3); err != nil {
		return struct{}{}, err
	}
	// The condition has let go of the lock: this waits until it has.
	if err := k.Cond.L.Lock(ctx); err != nil {
		return struct{}{}, err
	}
	for n := 0; n == 0; {
		if n, err = k.Barrier.Waiting(ctx); err != nil {
			return struct{}{}, err
		}
	}
	if err := k.Back.Set(ctx); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, fmt.Errorf("it went on: %w", <-waits)
})

func TestAChildDies(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		k := newKit(t, m)
		child, err := worker.Start(ctx, dieTask, k, worker.Config{})
		require.NoError(t, err)
		defer child.Kill()
		require.NoError(t, k.Back.Wait(ctx))
		acquired := make(chan error, 3)
		go func() { acquired <- k.Bound.Acquire(ctx, 2) }()
		go func() { acquired <- k.Lock.Lock(ctx) }()
		go func() { _, err := k.RLock.Lock(ctx); acquired <- err }()
		require.NoError(t, child.Kill())
		died := 0
		for range 3 {
			if err := <-acquired; err != nil {
				require.ErrorIs(t, err, ipc.ErrOwnerDied)
				died++
			}
		}
		require.Equal(t, 2, died)
		_, err = k.Lock.TryLock(ctx)
		require.ErrorIs(t, err, ipc.ErrOwnerDied)
		require.NoError(t, k.Lock.Recover(ctx))
		require.NoError(t, k.Cond.Notify(ctx, 1), "nobody waits")
		require.NoError(t, k.Lock.Unlock(ctx))
		_, err = k.RLock.Recover(ctx)
		require.NoError(t, err)
		require.NoError(t, k.RLock.Unlock(ctx))
		_, err = k.Barrier.Wait(ctx)
		require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
		require.NoError(t, k.Queue.Put(ctx, "stays"))
		n, err := k.Queue.Len(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, n, "nobody who is dead has taken it")
		k.close()
		if m.conn.how == nil { // else what they travelled by is good for a minute
			empty(t, m)
		}
	})
}

// Who closes its last proxy lets go of what it held by it.
func TestCloseLetsGo(t *testing.T) {
	server, m := served(t)
	ctx := t.Context()
	l := made(NewLock(ctx, server))(t)
	b := made(NewBoundedSemaphore(ctx, server, 1))(t)
	require.NoError(t, Publish(ctx, server, "l", l))
	require.NoError(t, Publish(ctx, server, "b", b))
	theirs := made(Lookup[*Lock](ctx, m, "l"))(t)
	theirB := made(Lookup[*Semaphore](ctx, m, "b"))(t)
	require.NoError(t, theirs.Lock(ctx))
	require.NoError(t, theirB.Acquire(ctx, 1))
	require.NoError(t, theirs.Close())
	require.NoError(t, theirB.Close())
	require.ErrorIs(t, l.Lock(ctx), ipc.ErrOwnerDied)
	require.NoError(t, b.Acquire(ctx, 1))
	require.NoError(t, l.Recover(ctx))

	// Who waits by a proxy that is closed is answered.
	theirs = made(Lookup[*Lock](ctx, m, "l"))(t)
	waits := make(chan error, 1)
	go func() { waits <- theirs.Lock(ctx) }()
	time.Sleep(5 * time.Millisecond) // it may wait, or not have begun: both are answered
	require.NoError(t, theirs.Close())
	require.ErrorIs(t, <-waits, ipc.ErrClosed)
	require.NoError(t, l.Unlock(ctx))
}
