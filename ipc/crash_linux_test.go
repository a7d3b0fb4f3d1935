package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
	"example.com/futures/ipc"

	"github.com/stretchr/testify/require"
)

// A scene is what a process does with objects, and what this one does meanwhile and
// afterwards, wherever the other was killed over it.
type scene struct {
	cast  func(t *testing.T) cast
	child func(c cast) // is killed at one of its steps

	// meanwhile runs beside the child: it begins before, and has to end once the child is
	// gone. It may be nil.
	meanwhile func(t *testing.T, c cast)

	// after runs when the child is gone: everything has to be usable.
	after func(t *testing.T, c cast)
}

// scenes are set by the tests of each primitive.
var scenes = map[string]scene{}

func init() {
	role("scene", func(c cast, args []string) {
		var steps []string
		if args[1] == "record" {
			segment.SetStep(func(step string) { steps = append(steps, step) })
		}
		scenes[args[0]].child(c)
		segment.SetStep(nil)
		seen := map[string]int{}
		for _, step := range steps {
			seen[step]++
			fmt.Printf("%s#%d\n", step, seen[step])
		}
	})
}

// perform plays a scene once; die is where the child is killed, "" for not at all.
func perform(t *testing.T, name, die string) (steps []string) {
	s := scenes[name]
	c := s.cast(t)
	done := make(chan struct{})
	if s.meanwhile == nil {
		close(done)
	} else {
		go func() {
			defer close(done)
			s.meanwhile(t, c)
		}()
	}
	how := ""
	if die == "" {
		how = "record"
	}
	p := start(t, "scene", c, die, name, how)
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			break
		}
		steps = append(steps, strings.TrimSpace(line))
	}
	err := p.wait()
	if die == "" {
		require.NoErrorf(t, err, "the process: %s", &p.errs)
	}
	<-done
	s.after(t, c)
	return steps
}

// TestCrashAtEachStep kills a process at every step that a scene has, one after the other.
func TestCrashAtEachStep(t *testing.T) {
	for name := range scenes {
		t.Run(name, func(t *testing.T) {
			steps := perform(t, name, "")
			require.NotEmpty(t, steps)
			for _, step := range steps {
				t.Run(step, func(t *testing.T) { perform(t, name, step) })
			}
		})
	}
}

// crashes is how many processes are killed: FUTURES_CRASHES, or few.
func crashes(t *testing.T) int {
	s := os.Getenv("FUTURES_CRASHES")
	if s == "" {
		return 20
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, "FUTURES_CRASHES")
	return n
}

// TestCrashAtRandom kills processes at steps of scenes that are drawn by lot: FUTURES_CRASHES
// times, a few by default.
func TestCrashAtRandom(t *testing.T) {
	var names []string
	steps := map[string][]string{}
	for name := range scenes {
		names = append(names, name)
		steps[name] = perform(t, name, "")
	}
	for range crashes(t) {
		name := names[rand.IntN(len(names))]
		step := steps[name][rand.IntN(len(steps[name]))]
		perform(t, name, step)
		if t.Failed() {
			t.Fatalf("%s, killed at %s", name, step)
		}
	}
}

// mendLock takes the lock, whatever has become of its holder.
func mendLock(ctx context.Context, l *ipc.Lock) error {
	err := l.Lock(ctx)
	if errors.Is(err, ipc.ErrOwnerDied) {
		err = l.Recover(ctx)
	}
	return err
}

// relock takes the lock, whatever has become of it, and lets it go.
func relock(t *testing.T, l *ipc.Lock) {
	t.Helper()
	require.NoError(t, mendLock(proctest.Within(t), l))
	require.NoError(t, l.Unlock())
}

func init() {
	scenes["lock"] = scene{
		cast: func(t *testing.T) cast { return cast{Lock: newLock(t)} },
		child: func(c cast) {
			must(c.Lock.Lock(bg))
			must(c.Lock.Unlock())
			must(c.Lock.Close())
		},
		meanwhile: func(t *testing.T, c cast) { relock(t, c.Lock) },
		after:     func(t *testing.T, c cast) { relock(t, c.Lock) },
	}
	scenes["lock, waiting"] = scene{
		cast: func(t *testing.T) cast {
			l := newLock(t)
			require.NoError(t, l.Lock(t.Context()))
			return cast{Lock: l}
		},
		child: func(c cast) {
			ctx, cancel := context.WithTimeout(bg, 10*time.Millisecond)
			defer cancel()
			if err := c.Lock.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
				panic(err)
			}
		},
		after: func(t *testing.T, c cast) {
			require.NoError(t, c.Lock.Unlock())
			relock(t, c.Lock)
		},
	}
	scenes["lock, handed over"] = scene{
		cast: func(t *testing.T) cast {
			l := newLock(t)
			require.NoError(t, l.Lock(t.Context()))
			return cast{Lock: l, Event: newEvent(t)}
		},
		child: func(c cast) {
			must(c.Event.Set())
			must(c.Lock.Lock(bg))
			must(c.Lock.Unlock())
		},
		meanwhile: func(t *testing.T, c cast) {
			for ctx := soon(t); ctx.Err() == nil && c.Event.Wait(ctx) != nil; {
				// it was set, or the process that was to set it is dead
			}
			if err := c.Lock.Unlock(); err != nil {
				t.Error(err)
			}
			relock(t, c.Lock)
		},
		after: func(t *testing.T, c cast) { relock(t, c.Lock) },
	}
	scenes["lock, undertaker"] = scene{
		cast: func(t *testing.T) cast {
			c := cast{Lock: newLock(t), Sem: newSemaphore(t, 3, true), Barrier: newBarrier(t, 2), Cond: newCond(t)}
			p := start(t, "all held", c, "")
			p.hear("held")
			waiting(t, c.Barrier, 1)
			p.kill()
			return c
		},
		child: func(c cast) {
			if err := c.Lock.Lock(bg); !errors.Is(err, ipc.ErrOwnerDied) {
				panic(err)
			}
			must(c.Lock.Recover(bg))
			must(c.Lock.Unlock())
			must(c.Sem.Acquire(bg, 3))
			if _, err := c.Barrier.Wait(bg); !errors.Is(err, ipc.ErrBrokenBarrier) {
				panic(err)
			}
			if err := c.Cond.L.Lock(bg); err == nil {
				must(c.Cond.L.Unlock())
			}
		},
		after: func(t *testing.T, c cast) {
			relock(t, c.Lock)
			require.True(t, tryAcquire(t, c.Sem, 3))
			_, err := c.Barrier.Wait(proctest.Within(t))
			require.ErrorIs(t, err, ipc.ErrBrokenBarrier)
			relock(t, c.Cond.L)
		},
	}
	role("all held", func(c cast, _ []string) {
		must(c.Lock.Lock(bg))
		must(c.Sem.Acquire(bg, 2))
		go func() { _, _ = c.Barrier.Wait(bg) }()
		must(c.Cond.L.Lock(bg))
		go func() { _ = c.Cond.Wait(bg) }()
		must(c.Cond.L.Lock(bg)) // it waits
		say("held")
		heard("end")
	})
	scenes["rlock"] = scene{
		cast: func(t *testing.T) cast { return cast{RLock: newRLock(t)} },
		child: func(c cast) {
			ctx := get(c.RLock.Lock(bg))
			get(c.RLock.Lock(ctx))
			must(c.RLock.Unlock())
			must(c.RLock.Unlock())
		},
		after: func(t *testing.T, c cast) {
			_, err := c.RLock.Lock(proctest.Within(t))
			if errors.Is(err, ipc.ErrOwnerDied) {
				_, err = c.RLock.Recover(proctest.Within(t))
			}
			require.NoError(t, err)
			require.NoError(t, c.RLock.Unlock())
			require.ErrorIs(t, c.RLock.Unlock(), ipc.ErrNotHeld)
		},
	}
	scenes["event"] = scene{
		cast: func(t *testing.T) cast { return cast{Event: newEvent(t), Event2: newEvent(t)} },
		child: func(c cast) {
			must(c.Event.Set())
			must(c.Event2.Set())
		},
		meanwhile: func(t *testing.T, c cast) {
			// If the first was set, this wakes, though who has set it died before it could
			// wake anybody.
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			for !c.Event.IsSet() && ctx.Err() == nil {
				short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
				_ = c.Event.Wait(short)
				cancel()
				if short.Err() != nil {
					return // it died before it could
				}
			}
		},
		after: func(t *testing.T, c cast) {
			require.NoError(t, c.Event.Set())
			require.NoError(t, c.Event.Wait(proctest.Within(t)))
		},
	}
	for _, bounded := range []bool{false, true} {
		scenes[fmt.Sprintf("semaphore, bounded %t", bounded)] = scene{
			cast: func(t *testing.T) cast { return cast{Sem: newSemaphore(t, 3, bounded)} },
			child: func(c cast) {
				must(c.Sem.Acquire(bg, 2))
				must(c.Sem.Release(1))
				must(c.Sem.Acquire(bg, 2))
				must(c.Sem.Release(3))
			},
			meanwhile: func(t *testing.T, c cast) {
				if bounded {
					if err := c.Sem.Acquire(proctest.Within(t), 3); err != nil {
						t.Error(err)
						return
					}
					if err := c.Sem.Release(3); err != nil {
						t.Error(err)
					}
				}
			},
			after: func(t *testing.T, c cast) {
				if !bounded { // what was taken is gone
					n := 0
					for n <= 3 && tryAcquire(t, c.Sem, 1) {
						n++
					}
					require.LessOrEqual(t, n, 3)
					require.NoError(t, c.Sem.Release(3))
				}
				require.True(t, tryAcquire(t, c.Sem, 3))
				require.False(t, tryAcquire(t, c.Sem, 1))
			},
		}
	}
	scenes["barrier, last"] = scene{
		cast:  func(t *testing.T) cast { return cast{Barrier: newBarrier(t, 2)} },
		child: func(c cast) { _, _ = c.Barrier.Wait(bg) },
		meanwhile: func(t *testing.T, c cast) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel() // the other may die before it comes
			_, err := c.Barrier.Wait(ctx)
			if err != nil && !errors.Is(err, ipc.ErrBrokenBarrier) {
				t.Error(err)
			}
		},
		after: func(t *testing.T, c cast) {
			require.NoError(t, c.Barrier.Reset())
			passes(t, c.Barrier)
		},
	}
	scenes["barrier, gives up"] = scene{
		cast: func(t *testing.T) cast { return cast{Barrier: newBarrier(t, 2)} },
		child: func(c cast) {
			ctx, cancel := context.WithTimeout(bg, time.Millisecond)
			defer cancel()
			if _, err := c.Barrier.Wait(ctx); !errors.Is(err, ipc.ErrBrokenBarrier) {
				panic(err)
			}
			must(c.Barrier.Reset())
			must(c.Barrier.Abort())
		},
		after: func(t *testing.T, c cast) {
			require.NoError(t, c.Barrier.Reset())
			passes(t, c.Barrier)
		},
	}
	scenes["cond, notifies"] = scene{
		cast: func(t *testing.T) cast {
			c := newCond(t)
			return cast{Cond: c}
		},
		child: func(c cast) {
			must(c.Cond.L.Lock(bg))
			must(c.Cond.Notify(2))
			must(c.Cond.L.Unlock())
		},
		meanwhile: func(t *testing.T, c cast) {
			if err := c.Cond.L.Lock(proctest.Within(t)); err != nil {
				if !errors.Is(err, ipc.ErrOwnerDied) {
					t.Error(err)
				}
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := c.Cond.Wait(ctx)
			if errors.Is(err, ipc.ErrOwnerDied) {
				return
			}
			if err := c.Cond.L.Unlock(); err != nil {
				t.Error(err)
			}
		},
		after: func(t *testing.T, c cast) { relock(t, c.Cond.L) },
	}
}
