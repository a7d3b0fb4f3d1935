package manager

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

func TestSemaphoreThing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := newSemaphoreThing(-1, false)
		require.EqualError(t, err, "n is -1, and must not be negative")
		s, err := newSemaphoreThing(2, false)
		require.NoError(t, err)
		a, b := new(client), new(client)
		require.NoError(t, tell(ended(), s, a, opAcquire, 2))
		require.False(t, askBool(t, s, a, opTryAcquire, 1))
		require.True(t, askBool(t, s, a, opTryAcquire, 0))
		require.ErrorIs(t, tell(ended(), s, a, opAcquire, 1), context.Canceled)
		require.EqualError(t, tell(bg, s, a, opAcquire, -1), "n is -1, and must not be negative")
		require.EqualError(t, tell(bg, s, a, opRelease, -1), "n is -1, and must not be negative")

		large := begun(func() error { return tell(bg, s, a, opAcquire, 3) }) // more than it began with
		small := begun(func() error { return tell(bg, s, b, opAcquire, 1) })
		waits(t, large, small)
		require.NoError(t, tell(ended(), s, b, opRelease, 1))
		require.NoError(t, came(t, small), "what there is nobody waits for")
		require.NoError(t, tell(bg, s, b, opRelease, 2))
		waits(t, large)
		leaves(a, nil, s)
		require.ErrorIs(t, came(t, large), ipc.ErrClosed)
		require.True(t, askBool(t, s, b, opTryAcquire, 2))
		require.False(t, askBool(t, s, b, opTryAcquire, 1), "a counts no more than that it has gone")

		require.NoError(t, tell(bg, s, b, opRelease, math.MaxInt))
		require.Error(t, tell(bg, s, b, opRelease, 1))
	})
}

func TestBoundedSemaphoreThing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newSemaphoreThing(3, true)
		require.NoError(t, err)
		a, b := new(client), new(client)
		require.EqualError(t, tell(bg, s, a, opAcquire, 4), "n is 4, and the semaphore has 3")
		require.EqualError(t, tell(bg, s, a, opTryAcquire, 4), "n is 4, and the semaphore has 3")
		require.ErrorIs(t, tell(bg, s, a, opRelease, 1), ipc.ErrNotHeld)
		require.NoError(t, tell(bg, s, a, opAcquire, 2))
		require.NoError(t, tell(bg, s, b, opAcquire, 1))
		require.ErrorIs(t, tell(bg, s, b, opRelease, 2), ipc.ErrNotHeld)
		all := begun(func() error { return tell(bg, s, b, opAcquire, 2) })
		mine := begun(func() error { return tell(bg, s, a, opAcquire, 1) })
		waits(t, all, mine)
		leaves(a, nil, s)
		require.NoError(t, came(t, all), "what it held comes back")
		require.ErrorIs(t, came(t, mine), ipc.ErrClosed)
		require.ErrorIs(t, tell(bg, s, a, opAcquire, 1), ipc.ErrClosed)
		require.ErrorIs(t, tell(bg, s, a, opRelease, 1), ipc.ErrNotHeld)
		require.NoError(t, tell(bg, s, b, opRelease, 3))
		require.Empty(t, s.held)

		// Who has given up takes nothing, and stands in nobody's way.
		require.NoError(t, tell(bg, s, b, opAcquire, 3))
		ctx, cancel := context.WithCancel(bg)
		one := begun(func() error { return tell(ctx, s, b, opAcquire, 3) })
		two := begun(func() error { return tell(bg, s, b, opAcquire, 1) })
		cancel()
		require.ErrorIs(t, came(t, one), context.Canceled)
		require.NoError(t, tell(bg, s, b, opRelease, 1))
		require.NoError(t, came(t, two))
	})
}

func TestSemaphoreThingStress(t *testing.T) {
	const n = 5
	s, err := newSemaphoreThing(n, true)
	require.NoError(t, err)
	var out atomic.Int64 // at least what is held by those who have not gone
	stop := time.Now().Add(stressFor())
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			for time.Now().Before(stop) {
				me := new(client)
				alive, gone := context.WithCancel(bg)
				var hands sync.WaitGroup
				for range 3 {
					hands.Go(func() {
						r := rand.New(rand.NewPCG(rand.Uint64(), 0))
						for range r.IntN(30) {
							ctx, cancel := shortly(r)
							ctx, cancel2 := context.WithCancel(ctx)
							context.AfterFunc(alive, cancel2)
							k := r.IntN(n + 1)
							err := tell(ctx, s, me, opAcquire, k)
							cancel()
							cancel2()
							if err != nil {
								continue
							}
							if !me.left.Load() && out.Add(int64(k)) > n && !me.left.Load() {
								t.Error("more than there are")
							}
							out.Add(-int64(k))
							if err := tell(bg, s, me, opRelease, k); err != nil && !me.left.Load() {
								t.Error(err)
							}
						}
					})
				}
				hands.Wait()
				gone()
			}
		})
		wg.Go(func() { // who goes over it
			for time.Now().Before(stop) {
				me := new(client)
				alive, gone := context.WithCancel(bg)
				var hands sync.WaitGroup
				for range 2 {
					hands.Go(func() { _ = tell(alive, s, me, opAcquire, 1+rand.IntN(2)) })
				}
				time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond) // any moment
				leaves(me, gone, s)
				hands.Wait()
			}
		})
	}
	wg.Wait()
	require.Zero(t, s.line.n)
	require.Empty(t, s.held)
	require.Equal(t, n, s.free, "no permit is lost, and none is made")
}

func TestEventThing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, a, b := newEventThing(), new(client), new(client)
		require.False(t, askBool(t, e, a, opEventIsSet))
		require.ErrorIs(t, tell(ended(), e, a, opEventWait), context.Canceled)
		ctx, cancel := context.WithCancel(bg)
		one := begun(func() error { return tell(bg, e, a, opEventWait) })
		two := begun(func() error { return tell(bg, e, b, opEventWait) })
		quits := begun(func() error { return tell(ctx, e, b, opEventWait) })
		cancel()
		require.ErrorIs(t, came(t, quits), context.Canceled)
		require.NoError(t, tell(bg, e, a, opEventSet)) // and cleared before anybody has run
		require.NoError(t, tell(bg, e, a, opEventClear))
		require.NoError(t, came(t, one))
		require.NoError(t, came(t, two))
		require.False(t, askBool(t, e, a, opEventIsSet))

		one = begun(func() error { return tell(bg, e, a, opEventWait) })
		leaves(a, nil, e)
		require.ErrorIs(t, came(t, one), ipc.ErrClosed)
		require.NoError(t, tell(bg, e, b, opEventSet))
		require.NoError(t, tell(bg, e, b, opEventSet))
		require.True(t, askBool(t, e, b, opEventIsSet))
		require.NoError(t, tell(ended(), e, b, opEventWait))
	})
}

func TestBarrierThing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := newBarrierThing(0)
		require.EqualError(t, err, "parties is 0, and must be from 1 to 2147483647")
		b, err := newBarrierThing(3)
		require.NoError(t, err)
		me := new(client)
		indexes := make(chan int, 10)
		pass := func() error {
			r, err := ask(bg, b, me, opBarrierWait)
			if err == nil {
				indexes <- r.int()
			}
			return err
		}
		for range 3 { // again and again
			one, two := begun(pass), begun(pass)
			waits(t, one, two)
			require.Equal(t, 2, askInt(t, b, me, opBarrierWaiting))
			r, err := ask(ended(), b, me, opBarrierWait)
			require.NoError(t, err, "the last one need not wait")
			require.Equal(t, 2, r.int())
			require.NoError(t, came(t, one))
			require.NoError(t, came(t, two))
			require.ElementsMatch(t, []int{0, 1}, []int{<-indexes, <-indexes})
			require.Zero(t, askInt(t, b, me, opBarrierWaiting))
		}
	})
}

func TestBarrierThingBreaks(t *testing.T) {
	for name, breaks := range map[string]func(b thing, other *client, gaveUp context.CancelFunc) error{
		"gives up": func(_ thing, _ *client, gaveUp context.CancelFunc) error { gaveUp(); return context.Canceled },
		"goes":     func(b thing, other *client, _ context.CancelFunc) error { leaves(other, nil, b); return ipc.ErrClosed },
		"abort": func(b thing, _ *client, _ context.CancelFunc) error {
			_ = tell(bg, b, new(client), opBarrierAbort)
			return ipc.ErrBrokenBarrier
		},
		"ended before": func(b thing, other *client, _ context.CancelFunc) error {
			err := tell(ended(), b, new(client), opBarrierWait)
			if !errors.Is(err, ipc.ErrBrokenBarrier) || !errors.Is(err, context.Canceled) {
				return errors.New("not broken")
			}
			return ipc.ErrBrokenBarrier
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, err := newBarrierThing(4)
				require.NoError(t, err)
				me, other := new(client), new(client)
				ctx, cancel := context.WithCancel(bg)
				defer cancel()
				one := begun(func() error { return tell(bg, b, me, opBarrierWait) })
				two := begun(func() error { return tell(ctx, b, other, opBarrierWait) })
				want := breaks(b, other, cancel)
				require.ErrorIs(t, came(t, one), ipc.ErrBrokenBarrier)
				err = came(t, two)
				require.ErrorIs(t, err, want)
				if name == "gives up" {
					require.ErrorIs(t, err, ipc.ErrBrokenBarrier, "its own error matches both")
				}
				require.Zero(t, askInt(t, b, me, opBarrierWaiting))
				require.ErrorIs(t, tell(bg, b, me, opBarrierWait), ipc.ErrBrokenBarrier)
				require.ErrorIs(t, tell(ended(), b, me, opBarrierWait), ipc.ErrBrokenBarrier)
				require.NoError(t, tell(bg, b, me, opBarrierReset))
				one = begun(func() error { return tell(bg, b, me, opBarrierWait) })
				waits(t, one)
				require.NoError(t, tell(bg, b, me, opBarrierReset))
				require.ErrorIs(t, came(t, one), ipc.ErrBrokenBarrier, "who waits at a reset")
			})
		})
	}
}

func TestBarrierThingWhoWaitsNotGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := newBarrierThing(2)
		require.NoError(t, err)
		me, other := new(client), new(client)
		one := begun(func() error { return tell(bg, b, me, opBarrierWait) })
		leaves(other, nil, b)
		waits(t, one)
		require.ErrorIs(t, tell(bg, b, other, opBarrierWait), ipc.ErrClosed, "it is no party any more")
		waits(t, one)
		require.NoError(t, tell(bg, b, me, opBarrierWait))
		require.NoError(t, came(t, one))
	})
}

// Each pass of a barrier has parties of its own, each with another number, whoever gives up,
// goes, or resets it meanwhile.
func TestBarrierThingStress(t *testing.T) {
	const parties = 3
	b, err := newBarrierThing(parties)
	require.NoError(t, err)
	stop := time.Now().Add(stressFor())
	var mu sync.Mutex
	var passed, broken int
	count := [parties]int{}
	var wg sync.WaitGroup
	for range 7 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 0))
			me := new(client)
			for time.Now().Before(stop) {
				ctx, cancel := context.WithTimeout(bg, 20*time.Millisecond)
				if r.IntN(20) == 0 {
					cancel()
					ctx, cancel = shortly(r)
				}
				if r.IntN(50) == 0 {
					old := me
					me = new(client)
					context.AfterFunc(ctx, func() { leaves(old, nil, b) })
				}
				ctx2, cancel2 := context.WithTimeout(ctx, 20*time.Millisecond)
				got, err := ask(ctx2, b, me, opBarrierWait)
				cancel2()
				cancel()
				mu.Lock()
				switch {
				case err == nil:
					passed++
					count[got.int()]++
				case errors.Is(err, ipc.ErrBrokenBarrier) || errors.Is(err, ipc.ErrClosed):
					broken++
				default:
					t.Error(err)
				}
				mu.Unlock()
				if err != nil {
					_ = tell(bg, b, me, opBarrierReset)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("passed %d, broken %d", passed, broken)
	require.NotZero(t, passed)
	require.NotZero(t, broken)
	for i := range count {
		require.Equal(t, passed/parties, count[i], "party %d of %d", i, passed)
	}
	require.Zero(t, b.line.n)
}
