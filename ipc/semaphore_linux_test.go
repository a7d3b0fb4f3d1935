package ipc_test

import (
	"context"
	"math"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"

	"github.com/stretchr/testify/require"
)

func newSemaphore(tb testing.TB, n int, bounded bool) *ipc.Semaphore {
	make := ipc.NewSemaphore
	if bounded {
		make = ipc.NewBoundedSemaphore
	}
	s, err := make(n)
	require.NoError(tb, err)
	tb.Cleanup(func() { s.Close() })
	return s
}

func tryAcquire(t *testing.T, s *ipc.Semaphore, n int) bool {
	t.Helper()
	ok, err := s.TryAcquire(n)
	require.NoError(t, err)
	return ok
}

func TestSemaphore(t *testing.T) { // LCK-07, LCK-09
	s := newSemaphore(t, 2, false)
	require.NoError(t, s.Acquire(ended(), 1))
	require.True(t, tryAcquire(t, s, 1))
	require.False(t, tryAcquire(t, s, 1))
	require.ErrorIs(t, s.Acquire(soon(t), 1), context.DeadlineExceeded)
	require.True(t, tryAcquire(t, s, 0))
	require.NoError(t, s.Release(1))
	require.NoError(t, s.Release(4))
	require.False(t, tryAcquire(t, s, 6)) // all or none
	require.True(t, tryAcquire(t, s, 5))
	require.ErrorContains(t, s.Acquire(t.Context(), -1), "n is -1")
	require.ErrorContains(t, s.Release(-1), "n is -1")
	require.NoError(t, s.Release(math.MaxInt))
	require.ErrorContains(t, s.Release(1), "too many")
	_, err := ipc.NewSemaphore(-1)
	require.ErrorContains(t, err, "n is -1")
}

func TestBoundedSemaphore(t *testing.T) { // LCK-08
	s := newSemaphore(t, 3, true)
	require.ErrorIs(t, s.Release(1), ipc.ErrNotHeld)
	require.NoError(t, s.Acquire(t.Context(), 3))
	require.False(t, tryAcquire(t, s, 1))
	require.ErrorIs(t, s.Release(4), ipc.ErrNotHeld)
	require.NoError(t, s.Release(2))
	require.True(t, tryAcquire(t, s, 2))
	require.ErrorContains(t, s.Acquire(t.Context(), 4), "n is 4, and the semaphore has 3")

	other := again(t, s)
	require.NoError(t, other.Release(1)) // of the same process
	require.True(t, func() bool { ok, _ := other.TryAcquire(1); return ok }())
	require.NoError(t, s.Release(3)) // one of them is the other's
	require.ErrorIs(t, other.Release(1), ipc.ErrNotHeld)
	require.NoError(t, other.Acquire(t.Context(), 3))
	require.False(t, tryAcquire(t, s, 1))
	require.NoError(t, other.Close())
	require.True(t, tryAcquire(t, s, 3))
}

func init() {
	role("acquire", func(c cast, args []string) {
		n := get(strconv.Atoi(args[0]))
		must(c.Sem.Acquire(context.Background(), n))
		say("acquired")
		heard("release")
		must(c.Sem.Release(n))
		say("released")
		heard("end")
	})
}

func TestBoundedSemaphoreHolderDies(t *testing.T) {
	s := newSemaphore(t, 5, true)
	p := start(t, "acquire", cast{Sem: s}, "", "4")
	p.hear("acquired")
	require.False(t, tryAcquire(t, s, 2))
	require.ErrorIs(t, s.Release(1), ipc.ErrNotHeld) // that is the other process's
	done := make(chan error, 1)
	go func() { done <- s.Acquire(proctest.Within(t), 5) }()
	p.kill()
	require.NoError(t, <-done)
	require.NoError(t, s.Release(5))

	q := start(t, "acquire", cast{Sem: s}, "", "5")
	q.hear("acquired")
	q.kill()
	require.True(t, tryAcquire(t, s, 5)) // nobody has watched
}

func TestSemaphoreBetweenProcesses(t *testing.T) {
	for _, bounded := range []bool{false, true} {
		s := newSemaphore(t, 4, bounded)
		p := start(t, "acquire", cast{Sem: s}, "", "4")
		p.hear("acquired")
		var all sync.WaitGroup
		for _, n := range []int{3, 1, 2, 1, 1} { // more than can be had at a time
			all.Go(func() {
				if err := s.Acquire(proctest.Within(t), n); err != nil {
					t.Error(err)
				}
				if err := s.Release(n); err != nil {
					t.Error(err)
				}
			})
		}
		p.tell("release")
		p.hear("released")
		all.Wait()
		require.True(t, tryAcquire(t, s, 4))
		p.tell("end")
		p.ends()
	}
}

// TestSemaphoreSmallBehindLarge: one that can be had is had, though one who wants more waits.
func TestSemaphoreSmallBehindLarge(t *testing.T) {
	s := newSemaphore(t, 0, false)
	large, small := make(chan error, 1), make(chan error, 1)
	go func() { large <- s.Acquire(proctest.Within(t), 5) }()
	require.Error(t, s.Acquire(soon(t), 1))
	go func() { small <- s.Acquire(proctest.Within(t), 1) }()
	require.Error(t, s.Acquire(soon(t), 1))
	require.NoError(t, s.Release(1))
	require.NoError(t, <-small)
	require.NoError(t, s.Release(5))
	require.NoError(t, <-large)
}

const (
	proctestMinute = time.Minute
	tick           = time.Millisecond
)
