package ipc_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"

	"github.com/stretchr/testify/require"
)

func newCond(tb testing.TB) *ipc.Cond {
	c, err := ipc.NewCond(newLock(tb))
	require.NoError(tb, err)
	tb.Cleanup(func() { c.Close() })
	return c
}

func init() {
	role("cond waiters", func(c cast, args []string) {
		var all sync.WaitGroup
		for range get(strconv.Atoi(args[0])) {
			must(c.Cond.L.Lock(context.Background()))
			all.Go(func() {
				must(c.Cond.Wait(context.Background()))
				must(c.Cond.L.Unlock())
				say("notified")
			})
			must(c.Cond.L.Lock(context.Background())) // so that it waits
			must(c.Cond.L.Unlock())
		}
		say("waiting")
		all.Wait()
		heard("end")
	})
	role("cond waiter", func(c cast, _ []string) {
		must(c.Cond.L.Lock(context.Background()))
		say("waiting")
		must(c.Cond.Wait(context.Background()))
		say("notified")
		must(c.Cond.L.Unlock())
		heard("end")
	})
}

func notify(t *testing.T, c *ipc.Cond, n int) {
	t.Helper()
	require.NoError(t, c.L.Lock(proctest.Within(t)))
	if n < 0 {
		require.NoError(t, c.NotifyAll())
	} else {
		require.NoError(t, c.Notify(n))
	}
	require.NoError(t, c.L.Unlock())
}

func TestCondNotify(t *testing.T) { // CND-01, CND-04
	c := newCond(t)
	notify(t, c, 1) // nobody is there: it is not remembered
	p := start(t, "cond waiters", cast{Cond: c}, "", "4")
	p.hear("waiting")
	var here atomic.Int32
	var all sync.WaitGroup
	for range 2 {
		require.NoError(t, c.L.Lock(t.Context()))
		all.Go(func() {
			if err := c.Wait(proctest.Within(t)); err != nil {
				t.Error(err)
				return
			}
			here.Add(1)
			if err := c.L.Unlock(); err != nil {
				t.Error(err)
			}
		})
		require.NoError(t, c.L.Lock(t.Context()))
		require.NoError(t, c.L.Unlock())
	}
	notify(t, c, 1)
	p.hear("notified") // first come
	notify(t, c, 2)
	p.hear("notified")
	p.hear("notified")
	require.Zero(t, here.Load())
	notify(t, c, 2)
	p.hear("notified")
	notify(t, c, 100)
	all.Wait()
	p.tell("end")
	p.ends()
}

func TestCondNotifyAll(t *testing.T) { // CND-02
	c := newCond(t)
	ps := []*process{}
	for range 3 {
		p := start(t, "cond waiters", cast{Cond: c}, "", "3")
		p.hear("waiting")
		ps = append(ps, p)
	}
	notify(t, c, -1)
	for _, p := range ps {
		for range 3 {
			p.hear("notified")
		}
		p.tell("end")
		p.ends()
	}
}

func TestCondGivesUp(t *testing.T) { // CND-03, CND-05, CND-08
	c := newCond(t)
	require.NoError(t, c.L.Lock(t.Context()))
	require.ErrorIs(t, c.Wait(ended()), context.Canceled)
	begin := time.Now()
	require.ErrorIs(t, c.Wait(soon(t)), context.DeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(begin), 10*time.Millisecond)
	require.NoError(t, c.L.Unlock()) // it was held
	p := start(t, "cond waiters", cast{Cond: c}, "", "1")
	p.hear("waiting")
	notify(t, c, 1) // not for those who gave up
	p.hear("notified")
	p.tell("end")
	p.ends()
}

func TestCondWithoutLock(t *testing.T) { // CND-09
	c := newCond(t)
	require.ErrorIs(t, c.Wait(t.Context()), ipc.ErrNotHeld)
	require.ErrorIs(t, c.Notify(1), ipc.ErrNotHeld)
	require.ErrorIs(t, c.NotifyAll(), ipc.ErrNotHeld)
	require.ErrorContains(t, c.Notify(-1), "n is -1")
	p := start(t, "hold", cast{Lock: c.L}, "")
	p.hear("held")
	require.ErrorIs(t, c.Wait(t.Context()), ipc.ErrNotHeld) // by another process
	p.tell("let go")
	p.hear("let go")
	p.tell("end")
	p.ends()
	_, err := ipc.NewCond(nil)
	require.ErrorContains(t, err, "nil")
}

// TestCondWaiterDies: one who was notified and died has taken nothing with it.
func TestCondWaiterDies(t *testing.T) {
	for _, step := range []string{"cond: entered", "cond: woken", "wait: armed"} {
		t.Run(step, func(t *testing.T) {
			c := newCond(t)
			p := start(t, "cond waiter", cast{Cond: c}, step)
			p.hear("waiting")
			if step != "cond: woken" {
				p.killed()
				if err := c.L.Recover(proctest.Within(t)); err == nil {
					require.NoError(t, c.L.Unlock())
				}
			}
			q := start(t, "cond waiter", cast{Cond: c}, "")
			q.hear("waiting")
			notify(t, c, 1)
			if step == "cond: woken" {
				p.killed()
			}
			q.hear("notified")
			q.tell("end")
			q.ends()
		})
	}
}

func TestCondHolderDies(t *testing.T) {
	c := newCond(t)
	require.NoError(t, c.L.Lock(t.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Wait(proctest.Within(t)) }()
	p := start(t, "hold", cast{Lock: c.L}, "")
	p.hear("held")
	p.kill()
	require.ErrorIs(t, <-done, ipc.ErrOwnerDied)
	require.ErrorIs(t, c.L.Unlock(), ipc.ErrNotHeld)
}

func TestCondClosed(t *testing.T) {
	for name, closing := range map[string]func(c *ipc.Cond) error{
		"cond": func(c *ipc.Cond) error { return c.Close() },
		"lock": func(c *ipc.Cond) error { return c.L.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCond(t)
			require.NoError(t, c.L.Lock(t.Context()))
			done := make(chan error, 1)
			go func() { done <- c.Wait(proctest.Within(t)) }()
			require.NoError(t, c.L.Lock(t.Context())) // it waits
			require.NoError(t, c.L.Unlock())
			require.NoError(t, closing(c))
			require.ErrorIs(t, <-done, ipc.ErrClosed)
			require.ErrorIs(t, c.NotifyAll(), ipc.ErrClosed)
			require.ErrorIs(t, c.Wait(t.Context()), ipc.ErrClosed)
		})
	}
	c := newCond(t)
	d := again(t, c)
	require.NoError(t, d.Close())
	require.ErrorIs(t, d.L.Lock(t.Context()), ipc.ErrClosed) // it came with d
	require.NoError(t, c.L.Lock(t.Context()))
}
