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

// condAlone returns a condition and its lock, for tests in virtual time.
func condAlone() (*condThing, *lockThing) {
	l := newLockThing()
	return newCondThing(new(countKeeper), l, 1), l
}

// waiting has by wait for c under ctx: it takes the lock first.
func waitingFor(t *testing.T, ctx context.Context, c *condThing, by *client) <-chan error {
	t.Helper()
	require.NoError(t, tell(bg, c.lock, by, opLock))
	w := begun(func() error { return tell(ctx, c, by, opCondWait) })
	waits(t, w)
	return w
}

func TestCondThing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := condAlone()
		a, b, d, me := new(client), new(client), new(client), new(client)
		require.ErrorIs(t, tell(bg, c, a, opCondWait), ipc.ErrNotHeld)
		require.ErrorIs(t, tell(bg, c, a, opCondNotify, 1), ipc.ErrNotHeld)
		require.ErrorIs(t, tell(bg, c, a, opCondNotifyAll), ipc.ErrNotHeld)
		w1, w2, w3 := waitingFor(t, bg, c, a), waitingFor(t, bg, c, b), waitingFor(t, bg, c, d)
		require.NoError(t, tell(ended(), l, me, opLock), "it is let go while they wait")
		require.NoError(t, tell(bg, c, me, opCondNotify, 0))
		require.NoError(t, tell(ended(), c, me, opCondNotify, 2))
		waits(t, w1, w2, w3)
		require.NoError(t, tell(bg, l, me, opUnlock))
		require.NoError(t, came(t, w1), "in the order in which they came")
		waits(t, w2, w3)
		require.NoError(t, tell(bg, l, a, opUnlock), "who comes back holds it")
		require.NoError(t, came(t, w2))
		require.NoError(t, tell(bg, l, b, opUnlock))
		waits(t, w3)
		w4 := waitingFor(t, bg, c, a)
		require.NoError(t, tell(bg, l, me, opLock))
		require.NoError(t, tell(bg, c, me, opCondNotifyAll))
		require.NoError(t, tell(bg, c, me, opCondNotifyAll), "nothing of it is kept")
		require.NoError(t, tell(bg, l, me, opUnlock))
		require.NoError(t, came(t, w3))
		require.NoError(t, tell(bg, l, d, opUnlock))
		require.NoError(t, came(t, w4))
		require.NoError(t, tell(bg, l, a, opUnlock))
		w4 = waitingFor(t, bg, c, a)
		waits(t, w4)
		require.Len(t, c.drop(), 1)
		require.ErrorIs(t, came(t, w4), ipc.ErrClosed)
		require.Empty(t, l.conds)
	})
}

func TestCondThingOfOneLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := condAlone()
		other := newCondThing(new(countKeeper), l, 1)
		a, me := new(client), new(client)
		w1, w2 := waitingFor(t, bg, c, a), waitingFor(t, bg, other, a)
		require.NoError(t, tell(bg, l, me, opLock))
		require.NoError(t, tell(bg, other, me, opCondNotifyAll))
		require.NoError(t, tell(bg, l, me, opUnlock))
		waits(t, w1)
		require.NoError(t, came(t, w2))
		leaves(a, nil, l) // which has its conditions
		require.ErrorIs(t, came(t, w1), ipc.ErrClosed)
	})
}

func TestCondThingGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := condAlone()
		a, b, me := new(client), new(client), new(client)
		ctx, cancel := context.WithCancel(bg)
		w1 := waitingFor(t, ctx, c, a)
		w2 := waitingFor(t, bg, c, b)
		require.NoError(t, tell(bg, l, me, opLock))
		cancel()
		waits(t, w1) // for the lock, however long
		require.NoError(t, tell(bg, c, me, opCondNotify, 1))
		require.NoError(t, tell(bg, l, me, opUnlock))
		require.ErrorIs(t, came(t, w1), context.Canceled)
		waits(t, w2)
		require.NoError(t, tell(bg, l, a, opUnlock), "it holds the lock")
		require.NoError(t, came(t, w2), "and took no notification along")
		require.NoError(t, tell(bg, l, b, opUnlock))

		// One that was notified before its ctx ended has been notified.
		ctx, cancel = context.WithCancel(bg)
		w1 = waitingFor(t, ctx, c, a)
		require.NoError(t, tell(bg, l, me, opLock))
		require.NoError(t, tell(bg, c, me, opCondNotify, 1))
		cancel()
		waits(t, w1)
		require.NoError(t, tell(bg, l, me, opUnlock))
		require.NoError(t, came(t, w1))
		require.NoError(t, tell(bg, l, a, opUnlock))

		// Under a ctx that has ended the lock is let go all the same, and taken again.
		require.NoError(t, tell(bg, l, a, opLock))
		w2 = begun(func() error { return tell(bg, l, b, opLock) })
		w1 = begun(func() error { return tell(ctx, c, a, opCondWait) })
		require.NoError(t, came(t, w2))
		waits(t, w1)
		require.NoError(t, tell(bg, l, b, opUnlock))
		require.ErrorIs(t, came(t, w1), context.Canceled)
		require.NoError(t, tell(bg, l, a, opUnlock))
		require.NoError(t, tell(bg, l, a, opLock))
		require.ErrorIs(t, tell(ended(), c, a, opCondWait), context.Canceled)
		require.NoError(t, tell(bg, l, a, opUnlock))
	})
}

func TestCondThingWaiterGoes(t *testing.T) {
	type of struct {
		c          *condThing
		l          *lockThing
		a, me      *client
		cancel     func()
		notify     func(n int)
		unlockOfMe func()
	}
	for name, state := range map[string]func(of){
		"waiting":                   func(of) {},
		"notified":                  func(o of) { o.notify(1) },
		"gave up":                   func(o of) { o.cancel() },
		"notified and gave up":      func(o of) { o.notify(1); o.cancel() },
		"notified, and not told of": func(o of) { o.notify(1); o.a.left.Store(true); o.unlockOfMe() },
	} {
		for what, goes := range map[string]func(of){
			"altogether":    func(o of) { leaves(o.a, o.cancel, o.c, o.l) },
			"the lock last": func(o of) { o.c.gone(o.a); leaves(o.a, o.cancel, o.l) },
			"by the cond":   func(o of) { o.a.left.Store(true); o.c.gone(o.a) },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, l := condAlone()
					a, b, me := new(client), new(client), new(client)
					ctx, cancel := context.WithCancel(bg)
					defer cancel()
					w1, w2 := waitingFor(t, ctx, c, a), waitingFor(t, bg, c, b)
					require.NoError(t, tell(bg, l, me, opLock))
					notified, unlocked := false, false
					o := of{c, l, a, me, cancel, func(n int) {
						notified = true
						require.NoError(t, tell(bg, c, me, opCondNotify, n))
					}, func() {
						unlocked = true
						require.NoError(t, tell(bg, l, me, opUnlock))
					}}
					state(o)
					synctest.Wait()
					goes(o)
					if err := came2(w1, func() {
						if !unlocked {
							o.unlockOfMe()
						}
					}); !errors.Is(err, ipc.ErrClosed) {
						t.Errorf("who has gone is answered %v", err)
					}
					if notified {
						require.NoError(t, came(t, w2), "the notification goes on to the other")
						require.NoError(t, tell(bg, l, b, opUnlock))
					} else {
						waits(t, w2)
						require.NoError(t, tell(ended(), l, me, opLock))
						require.NoError(t, tell(bg, c, me, opCondNotify, 1))
						require.NoError(t, tell(bg, l, me, opUnlock))
						require.NoError(t, came(t, w2))
						require.NoError(t, tell(bg, l, b, opUnlock))
					}
					require.Zero(t, l.line.n)
					require.Zero(t, c.waiting.n)
				})
			})
		}
	}
}

// came2 returns what comes after fn.
func came2(c <-chan error, fn func()) error {
	synctest.Wait()
	fn()
	return <-c
}

func TestCondThingHolderGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := condAlone()
		a, b, d, me := new(client), new(client), new(client), new(client)
		ctx, cancel := context.WithCancel(bg)
		w1, w2, w3 := waitingFor(t, bg, c, a), waitingFor(t, bg, c, b), waitingFor(t, ctx, c, d)
		require.NoError(t, tell(bg, l, me, opLock))
		require.NoError(t, tell(bg, c, me, opCondNotify, 1))
		cancel()
		waits(t, w1, w2, w3)
		leaves(me, nil, c, l)
		require.ErrorIs(t, came(t, w1), ipc.ErrOwnerDied)
		require.ErrorIs(t, came(t, w2), ipc.ErrOwnerDied)
		require.ErrorIs(t, came(t, w3), ipc.ErrOwnerDied)
		require.ErrorIs(t, tell(bg, c, a, opCondWait), ipc.ErrNotHeld)
		require.NoError(t, tell(bg, l, a, opRecover))
		require.ErrorIs(t, tell(ended(), c, a, opCondWait), context.Canceled)
		require.NoError(t, tell(bg, l, a, opUnlock))
	})
}

// Items are counted under a lock, and each is told of by one notification: if one were lost,
// an item would stay while somebody waits for it.
func TestCondThingStress(t *testing.T) {
	c, l := condAlone()
	var items, put, taken atomic.Int64 // atomic, since one that goes while it runs is here all the same
	stop := make(chan struct{})
	time.AfterFunc(stressFor(), func() { close(stop) })
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	lock := func(by *client) error { // a taker that has gone over the lock has broken nothing
		return tell(bg, l, by, opRecover)
	}
	var takers, putters sync.WaitGroup
	for range 6 {
		takers.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 0))
			for {
				me := new(client)
				alive, gone := context.WithCancel(bg)
				for r.IntN(30) != 0 {
					if lock(me) != nil {
						break
					}
					var err error
					for items.Load() == 0 && err == nil && !stopped() {
						ctx, cancel := shortly(r)
						ctx, cancel2 := context.WithCancel(ctx)
						context.AfterFunc(alive, cancel2)
						var left *time.Timer
						if r.IntN(30) == 0 {
							left = time.AfterFunc(time.Duration(r.IntN(200))*time.Microsecond, func() { leaves(me, gone, c, l) })
						}
						err = tell(ctx, c, me, opCondWait)
						cancel()
						cancel2()
						if left != nil {
							left.Stop()
						}
					}
					if me.left.Load() || errors.Is(err, ipc.ErrOwnerDied) || errors.Is(err, ipc.ErrClosed) {
						// It may not hold the lock, and if it was notified, that has gone on
						// to another; if it has it after all, it dies over it.
						break
					}
					if n := items.Load(); n > 0 && items.CompareAndSwap(n, n-1) {
						taken.Add(1)
					}
					done := stopped() && items.Load() == 0
					if err := tell(bg, l, me, opUnlock); err != nil && !me.left.Load() {
						t.Error(err)
					}
					if done {
						gone()
						return
					}
				}
				leaves(me, gone, c, l)
				if stopped() {
					return
				}
			}
		})
	}
	for range 2 {
		putters.Go(func() {
			me := new(client)
			for !stopped() {
				if err := lock(me); err != nil {
					t.Error(err)
					return
				}
				items.Add(1)
				put.Add(1)
				if err := tell(bg, c, me, opCondNotify, 1); err != nil {
					t.Error(err)
				}
				if err := tell(bg, l, me, opUnlock); err != nil {
					t.Error(err)
				}
			}
		})
	}
	putters.Wait()
	me := new(client)
	require.NoError(t, lock(me))
	require.NoError(t, tell(bg, c, me, opCondNotifyAll))
	require.NoError(t, tell(bg, l, me, opUnlock))
	takers.Wait()
	t.Logf("put %d, taken %d, left %d", put.Load(), taken.Load(), items.Load())
	require.Equal(t, put.Load(), taken.Load()+items.Load())
	require.Zero(t, l.line.n)
	require.Zero(t, c.waiting.n)
}

// A notification reaches somebody: as many as are notified come back as notified, but for the
// ones that are left over when nobody waits any more. If one of them goes over the lock, all
// others learn of that.
func TestCondThingLosesNoNotification(t *testing.T) {
	deadline := time.Now().Add(stressFor())
	for round := 0; time.Now().Before(deadline); round++ {
		c, l := condAlone()
		const n = 6
		var back atomic.Int64
		var all sync.WaitGroup
		for i := range n {
			by := new(client)
			require.NoError(t, tell(bg, l, by, opRecover)) // the one before may have gone over it
			ctx, cancel := context.WithCancel(bg)
			all.Go(func() {
				defer cancel()
				err := tell(ctx, c, by, opCondWait)
				if err == nil || errors.Is(err, ipc.ErrOwnerDied) {
					back.Add(1)
				}
				_ = tell(bg, l, by, opUnlock)
			})
			switch i {
			case 0, 1: // they go
				time.AfterFunc(time.Duration(rand.IntN(60))*time.Microsecond, func() { leaves(by, cancel, c, l) })
			case 2, 3: // they give up
				time.AfterFunc(time.Duration(rand.IntN(60))*time.Microsecond, cancel)
			}
		}
		// Two of the six neither go nor give up. The lock is taken once all wait.
		me := new(client)
		require.NoError(t, tell(bg, l, me, opRecover))
		require.NoError(t, tell(bg, c, me, opCondNotify, 1))
		require.NoError(t, tell(bg, c, me, opCondNotify, 1))
		require.NoError(t, tell(bg, l, me, opUnlock))
		end := time.Now().Add(10 * time.Second)
		for back.Load() < 2 && time.Now().Before(end) {
			time.Sleep(10 * time.Microsecond) // between two looks
		}
		require.GreaterOrEqual(t, back.Load(), int64(2), "round %d", round)
		require.NoError(t, tell(bg, l, me, opRecover))
		require.NoError(t, tell(bg, c, me, opCondNotifyAll))
		require.NoError(t, tell(bg, l, me, opUnlock))
		all.Wait()
	}
}
