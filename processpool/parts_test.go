//go:build linux

package processpool_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/processpool"
)

// A parcel is bytes inside of structs.
type parcel struct {
	Label string
	Front []byte
	Back  []byte
	Inner *parcelPart
	Rows  [][]byte
}

type parcelPart struct {
	N    int
	Body []byte
}

var (
	// swap gives back what it gets with the bytes in other places, and every first byte
	// changed, to show that they are the task's own.
	swap = executor.NewTask("swap", func(_ context.Context, p parcel) (*parcel, error) {
		for _, b := range append(p.Rows, p.Front, p.Back, p.Inner.Body) {
			b[0]++
			_ = append(b, 1)
		}
		p.Front, p.Back, p.Inner = p.Back, p.Inner.Body, &parcelPart{p.Inner.N + 1, p.Front}
		return &p, nil
	})

	// parcelOnce ends its worker, if the file that Label names is not there.
	parcelOnce = executor.NewTask("parcelOnce", func(_ context.Context, p parcel) (parcel, error) {
		if f, err := os.OpenFile(p.Label, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			f.Close()
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return p, nil
	})
)

// aParcel returns a parcel whose bytes are of n bytes each.
func aParcel(n int) parcel {
	random := rand.NewChaCha8([32]byte{byte(n)})
	next := func() []byte {
		b := make([]byte, n)
		_, _ = random.Read(b)
		return b
	}
	return parcel{Label: "to " + strconv.Itoa(n), Front: next(), Back: next(), Inner: &parcelPart{7, next()}, Rows: [][]byte{next(), next()}}
}

func firstUp(b []byte) []byte {
	b = bytes.Clone(b)
	b[0]++
	return b
}

// Large bytes inside of structs travel whole, in both directions, whatever the way. What
// the caller gave is as it was, and what he gets is his own.
func TestBytesInStructs(t *testing.T) {
	for name := range processpool.Means {
		t.Run(name, func(t *testing.T) {
			processpool.Without(t, name)
			ctx := within(t)
			p := open(t, processpool.Config{Workers: 1})
			var before []*parcel
			for _, n := range []int{1, 1000, 4095, 4096, 5000, 64 << 10, 1 << 20} {
				arg, want := aParcel(n), aParcel(n)
				got, err := executor.Apply(ctx, p, swap, arg)
				require.NoError(t, err)
				require.Equal(t, want, arg)
				require.Equal(t, want.Label, got.Label)
				require.Equal(t, firstUp(want.Back), got.Front)
				require.Equal(t, firstUp(want.Inner.Body), got.Back)
				require.Equal(t, parcelPart{8, firstUp(want.Front)}, *got.Inner)
				require.Equal(t, [][]byte{firstUp(want.Rows[0]), firstUp(want.Rows[1])}, got.Rows)
				before = append(before, got)
				require.Zero(t, processpool.Held(p))
			}
			for i, n := range []int{1, 1000, 4095, 4096, 5000} { // nothing of later calls is in there
				require.Equal(t, firstUp(aParcel(n).Back), before[i].Front)
				clear(before[i].Front)
				require.Equal(t, firstUp(aParcel(n).Rows[1]), before[i].Rows[1])
			}
		})
	}
}

// A value that is larger than all the room in shared memory travels, too.
func TestBytesInStructsBeyondTheArena(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 1 GiB")
	}
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	arg := parcelPart{7, make([]byte, 130<<20)}
	arg.Body[len(arg.Body)-1] = 1
	got, err := executor.Apply(ctx, p, partBack, arg)
	require.NoError(t, err)
	require.Equal(t, 7, got.N)
	require.True(t, bytes.Equal(arg.Body, got.Body))
}

var partBack = executor.NewTask("partBack", func(_ context.Context, p parcelPart) (parcelPart, error) { return p, nil })

// One argument may be in many calls at a time.
func TestBytesInStructsShared(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 2})
	arg := aParcel(64 << 10)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10 {
				got, err := executor.Apply(ctx, p, swap, arg)
				if err != nil || !bytes.Equal(got.Inner.Body, firstUp(arg.Front)) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	all.Wait()
	require.Zero(t, processpool.Held(p))
}

// Calls with large bytes that are run again, or cancelled, leave nothing in the memory
// that the workers share.
func TestBytesInStructsLeaveNoMemory(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	arg := aParcel(1 << 20)
	for range 10 {
		_, err := executor.Apply(ctx, p, swap, arg)
		require.NoError(t, err)
		_, err = executor.Apply(ctx, p, double, 1)
		require.NoError(t, err)
	}
	t.Run("again", func(t *testing.T) {
		again := arg
		again.Label = filepath.Join(t.TempDir(), "once")
		got, err := executor.Submit(ctx, p, parcelOnce, again, executor.WithRetries(1)).Result(ctx)
		require.NoError(t, err)
		require.Equal(t, again, got)
		require.Zero(t, processpool.Held(p))
	})
	t.Run("cancelled", func(t *testing.T) {
		held := hold(t, p, 1)
		var fs []*future.Future[*parcel]
		for range 10 {
			fs = append(fs, executor.Submit(ctx, p, swap, arg))
		}
		for _, f := range fs {
			require.True(t, f.Cancel())
		}
		held[0].Interrupt(nil)
		_, err := executor.Apply(ctx, p, swap, arg) // the worker has passed over the others
		require.NoError(t, err)
		require.Zero(t, processpool.Held(p))
	})
	t.Run("lost", func(t *testing.T) {
		again := arg
		again.Label = filepath.Join(t.TempDir(), "once")
		var lost *executor.WorkerLostError
		require.ErrorAs(t, executor.Submit(ctx, p, parcelOnce, again).Exception(ctx), &lost)
		_, err := executor.Apply(ctx, p, swap, arg)
		require.NoError(t, err)
		require.Zero(t, processpool.Held(p))
	})
}

// BenchmarkEchoStruct is BenchmarkEcho with the bytes inside of a struct.
func BenchmarkEchoStruct(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"bytes=4KiB", 4 << 10}, {"bytes=64KiB", 64 << 10}, {"bytes=1MiB", 1 << 20}, {"bytes=64MiB", 64 << 20}} {
		b.Run(size.name, func(b *testing.B) {
			p := open(b, processpool.Config{Workers: 1})
			ctx := b.Context()
			arg := parcelPart{7, make([]byte, size.n)}
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := executor.Apply(ctx, p, partBack, arg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
