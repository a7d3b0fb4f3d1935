package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"
)

// Several processes, the test's among them, use everything at once, while one after the other
// of them is killed, and another takes its place.

// A world is all that they share.
type world struct {
	Cast    cast
	Signals *ipc.Semaphore
	Room    *ipc.Cond // of the lock of Cast.Cond, which is for items
	Word    *ipc.Value[int64]
	Long    *ipc.Value[checked]
	Array   *ipc.Array[int64]
	In      *ipc.Queue[[]byte] // to the test
	Out     *ipc.Queue[[]byte]
	Conn    *ipc.Conn[[]byte]

	Seats *ipc.Array[int64] // where everybody is, see at
	Done  *ipc.Array[int64] // how often everybody has done it, in the same order
	Words *ipc.Array[int64]
}

// Everybody in it has a seat: each process has some for each of the things to do. The test's
// process has the first.
const (
	chaosProcesses = 4
	seatsEach      = 2
	seats          = chaosProcesses * seatsEach
)

// The words of a world.
const (
	wordItems = iota // in the buffer of the cond
	wordReleased
	wordAcquired
	wordCount
)

// deeds are what everybody in the world does, over and over.
var deeds = []struct {
	name string
	do   func(w *world, me seat) error
}{
	{"lock", func(w *world, me seat) error {
		ctx, cancel := bg, context.CancelFunc(func() {})
		if rand.IntN(4) == 0 {
			ctx, cancel = hasty()
		}
		err := w.Cast.Lock.Lock(ctx)
		cancel()
		if isHasty(err) {
			return nil
		}
		if errors.Is(err, ipc.ErrOwnerDied) {
			err = w.Cast.Lock.Recover(bg)
		}
		return errors.Join(err, me.alone(), w.Cast.Lock.Unlock())
	}},
	{"rlock", func(w *world, me seat) error {
		ctx, err := w.Cast.RLock.Lock(bg)
		if errors.Is(err, ipc.ErrOwnerDied) {
			ctx, err = w.Cast.RLock.Recover(bg)
		}
		_, again := w.Cast.RLock.Lock(ctx)
		return errors.Join(err, again, me.alone(), w.Cast.RLock.Unlock(), w.Cast.RLock.Unlock())
	}},
	{"bounded semaphore", func(w *world, me seat) error { // of 3, so that one at a time has 2
		var err error
		if ok, terr := w.Cast.Sem.TryAcquire(2); !ok || terr != nil {
			ctx, cancel := bg, context.CancelFunc(func() {})
			if rand.IntN(2) == 0 {
				ctx, cancel = hasty()
			}
			err = errors.Join(terr, w.Cast.Sem.Acquire(ctx, 2))
			cancel()
			if isHasty(err) {
				return nil
			}
		}
		return errors.Join(err, me.alone(), w.Cast.Sem.Release(1), w.Cast.Sem.Release(1))
	}},
	{"semaphore", func(w *world, _ seat) error {
		words := w.Words.Slice()
		n := int64(1 + rand.IntN(2))
		atomic.AddInt64(&words[wordReleased], n)
		if err := w.Signals.Release(int(n)); err != nil {
			return err
		}
		for range n {
			if err := w.Signals.Acquire(bg, 1); err != nil {
				return err
			}
			acquired := atomic.AddInt64(&words[wordAcquired], 1)
			if released := atomic.LoadInt64(&words[wordReleased]); acquired > released {
				return fmt.Errorf("%d signals have come, and %d were given", acquired, released)
			}
		}
		return nil
	}},
	{"event", func(w *world, _ seat) error { return w.Cast.Event.Wait(bg) }},
	{"cond", func(w *world, me seat) error {
		l, words := w.Cast.Cond.L, w.Words.Slice()
		mend := func(err error) error {
			if !errors.Is(err, ipc.ErrOwnerDied) {
				return err
			}
			if err := l.Recover(bg); err != nil {
				return err
			}
			// There is nothing to mend: the number of items is one word.
			return errors.Join(w.Cast.Cond.NotifyAll(), w.Room.NotifyAll())
		}
		wait, tell, d := w.Room, w.Cast.Cond, int64(1)
		if me.n%2 == 1 {
			wait, tell, d = tell, wait, -1
		}
		err := mend(l.Lock(bg))
		for err == nil && (words[wordItems]+d < 0 || words[wordItems]+d > 3) {
			err = mend(wait.Wait(bg))
		}
		err = errors.Join(err, me.alone())
		words[wordItems] += d
		return errors.Join(err, tell.Notify(1), l.Unlock())
	}},
	{"barrier", func(w *world, me seat) error {
		i, err := w.Cast.Barrier.Wait(bg)
		switch {
		case errors.Is(err, ipc.ErrBrokenBarrier) && me.n == 0:
			return w.Cast.Barrier.Reset()
		case errors.Is(err, ipc.ErrBrokenBarrier):
			time.Sleep(100 * time.Microsecond) // until it is mended
			return nil
		case err == nil && (i < 0 || i > 1):
			return fmt.Errorf("the index is %d", i)
		}
		return err
	}},
	{"word", func(w *world, _ seat) error {
		if rand.IntN(2) == 0 {
			ipc.Add(w.Word, 1)
			return nil
		}
		return w.Word.Update(bg, func(n *int64) { *n++ })
	}},
	{"value", func(w *world, me seat) error {
		if v := w.Long.Load(); !v.whole() {
			return fmt.Errorf("half a value, of %#x", v[0])
		}
		if me.n%2 == 0 {
			w.Long.Store(newChecked(rand.Uint64()))
			return nil
		}
		whole := true
		err := w.Long.Update(bg, func(v *checked) {
			whole = whole && v.whole()
			v.fill(v[0] + 1)
		})
		if !whole {
			err = errors.Join(err, errors.New("half a value is updated"))
		}
		return err
	}},
	{"array", func(w *world, me seat) error {
		var inside error
		died := false
		update := func(s []int64) {
			if died {
				s[1], s[2] = s[0], s[0]
			}
			if s[0] != s[1] || s[0] != s[2] {
				inside = fmt.Errorf("the array is %v", s)
			}
			s[0]++
			s[1]++
			inside = errors.Join(inside, me.alone())
			s[2]++
		}
		for {
			err := w.Array.Update(bg, func(s []int64) {
				// Others learn of a death before we do, and may not have mended it yet.
				died = s[0] != s[1] || s[0] != s[2]
				update(s)
			})
			if !errors.Is(err, ipc.ErrOwnerDied) {
				return errors.Join(err, inside)
			}
		}
	}},
	{"queue", func(w *world, me seat) error {
		return me.exchange(
			func(b []byte) error { return w.In.Put(bg, b) },
			func() ([]byte, error) { return w.Out.Get(bg) })
	}},
	{"pipe", func(w *world, me seat) error {
		return me.exchange(
			func(b []byte) error { return w.Conn.Send(bg, b) },
			func() ([]byte, error) { return w.Conn.Recv(bg) })
	}},
}

// A seat is that of a goroutine, for one of the deeds.
type seat struct {
	w    *world
	name string // of the deed
	deed int
	n    int
	done *int // how often it has been done since the process began
}

func (s seat) at(of *ipc.Array[int64], n int) *int64 { return &of.Slice()[s.deed*seats+n] }

// alone errs if somebody else who lives is where this one is.
func (s seat) alone() error {
	me := int64(os.Getpid())
	mine := s.at(s.w.Seats, s.n)
	atomic.StoreInt64(mine, me)
	defer atomic.StoreInt64(mine, 0)
	for n := range seats {
		other := s.at(s.w.Seats, n)
		pid, waited := atomic.LoadInt64(other), false
		for n != s.n && pid != 0 && pid != me && proctest.Alive(int(pid)) {
			time.Sleep(10 * time.Microsecond) // it dies just now, or goes away
			pid, waited = atomic.LoadInt64(other), true
		}
		if n != s.n && (pid == me || pid == 0 && waited) {
			return fmt.Errorf("%s: %d was there, and so was %d", s.name, n, s.n)
		}
	}
	return nil
}

// exchange sends, or receives, messages that tell whose they are.
func (s seat) exchange(send func([]byte) error, receive func() ([]byte, error)) error {
	if s.n%2 == 0 {
		n := []int{8, 300, 5000, 70_000}[rand.IntN(4)]
		seed := rand.Uint64()
		return send(append(fmt.Appendf(nil, "%d/%d %d %d ", os.Getpid(), s.n, *s.done, seed), pattern(seed, n)...))
	}
	b, err := receive()
	if err != nil {
		return err
	}
	_, _, err = readMessage(b)
	return err
}

// readMessage returns by whom b is, and the how manieth.
func readMessage(b []byte) (from string, n int, err error) {
	f := bytes.SplitN(b, []byte(" "), 4)
	if len(f) != 4 {
		return "", 0, fmt.Errorf("a message that begins with %.20q", b)
	}
	n, err = strconv.Atoi(string(f[1]))
	seed, serr := strconv.ParseUint(string(f[2]), 10, 64)
	if err = errors.Join(err, serr); err == nil && !bytes.Equal(f[3], pattern(seed, len(f[3]))) {
		err = fmt.Errorf("message %d of %s is torn", n, f[0])
	}
	return string(f[0]), n, err
}

// live does all deeds in the seats of a process until stop says so.
func (w *world) live(process int, stop func() bool) error {
	var mu sync.Mutex // guards errs
	var errs error
	var all sync.WaitGroup
	for d, deed := range deeds {
		for i := range seatsEach {
			if process == 0 && (deed.name == "queue" || deed.name == "pipe") {
				continue // the test is at the other end
			}
			me := seat{w: w, name: deed.name, deed: d, n: process*seatsEach + i, done: new(int)}
			atomic.StoreInt64(me.at(w.Seats, me.n), 0) // of one who died
			all.Go(func() {
				for !stop() {
					err := deed.do(w, me)
					if err != nil {
						mu.Lock()
						errs = errors.Join(errs, fmt.Errorf("%s, seat %d: %w", deed.name, me.n, err))
						mu.Unlock()
						fmt.Fprintf(os.Stderr, "%s, seat %d: %v\n", deed.name, me.n, err)
						return
					}
					*me.done++
					atomic.AddInt64(me.at(w.Done, me.n), 1)
					time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) // its pace
				}
			})
		}
	}
	all.Wait()
	return errs
}

// stacks prints what all goroutines of all processes do, and ends the others.
func stacks(processes []*process) {
	own := make([]byte, 1<<20)
	fmt.Fprintf(os.Stderr, "process 0:\n%s\n", own[:runtime.Stack(own, true)])
	for i, p := range processes {
		if p != nil {
			_ = p.cmd.Process.Signal(syscall.SIGQUIT)
			_ = p.wait()
			fmt.Fprintf(os.Stderr, "process %d:\n%s\n", i, &p.errs)
		}
	}
}

func init() {
	role("chaos", func(w world, args []string) {
		say("on")
		must(w.live(get(strconv.Atoi(args[0])), stopping))
	})
}

// chaosSteps are steps at which processes die.
var chaosSteps = strings.Split(`take: locked,take: cleared,take: done,bury: begun,bury: let go,bury: done,
wait: armed,wait: armed#7,ring: found,ring: found#5,ring: hint cleared,ring: hint cleared#4,unlock: let go,unlock: let go#9,
lock: taken,acquire: free,acquire: taken,release: given,set: set,barrier: all here,barrier: passed,barrier: arrived,
cond: entered,cond: woken,notify: marked,bury: passed on,bury: broken,put: locked,put: written,put: published,put: unlocked,
get: locked,get: copied,get: published,get: unlocked,update: locked,update: ran,update: done,update: let go,
store: locked,store: half,store: written,store: published,load: copied`, ",")

// TestChaos kills as many processes as FUTURES_CRASHES says, or few. Whoever lives goes on,
// with everything.
func TestChaos(t *testing.T) {
	conn, far := newPipe[[]byte](t, true)
	cond := newCond(t)
	room, err := ipc.NewCond(cond.L)
	require.NoError(t, err)
	cells := make([]int64, len(deeds)*seats)
	w := &world{
		Cast:    cast{Lock: newLock(t), RLock: newRLock(t), Sem: newSemaphore(t, 3, true), Event: newEvent(t), Cond: cond, Barrier: newBarrier(t, 2)},
		Signals: newSemaphore(t, 0, false), Room: room,
		Word: newValue(t, int64(0)), Long: newValue(t, newChecked(1)), Array: newArray[int64](t, 0, 0, 0),
		In: newQueue[[]byte](t, 5), Out: newQueue[[]byte](t, 5), Conn: far,
		Seats: newArray(t, cells...), Done: newArray(t, cells...), Words: newArray(t, make([]int64, wordCount)...),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var here sync.WaitGroup
	errs := make(chan error, 100)
	run := func(what string, fn func() error) {
		here.Go(func() {
			if err := fn(); err != nil && !errors.Is(err, context.Canceled) {
				errs <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	// The other end: what comes is in order, and there is always something to take.
	receive := func(get func(context.Context) ([]byte, error)) func() error {
		next := map[string]int{}
		return func() error {
			for {
				b, err := get(ctx)
				if err != nil {
					return err
				}
				from, n, err := readMessage(b)
				if err != nil {
					return err
				}
				if next[from] != n {
					return fmt.Errorf("message %d of %s where %d should be", n, from, next[from])
				}
				next[from]++
			}
		}
	}
	send := func(put func(context.Context, []byte) error) func() error {
		return func() error {
			for n := 0; ; n++ {
				if err := put(ctx, append(fmt.Appendf(nil, "test %d %d ", n, n), pattern(uint64(n), n%9000)...)); err != nil {
					return err
				}
			}
		}
	}
	run("get", receive(w.In.Get))
	run("receive", receive(conn.Recv))
	run("put", send(w.Out.Put))
	run("send", send(conn.Send))
	run("event", func() error {
		for ctx.Err() == nil {
			if err := errors.Join(w.Cast.Event.Set(), w.Cast.Event.Clear()); err != nil {
				return err
			}
			time.Sleep(200 * time.Microsecond) // its pace
		}
		return w.Cast.Event.Set()
	})
	alive := make(chan struct{})
	go func() {
		defer close(alive)
		if err := w.live(0, func() bool { return ctx.Err() != nil }); err != nil {
			errs <- err
		}
	}()

	// Alone, the test's process can end all that it does.
	stop := sync.OnceFunc(func() {
		cancel()
		for began := time.Now(); ; {
			_ = w.Signals.Release(1) // somebody waits for others
			_ = w.Cast.Barrier.Abort()
			_ = w.Cast.Event.Set()
			if mendLock(bg, w.Cast.Cond.L) == nil {
				w.Words.Slice()[wordItems] = 2
				_ = w.Cast.Cond.NotifyAll()
				_ = w.Room.NotifyAll()
				_ = w.Cast.Cond.L.Unlock()
			}
			select {
			case <-alive:
				return
			case <-time.After(time.Millisecond): // between two helps
			}
			if time.Since(began) > time.Minute {
				panic("the test's own goroutines stand still")
			}
		}
	})
	t.Cleanup(stop)

	processes := make([]*process, chaosProcesses)
	begin := func(i int) {
		die := ""
		if rand.IntN(2) == 0 {
			die = strings.TrimSpace(chaosSteps[rand.IntN(len(chaosSteps))])
		}
		processes[i] = start(t, "chaos", *w, die, strconv.Itoa(i))
	}
	end := func(i int) {
		p := processes[i]
		_ = p.cmd.Process.Kill() // or it has died by itself
		p.killed()
	}
	for i := 1; i < chaosProcesses; i++ {
		begin(i)
	}
	for round := range crashes(t) {
		i := 1 + rand.IntN(chaosProcesses-1)
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond) // any moment
		end(i)
		// Whoever lives goes on. A process may have died by itself, and is not waited for.
		before := w.Done.Slice()
		was := make([]int64, len(before))
		for k := range before {
			was[k] = atomic.LoadInt64(&before[k])
		}
		for k, began := 0, time.Now(); k < len(before); {
			p, deed := k%seats/seatsEach, k/seats
			if atomic.LoadInt64(&before[k]) > was[k] || p == i || p > 0 && !proctest.Alive(processes[p].cmd.Process.Pid) ||
				p == 0 && (deeds[deed].name == "queue" || deeds[deed].name == "pipe") {
				k++
				continue
			}
			if time.Since(began) > 20*time.Second {
				t.Errorf("round %d: %s stands still, seat %d of process %d", round, deeds[deed].name, k%seats, p)
				stacks(processes)
				runtime.Goexit()
			}
			time.Sleep(100 * time.Microsecond) // between two looks
		}
		select {
		case err := <-errs:
			t.Fatalf("round %d: %v", round, err)
		default:
		}
		begin(i)
	}
	for i := 1; i < chaosProcesses; i++ {
		end(i)
	}
	stop()
	here.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	done := func(name string) (n int64) {
		for d, deed := range deeds {
			for k := range seats {
				if deed.name == name {
					n += w.Done.At(d*seats + k)
				}
			}
		}
		t.Logf("%s: %d times", name, n)
		return n
	}
	for _, deed := range deeds {
		require.Positive(t, done(deed.name))
	}
	extra := w.Word.Load() - done("word") // by those who died before they could note it
	require.GreaterOrEqual(t, extra, int64(0))
	require.LessOrEqual(t, extra, int64(seatsEach*(crashes(t)+chaosProcesses)))
	require.True(t, tryAcquire(t, w.Cast.Sem, 3))
	require.False(t, tryAcquire(t, w.Cast.Sem, 1))
	relock(t, w.Cast.Lock)
	relock(t, w.Cast.Cond.L)
	require.NoError(t, w.Cast.Barrier.Reset())
	passes(t, w.Cast.Barrier)
	require.NoError(t, w.In.Shutdown())
	for {
		if _, err := w.In.TryGet(); err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
	}
}
