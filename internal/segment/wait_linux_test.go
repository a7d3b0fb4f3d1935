package segment_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
)

// ended is a ctx that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("why"))
	return ctx
}

func TestAwaitDoesWhatNeedNotWait(t *testing.T) {
	h := newBox(t)
	put(h, 1)
	require.NoError(t, take(ended(), h))
	err := take(ended(), h)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "context canceled: why")
	require.False(t, segment.Hint(h, thingsBell))
	broken := errors.New("broken")
	using(h, func() {
		require.Equal(t, broken, h.Await(t.Context(), segment.Wait{Try: func() (bool, error) { return false, broken }}))
	})
}

// Whoever puts something dies on the way: who waits takes it all the same. He has begun to
// wait before the other came.
func TestWakerDiesAtEachStep(t *testing.T) {
	for _, step := range []string{"box: put", "ring: found"} {
		t.Run(step, func(t *testing.T) {
			h := newBox(t)
			taking := goes(func() error { return take(proctest.Within(t), h) })
			sleeping(t, h, thingsBell)
			p := start(t, h, "put", "")
			p.hear("open")
			sleeping(t, h, thingsBell)
			eventually(t, func() bool { all, _ := segment.Watches(); return all == 1 })
			q := start(t, h, "put", "told "+step) // at its joining it rings, too, which is not what is meant
			q.hear("open")
			sleeping(t, h, thingsBell)
			q.tell("put")
			q.killed()
			require.NoError(t, <-taking)
			p.kill()
		})
	}
}

// One who died has taken the bit of a sleeper, or the hint.
func TestDeathWakesWhoCannotBeFound(t *testing.T) {
	for name, takeAway := range map[string]func(*segment.Handle){
		"bit":  func(h *segment.Handle) { segment.TakeBit(h, h.Me, thingsBell) },
		"hint": func(h *segment.Handle) { segment.ClearHint(h, thingsBell) },
	} {
		t.Run(name, func(t *testing.T) {
			h, q := newBox(t), (*process)(nil)
			other := again(t, h)
			q = start(t, h, "open", "")
			q.hear("open")
			taking := goes(func() error { return take(proctest.Within(t), h) })
			sleeping(t, h, thingsBell)
			eventually(t, func() bool { all, _ := segment.Watches(); return all == 1 })
			proctest.Blocked(t, 1, "segment.(*Handle).Await(")
			takeAway(h)
			q.kill()
			eventually(t, func() bool { return segment.Sleeps(h, h.Me, thingsBell) && segment.Hint(h, thingsBell) })
			put(other, 1)
			require.NoError(t, <-taking)
		})
	}
}

// One is rung, and dies before it takes.
func TestWokenDies(t *testing.T) {
	h := newBox(t)
	p := start(t, h, "take", "")
	p.hear("open")
	other := again(t, h)
	eventually(t, func() bool { return segment.Sleeps(h, 1, thingsBell) })
	taking := goes(func() error { return take(proctest.Within(t), other) })
	sleeping(t, other, thingsBell)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	put(h, 1)
	require.False(t, segment.Sleeps(h, 1, thingsBell)) // it was the one to be rung
	require.True(t, segment.Sleeps(h, other.Me, thingsBell))
	p.kill()
	require.NoError(t, <-taking)
}

// What comes for one who gives up is taken by another one.
func TestWhoGivesUpRingsOn(t *testing.T) {
	h := newBox(t)
	hasty, patient := again(t, h), again(t, h)
	ctx := proctest.Within(t)
	var taken atomic.Int64
	const n = 400
	taking := goes(func() error {
		for range n {
			if err := take(ctx, patient); err != nil {
				return err
			}
			taken.Add(1)
		}
		return nil
	})
	var givers sync.WaitGroup
	for range 3 {
		givers.Go(func() {
			for taken.Load() < n {
				ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(100))*time.Microsecond)
				if take(ctx, hasty) == nil {
					put(hasty, 1)
				}
				cancel()
			}
		})
	}
	for i := range n {
		put(h, 1)
		for taken.Load() <= int64(i) {
			if ctx.Err() != nil {
				t.Fatalf("thing %d is not taken: %d are there", i, h.Word64(thingsAt).Load())
			}
			time.Sleep(time.Microsecond) // between two looks
		}
	}
	givers.Wait()
	require.NoError(t, <-taking)
}

// One takes what it finds and is rung for something else: it rings on.
func TestWhoHasTakenRingsOn(t *testing.T) {
	h := newBox(t)
	second, ringer := again(t, h), again(t, h)
	things := h.Word64(thingsAt)
	waiting := goes(func() error { return take(proctest.Within(t), second) })
	sleeping(t, second, thingsBell)
	var armed atomic.Bool
	stepping(t, func(at string) {
		if at == "wait: armed" {
			armed.Store(true)
		}
	})
	using(h, func() {
		require.NoError(t, h.Await(proctest.Within(t), segment.Wait{
			Bell: thingsBell,
			Try: func() (bool, error) {
				if armed.Load() && things.Load() == 0 { // it takes something, and something else comes for which it is rung
					put(ringer, 1)
					return true, nil
				}
				return false, nil
			},
			More: func() bool { return things.Load() > 0 },
		}))
	})
	require.NoError(t, <-waiting)
}

// One looks, and what it looks for comes; before it is in the line, that is over, and the
// line is of those who wait for the next.
func TestWhoComesLateToALineLooks(t *testing.T) {
	for _, all := range []bool{true, false} {
		t.Run(fmt.Sprintf("all=%t", all), func(t *testing.T) {
			h := newBox(t)
			var next atomic.Bool
			leader := goes(func() error {
				if !h.Use() {
					return segment.ErrClosed
				}
				defer h.Release()
				return h.Await(proctest.Within(t), segment.Wait{Bell: allBell, All: true, Try: func() (bool, error) { return next.Load(), nil }})
			})
			sleeping(t, h, allBell)
			looks := 0
			using(h, func() {
				require.NoError(t, h.Await(proctest.Within(t), segment.Wait{Bell: allBell, All: all, Try: func() (bool, error) {
					looks++
					return looks > 1, nil
				}}))
			})
			require.Equal(t, 2, looks)
			require.Empty(t, leader)
			next.Store(true)
			using(h, func() { h.Ring(allBell, -1) })
			require.NoError(t, <-leader)
		})
	}
}

// Those of one process take turns, and are no more than one at the bell.
func TestLine(t *testing.T) {
	h := newBox(t)
	other := again(t, h)
	const waiters = 20
	order := make(chan int, waiters)
	for i := range waiters {
		go func() {
			if take(proctest.Within(t), h) == nil {
				order <- i
			}
		}()
		eventually(t, func() bool { return segment.Waiters(h, thingsBell) == i+1 })
	}
	sleeping(t, h, thingsBell)
	for i := range waiters {
		put(other, 1)
		require.Equal(t, i, <-order)
	}
	require.Zero(t, segment.Waiters(h, thingsBell))
}

func TestLeaderGivesUp(t *testing.T) {
	h := newBox(t)
	ctx, cancel := context.WithCancel(t.Context())
	first := goes(func() error { return take(ctx, h) })
	sleeping(t, h, thingsBell)
	second := goes(func() error { return take(proctest.Within(t), h) })
	eventually(t, func() bool { return segment.Waiters(h, thingsBell) == 2 })
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	put(again(t, h), 1)
	require.NoError(t, <-second)
}

// Nobody sleeps at a bell while the lock is in the hands of the handle itself.
func TestParked(t *testing.T) {
	h := newBox(t)
	require.NoError(t, lock(t.Context(), h))
	var waiting []<-chan error
	for range 3 {
		waiting = append(waiting, goes(func() error {
			err := lock(proctest.Within(t), h)
			if err == nil {
				unlock(h)
			}
			return err
		}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, lock(ctx, h), context.DeadlineExceeded)
	unlock(h)
	for _, w := range waiting {
		require.NoError(t, <-w)
	}
}

func stress(t *testing.T) time.Duration {
	s := os.Getenv("FUTURES_STRESS")
	if s == "" {
		return 700 * time.Millisecond
	}
	d, err := time.ParseDuration(s)
	require.NoError(t, err, "FUTURES_STRESS")
	return d
}

// Processes die at any of the steps of waiting and waking, and somebody always gets on.
func TestNoWakeUpIsLost(t *testing.T) {
	h := newBox(t)
	ctx, cancel := context.WithCancel(t.Context())
	var did atomic.Int64
	var all sync.WaitGroup
	for _, h := range []*segment.Handle{h, h, again(t, h)} {
		all.Go(func() {
			for ctx.Err() == nil && lock(ctx, h) == nil {
				did.Add(1)
				unlock(h)
			}
		})
	}
	steps := []string{"ring: found", "wait: armed", "ring: hint cleared", "unlock: let go", "bury: begun", "bury: let go", "bury: done", "take: locked", "take: cleared", "take: done"}
	deaths := 0
	for began := time.Now(); time.Since(began) < stress(t); deaths++ {
		var ps []*process
		for range 2 {
			ps = append(ps, start(t, h, "locks", fmt.Sprintf("%s#%d", steps[rand.IntN(len(steps))], 1+rand.IntN(20))))
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond) // any moment
		for _, p := range ps {
			_ = p.cmd.Process.Kill() // if it has not died by itself
			p.killed()
		}
		for was, late := did.Load(), proctest.Within(t); did.Load() < was+3; {
			require.NoError(t, late.Err(), "nobody gets on")
			time.Sleep(100 * time.Microsecond) // between two looks
		}
	}
	cancel()
	all.Wait()
	t.Logf("%d pairs of deaths, %d times locked", deaths, did.Load())
	using(h, func() {
		h.CheckAll()
		require.Zero(t, h.Word32(mutexAt).Load())
	})
}

// A thousand goroutines wait at one bell, or each at one of its own, without a thread each.
func TestManyWaitWithoutAThreadEach(t *testing.T) {
	for _, objects := range []int{1, 1000} {
		t.Run(fmt.Sprintf("objects=%d", objects), func(t *testing.T) {
			var hs []*segment.Handle
			for range objects {
				hs = append(hs, newBox(t))
			}
			var all sync.WaitGroup
			for i := range 1000 {
				all.Go(func() {
					if err := take(proctest.Within(t), hs[i%objects]); err != nil {
						t.Error(err)
					}
				})
			}
			for _, h := range hs {
				eventually(t, func() bool { return segment.Waiters(h, thingsBell) == 1000/objects })
				sleeping(t, h, thingsBell)
			}
			threads, err := os.ReadDir("/proc/self/task")
			require.NoError(t, err)
			require.Less(t, len(threads), 100)
			for _, h := range hs {
				put(h, 1000/objects)
			}
			all.Wait()
		})
	}
}
