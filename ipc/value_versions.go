package ipc

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"example.com/futures/internal/segment"
)

// A versions is a value of more than a machine word. It has four buffers. The current
// version is a number, and is in the buffer of that number modulo four:
//
//	current ────────────────┐
//	        ┌──────┐ ┌──────▼┐ ┌──────┐ ┌──────┐
//	        │  4   │ │   5   │ │ 2 → 6│ │  3   │
//	        └──────┘ └───────┘ └──▲───┘ └──────┘
//	                              └ a writer, under commit
//
// A writer fills the buffer of the next version, and makes that the current one by one
// store; the lock is held for the copy alone. A writer that dies before has left a buffer
// half-written that nobody reads.
//
// A reader of version n takes no lock: it copies, and then looks whether version n+3 has
// become current. If not, nobody has begun to write n+4 into the buffer that it read.
// Otherwise three values were stored during its copy, and it copies again.
type versions struct {
	current *atomic.Uint64
	commit  segment.Mutex
	buffers []byte
	stride  int
	holes   *holes
}

const copies = 4

// tries is how often a reader copies before it keeps writers off.
const tries = 16

// stride is how far apart the buffers of values of size bytes are: whole cache lines.
func stride(size int) int { return (size + 63) &^ 63 }

func (vs *versions) buffer(version uint64) []byte {
	at := int(version%copies) * vs.stride
	return vs.buffers[at : at+vs.stride]
}

// read copies the current version to dst and returns its number.
func (vs *versions) read(h *segment.Handle, dst []byte) (uint64, error) {
	for range tries {
		version := vs.current.Load()
		load(dst, vs.buffer(version))
		segment.At("load: copied")
		if vs.current.Load()-version < copies-1 {
			return version, nil
		}
	}
	if err := vs.commit.Lock(context.Background(), h); err != nil {
		return 0, err
	}
	version := vs.current.Load()
	load(dst, vs.buffer(version))
	vs.commit.Unlock(h)
	return version, nil
}

// load copies from shared memory that somebody may be writing.
//
// The loads are atomic, so that they keep their order, that before the look at the current
// version in particular, on every machine. The writer's stores are plain ones, and as quick
// as copy: whoever reads one of them too early throws away all that it read. It sees that it
// must, since the store of the version that lets a buffer be written again was followed by
// letting go of commit, and that by the taking of it, before anything is written there.
func load(dst, src []byte) {
	for len(dst) >= 32 {
		p := (*[4]uint64)(unsafe.Pointer(&src[:32][0]))
		d := dst[:32]
		binary.NativeEndian.PutUint64(d, atomic.LoadUint64(&p[0]))
		binary.NativeEndian.PutUint64(d[8:], atomic.LoadUint64(&p[1]))
		binary.NativeEndian.PutUint64(d[16:], atomic.LoadUint64(&p[2]))
		binary.NativeEndian.PutUint64(d[24:], atomic.LoadUint64(&p[3]))
		dst, src = dst[32:], src[32:]
	}
	for len(dst) > 0 { // the buffer is whole words, the value need not be
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], atomic.LoadUint64((*uint64)(unsafe.Pointer(&src[:8][0]))))
		n := copy(dst, b[:])
		dst, src = dst[n:], src[8:]
	}
}

// publish makes src the current version. The caller has the lock.
func (vs *versions) publish(src []byte) {
	next := vs.current.Load() + 1
	b := vs.buffer(next)
	half := copy(b, src[:len(src)/2])
	segment.At("store: half")
	copy(b[half:], src[half:])
	vs.holes.clear(b[:len(src)])
	segment.At("store: written")
	vs.current.Store(next)
	segment.At("store: published")
}

// store makes src the current version.
func (vs *versions) store(h *segment.Handle, src []byte) error {
	if err := vs.commit.Lock(context.Background(), h); err != nil {
		return err
	}
	segment.At("store: locked")
	vs.publish(src)
	vs.commit.Unlock(h)
	return nil
}

// replace does it if version is still the current one.
func (vs *versions) replace(h *segment.Handle, version uint64, src []byte) (bool, error) {
	if err := vs.commit.Lock(context.Background(), h); err != nil {
		return false, err
	}
	segment.At("store: locked")
	same := vs.current.Load() == version
	if same {
		vs.publish(src)
	}
	vs.commit.Unlock(h)
	return same, nil
}

// swap does it if the current version equals old, whose padding it clears.
func (vs *versions) swap(h *segment.Handle, old, src []byte) (bool, error) {
	vs.holes.clear(old)
	if err := vs.commit.Lock(context.Background(), h); err != nil {
		return false, err
	}
	segment.At("store: locked")
	same := bytes.Equal(vs.buffer(vs.current.Load())[:len(old)], old)
	if same {
		vs.publish(src)
	}
	vs.commit.Unlock(h)
	return same, nil
}
