package ipc_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
	"example.com/futures/ipc"
)

// Each test here is of a bug that was once there, and tells of it.

// atOnce calls fn in n goroutines, which have time for anything that works, and waits for all.
func atOnce(t *testing.T, n int, fn func(ctx context.Context, i int) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	all := make([]<-chan error, n)
	for i := range all {
		all[i] = goes(func() error { return fn(ctx, i) })
	}
	for _, c := range all {
		require.NoError(t, <-c)
	}
}

// stressed calls fn again and again, for as long as a stress test goes on.
func stressed(t *testing.T, fn func()) {
	for until := time.Now().Add(stressTime(t)); ; {
		if fn(); !time.Now().Before(until) {
			return
		}
	}
}

// asleep waits until n goroutines of this process wait for something that is shared.
func asleep(t *testing.T, n int) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for ctx := proctest.Within(t); ; runtime.Gosched() {
		found := 0
		for one := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			state, _, _ := strings.Cut(one, "\n")
			if strings.Contains(one, "segment.(*Handle).queue(") && !strings.Contains(state, "[run") {
				found++
			}
		}
		if found >= n {
			return
		}
		require.NoError(t, ctx.Err())
	}
}

// armed has the first leader of a line from now on stop before it looks: stops is closed when
// it does, and it goes on when goOn is called.
func armed(t *testing.T) (stops <-chan struct{}, goOn func()) {
	at, on := make(chan struct{}), make(chan struct{})
	var once sync.Once
	segment.SetStep(func(step string) {
		if step == "wait: armed" {
			once.Do(func() { close(at); <-on })
		}
	})
	t.Cleanup(func() { segment.SetStep(nil) })
	return at, sync.OnceFunc(func() { close(on) })
}

// comes waits for the end of something, which is near.
func comes(t *testing.T, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("it sleeps, and what it waits for is there")
		return nil
	}
}

// goes starts fn.
func goes(fn func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- fn() }()
	return c
}

// Producers and consumers of one process, with a Cond for each kind, slept for ever after a
// while: the leader of their line was told of a ring, and left before it had passed it on to
// those behind it, one of whom was meant.
func TestBoundedBufferOfTwoConds(t *testing.T) {
	const each = 500
	l := newLock(t)
	notFull, err := ipc.NewCond(l)
	require.NoError(t, err)
	notEmpty, err := ipc.NewCond(l)
	require.NoError(t, err)
	held := 0
	move := func(ctx context.Context, wait, tell *ipc.Cond, room, by int) error {
		if err := l.Lock(ctx); err != nil {
			return err
		}
		for held == room {
			if err := wait.Wait(ctx); err != nil {
				return errors.Join(err, l.Unlock())
			}
		}
		held += by
		return errors.Join(tell.Notify(1), l.Unlock())
	}
	stressed(t, func() {
		atOnce(t, 8, func(ctx context.Context, i int) (err error) {
			for range each {
				if i < 4 {
					err = move(ctx, notFull, notEmpty, 1, 1)
				} else {
					err = move(ctx, notEmpty, notFull, 0, -1)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Goroutines at one Barrier stopped after some thousand passes: of those who slept behind the
// leader some did not hear that the barrier was full.
func TestBarrierOfGoroutines(t *testing.T) {
	for _, n := range []int{3, 8} {
		b := newBarrier(t, n)
		stressed(t, func() {
			atOnce(t, n, func(ctx context.Context, _ int) error {
				for range 500 {
					if _, err := b.Wait(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// So this is the same, step by step: behind the leader somebody waits at the other Cond.
func TestCondBehindOneOfAnotherCond(t *testing.T) {
	l := newLock(t)
	c, err := ipc.NewCond(l)
	require.NoError(t, err)
	other, err := ipc.NewCond(l)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(proctest.Within(t))
	defer cancel()
	wait := func(c *ipc.Cond) <-chan error {
		return goes(func() error {
			return errors.Join(l.Lock(bg), c.Wait(ctx), l.Unlock())
		})
	}
	stops, goOn := armed(t)
	defer goOn()
	leader := wait(c)
	<-stops
	second := wait(other)
	asleep(t, 2)
	third := wait(c)
	asleep(t, 3)
	require.NoError(t, l.Lock(ctx))
	require.NoError(t, errors.Join(c.NotifyAll(), l.Unlock()))
	goOn()
	require.NoError(t, comes(t, leader))
	require.NoError(t, comes(t, third))
	cancel()
	require.ErrorIs(t, comes(t, second), context.Canceled)
}

// Who waits for one permit slept although one was there: somebody before it in the line
// waits for five, and the ring had woken the leader alone, who took one of two and left.
func TestSemaphoreBehindOneWhoWaitsForMany(t *testing.T) {
	s := newSemaphore(t, 0, false)
	ctx, cancel := context.WithCancel(proctest.Within(t))
	defer cancel()
	acquire := func(n int) <-chan error { return goes(func() error { return s.Acquire(ctx, n) }) }
	stops, goOn := armed(t)
	defer goOn()
	leader := acquire(1)
	<-stops
	second := acquire(5)
	asleep(t, 2)
	third := acquire(1)
	asleep(t, 3)
	require.NoError(t, s.Release(2))
	goOn()
	require.NoError(t, comes(t, leader))
	require.NoError(t, comes(t, third))
	cancel()
	require.ErrorIs(t, comes(t, second), context.Canceled)
}

// An Event that is set and cleared at once wakes all who slept by then: this was promised, and
// passed on in the way that failed Conds.
func TestEventPulseWakesGoroutines(t *testing.T) {
	e := newEvent(t)
	ctx := proctest.Within(t)
	stressed(t, func() {
		var waiting [4]<-chan error
		for i := range waiting {
			waiting[i] = goes(func() error { return e.Wait(ctx) })
		}
		asleep(t, len(waiting))
		require.NoError(t, errors.Join(e.Set(), e.Clear()))
		for _, c := range waiting {
			require.NoError(t, comes(t, c))
		}
	})
}

func init() {
	// A process between fork and exec has all descriptors of its parent. So has this child.
	role("fork", func(c cast, _ []string) {
		must(c.Lock.Lock(bg))
		for _, fd := range get(os.ReadDir("/proc/self/fd")) {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(to, "futures-ipc") {
				get(unix.FcntlInt(uintptr(get(strconv.Atoi(fd.Name()))), unix.F_SETFD, 0))
			}
		}
		child := exec.Command("cat")
		child.Stdin = os.Stdin
		must(child.Start())
		say("held")
		select {}
	})
	role("try", func(c cast, _ []string) {
		get(c.Lock.TryLock())
		say("tried")
	})
}

// A holder that was killed while it started a process was never heard of: the lock of its
// slot outlives it in the child, until exec, and nobody looked again.
func TestHolderKilledBetweenForkAndExec(t *testing.T) {
	l := newLock(t)
	p := start(t, "fork", cast{Lock: l}, "")
	p.hear("held")
	waiting := waits(t, func() error { return l.Lock(proctest.Within(t)) })
	p.kill()
	select {
	case err := <-waiting:
		t.Fatalf("the child does not have the slot: %v", err)
	case <-time.After(30 * time.Millisecond): // time to look, once
	}
	p.in.Close() // the end of the child
	require.ErrorIs(t, comes(t, waiting), ipc.ErrOwnerDied)
}

// Somebody found that the holder was dead, and was killed while it let go of what that one
// had. Who came meanwhile had seen that somebody was at it, and slept for ever.
func TestUndertakerDiesOverTheHolder(t *testing.T) {
	l := newLock(t)
	p := start(t, "hold", cast{Lock: l}, "")
	p.hear("held")
	p.kill()
	u := start(t, "try", cast{Lock: l}, "stop at bury: begun")
	u.stopped()
	waiting := waits(t, func() error { return l.Lock(proctest.Within(t)) })
	u.kill()
	require.ErrorIs(t, comes(t, waiting), ipc.ErrOwnerDied)
}

// Lock under the ctx of an owner who was just letting go of it counted once more, and was
// told that it had the lock, which was free then.
func TestRLockEnteredWhileItIsLetGo(t *testing.T) {
	l := newRLock(t)
	stressed(t, func() {
		for range 1000 {
			ctx, err := l.Lock(t.Context())
			require.NoError(t, err)
			var begun atomic.Bool
			done := goes(func() error {
				begun.Store(true)
				_, err := l.Lock(ctx)
				return err
			})
			for !begun.Load() {
				runtime.Gosched()
			}
			require.NoError(t, l.Unlock())
			require.NoError(t, <-done)
			require.Equal(t, "ipc.RLock(held by this process)", l.String())
			require.NoError(t, l.Unlock())
		}
	})
}

// Senders to a full pipe woke each other, and themselves, all the time.
func TestFullPipeTakesNoProcessorTime(t *testing.T) {
	const long = 250 * time.Millisecond
	for _, senders := range []int{1, 3} {
		for _, size := range []int{100_000, 3 << 20} {
			_, b := newPipe[[]byte](t, true)
			for b.Send(ended(), make([]byte, size)) == nil {
			}
			ctx, cancel := context.WithTimeout(t.Context(), long)
			var before, after syscall.Rusage
			require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
			var all sync.WaitGroup
			for range senders {
				all.Go(func() { _ = b.Send(ctx, make([]byte, size)) })
			}
			<-ctx.Done()
			require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
			took := time.Duration(after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano())
			cancel()
			all.Wait()
			require.Less(t, took, long/2, "%d senders of %d bytes", senders, size)
		}
	}
}

func init() {
	role("hold all", func(c cast, _ []string) {
		must(c.Sem.Acquire(bg, 1))
		must(c.Lock.Lock(bg))
		get(c.RLock.Lock(bg))
		say("held")
		select {}
	})
}

// Who only asks, under a ctx that has ended, never heard that the holder was dead: nobody
// watched it.
func TestAskingFindsTheDead(t *testing.T) {
	l, r, s := newLock(t), newRLock(t), newSemaphore(t, 1, true)
	p := start(t, "hold all", cast{Lock: l, RLock: r, Sem: s}, "")
	p.hear("held")
	require.ErrorIs(t, l.Lock(ended()), context.Canceled)
	p.kill()
	require.ErrorIs(t, l.Lock(ended()), ipc.ErrOwnerDied)
	require.NoError(t, l.Recover(ended()))
	_, err := r.Lock(ended())
	require.ErrorIs(t, err, ipc.ErrOwnerDied)
	_, err = r.Recover(ended())
	require.NoError(t, err)
	require.NoError(t, s.Acquire(ended(), 1))
}

// One who writes new processes into the slots, again and again, had whoever waits watch them
// all, with a descriptor and a goroutine each.
func TestNoMoreWatchesThanSlots(t *testing.T) {
	const joins, high, slots, slot, body = 128, 132, 256, 64, 17 * 4096 // where they are in the memory
	l := newLock(t)
	fds, err := l.Export()
	require.NoError(t, err)
	l.Exported()
	defer syscall.Close(fds[0])
	mem, err := syscall.Mmap(fds[0], 0, body+64, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Munmap(mem)) }()
	word := func(off int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&mem[off])) }
	long := func(off int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&mem[off])) }
	require.NoError(t, unix.FcntlFlock(uintptr(fds[0]), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 1<<62 + 1, Len: segment.Slots - 1}))
	space := long(slots+8).Load() >> 32
	word(high).Store(segment.Slots)
	word(body).Store(2) // participant 1 has the lock
	files, before := len(proctest.Descriptors()), runtime.NumGoroutine()
	token := uint64(1000)
	for range 5 {
		for i := 1; i < segment.Slots; i++ {
			token++
			long(slots + slot*i + 8).Store(uint64(os.Getppid()) | space<<32)
			long(slots + slot*i).Store(token)
		}
		word(joins).Add(1)
		require.ErrorIs(t, l.Lock(soon(t)), context.DeadlineExceeded)
	}
	require.LessOrEqual(t, len(proctest.Descriptors())-files, 2*segment.Slots)
	require.LessOrEqual(t, runtime.NumGoroutine()-before, 2*segment.Slots)
}

// Who began to wait while the handle was being closed could still watch the others, with a
// goroutine and a descriptor that nobody ended.
func TestWaiterThatCloseOvertakesLeavesNothing(t *testing.T) {
	l, err := ipc.NewLock()
	require.NoError(t, err)
	p := start(t, "hold", cast{Lock: l}, "")
	p.hear("held")
	defer runtime.KeepAlive(l) // or all is well when it is collected
	files, before := proctest.Descriptors(), runtime.NumGoroutine()
	stops, goOn := armed(t)
	defer goOn()
	waiting := goes(func() error { return l.Lock(bg) })
	<-stops // it is about to watch
	require.NoError(t, l.Close())
	goOn()
	require.ErrorIs(t, comes(t, waiting), ipc.ErrClosed)
	for began := time.Now(); runtime.NumGoroutine() > before || len(proctest.Opened(files)) > 0; runtime.Gosched() {
		require.Less(t, time.Since(began), 10*time.Second, "%v", proctest.Opened(files))
	}
}
