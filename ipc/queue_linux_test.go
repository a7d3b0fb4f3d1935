package ipc_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"
)

func newQueue[T any](tb testing.TB, capacity int) *ipc.Queue[T] {
	tb.Helper()
	q, err := ipc.NewQueue[T](capacity)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, q.Close()) })
	return q
}

// pattern returns n bytes that tell themselves, and by whom they were made.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed*2862933555777941757 + 3037000493
	for i := range b {
		if i%8 == 0 {
			x = x*2862933555777941757 + 3037000493
		}
		b[i] = byte(x >> (8 * (i % 8)))
	}
	return b
}

// waits starts fn and returns how it ended, once it does; it fails if it has ended before
// the test had a moment.
func waits(tb testing.TB, fn func() error) <-chan error {
	tb.Helper()
	c := make(chan error, 1)
	go func() { c <- fn() }()
	select {
	case err := <-c:
		tb.Fatalf("it did not wait, and answered %v", err)
	case <-time.After(30 * time.Millisecond): // time for a mistake: that nothing happens has no event
	}
	return c
}

func TestQueueHoldsAsManyAsItsCapacity(t *testing.T) { // QUE-01, QUE-04, QUE-07
	ctx := proctest.Within(t)
	q := newQueue[int](t, 3)
	require.Equal(t, 3, q.Cap())
	for i := range 3 {
		require.NoError(t, q.Put(ended(), i), "what need not wait is done")
		require.Equal(t, i+1, q.Len())
	}
	require.ErrorIs(t, q.TryPut(3), ipc.ErrFull)
	require.ErrorIs(t, q.Put(ended(), 3), context.Canceled)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.ErrorIs(t, q.Put(short, 3), context.DeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(began), 40*time.Millisecond) // QUE-08
	require.Equal(t, 3, q.Len())
	for i := range 3 {
		v, err := q.Get(ended())
		require.NoError(t, err)
		require.Equal(t, i, v) // QUE-05
	}
	_, err := q.TryGet()
	require.ErrorIs(t, err, ipc.ErrEmpty)
	_, err = q.Get(ended())
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "ipc: queue get: context canceled")
	short, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	began = time.Now()
	_, err = q.Get(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(began), 40*time.Millisecond)
	require.Zero(t, q.Len())
}

func TestQueueCapacities(t *testing.T) {
	for _, n := range []int{-1, 0, math.MaxInt} {
		_, err := ipc.NewQueue[int](n)
		require.ErrorContains(t, err, "ipc: new queue: a capacity of ")
	}
	_, err := ipc.NewQueue[int](-5) // the error said that it was 0
	require.EqualError(t, err, "ipc: new queue: a capacity of -5 is less than 1")
	sizes := []int{1, 1 << 20}
	if most := int64(1 << 31); most <= math.MaxInt {
		sizes = append(sizes, int(most))
	}
	for _, n := range sizes {
		q := newQueue[string](t, n)
		require.NoError(t, q.TryPut("one"))
		require.Equal(t, n, q.Cap())
		require.Equal(t, 1, q.Len())
	}
}

func TestQueueOfOne(t *testing.T) {
	ctx := proctest.Within(t)
	q := newQueue[string](t, 1)
	for i, n := range []int{0, 1, 232, 233, 5000, 100_000} {
		want := string(pattern(uint64(i), n))
		require.NoError(t, q.Put(ctx, want))
		require.ErrorIs(t, q.TryPut("more"), ipc.ErrFull)
		got, err := q.Get(ctx)
		require.NoError(t, err)
		require.True(t, want == got)
	}
}

type nested struct {
	Name  string
	Bytes []byte
	Next  *nested
	Any   any
}

type empty struct{}

func TestQueueTakesValuesOfAnyType(t *testing.T) {
	t.Run("int", func(t *testing.T) { roundTrip(t, -7) })
	t.Run("bool", func(t *testing.T) { roundTrip(t, true) })
	t.Run("float", func(t *testing.T) { roundTrip(t, 1.5) })
	t.Run("complex", func(t *testing.T) { roundTrip(t, complex(1, 2)) })
	t.Run("string", func(t *testing.T) { roundTrip(t, "text") })
	t.Run("long string", func(t *testing.T) { roundTrip(t, strings.Repeat("x", 10_000)) })
	t.Run("named", func(t *testing.T) { roundTrip(t, time.Second) })
	t.Run("time", func(t *testing.T) { roundTrip(t, time.Unix(5, 0).UTC()) })
	t.Run("empty", func(t *testing.T) { roundTrip(t, empty{}); roundTrip(t, [0]int{}) })
	t.Run("struct", func(t *testing.T) {
		roundTrip(t, nested{Name: "a", Bytes: []byte("b"), Next: &nested{Name: "c"}, Any: 5})
	})
	t.Run("large struct", func(t *testing.T) {
		roundTrip(t, nested{Name: strings.Repeat("n", 5000), Bytes: pattern(1, 1<<20), Next: &nested{Bytes: pattern(2, 10_000)}})
	})
	t.Run("map", func(t *testing.T) { roundTrip(t, map[string][]int{"a": {1, 2}, "b": nil}) })
	t.Run("any", func(t *testing.T) { roundTrip[any](t, "text"); roundTrip[any](t, nil) })
	t.Run("pointer", func(t *testing.T) { roundTrip[*int](t, nil); roundTrip(t, &nested{Name: "a"}) })
}

func roundTrip[T any](t *testing.T, v T) {
	t.Helper()
	q := newQueue[T](t, 2)
	require.NoError(t, q.TryPut(v))
	got, err := again(t, q).TryGet()
	require.NoError(t, err)
	require.Equal(t, v, got)
}

type stubborn struct{ N int }

func (stubborn) GobEncode() ([]byte, error) { panic("no") }
func (*stubborn) GobDecode([]byte) error    { return nil }

type mute struct{ Fail bool }

func (m mute) GobEncode() ([]byte, error) {
	if m.Fail {
		return nil, errors.New("mute")
	}
	return []byte{1}, nil
}
func (*mute) GobDecode([]byte) error { return nil }

type deaf struct{ N int }

func (deaf) GobEncode() ([]byte, error) { return []byte{1}, nil }
func (*deaf) GobDecode([]byte) error    { panic("deaf") }

func TestQueueOfWhatCannotBeEncoded(t *testing.T) { // QUE-11, QUE-12
	_, err := ipc.NewQueue[chan int](1)
	require.EqualError(t, err, "ipc: new queue: type chan int cannot be encoded: leave it out of what is sent")
	_, err = ipc.NewQueue[struct{ F func() }](1)
	require.ErrorContains(t, err, "struct.F (func())")

	t.Run("error", func(t *testing.T) {
		q := newQueue[mute](t, 1)
		require.ErrorContains(t, q.TryPut(mute{Fail: true}), "ipc: queue put: mute")
		require.NoError(t, q.TryPut(mute{}))
		_, err := q.TryGet()
		require.NoError(t, err)
		require.Zero(t, q.Len())
	})
	t.Run("panic", func(t *testing.T) {
		q := newQueue[stubborn](t, 1)
		err := q.TryPut(stubborn{1})
		var panicked *executor.PanicError
		require.ErrorAs(t, err, &panicked)
		require.Equal(t, "no", panicked.Value)
		require.Zero(t, q.Len())
	})
	t.Run("decoding", func(t *testing.T) {
		q := newQueue[deaf](t, 2)
		require.NoError(t, q.TryPut(deaf{1}))
		_, err := q.TryGet()
		var panicked *executor.PanicError
		require.ErrorAs(t, err, &panicked)
		require.Zero(t, q.Len())
	})
	t.Run("cyclic", func(t *testing.T) {
		q := newQueue[*nested](t, 1)
		n := new(nested)
		n.Next = n
		require.ErrorContains(t, q.TryPut(n), "cyclic")
		require.NoError(t, q.TryPut(new(nested)))
	})
	t.Run("chan in an interface", func(t *testing.T) {
		q := newQueue[any](t, 1)
		require.ErrorContains(t, q.TryPut(make(chan int)), "chan int")
		require.NoError(t, q.TryPut(1))
	})
	t.Run("handle", func(t *testing.T) {
		q := newQueue[gift](t, 1)
		err := q.TryPut(gift{Queue: newQueue[int](t, 1)})
		require.ErrorIs(t, err, executor.ErrNotPortable)
		require.ErrorContains(t, err, "send it through a Conn")
		require.NoError(t, q.TryPut(gift{N: 1}))
		v, err := q.TryGet()
		require.NoError(t, err)
		require.Equal(t, gift{N: 1}, v)
	})
	t.Run("too large", func(t *testing.T) {
		if testing.Short() || raceEnabled {
			t.Skip("it takes a gigabyte")
		}
		q := newQueue[[]byte](t, 1)
		require.ErrorContains(t, q.TryPut(make([]byte, 1<<30+1)), "1073741825 bytes are over the limit of 1073741824")
		require.NoError(t, q.TryPut(nil))
	})
}

func TestQueueKeepsNothingOfTheCallers(t *testing.T) {
	q := newQueue[[]byte](t, 2)
	for _, n := range []int{10, 10_000} {
		b := pattern(1, n)
		require.NoError(t, q.TryPut(b))
		clear(b)
		got, err := q.TryGet()
		require.NoError(t, err)
		require.Equal(t, pattern(1, n), got)
	}
}

func TestQueueWakesWhoWaits(t *testing.T) { // QUE-03
	ctx := proctest.Within(t)
	q := newQueue[int](t, 1)
	other := again(t, q)
	var got int
	done := waits(t, func() (err error) { got, err = q.Get(ctx); return err })
	require.NoError(t, other.Put(ctx, 5))
	require.NoError(t, <-done)
	require.Equal(t, 5, got)
	require.NoError(t, q.Put(ctx, 6))
	done = waits(t, func() error { return q.Put(ctx, 7) })
	_, err := other.Get(ctx)
	require.NoError(t, err)
	require.NoError(t, <-done)
}

func TestQueueShutdown(t *testing.T) {
	ctx := proctest.Within(t)
	q := newQueue[int](t, 1)
	require.NoError(t, q.Put(ctx, 1))
	putter := waits(t, func() error { return q.Put(ctx, 2) })
	other := again(t, q)
	require.NoError(t, other.Shutdown())
	require.NoError(t, other.Shutdown())
	require.Equal(t, io.ErrClosedPipe, <-putter)
	require.Equal(t, io.ErrClosedPipe, q.TryPut(2))
	require.Equal(t, 1, q.Len())
	v, err := q.Get(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, v)
	for range 2 {
		_, err = q.Get(ended())
		require.Equal(t, io.EOF, err)
		_, err = q.TryGet()
		require.Equal(t, io.EOF, err)
	}
	require.NoError(t, q.TaskDone())
	require.NoError(t, q.Join(ctx))

	q = newQueue[int](t, 1)
	var getters []<-chan error
	for range 5 {
		getters = append(getters, waits(t, func() error { _, err := q.Get(ctx); return err }))
	}
	require.NoError(t, q.Shutdown())
	for _, g := range getters {
		require.Equal(t, io.EOF, <-g)
	}
}

func TestQueueJoin(t *testing.T) { // QUE-09, QUE-10
	ctx := proctest.Within(t)
	q := newQueue[int](t, 10)
	require.NoError(t, q.Join(ended()), "nothing was put")
	require.EqualError(t, q.TaskDone(), "ipc: queue task done: all 0 items that were put are done already")
	for i := range 3 {
		require.NoError(t, q.Put(ctx, i))
	}
	require.ErrorIs(t, q.Join(ended()), context.Canceled)
	var joiners []<-chan error
	for range 3 {
		joiners = append(joiners, waits(t, func() error { return q.Join(ctx) }))
	}
	other := again(t, q)
	for range 3 {
		_, err := other.Get(ctx)
		require.NoError(t, err)
		for _, j := range joiners {
			require.Empty(t, j)
		}
		require.NoError(t, other.TaskDone())
	}
	for _, j := range joiners {
		require.NoError(t, <-j)
	}
	require.Error(t, q.TaskDone())
}

func TestQueueClose(t *testing.T) { // QUE-14, QUE-15
	ctx := proctest.Within(t)
	q := newQueue[int](t, 1)
	other := again(t, q)
	require.NoError(t, other.Put(ctx, 1))
	_, err := other.Get(ctx)
	require.NoError(t, err)
	joined := waits(t, func() error { return q.Join(ctx) })
	getter := waits(t, func() error { _, err := q.Get(ctx); return err })
	require.NoError(t, q.Close())
	require.NoError(t, q.Close())
	require.Equal(t, ipc.ErrClosed, <-getter)
	require.ErrorIs(t, <-joined, ipc.ErrClosed)
	require.Equal(t, ipc.ErrClosed, q.Put(ctx, 1))
	require.Equal(t, ipc.ErrClosed, q.TryPut(1))
	_, err = q.Get(ctx)
	require.Equal(t, ipc.ErrClosed, err)
	_, err = q.TryGet()
	require.Equal(t, ipc.ErrClosed, err)
	require.Equal(t, ipc.ErrClosed, q.Shutdown())
	require.Equal(t, ipc.ErrClosed, q.TaskDone())
	require.Equal(t, ipc.ErrClosed, q.Join(ctx))
	require.PanicsWithValue(t, ipc.ErrClosed, func() { q.Len() })
	require.PanicsWithValue(t, ipc.ErrClosed, func() { q.Cap() })
	require.NoError(t, other.Put(ctx, 1))
	require.NoError(t, other.Close())

	var zero ipc.Queue[int]
	require.Equal(t, ipc.ErrClosed, zero.Put(ctx, 1))
	require.NoError(t, zero.Close())
}

func TestQueueTravelsWithThisLibraryOnly(t *testing.T) {
	q := newQueue[int](t, 1)
	require.ErrorIs(t, gob.NewEncoder(io.Discard).Encode(q), executor.ErrNotPortable)
	c, d := newPipe[*ipc.Queue[string]](t, true)
	ints, ints2 := newPipe[any](t, true)
	_ = ints2
	_ = ints
	strs := newQueue[string](t, 1)
	require.NoError(t, c.Send(t.Context(), strs))
	got, err := d.Recv(t.Context())
	require.NoError(t, err)
	defer got.Close()
	require.NoError(t, got.TryPut("x"))
	v, err := strs.TryGet()
	require.NoError(t, err)
	require.Equal(t, "x", v)
}

func TestDroppedQueueIsCollected(t *testing.T) {
	before, maps := proctest.Descriptors(), mapped(t)
	for range 10 {
		q, err := ipc.NewQueue[int](10)
		require.NoError(t, err)
		require.NoError(t, q.TryPut(1))
		a, b, err := ipc.Pipe[int](true)
		require.NoError(t, err)
		require.NoError(t, a.Send(t.Context(), 1))
		_, err = b.Recv(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err = b.Recv(ctx) // there is a goroutine now that watches the other end
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	for ctx := proctest.Within(t); len(proctest.Opened(before)) > 0; {
		require.NoError(t, ctx.Err(), "%v", proctest.Opened(before))
		runtime.GC()
		time.Sleep(time.Millisecond) // between two looks
	}
	require.LessOrEqual(t, mapped(t), maps)
}

var queueSizes = []int{0, 1, 231, 232, 233, 240, 241, 4096, 4097, 64 << 10, 1 << 20, 16<<20 + 5}

func init() {
	role("echo", func(b bag, _ []string) {
		for {
			v, err := b.Bytes.Get(context.Background())
			if err == io.EOF {
				return
			}
			must(err)
			must(b.Bytes2.Put(context.Background(), v))
		}
	})
}

func TestQueueItemsOfAllSizesBetweenProcesses(t *testing.T) { // QUE-06
	ctx := proctest.Within(t)
	there, back := newQueue[[]byte](t, 8), newQueue[[]byte](t, 100)
	require.NoError(t, there.Put(ctx, []byte("before it starts")))
	m := start(t, "echo", bag{Bytes: there, Bytes2: back}, "")
	got, err := back.Get(ctx)
	require.NoError(t, err)
	require.Equal(t, "before it starts", string(got))
	for round := range 3 {
		go func() {
			for i, n := range queueSizes {
				_ = there.Put(ctx, pattern(uint64(i+round), n))
			}
		}()
		for i, n := range queueSizes {
			got, err := back.Get(ctx)
			require.NoError(t, err)
			require.Truef(t, bytes.Equal(pattern(uint64(i+round), n), got), "size %d, got %d", n, len(got))
		}
	}
	require.NoError(t, there.Shutdown())
	m.ends()
}

func TestQueueItemOfAGigabyte(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("it takes some gigabytes")
	}
	q := newQueue[[]byte](t, 2)
	b := make([]byte, 1<<30)
	copy(b[len(b)-8:], "the end.")
	require.NoError(t, q.TryPut(b))
	require.NoError(t, q.TryPut([]byte("next")))
	b[0] = 1
	got, err := q.TryGet()
	require.NoError(t, err)
	require.Len(t, got, 1<<30)
	require.Equal(t, byte(0), got[0])
	require.Equal(t, "the end.", string(got[len(got)-8:]))
	require.Less(t, ipc.QueueMemory(q), int64(40<<20), "the memory has been given back")
	got, err = q.TryGet()
	require.NoError(t, err)
	require.Equal(t, "next", string(got))
}

func TestQueueGivesMemoryBack(t *testing.T) {
	q := newQueue[[]byte](t, 100)
	for range 3 {
		for i := range 100 {
			require.NoError(t, q.TryPut(pattern(uint64(i), 2<<20)))
		}
		require.Greater(t, ipc.QueueMemory(q), int64(200<<20))
		for i := range 100 {
			got, err := q.TryGet()
			require.NoError(t, err)
			require.True(t, bytes.Equal(pattern(uint64(i), 2<<20), got))
		}
		require.Less(t, ipc.QueueMemory(q), int64(64<<20))
	}
}

// ENOSPC and its like cannot be had of memory easily, but a limit on files can: writing
// beyond it is EFBIG.
func TestQueueWithoutMemory(t *testing.T) {
	q := newQueue[[]byte](t, 2)
	ipc.BreakFile(q, func() {
		err := q.TryPut(make([]byte, 10_000))
		require.ErrorContains(t, err, "ipc: queue put: memory for 10000 bytes: ")
		require.ErrorIs(t, err, syscall.EBADF)
		require.Zero(t, q.Len())
	})
	require.NoError(t, q.TryPut(make([]byte, 1000)))
}

// The hammer: producers and consumers in two processes.
const (
	hammerPuts  = 300
	hammerProcs = 16
)

func hammerPut(ctx context.Context, q *ipc.Queue[[]byte], first int) error {
	var wg sync.WaitGroup
	errs := make(chan error, hammerProcs)
	for p := first; p < first+hammerProcs; p++ {
		wg.Go(func() {
			for i := range hammerPuts {
				n := 8
				switch i % 50 {
				case 7:
					n = 300
				case 13:
					n = 20_000
				}
				b := pattern(uint64(p*hammerPuts+i), n)
				b = append([]byte(fmt.Sprintf("%d %d ", p, i)), b...)
				if err := q.Put(ctx, b); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// hammerGet takes until the queue is shut down, and returns how many it has taken.
func hammerGet(ctx context.Context, q *ipc.Queue[[]byte]) (int, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	var failure error
	for range hammerProcs {
		wg.Go(func() {
			last := map[int]int{}
			err := func() error {
				for {
					b, err := q.Get(ctx)
					if err == io.EOF {
						return nil
					}
					if err != nil {
						return err
					}
					fields := bytes.SplitN(b, []byte(" "), 3)
					p, _ := strconv.Atoi(string(fields[0]))
					i, _ := strconv.Atoi(string(fields[1]))
					if !bytes.Equal(fields[2], pattern(uint64(p*hammerPuts+i), len(fields[2]))) {
						return fmt.Errorf("item %d of %d is torn", i, p)
					}
					if seen, ok := last[p]; ok && seen >= i {
						return fmt.Errorf("item %d of %d came after %d", i, p, seen)
					}
					last[p] = i
					mu.Lock()
					total++
					mu.Unlock()
					if err := q.TaskDone(); err != nil {
						return err
					}
				}
			}()
			if err != nil {
				mu.Lock()
				failure = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return total, failure
}

func init() {
	role("hammer", func(b bag, _ []string) {
		ctx := context.Background()
		go func() { must(hammerPut(ctx, b.Bytes, hammerProcs)) }()
		n, err := hammerGet(ctx, b.Bytes)
		must(err)
		say(strconv.Itoa(n))
	})
}

func TestQueueHammer(t *testing.T) {
	for _, capacity := range []int{1, 3, 100} {
		t.Run(fmt.Sprintf("capacity=%d", capacity), func(t *testing.T) {
			ctx := proctest.Within(t)
			q := newQueue[[]byte](t, capacity)
			m := start(t, "hammer", bag{Bytes: q}, "")
			put := make(chan error, 1)
			go func() { put <- hammerPut(ctx, q, 0) }()
			type result struct {
				n   int
				err error
			}
			got := make(chan result, 1)
			go func() {
				n, err := hammerGet(ctx, q)
				got <- result{n, err}
			}()
			require.NoError(t, <-put)
			for q.Len() > 0 || ipc.QueuePuts(q) < 2*hammerProcs*hammerPuts {
				require.NoError(t, ctx.Err())
				time.Sleep(time.Millisecond) // between two looks
			}
			require.NoError(t, q.Join(ctx))
			require.NoError(t, q.Shutdown())
			theirs, err := strconv.Atoi(m.line())
			require.NoError(t, err)
			m.ends()
			ours := <-got
			require.NoError(t, ours.err)
			require.Equal(t, 2*hammerProcs*hammerPuts, ours.n+theirs)
		})
	}
}

// Steps of a Put and of a Get, and whether the item is there afterwards.
var putSteps = []struct {
	step string
	put  bool
}{{"put: locked", false}, {"put: written", false}, {"put: published", true}, {"put: unlocked", true}}

var getSteps = []struct {
	step  string
	taken bool
}{{"get: locked", false}, {"get: copied", false}, {"get: published", true}, {"get: unlocked", true}}

func init() {
	role("put", func(b bag, args []string) {
		n := get(strconv.Atoi(args[0]))
		for i := uint64(0); ; i++ {
			must(b.Bytes.Put(context.Background(), pattern(i, n)))
			say(strconv.FormatUint(i, 10))
		}
	})
	role("get", func(b bag, args []string) {
		n := get(strconv.Atoi(args[0]))
		for i := uint64(0); ; i++ {
			if !bytes.Equal(get(b.Bytes.Get(context.Background())), pattern(i, n)) {
				panic("a wrong item")
			}
		}
	})
}

var crashSizes = []int{8, 1000, 5000, 3 << 20}

func TestPutterKilledAtEachStep(t *testing.T) {
	for _, tc := range putSteps {
		for _, n := range crashSizes {
			for _, waiting := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/bytes=%d/waiting=%t", tc.step, n, waiting), func(t *testing.T) {
					ctx := proctest.Within(t)
					q := newQueue[[]byte](t, 8)
					var taken [][]byte
					var getting <-chan error
					get := func() error {
						v, err := q.Get(ctx)
						taken = append(taken, v)
						return err
					}
					if waiting {
						getting = waits(t, func() error { return errors.Join(get(), get(), get()) })
					}
					m := start(t, "put", bag{Bytes: q}, tc.step+"#3", strconv.Itoa(n))
					m.killed()
					want := 2
					if tc.put {
						want = 3
					}
					if waiting {
						if !tc.put {
							require.NoError(t, q.Put(ctx, pattern(2, n)))
						}
						require.NoError(t, <-getting)
						want = 3
					} else {
						require.Equal(t, want, q.Len())
						for range want {
							require.NoError(t, get())
						}
					}
					require.Len(t, taken, want)
					for i, b := range taken {
						require.True(t, bytes.Equal(pattern(uint64(i), n), b))
					}
					_, err := q.TryGet()
					require.ErrorIs(t, err, ipc.ErrEmpty)
					fillAndEmpty(t, q, n)
				})
			}
		}
	}
}

// fillAndEmpty sees whether an empty queue works.
func fillAndEmpty(t *testing.T, q *ipc.Queue[[]byte], n int) {
	t.Helper()
	for range 2 {
		for i := range q.Cap() {
			require.NoError(t, q.TryPut(pattern(uint64(i), n)))
		}
		require.ErrorIs(t, q.TryPut(nil), ipc.ErrFull)
		for i := range q.Cap() {
			b, err := q.TryGet()
			require.NoError(t, err)
			require.True(t, bytes.Equal(pattern(uint64(i), n), b))
		}
	}
}

func TestTakerKilledAtEachStep(t *testing.T) {
	for _, tc := range getSteps {
		for _, n := range crashSizes {
			for _, waiting := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/bytes=%d/waiting=%t", tc.step, n, waiting), func(t *testing.T) {
					ctx := proctest.Within(t)
					q := newQueue[[]byte](t, 5)
					for i := range 5 {
						require.NoError(t, q.TryPut(pattern(uint64(i), n)))
					}
					m := start(t, "get", bag{Bytes: q}, tc.step+"#3", strconv.Itoa(n))
					if waiting {
						// One waits for the third room, which there is if the third was taken.
						for i := range 2 {
							require.NoError(t, q.Put(ctx, pattern(uint64(5+i), n)))
						}
						putting := make(chan error, 1)
						go func() { putting <- q.Put(ctx, pattern(7, n)) }()
						m.killed()
						if tc.taken {
							require.NoError(t, <-putting)
						}
						first := 2
						if tc.taken {
							first = 3
						}
						for i := first; i < 8; i++ {
							b, err := q.Get(ctx)
							require.NoError(t, err)
							require.Truef(t, bytes.Equal(pattern(uint64(i), n), b), "item %d", i)
						}
						if !tc.taken {
							require.NoError(t, <-putting)
						}
					} else {
						m.killed()
						first := 2
						if tc.taken {
							first = 3
						}
						require.Equal(t, 5-first, q.Len())
						for i := first; i < 5; i++ {
							b, err := q.TryGet()
							require.NoError(t, err)
							require.True(t, bytes.Equal(pattern(uint64(i), n), b))
						}
					}
					_, err := q.TryGet()
					require.ErrorIs(t, err, ipc.ErrEmpty)
					fillAndEmpty(t, q, n)
				})
			}
		}
	}
}

func init() {
	role("once", func(b bag, args []string) {
		if args[0] == "put" {
			must(b.Ints.Put(context.Background(), 1))
		} else {
			get(b.Ints.Get(context.Background()))
		}
		heard("end") // its death would be heard of, too
	})
}

// Who comes while somebody else is at it hears of it when that one is through.
func TestQueueWhileSomebodyIsAtIt(t *testing.T) {
	for _, tc := range []struct {
		what string
		do   func(context.Context, *ipc.Queue[int]) error
		try  func(*ipc.Queue[int]) error
	}{
		{"put", func(ctx context.Context, q *ipc.Queue[int]) error { return q.Put(ctx, 2) }, func(q *ipc.Queue[int]) error { return q.TryPut(2) }},
		{"get", func(ctx context.Context, q *ipc.Queue[int]) error { _, err := q.Get(ctx); return err }, func(q *ipc.Queue[int]) error { _, err := q.TryGet(); return err }},
	} {
		for _, how := range []string{"waits", "tries", "under a ctx that has ended"} {
			t.Run(tc.what+"/"+how, func(t *testing.T) {
				q := newQueue[int](t, 4)
				for range 2 {
					require.NoError(t, q.TryPut(0))
				}
				m := start(t, "once", bag{Ints: q}, "stop at "+tc.what+": locked", tc.what)
				m.stopped()
				short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				require.ErrorIs(t, tc.do(short, q), context.DeadlineExceeded)
				cancel()
				waiting := waits(t, func() error {
					switch how {
					case "waits":
						return tc.do(proctest.Within(t), q)
					case "tries":
						return tc.try(q)
					}
					return tc.do(ended(), q)
				})
				m.goOn()
				require.NoError(t, <-waiting)
				m.tell("end")
				m.ends()
			})
		}
	}
}

func TestQueueOutlivesItsPutters(t *testing.T) { // QUE-19
	q := newQueue[[]byte](t, 3)
	m := start(t, "put", bag{Bytes: q}, "", "1000000")
	for range 3 {
		m.line()
	}
	m.kill()
	for i := range uint64(3) {
		b, err := q.TryGet()
		require.NoError(t, err)
		require.True(t, bytes.Equal(pattern(i, 1_000_000), b))
	}
	_, err := q.TryGet()
	require.ErrorIs(t, err, ipc.ErrEmpty)
}

// killing calls fn with a round number 300 times, or for as long as FUTURES_STRESS says.
func killing(t *testing.T, fn func(round int)) {
	rounds, until := 300, time.Time{}
	if testing.Short() || raceEnabled {
		rounds = 40
	}
	if s := os.Getenv("FUTURES_STRESS"); s != "" {
		d, err := time.ParseDuration(s)
		require.NoError(t, err, "FUTURES_STRESS")
		until = time.Now().Add(d)
	}
	for i := 0; i < rounds || time.Now().Before(until); i++ {
		fn(i)
	}
}

func init() {
	// Items of a producer: its number, the item's, and something after it.
	role("produce", func(b bag, args []string) {
		id := args[0]
		for i := 0; ; i++ {
			n := []int{0, 100, 500, 10_000, 300_000}[i%5]
			item := append([]byte(fmt.Sprintf("%s %d ", id, i)), pattern(uint64(i), n)...)
			must(b.Bytes.Put(context.Background(), item))
			if i == 0 {
				say("on")
			}
		}
	})
	role("consume", func(b bag, _ []string) {
		say("on")
		for {
			must(b.Bytes2.Put(context.Background(), get(b.Bytes.Get(context.Background()))))
		}
	})
}

func TestQueueOfManyKilledPutters(t *testing.T) {
	ctx := proctest.Within(t)
	q := newQueue[[]byte](t, 7)
	next := map[string]int{}
	stop := make(chan struct{})
	taken := make(chan error, 1)
	go func() {
		for {
			b, err := q.Get(ctx)
			if err == io.EOF {
				taken <- nil
				return
			}
			if err != nil {
				taken <- err
				return
			}
			fields := bytes.SplitN(b, []byte(" "), 3)
			i, _ := strconv.Atoi(string(fields[1]))
			id := string(fields[0])
			if next[id] != i || !bytes.Equal(fields[2], pattern(uint64(i), len(fields[2]))) {
				taken <- fmt.Errorf("producer %s: item %d where %d should be, or torn", id, i, next[id])
				return
			}
			next[id]++
		}
	}()
	killing(t, func(round int) {
		m := start(t, "produce", bag{Bytes: q}, "", strconv.Itoa(round))
		m.line()
		time.Sleep(time.Duration(round%37) * 50 * time.Microsecond) // any moment
		m.kill()
		require.Empty(t, taken)
	})
	close(stop)
	require.NoError(t, q.Shutdown())
	require.NoError(t, <-taken)
}

func TestQueueOfManyKilledTakers(t *testing.T) {
	ctx := proctest.Within(t)
	q, back := newQueue[[]byte](t, 7), newQueue[[]byte](t, 7)
	put := make(chan int, 1)
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		i := 0
		for ; ; i++ {
			n := []int{0, 100, 500, 10_000, 300_000}[i%5]
			if q.Put(stop, append([]byte(fmt.Sprintf("x %d ", i)), pattern(uint64(i), n)...)) != nil {
				break
			}
		}
		put <- i
	}()
	var seen []int
	checked := make(chan error, 1)
	go func() {
		for {
			b, err := back.Get(ctx)
			if err == io.EOF {
				checked <- nil
				return
			}
			if err != nil {
				checked <- err
				return
			}
			fields := bytes.SplitN(b, []byte(" "), 3)
			i, _ := strconv.Atoi(string(fields[1]))
			if !bytes.Equal(fields[2], pattern(uint64(i), len(fields[2]))) {
				checked <- fmt.Errorf("item %d is torn", i)
				return
			}
			seen = append(seen, i)
		}
	}()
	kills := 0
	killing(t, func(round int) {
		m := start(t, "consume", bag{Bytes: q, Bytes2: back}, "")
		m.line()
		time.Sleep(time.Duration(round%37) * 50 * time.Microsecond) // any moment
		m.kill()
		kills++
		require.Empty(t, checked)
	})
	cancel()
	total := <-put
	for {
		b, err := q.TryGet()
		if errors.Is(err, ipc.ErrEmpty) {
			break
		}
		require.NoError(t, err)
		require.NoError(t, back.Put(ctx, b))
	}
	require.NoError(t, back.Shutdown())
	require.NoError(t, <-checked)
	require.True(t, slices.IsSorted(seen))
	require.Len(t, slices.Compact(slices.Clone(seen)), len(seen), "none twice")
	require.GreaterOrEqual(t, len(seen), total-kills, "each killed taker takes one along at most")
	require.Positive(t, len(seen))
}

func TestNoQueueOfAnotherType(t *testing.T) {
	ints := newQueue[int](t, 1)
	_, err := ipc.OpenAs[string](ints)
	require.ErrorContains(t, err, "it was made for another type")
}

func TestManyWaitWithoutAThreadEach(t *testing.T) {
	ctx := proctest.Within(t)
	q := newQueue[int](t, 1)
	var wg sync.WaitGroup
	const waiters = 1000
	sum := make(chan int, waiters)
	for range waiters {
		wg.Go(func() {
			v, err := q.Get(ctx)
			if err == nil {
				sum <- v
			}
		})
	}
	proctest.Blocked(t, waiters, "ipc.(*Queue[")
	threads, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	require.Less(t, len(threads), 100)
	for i := range waiters {
		require.NoError(t, q.Put(ctx, i))
	}
	wg.Wait()
	close(sum)
	total := 0
	for v := range sum {
		total += v
	}
	require.Equal(t, waiters*(waiters-1)/2, total)
}
