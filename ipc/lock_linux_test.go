package ipc_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"sync"
	"testing"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"

	"github.com/stretchr/testify/require"
)

func newLock(tb testing.TB) *ipc.Lock {
	l, err := ipc.NewLock()
	require.NoError(tb, err)
	tb.Cleanup(func() { l.Close() })
	return l
}

func TestLockOnce(t *testing.T) { // LCK-01
	l := newLock(t)
	require.NoError(t, l.Lock(t.Context()))
	ok, err := l.TryLock()
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, l.Unlock())
	require.ErrorIs(t, l.Unlock(), ipc.ErrNotHeld)
}

func init() {
	role("hold", func(c cast, _ []string) {
		must(c.Lock.Lock(context.Background()))
		say("held")
		heard("let go")
		must(c.Lock.Unlock())
		say("let go")
		heard("end")
	})
}

func TestLockBetweenProcesses(t *testing.T) { // LCK-02, LCK-05, LCK-06
	l := newLock(t)
	p := start(t, "hold", cast{Lock: l}, "")
	p.hear("held")
	ok, err := l.TryLock()
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, p.cmd.Process.Pid, l.Holder())
	require.ErrorIs(t, l.Unlock(), ipc.ErrNotHeld)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err = l.Lock(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(begin), 20*time.Millisecond)

	done := make(chan error, 1)
	go func() { done <- l.Lock(proctest.Within(t)) }()
	p.tell("let go")
	p.hear("let go")
	require.NoError(t, <-done)
	require.NoError(t, l.Unlock())
	require.Zero(t, l.Holder())
	p.tell("end")
	p.ends()
}

func TestLockHolderDies(t *testing.T) { // LCK-11
	l := newLock(t)
	p := start(t, "hold", cast{Lock: l}, "")
	p.hear("held")
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() {
			if err := l.Lock(proctest.Within(t)); !isDied(err) {
				t.Errorf("Lock = %v", err)
			}
		})
	}
	p.kill()
	ok, err := l.TryLock()
	require.False(t, ok)
	require.ErrorIs(t, err, ipc.ErrOwnerDied)
	waiting.Wait()
	require.ErrorIs(t, l.Lock(t.Context()), ipc.ErrOwnerDied)
	require.Zero(t, l.Holder())

	q := start(t, "hold died", cast{Lock: l}, "") // to everybody
	q.hear("died")
	require.NoError(t, l.Recover(t.Context()))
	require.NoError(t, l.Unlock())
	q.tell("lock")
	q.hear("held")
	require.Equal(t, q.cmd.Process.Pid, l.Holder())
	q.kill()
	require.Zero(t, l.Holder()) // nobody waits, nobody watches: it is seen all the same
	require.NoError(t, l.Recover(t.Context()))
	require.NoError(t, l.Unlock())
}

func isDied(err error) bool { return err != nil && err.Error() == ipc.ErrOwnerDied.Error() }

func init() {
	role("hold died", func(c cast, _ []string) {
		if err := c.Lock.Lock(context.Background()); isDied(err) {
			say("died")
		}
		heard("lock")
		must(c.Lock.Lock(context.Background()))
		say("held")
		heard("end")
	})
}

func TestLockClosedByHolder(t *testing.T) {
	l := newLock(t)
	m := again(t, l)
	require.NoError(t, m.Lock(t.Context()))
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err := l.TryLock()
	require.ErrorIs(t, err, ipc.ErrOwnerDied)
	require.ErrorIs(t, m.Unlock(), ipc.ErrClosed)
	require.ErrorIs(t, m.Lock(t.Context()), ipc.ErrClosed)
	require.Panics(t, func() { m.Holder() })
}

func TestLockUnlockedByAnotherHandle(t *testing.T) {
	l := newLock(t)
	m := again(t, l)
	defer m.Close()
	require.NoError(t, m.Lock(t.Context()))
	done := make(chan error, 1)
	go func() { done <- m.Lock(proctest.Within(t)) }() // waits for this very handle
	require.Error(t, m.Lock(soon(t)))
	require.NoError(t, l.Unlock())
	require.NoError(t, <-done)
	require.NoError(t, l.Unlock())
	require.ErrorIs(t, m.Unlock(), ipc.ErrNotHeld)
}

func TestLockClosedUnderWaiters(t *testing.T) {
	l := newLock(t)
	m := again(t, l)
	require.NoError(t, l.Lock(t.Context()))
	var waiting sync.WaitGroup
	for range 10 {
		waiting.Go(func() {
			if err := m.Lock(proctest.Within(t)); err != ipc.ErrClosed {
				t.Errorf("Lock = %v", err)
			}
		})
	}
	m.Close()
	waiting.Wait()
	require.NoError(t, l.Unlock())
}

func TestLockManyGoroutines(t *testing.T) {
	l := newLock(t)
	n := 0
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			for range 1000 {
				if err := l.Lock(proctest.Within(t)); err != nil {
					t.Error(err)
					return
				}
				n++
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, 100_000, n)
}

func TestLockNotPortable(t *testing.T) {
	l := newLock(t)
	err := gob.NewEncoder(new(bytes.Buffer)).Encode(l)
	require.ErrorIs(t, err, executor.ErrNotPortable)
	require.ErrorContains(t, err, "ipc.Lock")
}
