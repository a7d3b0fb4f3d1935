package ipc_test

import (
	"context"
	"encoding/gob"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"
)

func newArray[T any](t testing.TB, values ...T) *ipc.Array[T] {
	t.Helper()
	a, err := ipc.ArrayOf(values)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func init() {
	role("array-sum", func(a *ipc.Array[int32], _ []string) {
		must(a.Update(bg, func(s []int32) {
			for i := range s[1:] {
				s[i+1] += s[i]
			}
		}))
		say("done")
	})
	role("array-set", func(as setting, _ []string) {
		say("ready")
		must(setArrays(1, as, func() bool { return !stopping() }))
		say("done")
	})
	role("array-hold", func(a *ipc.Array[int32], _ []string) {
		must(a.Update(bg, func(s []int32) {
			s[0] = 99
			say("held")
			<-stopped
		}))
		say("done")
	})
}

// VAL-04.
func TestArrayAcrossProcesses(t *testing.T) {
	a := newArray[int32](t, 680, 626, 934, 821, 150, 233)
	require.Equal(t, 6, a.Len())
	require.Equal(t, int32(821), a.At(3))
	a.Set(3, 822)
	c := start(t, "array-sum", a, "")
	c.hear("done")
	require.Equal(t, []int32{680, 1306, 2240, 3062, 3212, 3445}, a.Slice())
	copy(a.Slice()[2:4], []int32{1, 2})
	require.NoError(t, a.Update(t.Context(), func(s []int32) {
		require.Equal(t, []int32{1306, 1, 2, 3212}, s[1:5])
	}))
}

// VAL-05: the memory of arrays that were closed is not seen again.
func TestArrayIsZero(t *testing.T) {
	for range 10 {
		a, err := ipc.NewArray[uint64](10_000)
		require.NoError(t, err)
		require.Equal(t, make([]uint64, 10_000), a.Slice())
		for i := range a.Slice() {
			a.Slice()[i] = math.MaxUint64
		}
		require.NoError(t, a.Close())
	}
}

func TestArrayOfIsACopy(t *testing.T) {
	values := []point{{1, 2}, {3, 4}}
	a := newArray(t, values...)
	values[0].x = 9
	require.Equal(t, point{1, 2}, a.At(0))
	p := a.At(1)
	p.y = 9
	require.Equal(t, point{3, 4}, a.At(1))
	a.Set(1, p)
	require.Equal(t, point{3, 9}, a.At(1))
}

func testSmall[T interface {
	~int8 | ~int16 | ~uint16 | ~int32 | ~float64
}](t *testing.T) {
	var zero T
	t.Run(fmt.Sprintf("%T", zero), func(t *testing.T) {
		a, err := ipc.NewArray[T](21)
		require.NoError(t, err)
		defer a.Close()
		want := make([]T, 21)
		for _, k := range []int{3, 5, 7} {
			for i := 0; i < 21; i += k {
				a.Set(i, T(k))
				want[i] = T(k)
				require.Equal(t, T(k), a.At(i))
				require.Equal(t, want, a.Slice())
			}
		}
		require.Zero(t, uintptr(unsafe.Pointer(&a.Slice()[0]))%64)
		require.Equal(t, 21, cap(a.Slice()))
	})
}

func TestArrayElements(t *testing.T) {
	testSmall[int8](t)
	testSmall[uint16](t)
	testSmall[level](t)
	testSmall[int32](t)
	testSmall[float64](t)
	b := newArray(t, true, false, true)
	b.Set(1, true)
	b.Set(0, false)
	require.Equal(t, []bool{false, true, true}, b.Slice())
	c := newArray[complex64](t, 1, 2+1i)
	c.Set(1, 3-1i)
	require.Equal(t, complex64(3-1i), c.At(1))
	d := newArray(t, 1, 2+1i, 3)
	d.Set(1, 3-1i)
	require.Equal(t, []complex128{1, 3 - 1i, 3}, []complex128{d.At(0), d.At(1), d.At(2)})
	n := newArray(t, struct{}{}, struct{}{})
	require.Equal(t, 2, n.Len())
	n.Set(1, n.At(0))
}

func TestArraySizes(t *testing.T) {
	a, err := ipc.NewArray[int](0)
	require.NoError(t, err)
	require.Zero(t, a.Len())
	require.Empty(t, a.Slice())
	require.NoError(t, a.Update(t.Context(), func(s []int) { require.Empty(t, s) }))
	require.NoError(t, a.Close())

	_, err = ipc.NewArray[int](-1)
	require.EqualError(t, err, "ipc: new Array: it cannot have -1 elements")
	_, err = ipc.NewArray[int](math.MaxInt)
	require.EqualError(t, err, "ipc: new Array: it cannot have 9223372036854775807 elements of 8 bytes")
	_, err = ipc.NewArray[int](1 << 61)
	require.EqualError(t, err, "ipc: new Array: it cannot have 2305843009213693952 elements of 8 bytes")
	_, err = ipc.NewArray[byte](1<<62 - 1)
	require.ErrorContains(t, err, "new Array of 4611686018427387903 elements")
	_, err = ipc.NewArray[byte](1 << 58)
	require.ErrorContains(t, err, "new Array of 288230376151711744 elements")
}

func TestArrayIndex(t *testing.T) {
	a := newArray(t, 1, 2, 3)
	for _, i := range []int{-1, 3, math.MaxInt} {
		var want error
		func() {
			defer func() { want = recover().(error) }()
			_ = []int{1, 2, 3}[i]
		}()
		for name, f := range map[string]func(){"At": func() { a.At(i) }, "Set": func() { a.Set(i, 1) }} {
			func() {
				defer func() {
					err, ok := recover().(runtime.Error)
					require.True(t, ok, name)
					require.EqualError(t, err, want.Error(), name)
				}()
				f()
			}()
		}
	}
	require.Equal(t, []int{1, 2, 3}, a.Slice())
}

type setting struct {
	Small *ipc.Array[uint8]
	Pairs *ipc.Array[complex128]
}

// setArrays sets elements, beside others that do the same, and errs when it sees half of one,
// or when a neighbour's was lost.
func setArrays(who int, as setting, more func() bool) error {
	small, pairs := as.Small, as.Pairs
	for i := 0; more(); i++ {
		small.Set(who, uint8(i))
		x := float64(i)
		pairs.Set(i%pairs.Len(), complex(x, -x))
		if c := pairs.At((i + 1) % pairs.Len()); real(c) != -imag(c) {
			return fmt.Errorf("half an element: %v", c)
		}
		if got := small.At(who); got != uint8(i) {
			return fmt.Errorf("element %d is %d, not %d", who, got, uint8(i))
		}
	}
	return nil
}

func TestArrayElementsAreWhole(t *testing.T) {
	as := setting{newArray(t, make([]uint8, 4)...), newArray(t, make([]complex128, 2)...)}
	c := start(t, "array-set", as, "")
	c.hear("ready")
	end := time.Now().Add(stressTime(t) / 2)
	more := func() bool { return time.Now().Before(end) }
	var g sync.WaitGroup
	for _, who := range []int{0, 2, 3} {
		g.Go(func() { assert.NoError(t, setArrays(who, as, more)) })
	}
	g.Wait()
	c.tell("stop")
	c.hear("done")
}

func TestArrayUpdateWaits(t *testing.T) {
	a := newArray[int32](t, 1, 2)
	c := start(t, "array-hold", a, "")
	c.hear("held")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	never := func([]int32) { t.Error("fn runs, though the lock is held") }
	err := a.Update(ctx, never)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualError(t, err, "ipc: update of an Array: context deadline exceeded")
	a.Set(1, 7) // waits for nobody
	c.tell("stop")
	require.NoError(t, a.Update(proctest.Within(t), func(s []int32) { s[0]++ }))
	c.hear("done")
	require.Equal(t, []int32{100, 7}, a.Slice())
}

// Of a death exactly one Update learns, whether it waited by then, came later, or may not
// wait at all.
func TestArrayOwnerDied(t *testing.T) {
	hold := func(t *testing.T, a *ipc.Array[int32]) *process {
		c := start(t, "array-hold", a, "")
		c.hear("held")
		return c
	}
	t.Run("waiting", func(t *testing.T) {
		a := newArray[int32](t, 1, 2)
		c := hold(t, a)
		const waiters = 5
		got := make(chan error, waiters)
		ran := 0
		for range waiters {
			go func() { got <- a.Update(proctest.Within(t), func([]int32) { ran++ }) }()
		}
		proctest.Blocked(t, waiters, "ipc.(*Array[")
		require.NoError(t, c.cmd.Process.Kill())
		died := 0
		for range waiters {
			if err := <-got; err != nil {
				require.ErrorIs(t, err, ipc.ErrOwnerDied)
				died++
			}
		}
		require.Equal(t, []int{1, waiters - 1}, []int{died, ran})
		require.Equal(t, int32(99), a.At(0), "what was written stays")
	})
	for _, poll := range []bool{false, true} {
		t.Run(fmt.Sprintf("later/poll=%v", poll), func(t *testing.T) {
			a := newArray[int32](t, 1, 2)
			c := hold(t, a)
			require.NoError(t, c.cmd.Process.Kill())
			proctest.AwaitGone(t, c.cmd.Process.Pid)
			ctx, cancel := context.WithCancel(proctest.Within(t))
			defer cancel()
			if poll {
				cancel()
			}
			require.ErrorIs(t, a.Update(ctx, func([]int32) { t.Error("fn runs") }), ipc.ErrOwnerDied)
			require.NoError(t, a.Update(ctx, func(s []int32) { s[1] = 5 }))
			require.Equal(t, []int32{99, 5}, a.Slice())
		})
	}
	t.Run("twice", func(t *testing.T) {
		a := newArray[int32](t, 1, 2)
		for range 2 {
			c := hold(t, a)
			require.NoError(t, c.cmd.Process.Kill())
			require.ErrorIs(t, a.Update(proctest.Within(t), func([]int32) { t.Error("fn runs") }), ipc.ErrOwnerDied)
		}
		require.NoError(t, a.Update(t.Context(), func([]int32) {}))
	})
	t.Run("a reader closes", func(t *testing.T) {
		a := newArray[int32](t, 1, 2)
		other := again(t, a)
		require.NoError(t, other.Update(t.Context(), func([]int32) { require.NoError(t, other.Close()) }))
		require.NoError(t, a.Update(proctest.Within(t), func([]int32) {}))
	})
}

func TestArrayUpdatePanics(t *testing.T) {
	a := newArray(t, 1, 2)
	require.PanicsWithValue(t, "oops", func() {
		_ = a.Update(t.Context(), func(s []int) { s[0] = 7; panic("oops") })
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Update(t.Context(), func(s []int) { s[1] = 8; runtime.Goexit() })
	}()
	<-done
	require.NoError(t, a.Update(proctest.Within(t), func(s []int) { require.Equal(t, []int{7, 8}, s) }))
	require.Panics(t, func() { _ = a.Update(t.Context(), nil) })
}

func TestArrayUpdateExcludes(t *testing.T) {
	a := newArray(t, 0)
	n := 0 // guarded by the Update, also for the race detector
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			for range 1000 {
				assert.NoError(t, a.Update(t.Context(), func(s []int) { s[0]++; n++ }))
			}
		})
	}
	g.Wait()
	require.Equal(t, []int{4000, 4000}, []int{n, a.At(0)})
}

func TestArrayClosed(t *testing.T) {
	closed, err := ipc.ArrayOf([]int{1, 2})
	require.NoError(t, err)
	closed.Slice()
	keeps := again(t, closed)
	defer keeps.Close()
	require.Equal(t, 2, keeps.Len())
	require.NoError(t, closed.Close())
	require.NoError(t, closed.Close())
	for name, a := range map[string]*ipc.Array[int]{"closed": closed, "zero": new(ipc.Array[int])} {
		t.Run(name, func(t *testing.T) {
			for _, i := range []int{1, 5} {
				require.PanicsWithError(t, ipc.ErrClosed.Error(), func() { a.At(i) })
				require.PanicsWithError(t, ipc.ErrClosed.Error(), func() { a.Set(i, 1) })
			}
			require.PanicsWithError(t, ipc.ErrClosed.Error(), func() { a.Len() })
			require.PanicsWithError(t, ipc.ErrClosed.Error(), func() { a.Slice() })
			require.ErrorIs(t, a.Update(t.Context(), func([]int) { t.Error("fn runs") }), ipc.ErrClosed)
			require.NoError(t, a.Close())
		})
	}
	require.Equal(t, 2, keeps.At(1))
}

func TestArrayEncoding(t *testing.T) {
	a := newArray(t, 1, 2)
	_, err := a.GobEncode()
	require.ErrorIs(t, err, executor.ErrNotPortable)
	for name, r := range map[string]gob.GobDecoder{
		"another number": new(ipc.Array[uint]),
		"a value":        new(ipc.Value[int]),
		"no fixed type":  new(ipc.Array[*int]),
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, decodeAs(t, r, a))
		})
	}
}

// The number of elements comes from another process. It is believed if the memory is there.
func TestArrayOfHostileLength(t *testing.T) {
	const paramsAt = 24
	a := newArray(t, 1, 2)
	for _, n := range []uint64{3, 1 << 40, 1 << 61, math.MaxUint64} {
		fds, err := a.Export()
		require.NoError(t, err)
		a.Exported()
		f := os.NewFile(uintptr(fds[0]), "memory")
		head := make([]byte, 8)
		for i := range head {
			head[i] = byte(n >> (8 * i))
		}
		_, err = f.WriteAt(head, paramsAt)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Error(t, decodeAs(t, new(ipc.Array[int]), a), "%d elements", n)
	}
}

// A slice that Slice returned keeps its memory, also when nobody has the Array any more.
func TestArraySliceOutlivesItsHandle(t *testing.T) {
	s := func() []int {
		a, err := ipc.ArrayOf([]int{1, 2, 3})
		require.NoError(t, err)
		return a.Slice()
	}
	got := s()
	defer ipc.CloseShown()
	for range 3 {
		runtime.GC()
	}
	require.Equal(t, []int{1, 2, 3}, slices.Clone(got))
}
