package ipc_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
	"example.com/futures/ipc"
)

func newValue[T any](t testing.TB, x T) *ipc.Value[T] {
	t.Helper()
	v, err := ipc.NewValue(x)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

// A point is a value with padding, a record one of more than a word (VAL-07).
type (
	point struct {
		x int8
		y int32
	}
	record struct {
		N    int32
		X    float64
		Big  int64
		Name [16]byte
		Len  int8
	}
)

// A child writes a value of each of some types, and the parent sees it.
func init() {
	role("value-bool", stores(true))
	role("value-char", stores(byte('y')))
	role("value-short", stores(int16(-32768)))
	role("value-int32", stores(int32(math.MinInt32)))
	role("value-int", stores(-(1 << 40)))
	role("value-uint64", stores(uint64(math.MaxUint64)))
	role("value-float64", stores(-3.5))
	role("value-complex128", stores(complex(1, -2)))
	role("value-point", stores(point{-1, -2}))
	role("value-record", func(v *ipc.Value[record], _ []string) {
		must(v.Update(bg, func(r *record) {
			r.N, r.X, r.Big = 2*r.N, 2*r.X, 2*r.Big
			r.Len = int8(copy(r.Name[:], "child"))
		}))
		say("written")
	})
	role("value-hammer", func(vs hammered, _ []string) {
		say("ready")
		must(hammer(uint64(os.Getpid())<<32, vs, func() bool { return !stopping() }))
		say("done")
	})
	role("value-count", func(vs counters, _ []string) {
		must(vs.count())
		say("done")
	})
	role("value-hold", func(v *ipc.Value[int], _ []string) {
		must(v.Update(bg, func(n *int) {
			*n = 99
			say("held")
			<-stopped
		}))
		say("done")
	})
}

func stores[T any](x T) func(*ipc.Value[T], []string) {
	return func(v *ipc.Value[T], _ []string) {
		v.Store(x)
		say("written")
	}
}

func testValue[T comparable](name string, initial, written T) func(*testing.T) {
	return func(t *testing.T) {
		v := newValue(t, initial)
		require.Equal(t, initial, v.Load())
		c := start(t, "value-"+name, v, "")
		c.hear("written")
		require.Equal(t, written, v.Load())
		require.False(t, v.CompareAndSwap(initial, initial))
		require.True(t, v.CompareAndSwap(written, initial))
		require.Equal(t, initial, v.Load())
	}
}

// VAL-01, VAL-02.
func TestValueAcrossProcesses(t *testing.T) {
	t.Run("bool", testValue("bool", false, true))
	t.Run("char", testValue("char", byte('x'), byte('y')))
	t.Run("short", testValue("short", int16(32767), int16(-32768)))
	t.Run("int32", testValue("int32", int32(7), int32(math.MinInt32)))
	t.Run("int", testValue("int", 7, -(1<<40)))
	t.Run("uint64", testValue("uint64", uint64(1<<33), uint64(math.MaxUint64)))
	t.Run("float64", testValue("float64", 1.5, -3.5))
	t.Run("complex128", testValue("complex128", 1+1i, complex(1, -2)))
	t.Run("point", testValue("point", point{1, 2}, point{-1, -2}))
}

// VAL-07.
func TestValueOfAStruct(t *testing.T) {
	r := record{N: 2, X: 2.5, Big: 1 << 33, Len: 2}
	copy(r.Name[:], "hello")
	v := newValue(t, r)
	require.Equal(t, r, v.Load())
	c := start(t, "value-record", v, "")
	c.hear("written")
	got := v.Load()
	require.Equal(t, "child", string(got.Name[:got.Len]))
	require.Equal(t, [3]any{int32(4), 5.0, int64(1 << 34)}, [3]any{got.N, got.X, got.Big})
}

// VAL-08: what Load returns, and what Update has handed over, is a copy.
func TestValueLoadIsACopy(t *testing.T) {
	v := newValue(t, record{N: 1})
	r := v.Load()
	r.N = 2
	require.Equal(t, int32(1), v.Load().N)
	v.Store(r)
	r.N = 3
	require.Equal(t, int32(2), v.Load().N)
}

func TestValueOfNothing(t *testing.T) {
	v := newValue(t, struct{}{})
	require.Equal(t, struct{}{}, v.Load())
	v.Store(struct{}{})
	require.True(t, v.CompareAndSwap(struct{}{}, struct{}{}))
	require.NoError(t, v.Update(t.Context(), func(*struct{}) {}))
}

// dirty returns x with all of its padding set.
func dirty[T any](x T, padding ...int) T {
	for _, i := range padding {
		*(*byte)(unsafe.Add(unsafe.Pointer(&x), i)) = 0xaa
	}
	return x
}

func TestValueCompareAndSwapLeavesOutPadding(t *testing.T) {
	t.Run("word", func(t *testing.T) {
		v := newValue(t, dirty(point{1, 2}, 1, 2, 3))
		require.True(t, v.CompareAndSwap(dirty(point{1, 2}, 2), dirty(point{3, 4}, 1, 3)))
		require.True(t, v.CompareAndSwap(point{3, 4}, point{5, 6}))
		v.Store(dirty(point{7, 8}, 1))
		require.True(t, v.CompareAndSwap(point{7, 8}, point{}))
	})
	t.Run("blank field", func(t *testing.T) {
		type blank struct {
			a uint8
			_ uint8
			b uint8
		}
		v := newValue(t, dirty(blank{a: 1, b: 2}, 1))
		require.True(t, v.CompareAndSwap(blank{a: 1, b: 2}, blank{a: 2}))
		require.Equal(t, blank{a: 2}, v.Load())
	})
	t.Run("longer", func(t *testing.T) {
		type long struct {
			p [3]point
			n int64
			b bool
		}
		x := long{[3]point{{1, 2}, {3, 4}, {5, 6}}, 7, true}
		v := newValue(t, dirty(x, 1, 11, 18, 33, 39))
		require.False(t, v.CompareAndSwap(long{}, long{}))
		require.True(t, v.CompareAndSwap(dirty(x, 2, 10), dirty(x, 3, 9, 34)))
		require.True(t, v.CompareAndSwap(x, long{}))
		require.Equal(t, long{}, v.Load())
	})
	t.Run("bit for bit", func(t *testing.T) {
		v := newValue(t, math.NaN())
		require.True(t, v.CompareAndSwap(math.NaN(), 0))
		require.False(t, v.CompareAndSwap(math.Copysign(0, -1), 1))
	})
}

func testAdd[T ipc.Integer](t *testing.T, low, high T) {
	t.Run(fmt.Sprintf("%T", low), func(t *testing.T) {
		v := newValue(t, high)
		require.Equal(t, low, ipc.Add(v, 1))
		require.Equal(t, low, v.Load())
		require.True(t, v.CompareAndSwap(low, low))
		require.Equal(t, high, ipc.Add(v, ^T(0))) // minus one
		require.True(t, v.CompareAndSwap(high, 5))
		require.Equal(t, T(3), ipc.Add(v, ^T(0)-1))
	})
}

type level int16

func TestAdd(t *testing.T) {
	testAdd[int8](t, math.MinInt8, math.MaxInt8)
	testAdd[int16](t, math.MinInt16, math.MaxInt16)
	testAdd[level](t, math.MinInt16, math.MaxInt16)
	testAdd[int32](t, math.MinInt32, math.MaxInt32)
	testAdd[int64](t, math.MinInt64, math.MaxInt64)
	testAdd(t, math.MinInt, math.MaxInt)
	testAdd[time.Duration](t, math.MinInt64, math.MaxInt64)
	testAdd[uint8](t, 0, math.MaxUint8)
	testAdd[uint16](t, 0, math.MaxUint16)
	testAdd[uint32](t, 0, math.MaxUint32)
	testAdd[uint64](t, 0, math.MaxUint64)
	testAdd[uint](t, 0, math.MaxUint)
	testAdd[uintptr](t, 0, math.MaxUint)
}

const counts = 5_000

type counters struct {
	N    *ipc.Value[int8]
	Wide *ipc.Value[uint32]
	Long *ipc.Value[record]
}

func (vs counters) count() error {
	n, wide, long := vs.N, vs.Wide, vs.Long
	for i := range counts {
		ipc.Add(n, 1)
		if i%2 == 0 {
			ipc.Add(wide, 1)
		} else if err := wide.Update(context.Background(), func(x *uint32) { *x++ }); err != nil {
			return err
		}
		if i%3 > 0 {
			if err := long.Update(context.Background(), func(r *record) { r.Big++ }); err != nil {
				return err
			}
			continue
		}
		for {
			r := long.Load()
			next := r
			next.Big++
			if long.CompareAndSwap(r, next) {
				break
			}
		}
	}
	return nil
}

// Nothing is lost, whoever counts by which means.
func TestValueCounts(t *testing.T) {
	vs := counters{newValue(t, int8(0)), newValue(t, uint32(0)), newValue(t, record{})}
	c := start(t, "value-count", vs, "")
	var g sync.WaitGroup
	for range 2 {
		g.Go(func() { assert.NoError(t, vs.count()) })
	}
	g.Wait()
	c.hear("done")
	sum := 3 * counts
	require.Equal(t, int8(sum), vs.N.Load())
	require.Equal(t, uint32(3*counts), vs.Wide.Load())
	require.Equal(t, int64(3*counts), vs.Long.Load().Big)
}

// A checked value is of more than a page, and tells whether it is whole.
type checked [1250]uint64

func newChecked(seed uint64) (c checked) {
	c.fill(seed)
	return c
}

func (c *checked) fill(seed uint64) {
	c[0] = seed
	sum := seed
	for i := 1; i < len(c)-1; i++ {
		seed = seed*6364136223846793005 + 1442695040888963407
		c[i] = seed
		sum += seed
	}
	c[len(c)-1] = sum
}

func (c *checked) whole() bool {
	other := newChecked(c[0])
	return other == *c
}

type hammered struct {
	Long  *ipc.Value[checked]
	Short *ipc.Value[[2]int32]
}

// hammer stores, updates and loads, for as long as more says so, and errs when it sees half a
// value.
func hammer(seed uint64, vs hammered, more func() bool) error {
	v, small := vs.Long, vs.Short
	for i := uint64(0); more(); i++ {
		switch i % 4 {
		case 0:
			v.Store(newChecked(seed + i))
		case 1:
			torn := false
			err := v.Update(context.Background(), func(c *checked) {
				torn = torn || !c.whole()
				c.fill(c[0] + 1)
			})
			if err != nil || torn {
				return fmt.Errorf("update: torn %v, %w", torn, err)
			}
		case 2:
			old := v.Load()
			v.CompareAndSwap(old, newChecked(old[0]+1))
		}
		for range 3 {
			if c := v.Load(); !c.whole() {
				return fmt.Errorf("load: half a value, of %#x", c[0])
			}
			small.Store([2]int32{int32(i), ^int32(i)})
			if s := small.Load(); s[0] != ^s[1] {
				return fmt.Errorf("load: half a value, %v", s)
			}
		}
	}
	return nil
}

func TestValueIsWhole(t *testing.T) {
	vs := hammered{newValue(t, newChecked(1)), newValue(t, [2]int32{0, -1})}
	c := start(t, "value-hammer", vs, "")
	c.hear("ready")
	end := time.Now().Add(stressTime(t))
	more := func() bool { return time.Now().Before(end) }
	var g sync.WaitGroup
	for i := range uint64(2) {
		g.Go(func() { assert.NoError(t, hammer(i<<48, vs, more)) })
	}
	other := again(t, vs)
	g.Go(func() { assert.NoError(t, hammer(1<<62, other, more)) })
	g.Wait()
	require.NoError(t, other.Long.Close())
	require.NoError(t, other.Short.Close())
	c.tell("stop")
	c.hear("done")
}

// A reader that is overtaken each time keeps writers off in the end.
func TestValueLoadOvertaken(t *testing.T) {
	v := newValue(t, newChecked(1))
	for _, c := range []struct{ stores, copies int }{{2, 1}, {3, 16}} {
		n := uint64(0)
		copies := 0
		segment.SetStep(func(name string) {
			if name != "load: copied" {
				return
			}
			copies++
			for range c.stores {
				n++
				v.Store(newChecked(n))
			}
		})
		got := v.Load()
		segment.SetStep(nil)
		require.True(t, got.whole())
		require.Equal(t, c.copies, copies)
	}
	require.NoError(t, v.Update(proctest.Within(t), func(c *checked) { c.fill(5) }))
}

func TestValueUpdateRunsAgain(t *testing.T) {
	t.Run("word", func(t *testing.T) {
		v := newValue(t, 1)
		runs := 0
		require.NoError(t, v.Update(t.Context(), func(n *int) {
			switch runs++; runs {
			case 1:
				v.Store(10)
			case 2:
				ipc.Add(v, 10)
			case 3:
				require.True(t, v.CompareAndSwap(20, 30))
			}
			*n++
		}))
		require.Equal(t, []int{4, 31}, []int{runs, v.Load()})
	})
	t.Run("longer", func(t *testing.T) {
		v := newValue(t, record{Big: 1})
		runs := 0
		require.NoError(t, v.Update(t.Context(), func(r *record) {
			switch runs++; runs {
			case 1:
				v.Store(record{Big: 10, X: 1})
			case 2:
				require.True(t, v.CompareAndSwap(record{Big: 10, X: 1}, record{Big: 20, X: 2}))
			}
			r.Big++
		}))
		require.Equal(t, 3, runs)
		require.Equal(t, record{Big: 21, X: 2}, v.Load())
	})
	t.Run("not once ctx has ended", func(t *testing.T) {
		v := newValue(t, 1)
		ctx, cancel := context.WithCancel(t.Context())
		err := v.Update(ctx, func(n *int) {
			cancel()
			v.Store(5)
			*n = 9
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 5, v.Load())
	})
}

func TestValueUpdateWaits(t *testing.T) {
	v := newValue(t, 1)
	c := start(t, "value-hold", v, "")
	c.hear("held")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	never := func(*int) { t.Error("fn runs, though the lock is held") }
	err := v.Update(ctx, never)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualError(t, err, "ipc: update of a Value: context deadline exceeded")
	require.ErrorIs(t, v.Update(ctx, never), context.DeadlineExceeded)
	require.Equal(t, 1, v.Load())
	require.Equal(t, 3, ipc.Add(v, 2), "without the lock")

	// Close wakes who waits.
	other := again(t, v)
	got := make(chan error)
	go func() { got <- other.Update(context.Background(), never) }()
	proctest.Blocked(t, 1, "ipc.(*Value[")
	require.NoError(t, other.Close())
	require.ErrorIs(t, <-got, ipc.ErrClosed)

	c.tell("stop")
	require.NoError(t, v.Update(proctest.Within(t), func(n *int) { *n++ }))
	c.hear("held")
	c.hear("done")
	require.Equal(t, 100, v.Load())
}

func TestValueHolderKilled(t *testing.T) {
	v := newValue(t, 1)
	for range 2 {
		c := start(t, "value-hold", v, "")
		c.hear("held")
		got := make(chan error)
		go func() { got <- v.Update(proctest.Within(t), func(n *int) { *n++ }) }()
		require.NoError(t, c.cmd.Process.Kill())
		require.NoError(t, <-got)

		c = start(t, "value-hold", v, "")
		c.hear("held")
		require.NoError(t, c.cmd.Process.Kill())
		proctest.AwaitGone(t, c.cmd.Process.Pid)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, v.Update(ended, func(n *int) { *n++ }), "the lock is free: nothing to wait for")
	}
	require.Equal(t, 5, v.Load())
}

func TestValueUpdatePanics(t *testing.T) {
	v, long := newValue(t, 1), newValue(t, record{N: 1})
	require.PanicsWithValue(t, "oops", func() {
		_ = v.Update(t.Context(), func(n *int) { *n = 2; panic("oops") })
	})
	require.PanicsWithValue(t, "oops", func() {
		_ = long.Update(t.Context(), func(r *record) { r.N = 2; panic("oops") })
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = v.Update(t.Context(), func(n *int) { *n = 3; runtime.Goexit() })
	}()
	<-done
	require.Equal(t, 1, v.Load())
	require.Equal(t, int32(1), long.Load().N)
	require.NoError(t, v.Update(proctest.Within(t), func(n *int) { *n++ }))
	require.NoError(t, long.Update(proctest.Within(t), func(r *record) { r.N++ }))
	require.Equal(t, 2, v.Load())
	require.Equal(t, int32(2), long.Load().N)
	require.Panics(t, func() { _ = v.Update(t.Context(), nil) })
}

func TestValueClosed(t *testing.T) {
	closed, err := ipc.NewValue(1)
	require.NoError(t, err)
	keeps := again(t, closed)
	defer keeps.Close()
	require.NoError(t, closed.Close())
	require.NoError(t, closed.Close())
	for name, v := range map[string]*ipc.Value[int]{"closed": closed, "zero": new(ipc.Value[int])} {
		t.Run(name, func(t *testing.T) {
			require.PanicsWithError(t, ipc.ErrClosed.Error(), func() { v.Load() })
			require.PanicsWithError(t, ipc.ErrClosed.Error(), func() { v.Store(1) })
			require.PanicsWithError(t, ipc.ErrClosed.Error(), func() { v.CompareAndSwap(1, 2) })
			require.PanicsWithError(t, ipc.ErrClosed.Error(), func() { ipc.Add(v, 2) })
			require.ErrorIs(t, v.Update(t.Context(), func(*int) { t.Error("fn runs") }), ipc.ErrClosed)
			_, err := v.Export()
			require.ErrorIs(t, err, ipc.ErrClosed)
			require.NoError(t, v.Close())
		})
	}
	keeps.Store(3)
	require.Equal(t, 3, keeps.Load())

	// A function that runs while its Value is closed is not disturbed.
	long, err := ipc.NewValue(record{})
	require.NoError(t, err)
	other := again(t, long)
	defer other.Close()
	require.NoError(t, long.Update(t.Context(), func(r *record) {
		require.NoError(t, long.Close())
		r.N = 5
	}))
	require.Equal(t, int32(5), other.Load().N)
}

func TestValueEncoding(t *testing.T) {
	v := newValue(t, 1)
	_, err := v.GobEncode()
	require.ErrorIs(t, err, executor.ErrNotPortable)
	require.ErrorIs(t, gob.NewEncoder(new(bytes.Buffer)).Encode(v), executor.ErrNotPortable)
	_, err = new(ipc.Value[int]).GobEncode()
	require.ErrorIs(t, err, executor.ErrNotPortable)

	id := v.CarryID()
	require.ErrorIs(t, new(ipc.Value[int]).GobDecode(id[:]), executor.ErrNotPortable, "without descriptors")
	require.Error(t, new(ipc.Value[int]).GobDecode(nil))

	// All the way.
	fds, err := v.Export()
	require.NoError(t, err)
	var buf bytes.Buffer
	require.NoError(t, gob.NewEncoder(&buf).Encode(v))
	v.Exported()
	l := &carry.Load{Items: []carry.Item{{ID: id, FDs: fds}}}
	l.Arrive()
	got := new(ipc.Value[int])
	require.NoError(t, gob.NewDecoder(&buf).Decode(got))
	l.Settle()
	got.Store(2)
	require.Equal(t, 2, v.Load())
	require.NoError(t, got.Close())

	// What is of another type, or of another kind.
	for name, r := range map[string]gob.GobDecoder{
		"another number": new(ipc.Value[uint]),
		"a longer value": new(ipc.Value[record]),
		"other names":    new(ipc.Value[struct{ n int }]),
		"an array":       new(ipc.Array[int]),
		"no fixed type":  new(ipc.Value[string]),
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, decodeAs(t, r, v))
		})
	}
}

// After Close nothing is left, without any help of the garbage collector's.
func TestValueAndArrayLeaveNothing(t *testing.T) {
	before, maps := proctest.Descriptors(), mapped(t)
	for range 20 {
		v, err := ipc.NewValue(record{})
		require.NoError(t, err)
		other := again(t, v)
		a, err := ipc.NewArray[int](10_000)
		require.NoError(t, err)
		a.Slice()[7] = 1
		require.NoError(t, v.Update(t.Context(), func(*record) {}))
		for _, h := range []interface{ Close() error }{v, other, a} {
			require.NoError(t, h.Close())
		}
	}
	require.Empty(t, proctest.Opened(before))
	require.Equal(t, maps, mapped(t))
}

// A handle that is dropped is collected, and its memory with it.
func TestValueAndArrayDropped(t *testing.T) {
	before, maps := proctest.Descriptors(), mapped(t)
	for range 5 {
		v, err := ipc.NewValue(record{})
		require.NoError(t, err)
		a, err := ipc.NewArray[int](10_000)
		require.NoError(t, err)
		v.Store(record{N: int32(a.At(1))})
	}
	for ctx := proctest.Within(t); mapped(t) > maps || len(proctest.Opened(before)) > 0; {
		require.NoError(t, ctx.Err())
		runtime.GC()
		time.Sleep(time.Millisecond) // cleanups run on another goroutine
	}
}

func TestValueDoesNotAllocate(t *testing.T) {
	v, long := newValue(t, 1), newValue(t, page{})
	a, err := ipc.NewArray[int](4)
	require.NoError(t, err)
	defer a.Close()
	ctx := t.Context()
	for name, f := range map[string]func(){
		"Load":         func() { v.Load(); long.Load() },
		"Store":        func() { v.Store(1); long.Store(page{}) },
		"Add":          func() { ipc.Add(v, 1) },
		"CAS":          func() { v.CompareAndSwap(1, 1); long.CompareAndSwap(page{}, page{}) },
		"Update":       func() { _ = v.Update(ctx, func(n *int) { *n++ }); _ = long.Update(ctx, func(p *page) { p[1]++ }) },
		"At and Set":   func() { a.Set(1, a.At(2)) },
		"Array.Update": func() { _ = a.Update(ctx, func(s []int) { s[0]++ }) },
	} {
		require.Zero(t, testing.AllocsPerRun(100, f), name)
	}
}
