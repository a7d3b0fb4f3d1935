package executor_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
)

// A chunk larger than the input is one chunk of the input. Room for the whole of it
// used to be made beforehand, and the largest ones made the default buffer overflow.
func TestMapHugeChunk(t *testing.T) { // MAP-04
	p, err := newPool(zeroConfig, false)
	require.NoError(t, err)
	defer p.Close()
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { return -n, nil })
	for _, chunk := range []int{1 << 40, math.MaxInt / 2, math.MaxInt} {
		n := 0
		for v, err := range executor.Map(t.Context(), p, task, slices.Values([]int{0, 1, 2}), executor.WithChunk(chunk)) {
			require.NoError(t, err)
			require.Equal(t, -n, v)
			n++
		}
		require.Equal(t, 3, n)
	}
}

// Items that panic one after another do not pile up on the stack. They used to, and
// each printed a longer one: a chunk of 4,000 took 20 s, and enough of them would
// have overflowed it. // MAP-08
func TestMapPanicsDoNotNest(t *testing.T) {
	p, err := newPool(zeroConfig, false)
	require.NoError(t, err)
	defer p.Close()
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { panic(n) })
	var stacks []int
	for _, err := range executor.Map(t.Context(), p, task, slices.Values(make([]int, 100)), executor.WithChunk(100)) {
		var panicked *executor.PanicError
		require.ErrorAs(t, err, &panicked)
		stacks = append(stacks, len(panicked.Stack))
	}
	require.Len(t, stacks, 100)
	require.Less(t, slices.Max(stacks), 2*slices.Min(stacks))
}

// An item that does not return has run over its time like one that returns an error:
// its own error matches both. The others of the chunk go on, each with a limit of its
// own. // MAP-08, EXE-13
func TestMapItemEndsBadlyAfterItsTime(t *testing.T) {
	ends := []func(){func() { panic("late") }, runtime.Goexit, func() {}, func() { panic("later") }}
	task := executor.LocalTask(func(ctx context.Context, i int) (int, error) {
		<-ctx.Done()
		ends[i]()
		return i, nil
	}, executor.WithTimeout(time.Second))
	synctest.Test(t, func(t *testing.T) {
		p, err := newPool(zeroConfig, false)
		require.NoError(t, err)
		defer p.Close()
		begun := time.Now()
		var late []bool
		for _, err := range executor.Map(t.Context(), p, task, slices.Values([]int{0, 1, 2, 3}), executor.WithChunk(4)) {
			late = append(late, errors.Is(err, executor.ErrTimeout))
		}
		require.Equal(t, []bool{true, true, false, true}, late)
		require.Equal(t, 4*time.Second, time.Since(begun))
	})
}

// An item that failed before ctx ended is done, and its error its own, even if that
// matches ctx's. // MAP-09, MAP-10
func TestMapOwnErrorBeforeCtxEnds(t *testing.T) {
	own := errors.Join(errors.New("own"), context.Canceled)
	task := executor.LocalTask(func(ctx context.Context, i int) (int, error) {
		switch i {
		case 1:
			return 0, own
		case 3:
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return i, nil
	})
	for _, chunk := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			p, err := newPool(zeroConfig, false)
			require.NoError(t, err)
			defer p.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var errs []error
			for v, err := range executor.Map(ctx, p, task, slices.Values([]int{0, 1, 2, 3, 4}), executor.WithChunk(chunk)) {
				if errs = append(errs, err); v == 0 && len(errs) == 1 {
					synctest.Wait() // all before item 3 is done
					cancel()
				}
			}
			require.Len(t, errs, 4)
			require.Equal(t, []error{nil, own, nil}, errs[:3])
			require.ErrorIs(t, errs[3], context.Canceled)
		})
	}
}
