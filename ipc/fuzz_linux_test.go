package ipc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

// FuzzMemory writes anything anywhere into the memory of objects while two handles of each
// are used: nothing faults, and all ends, with Close at the latest: what is held for some steps
// only, and by nobody any more, is waited for until then. Queues and pipes have fuzz tests of
// their own.
func FuzzMemory(f *testing.F) {
	const body = 17 * 4096
	for kind := range byte(8) {
		for _, at := range []uint32{132, 192, 256, 304, 320, body, body + 8, body + 64} {
			for _, v := range []uint64{1, 1<<32 | 1<<31 | 1, 1<<64 - 1} {
				f.Add(kind, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, at), v))
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, writes []byte) {
		if raceEnabled && kind%8 >= 6 {
			t.Skip("who writes to a lock breaks the exclusion by it, which the race detector rightly reports")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		defer cancel()
		mem, deed, other, closing := fuzzed(t, kind%8)
		var all sync.WaitGroup
		for _, do := range []func(context.Context) error{deed, other} {
			for range 2 {
				all.Go(func() {
					defer func() {
						if err := recover(); err != nil && err != any(ipc.ErrClosed) {
							panic(err)
						}
					}()
					for ctx.Err() == nil {
						_ = do(ctx)
					}
				})
			}
		}
		for range 3 {
			for w := writes; len(w) >= 12; w = w[12:] {
				copy(mem[int(binary.LittleEndian.Uint32(w))%(len(mem)-8):], w[4:12])
			}
			time.Sleep(300 * time.Microsecond) // meanwhile they are used
		}
		<-ctx.Done()
		closing()
		all.Wait()
	})
}

// fuzzed returns the memory of an object, what is done with it by each of two handles, and
// what closes them.
func fuzzed(t *testing.T, kind byte) (mem []byte, a, b func(context.Context) error, closing func()) {
	switch kind {
	case 0:
		return both(t, get(ipc.NewLock()), func(ctx context.Context, l *ipc.Lock) error {
			if err := l.Lock(ctx); err != nil {
				_, terr := l.TryLock()
				return errors.Join(terr, l.Recover(ctx))
			}
			_ = l.Holder()
			return l.Unlock()
		})
	case 1:
		return both(t, get(ipc.NewRLock()), func(ctx context.Context, l *ipc.RLock) error {
			ctx, err := l.Recover(ctx)
			if err == nil {
				_, err = l.Lock(ctx)
				_ = l.Unlock()
			}
			_ = l.Unlock()
			return err
		})
	case 2, 3:
		s := get(ipc.NewSemaphore(2))
		if kind == 3 {
			s = get(ipc.NewBoundedSemaphore(2))
		}
		return both(t, s, func(ctx context.Context, s *ipc.Semaphore) error {
			_, terr := s.TryAcquire(1)
			return errors.Join(terr, s.Acquire(ctx, 2), s.Release(1), s.Release(2))
		})
	case 4:
		return both(t, get(ipc.NewEvent()), func(ctx context.Context, e *ipc.Event) error {
			return errors.Join(e.Set(), e.Wait(ctx), e.Clear(), e.Wait(ctx))
		})
	case 5:
		return both(t, get(ipc.NewBarrier(2)), func(ctx context.Context, b *ipc.Barrier) error {
			_ = b.Waiting()
			if _, err := b.Wait(ctx); err != nil {
				return b.Reset()
			}
			return nil
		})
	case 6:
		v := get(ipc.NewValue([20]int64{}))
		return both(t, v, func(ctx context.Context, v *ipc.Value[[20]int64]) error {
			x := v.Load()
			v.Store(x)
			v.CompareAndSwap(x, [20]int64{1})
			return v.Update(ctx, func(x *[20]int64) { x[3]++ })
		})
	default:
		a := get(ipc.ArrayOf(make([]complex128, 9)))
		return both(t, a, func(ctx context.Context, a *ipc.Array[complex128]) error {
			a.Set(3, 1+1i)
			_ = a.At(4)
			return a.Update(ctx, func(s []complex128) { s[3]++ })
		})
	}
}

func both[H interface {
	Memory() []byte
	Close() error
}](t *testing.T, h H, do func(context.Context, H) error) (mem []byte, a, b func(context.Context) error, closing func()) {
	other := again(t, h)
	of := func(h H) func(context.Context) error { return func(ctx context.Context) error { return do(ctx, h) } }
	return h.Memory(), of(h), of(other), func() {
		require.NoError(t, h.Close())
		require.NoError(t, other.Close())
	}
}
