package manager

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

func TestLockThing(t *testing.T) { // MGR-20
	synctest.Test(t, func(t *testing.T) {
		l, a, b := newLockThing(), new(client), new(client)
		require.NoError(t, tell(ended(), l, a, opLock), "what is free is taken also under a ctx that has ended")
		require.False(t, askBool(t, l, b, opTryLock))
		require.ErrorIs(t, tell(bg, l, b, opUnlock), ipc.ErrNotHeld)
		require.ErrorIs(t, tell(ended(), l, b, opLock), context.Canceled)

		first := begun(func() error { return tell(bg, l, b, opLock) })
		second := begun(func() error { return tell(bg, l, a, opRecover) })
		waits(t, first, second)
		require.NoError(t, tell(ended(), l, a, opUnlock))
		require.NoError(t, came(t, first), "in the order in which they came")
		waits(t, second)
		require.ErrorIs(t, tell(bg, l, a, opUnlock), ipc.ErrNotHeld)
		require.NoError(t, tell(bg, l, b, opUnlock))
		require.NoError(t, came(t, second))
		require.NoError(t, tell(bg, l, a, opUnlock))
		require.ErrorIs(t, tell(bg, l, a, opUnlock), ipc.ErrNotHeld)
		require.True(t, askBool(t, l, b, opTryLock))
	})
}

func TestLockThingCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := newLockThing(), new(client), new(client)
		require.NoError(t, tell(bg, l, a, opLock))
		ctx, cancel := context.WithTimeout(bg, time.Hour)
		defer cancel()
		gaveUp := begun(func() error { return tell(ctx, l, b, opLock) })
		next := begun(func() error { return tell(bg, l, b, opLock) })
		time.Sleep(time.Hour) // virtual time
		require.ErrorIs(t, came(t, gaveUp), context.DeadlineExceeded)
		require.Equal(t, 1, l.line.n, "no trace is left")
		require.NoError(t, tell(bg, l, a, opUnlock))
		require.NoError(t, came(t, next))
		require.Zero(t, l.line.n)
	})
}

func TestLockThingHolderGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b, c := newLockThing(), new(client), new(client), new(client)
		require.NoError(t, tell(bg, l, a, opLock))
		w1 := begun(func() error { return tell(bg, l, b, opLock) })
		w2 := begun(func() error { return tell(bg, l, c, opLock) })
		leaves(a, nil, l)
		require.ErrorIs(t, came(t, w1), ipc.ErrOwnerDied)
		require.ErrorIs(t, came(t, w2), ipc.ErrOwnerDied)
		require.ErrorIs(t, tell(bg, l, b, opLock), ipc.ErrOwnerDied)
		require.ErrorIs(t, tell(ended(), l, b, opLock), ipc.ErrOwnerDied)
		require.ErrorIs(t, tell(bg, l, b, opTryLock), ipc.ErrOwnerDied)
		require.ErrorIs(t, tell(bg, l, b, opUnlock), ipc.ErrNotHeld)
		require.ErrorIs(t, tell(bg, l, a, opRecover), ipc.ErrClosed, "who has gone gets nothing")
		require.NoError(t, tell(ended(), l, b, opRecover))
		w1 = begun(func() error { return tell(bg, l, c, opLock) })
		require.NoError(t, tell(bg, l, b, opUnlock))
		require.NoError(t, came(t, w1), "the mark is gone")
	})
}

func TestLockThingHolderGoesWhileOneWaitsToRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := newLockThing(), new(client), new(client)
		require.NoError(t, tell(bg, l, a, opLock))
		w1 := begun(func() error { return tell(bg, l, b, opLock) })
		w2 := begun(func() error { return tell(bg, l, b, opRecover) })
		w3 := begun(func() error { return tell(bg, l, b, opRecover) })
		leaves(a, nil, l)
		require.ErrorIs(t, came(t, w1), ipc.ErrOwnerDied)
		require.NoError(t, came(t, w2))
		waits(t, w3)
		require.NoError(t, tell(bg, l, b, opUnlock))
		require.NoError(t, came(t, w3))
	})
}

func TestLockThingWaiterGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b, c := newLockThing(), new(client), new(client), new(client)
		require.NoError(t, tell(bg, l, a, opLock))
		w1 := begun(func() error { return tell(bg, l, b, opLock) })
		w2 := begun(func() error { return tell(bg, l, b, opLock) })
		w3 := begun(func() error { return tell(bg, l, c, opLock) })
		leaves(b, nil, l)
		leaves(b, nil, l)
		require.ErrorIs(t, came(t, w1), ipc.ErrClosed)
		require.ErrorIs(t, came(t, w2), ipc.ErrClosed)
		require.NoError(t, tell(bg, l, a, opUnlock))
		require.NoError(t, came(t, w3))

		// One whose going the lock has not been told of yet gets nothing either.
		w1 = begun(func() error { return tell(bg, l, a, opLock) })
		w2 = begun(func() error { return tell(bg, l, new(client), opLock) })
		a.left.Store(true)
		require.NoError(t, tell(bg, l, c, opUnlock))
		require.ErrorIs(t, came(t, w1), ipc.ErrClosed)
		require.NoError(t, came(t, w2))
	})
}

func TestRLockThing(t *testing.T) { // MGR-21
	synctest.Test(t, func(t *testing.T) {
		l, a, b := newRLockThing(), new(client), new(client)
		lock := func(ctx context.Context, by *client, op uint8, token uint64) (uint64, error) {
			r, err := ask(ctx, l, by, op, token)
			if err != nil {
				return 0, err
			}
			token = r.uint()
			return token, r.end()
		}
		one, err := lock(bg, a, opLock, 0)
		require.NoError(t, err)
		require.NotZero(t, one)
		again, err := lock(ended(), a, opLock, one)
		require.NoError(t, err)
		require.Equal(t, one, again)
		again, err = lock(bg, a, opRecover, one)
		require.NoError(t, err)
		require.Equal(t, one, again)
		_, err = lock(ended(), a, opLock, 0)
		require.ErrorIs(t, err, context.Canceled, "without the token it is somebody else")
		_, err = lock(ended(), b, opLock, one)
		require.ErrorIs(t, err, context.Canceled, "and so is another client")

		var two uint64
		w := begun(func() (err error) { two, err = lock(bg, b, opLock, one); return err })
		require.ErrorIs(t, tell(bg, l, b, opUnlock), ipc.ErrNotHeld)
		for range 2 {
			require.NoError(t, tell(bg, l, a, opUnlock))
			waits(t, w)
		}
		require.NoError(t, tell(bg, l, a, opUnlock))
		require.NoError(t, came(t, w))
		require.NotEqual(t, one, two)
		require.ErrorIs(t, tell(bg, l, a, opUnlock), ipc.ErrNotHeld)
		_, err = lock(ended(), b, opLock, one)
		require.ErrorIs(t, err, context.Canceled, "an old token owns nothing")

		_, err = lock(bg, b, opLock, two)
		require.NoError(t, err)
		leaves(b, nil, l)
		_, err = lock(bg, a, opLock, two)
		require.ErrorIs(t, err, ipc.ErrOwnerDied)
		three, err := lock(bg, a, opRecover, two)
		require.NoError(t, err)
		require.NotEqual(t, two, three)
		require.NoError(t, tell(bg, l, a, opUnlock))
		require.ErrorIs(t, tell(bg, l, a, opUnlock), ipc.ErrNotHeld)
	})
}

// A lock with clients that give up and go: never two holders, and nobody is forgotten.
func TestLockThingStress(t *testing.T) {
	l := newLockThing()
	var holder atomic.Pointer[client]
	var taken, marks atomic.Int64
	stop := time.Now().Add(stressFor())
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for time.Now().Before(stop) { // one client after another
				me := new(client)
				alive, gone := context.WithCancel(bg)
				var hands sync.WaitGroup
				for range 3 {
					hands.Go(func() {
						r := rand.New(rand.NewPCG(rand.Uint64(), 0))
						for range 1 + r.IntN(40) {
							ctx, cancel := shortly(r)
							ctx, cancel2 := context.WithCancel(ctx)
							context.AfterFunc(alive, cancel2)
							op := opLock
							if r.IntN(8) == 0 {
								op = opRecover
							}
							err := tell(ctx, l, me, op)
							if errors.Is(err, ipc.ErrOwnerDied) {
								marks.Add(1)
								err = tell(bg, l, me, opRecover)
							}
							cancel()
							cancel2()
							if err != nil {
								continue
							}
							if had := holder.Swap(me); had != nil && !had.left.Load() && !me.left.Load() {
								t.Error("two hold the lock")
							}
							taken.Add(1)
							holder.CompareAndSwap(me, nil)
							if r.IntN(20) == 0 {
								return // it goes over it
							}
							if err := tell(bg, l, me, opUnlock); err != nil && !me.left.Load() {
								t.Error(err)
							}
						}
					})
				}
				if rand.IntN(2) == 0 {
					time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond) // any moment
					leaves(me, gone, l)
				} else {
					// Hands that keep it would have the others of this client wait.
					done := make(chan struct{})
					go func() { hands.Wait(); close(done) }()
					select {
					case <-done:
					case <-time.After(5 * time.Millisecond):
					}
					leaves(me, gone, l)
				}
				hands.Wait()
				gone()
			}
		})
	}
	wg.Wait()
	t.Logf("taken %d times, found marked %d times", taken.Load(), marks.Load())
	require.Zero(t, l.line.n)
	require.Nil(t, l.holder)
	require.NotZero(t, marks.Load())
	me := new(client)
	require.NoError(t, tell(ended(), l, me, opRecover))
	require.NoError(t, tell(bg, l, me, opUnlock))
}
