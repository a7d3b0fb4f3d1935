package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

// An anvil is what two processes hammer on: all that they share.
type anvil struct {
	Cast  cast
	Cond2 *ipc.Cond
	Words *ipc.Array[int64] // what the primitive guards, and what tells how it did
	Long  *ipc.Array[int64]
}

// hammerers is how many goroutines of each process hammer.
const hammerers = 8

// A hammering is a test of one primitive by many goroutines of two processes.
type hammering struct {
	setUp func(t *testing.T, a *anvil)

	// strike is what each goroutine does for as long as more says so; it returns how often it
	// has done what is counted.
	strike func(a *anvil, who int, more func() bool) (int, error)

	// after looks at what is left. n is what all have counted.
	after func(t *testing.T, a *anvil, n int)
}

// alone errs if somebody else is where who is, by words that no atomic operation guards:
// words[0] counts, words[1] is who is there.
func alone(words []int64, who int) error {
	if other := words[1]; other != 0 {
		return fmt.Errorf("%d is there, and so is %d", who, other)
	}
	words[1] = int64(who)
	words[0]++
	if who%3 == 0 {
		runtime.Gosched()
	}
	if other := words[1]; other != int64(who) {
		return fmt.Errorf("%d is there, and so was %d", who, other)
	}
	words[1] = 0
	return nil
}

// counted sees that what was counted by words[0] is what was done.
func counted(t *testing.T, a *anvil, n int) {
	require.EqualValues(t, n, a.Words.At(0))
	require.Positive(t, n)
}

// hasty returns a ctx that often ends while its user waits.
func hasty() (context.Context, context.CancelFunc) {
	return context.WithTimeout(bg, time.Duration(rand.IntN(300))*time.Microsecond)
}

func isHasty(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

var hammerings = map[string]hammering{
	"lock": {
		setUp: func(t *testing.T, a *anvil) { a.Cast.Lock = newLock(t) },
		strike: func(a *anvil, who int, more func() bool) (n int, _ error) {
			for words := a.Words.Slice(); more(); n++ {
				var err error
				switch ctx, cancel := hasty(); n % 4 {
				case 0:
					if err = a.Cast.Lock.Lock(ctx); isHasty(err) {
						n--
					}
					cancel()
				case 1:
					cancel()
					var ok bool
					if ok, err = a.Cast.Lock.TryLock(); err == nil && !ok {
						err = a.Cast.Lock.Recover(bg)
					}
				default:
					cancel()
					err = a.Cast.Lock.Lock(bg)
				}
				if isHasty(err) {
					continue
				}
				if err := errors.Join(err, alone(words, who), a.Cast.Lock.Unlock()); err != nil {
					return n, err
				}
			}
			return n, nil
		},
		after: counted,
	},
	"rlock": {
		setUp: func(t *testing.T, a *anvil) { a.Cast.RLock = newRLock(t) },
		strike: func(a *anvil, who int, more func() bool) (n int, _ error) {
			for words := a.Words.Slice(); more(); n++ {
				ctx, err := a.Cast.RLock.Lock(bg)
				for range n % 3 {
					_, again := a.Cast.RLock.Lock(ctx)
					err = errors.Join(err, again)
				}
				err = errors.Join(err, alone(words, who))
				for range n%3 + 1 {
					err = errors.Join(err, a.Cast.RLock.Unlock())
				}
				if err != nil {
					return n, err
				}
			}
			return n, nil
		},
		after: counted,
	},
	"semaphore":         ofSemaphore(false),
	"bounded semaphore": ofSemaphore(true),
	"event": {
		// The two events are gates, of which one is open. Who has passed one waits at the
		// other, and the last one who comes there turns them.
		setUp: func(t *testing.T, a *anvil) {
			a.Cast.Event, a.Cast.Event2 = newEvent(t), newEvent(t)
			require.NoError(t, a.Cast.Event.Set())
		},
		strike: func(a *anvil, _ int, more func() bool) (n int, _ error) {
			words := a.Words.Slice()
			gates := []*ipc.Event{a.Cast.Event, a.Cast.Event2}
			for ; ; n++ {
				if err := gates[n%2].Wait(bg); err != nil {
					return n, err
				}
				if !more() {
					atomic.CompareAndSwapInt64(&words[1], 0, int64(n)+2) // the last round
				}
				passed := int(atomic.AddInt64(&words[0], 1))
				if passed <= n*2*hammerers || passed > (n+1)*2*hammerers {
					return n, fmt.Errorf("%d have passed a gate in round %d", passed, n)
				}
				if passed == (n+1)*2*hammerers {
					if err := errors.Join(gates[n%2].Clear(), gates[(n+1)%2].Set()); err != nil {
						return n, err
					}
				}
				if last := atomic.LoadInt64(&words[1]); last != 0 && int64(n) >= last {
					return n + 1, nil
				}
			}
		},
		after: counted,
	},
	"cond": {
		// Half of the goroutines put, half of them take, and there is room for 3: words[0] is
		// how many there are, words[1] how many still put, words[2] and words[3] the sums.
		setUp: func(t *testing.T, a *anvil) {
			a.Cast.Cond = newCond(t)
			second, err := ipc.NewCond(a.Cast.Cond.L)
			require.NoError(t, err)
			a.Cond2 = second
			a.Words.Set(1, hammerers)
		},
		strike: func(a *anvil, who int, more func() bool) (int, error) {
			words := a.Words.Slice()
			l, room, items := a.Cast.Cond.L, a.Cast.Cond, a.Cond2
			// The lock of a cond that came is its own handle.
			wait := func(c *ipc.Cond) error {
				ctx, cancel := bg, context.CancelFunc(func() {})
				if rand.IntN(4) == 0 {
					ctx, cancel = hasty()
				}
				defer cancel()
				if err := c.Wait(ctx); !isHasty(err) {
					return err
				}
				return nil // it looks again, as everybody does
			}
			for n := 0; ; n++ {
				if err := l.Lock(bg); err != nil {
					return n, err
				}
				var err error
				put := who%2 == 0
				switch {
				case put && !more():
					words[1]--
					return n, errors.Join(items.NotifyAll(), l.Unlock())
				case put:
					for err == nil && words[0] == 3 {
						err = wait(room)
					}
					words[0]++
					words[2]++
					err = errors.Join(err, items.Notify(1))
				default:
					for err == nil && words[0] == 0 && words[1] > 0 {
						err = wait(items)
					}
					if err == nil && words[0] == 0 {
						return n, l.Unlock()
					}
					words[0]--
					words[3]++
					err = errors.Join(err, room.Notify(1))
				}
				if words[0] < 0 || words[0] > 3 {
					err = errors.Join(err, fmt.Errorf("there are %d", words[0]))
				}
				if err := errors.Join(err, l.Unlock()); err != nil {
					return n, err
				}
			}
		},
		after: func(t *testing.T, a *anvil, n int) {
			words := a.Words.Slice()
			require.Equal(t, []int64{0, 0, words[2], words[2]}, words[:4])
			require.EqualValues(t, n, 2*words[2])
			require.Positive(t, n)
		},
	},
	"barrier": {
		setUp: func(t *testing.T, a *anvil) { a.Cast.Barrier = newBarrier(t, 2*hammerers) },
		strike: func(a *anvil, who int, more func() bool) (int, error) {
			words, seen := a.Words.Slice(), a.Long.Slice()
			for n := 0; ; n++ {
				atomic.AddInt64(&words[0], 1)
				index, err := a.Cast.Barrier.Wait(bg)
				if err != nil {
					return n, err
				}
				// All have come to this pass, and nobody is through the next, since this one is not.
				if came := int(atomic.LoadInt64(&words[0])); came < (n+1)*2*hammerers || came >= (n+2)*2*hammerers {
					return n, fmt.Errorf("%d have come when pass %d is over", came, n)
				}
				atomic.AddInt64(&seen[n%3], 1<<index)
				if index == 0 {
					if was := atomic.SwapInt64(&seen[(n+2)%3], 0); n > 0 && was != 1<<(2*hammerers)-1 {
						return n, fmt.Errorf("pass %d had the indexes %b", n-1, was)
					}
					if !more() {
						atomic.CompareAndSwapInt64(&words[1], 0, int64(n)+2) // the last pass
					}
				}
				if last := atomic.LoadInt64(&words[1]); last != 0 && int64(n) >= last {
					return n + 1, nil
				}
			}
		},
		after: func(t *testing.T, a *anvil, n int) {
			counted(t, a, n)
			require.Zero(t, a.Cast.Barrier.Waiting())
		},
	},
	"array": {
		setUp: func(*testing.T, *anvil) {},
		strike: func(a *anvil, who int, more func() bool) (n int, _ error) {
			for ; more(); n++ {
				var there error
				if err := errors.Join(a.Words.Update(bg, func(words []int64) { there = alone(words, who) }), there); err != nil {
					return n, err
				}
			}
			return n, nil
		},
		after: counted,
	},
}

// ofSemaphore has more than half of a semaphore taken at a time, so that nobody else can have
// as many, or a part of it, so that no more than all are out.
func ofSemaphore(bounded bool) hammering {
	const all = 5
	return hammering{
		setUp: func(t *testing.T, a *anvil) { a.Cast.Sem = newSemaphore(t, all, bounded) },
		strike: func(a *anvil, who int, more func() bool) (n int, _ error) {
			words := a.Words.Slice()
			for ; more(); n++ {
				var err error
				want := 1 + rand.IntN(all)
				if rand.IntN(4) == 0 {
					ctx, cancel := hasty()
					err = a.Cast.Sem.Acquire(ctx, want)
					cancel()
					if isHasty(err) {
						n--
						continue
					}
				} else if ok, terr := a.Cast.Sem.TryAcquire(want); terr != nil || !ok {
					err = errors.Join(terr, a.Cast.Sem.Acquire(bg, want))
				}
				if out := atomic.AddInt64(&words[2], int64(want)); out > all {
					err = errors.Join(err, fmt.Errorf("%d of %d are out", out, all))
				}
				if want > all/2 {
					err = errors.Join(err, alone(words, who))
				} else {
					atomic.AddInt64(&words[3], 1)
				}
				atomic.AddInt64(&words[2], -int64(want))
				if err := errors.Join(err, a.Cast.Sem.Release(want)); err != nil {
					return n, err
				}
			}
			return n, nil
		},
		after: func(t *testing.T, a *anvil, n int) {
			require.EqualValues(t, n, a.Words.At(0)+a.Words.At(3))
			require.Positive(t, n)
			require.True(t, tryAcquire(t, a.Cast.Sem, all))
			require.False(t, tryAcquire(t, a.Cast.Sem, 1))
		},
	}
}

// strike has many goroutines of this process hammer.
func strike(h hammering, a *anvil, first int, more func() bool) (int, error) {
	var total atomic.Int64
	errs := make([]error, hammerers)
	var all sync.WaitGroup
	for i := range hammerers {
		all.Go(func() {
			n, err := h.strike(a, first+i, more)
			if err != nil {
				fmt.Fprintln(os.Stderr, "hammer:", err) // the others may wait for this one
			}
			total.Add(int64(n))
			errs[i] = err
		})
	}
	all.Wait()
	return int(total.Load()), errors.Join(errs...)
}

func init() {
	role("strike", func(a anvil, args []string) {
		n, err := strike(hammerings[args[0]], &a, 1+hammerers, func() bool { return !stopping() })
		must(err)
		say(n)
	})
}

// TestHammer has two processes with many goroutines each use one primitive. Values, queues
// and pipes have hammers of their own.
func TestHammer(t *testing.T) {
	var names []string
	for name := range hammerings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			h := hammerings[name]
			a := &anvil{Words: newArray(t, make([]int64, 8)...), Long: newArray(t, make([]int64, 8)...)}
			h.setUp(t, a)
			p := start(t, "strike", *a, "", name)
			end := time.Now().Add(stressTime(t))
			stopping := time.AfterFunc(stressTime(t), func() { fmt.Fprintln(p.in, "stop") })
			defer stopping.Stop()
			n, err := strike(h, a, 1, func() bool { return time.Now().Before(end) })
			require.NoError(t, err)
			theirs, err := strconv.Atoi(p.line())
			require.NoError(t, err)
			p.ends()
			h.after(t, a, n+theirs)
			t.Logf("%d by this process, %d by the other", n, theirs)
		})
	}
}
