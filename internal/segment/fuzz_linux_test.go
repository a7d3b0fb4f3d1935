package segment_test

import (
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"example.com/futures/internal/segment"
)

// FuzzSegment writes anything anywhere into the memory of an object while two handles of it
// are used: nothing faults, and all that has a ctx ends with it.
func FuzzSegment(f *testing.F) {
	word := func(at int, v uint64) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(at))
		return binary.LittleEndian.AppendUint64(b, v)
	}
	const slot = 256 + 64 // that of the second handle
	for _, at := range []int{0, 8, 128, 132, 192, 196, slot, slot + 8, slot + 16, slot + 24, slot + 32, slot + 40, slot + 64, slot + 72, segment.BodyAt, segment.BodyAt + thingsAt, 256, 256 + 32} {
		for _, v := range []uint64{0, 1, 2, 1 << 31, 1<<64 - 1} {
			f.Add(word(at, v))
		}
	}
	f.Add(append(word(132, 1024), word(192, 1<<32|1)...))
	f.Fuzz(func(t *testing.T, writes []byte) {
		h := newBox(t)
		other := again(t, h)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		for _, h := range []*segment.Handle{h, other} {
			all.Go(func() {
				for ctx.Err() == nil {
					if lock(ctx, h) == nil {
						unlock(h)
					}
				}
			})
			all.Go(func() {
				for ctx.Err() == nil && take(ctx, h) == nil {
					put(h, 1)
					using(h, h.CheckAll)
					_ = h.PID(h.High() - 1)
				}
			})
		}
		mem := segment.Memory(h)
		for range 3 {
			for w := writes; len(w) >= 12; w = w[12:] {
				at := int(binary.LittleEndian.Uint32(w)) % (len(mem) - 8)
				copy(mem[at:], w[4:12])
			}
			time.Sleep(500 * time.Microsecond) // meanwhile they are used
		}
		all.Wait()
		other.Close()
		h.Close()
	})
}
