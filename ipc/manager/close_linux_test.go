package manager

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

// Whoever closes its last proxy while it calls has nothing afterwards, whenever that was.
func TestCloseWhileItCalls(t *testing.T) {
	server, m := served(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := made(NewLock(ctx, server))(t)
	b := made(NewBoundedSemaphore(ctx, server, 1))(t)
	require.NoError(t, Publish(ctx, server, "l", l))
	require.NoError(t, Publish(ctx, server, "b", b))
	for i, end := 0, time.Now().Add(stressFor()); time.Now().Before(end); i++ {
		theirs := made(Lookup[*Lock](ctx, m, "l"))(t)
		theirB := made(Lookup[*Semaphore](ctx, m, "b"))(t)
		if i%2 == 0 { // they have to wait
			require.NoError(t, l.Lock(ctx))
			require.NoError(t, b.Acquire(ctx, 1))
		}
		done := make(chan error, 2)
		go func() { done <- theirs.Lock(ctx) }()
		go func() { done <- theirB.Acquire(ctx, 1) }()
		for n := rand.IntN(2000); n > 0; n-- {
		}
		if rand.IntN(4) == 0 {
			time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) // any moment
		}
		require.NoError(t, theirs.Close())
		require.NoError(t, theirB.Close())
		if i%2 == 0 {
			for range 2 {
				require.ErrorIs(t, <-done, ipc.ErrClosed, "round %d", i)
			}
			require.NoError(t, l.Unlock(ctx))
			require.NoError(t, b.Release(ctx, 1))
		} else {
			for range 2 {
				if err := <-done; err != nil {
					require.ErrorIs(t, err, ipc.ErrClosed, "round %d", i)
				}
			}
		}
		err := l.Lock(ctx)
		if errors.Is(err, ipc.ErrOwnerDied) {
			err = l.Recover(ctx)
		}
		require.NoError(t, err)
		require.NoError(t, l.Unlock(ctx))
		require.NoError(t, b.Acquire(ctx, 1))
		require.NoError(t, b.Release(ctx, 1))
	}
}

// What is put into another object while its proxy is closed is there whole, or not at all.
func TestCloseWhileItIsSet(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		d := made(NewDict[string, []*List[int]](ctx, m))(t)
		for end := time.Now().Add(stressFor() / 2); time.Now().Before(end); {
			a, b := made(NewList[int](ctx, m))(t), made(NewList[int](ctx, m))(t)
			done := make(chan error, 1)
			go func() { done <- d.Set(ctx, "k", []*List[int]{a, b}) }()
			for n := rand.IntN(20_000); n > 0; n-- {
			}
			require.NoError(t, b.Close())
			require.NoError(t, a.Close())
			if err := <-done; err != nil {
				require.ErrorIs(t, err, ipc.ErrClosed)
				continue
			}
			got, ok, err := d.Pop(ctx, "k")
			require.NoError(t, err)
			require.True(t, ok)
			for _, l := range got {
				require.NoError(t, l.Append(ctx, 1))
				require.NoError(t, l.Close())
			}
		}
		require.NoError(t, d.Close())
		empty(t, m)
	})
}

// What only the collector closes lives until the call is over.
func TestCollectedWhileItIsSet(t *testing.T) {
	_, m := served(t)
	ctx := t.Context()
	d := made(NewDict[int, *List[int]](ctx, m))(t)
	stop := make(chan struct{})
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	for i, end := 0, time.Now().Add(stressFor()); time.Now().Before(end); i++ {
		func() {
			l, err := NewList[int](ctx, m)
			require.NoError(t, err)
			require.NoError(t, d.Set(ctx, i, l))
		}()
		l, ok, err := d.Pop(ctx, i)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, l.Append(ctx, 1))
	}
	close(stop)
	<-collected
}
