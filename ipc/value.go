package ipc

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"unsafe"

	"example.com/futures/internal/segment"
)

// The body of a Value. One of up to 8 bytes is a single word; a longer one is versions.
const (
	valueLockAt   = 0   // of Update
	valueCommitAt = 4   // of who writes a new version
	valueWordAt   = 8   // the value
	valueAt       = 128 // the versions; their number is the word
)

// A Value is one variable of type T that several processes share. T has a fixed layout:
// numbers, bools, arrays and structs of them, unexported fields too, and no pointers.
//
// Load, Store, CompareAndSwap and [Add] are atomic, whatever the size of T: a Load sees a
// whole value, and never waits for anybody's code. Of a T of up to 8 bytes each of them is
// one machine instruction; a larger one has four copies in the shared memory, which take
// turns. A process that is killed in the midst of a Store has stored nothing.
//
// A Value is safe for concurrent use, in and between processes. As an argument of a task, as
// a result or in a message it stays the same variable. Close it when it is no longer needed.
//
// After Close, Update answers ErrClosed, and the other methods panic with it.
//
// Reference: multiprocessing.Value and sharedctypes (Python 3.14), where each access of its
// own is a round of a lock, and v.value += 1 is two of them.
type Value[T any] struct {
	object
	word    unsafe.Pointer // the value, or the number of the current version
	mask    uint64         // of a value that is a word: all but padding
	long    versions       // of a value that is longer
	lock    updateLock
	scratch *T // what the function of an Update gets; guarded by lock
}

// NewValue makes a Value that holds v.
//
// Errors: one that names the field, its type, and what to use instead, if T has no fixed
// layout; errors.ErrUnsupported outside of Linux; what the system says if memory or
// descriptors are short.
func NewValue[T any](v T) (*Value[T], error) {
	l, spec, err := valueSpec(reflect.TypeFor[T]())
	if err != nil {
		return nil, fmt.Errorf("ipc: new Value: %w", err)
	}
	val := new(Value[T])
	err = val.create("Value", spec, func(s *segment.Segment) {
		at := valueWordAt
		if l.size > 8 {
			at = valueAt // the buffer of version 0
		}
		b := s.Body[at : at+l.size]
		copy(b, bytesOf(&v))
		l.holes.clear(b)
	})
	if err != nil {
		return nil, err
	}
	val.attach(l)
	return val, nil
}

// valueSpec returns the layout of t, and what a Value of it is made of.
func valueSpec(t reflect.Type) (*layout, segment.Spec, error) {
	l, err := fixedLayout(t)
	if err != nil {
		return nil, segment.Spec{}, err
	}
	body := valueAt
	if l.size > 8 {
		buffers, ok := product(copies, uint64(stride(l.size)))
		if !ok {
			return nil, segment.Spec{}, fmt.Errorf("%v has %d bytes, which are more than there can be", t, l.size)
		}
		body += buffers
	}
	return l, segment.Spec{Kind: kindValue, Sig: l.sig, Params: [segment.Params]uint64{uint64(l.size)}, Body: body, Bury: buryValue}, nil
}

// buryValue lets go of the locks that participant i has. What they guard is as it was.
func buryValue(s *segment.Segment, i int) {
	buryUpdate(s.Word32(valueLockAt), i, 0)
	commitOf(s).Bury(i)
}

func commitOf(s *segment.Segment) segment.Mutex {
	return segment.Mutex{Word: s.Word32(valueCommitAt), Bell: commitBell}
}

// attach finds the parts of v in its memory.
func (v *Value[T]) attach(l *layout) {
	v.lock.word = v.h.Word32(valueLockAt)
	v.word = unsafe.Pointer(v.h.Word64(valueWordAt))
	if l.size <= 8 {
		v.mask = l.mask()
		return
	}
	v.long = versions{
		current: v.h.Word64(valueWordAt),
		commit:  commitOf(v.h.Segment),
		buffers: v.h.Body[valueAt:],
		stride:  stride(l.size),
		holes:   l.holes,
	}
}

// word32 and word64 are the value, of up to 4 and of up to 8 bytes.
func (v *Value[T]) word32() *atomic.Uint32 { return (*atomic.Uint32)(v.word) }
func (v *Value[T]) word64() *atomic.Uint64 { return (*atomic.Uint64)(v.word) }

// bits32 and bits64 are x as a word, without its padding.
func (v *Value[T]) bits32(x T) uint32 {
	var w uint32
	*(*T)(unsafe.Pointer(&w)) = x
	return w & uint32(v.mask)
}

func (v *Value[T]) bits64(x T) uint64 {
	var w uint64
	*(*T)(unsafe.Pointer(&w)) = x
	return w & v.mask
}

// bytesOf is the memory of p.
func bytesOf[T any](p *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
}

// Load returns the value. It sees one that was stored whole, the latest or, if others are
// storing at this moment, one from the time since it was called.
func (v *Value[T]) Load() (x T) {
	v.mustUse()
	switch {
	case unsafe.Sizeof(x) <= 4:
		w := v.word32().Load()
		x = *(*T)(unsafe.Pointer(&w))
	case unsafe.Sizeof(x) <= 8:
		w := v.word64().Load()
		x = *(*T)(unsafe.Pointer(&w))
	default:
		_, err := v.long.read(v.h, bytesOf(&x))
		v.h.Release()
		if err != nil {
			panic(err) // closed meanwhile
		}
		return x
	}
	v.h.Release()
	return x
}

// Store makes x the value. It does not wait for the function of an Update, which then runs
// again.
func (v *Value[T]) Store(x T) {
	v.mustUse()
	switch {
	case unsafe.Sizeof(x) <= 4:
		v.word32().Store(v.bits32(x))
	case unsafe.Sizeof(x) <= 8:
		v.word64().Store(v.bits64(x))
	default:
		err := v.long.store(v.h, bytesOf(&x))
		v.h.Release()
		if err != nil {
			panic(err) // closed meanwhile
		}
		return
	}
	segment.At("store: published")
	v.h.Release()
}

// CompareAndSwap makes new the value if it is old, and reports whether it was. Values are
// compared bit for bit, but for padding and blank fields: a NaN is itself, and 0 is not -0.
func (v *Value[T]) CompareAndSwap(old, new T) (swapped bool) {
	v.mustUse()
	switch {
	case unsafe.Sizeof(old) <= 4:
		swapped = v.word32().CompareAndSwap(v.bits32(old), v.bits32(new))
	case unsafe.Sizeof(old) <= 8:
		swapped = v.word64().CompareAndSwap(v.bits64(old), v.bits64(new))
	default:
		var err error
		swapped, err = v.long.swap(v.h, bytesOf(&old), bytesOf(&new))
		v.h.Release()
		if err != nil {
			panic(err) // closed meanwhile
		}
		return swapped
	}
	segment.At("store: published")
	v.h.Release()
	return swapped
}

// Update has fn change a copy of the value, and stores that when fn returns. One Update runs
// at a time, in all processes; Load, Store, CompareAndSwap and Add do not wait for it. Came
// one of the latter in between, fn runs again on the newer value, so that nothing is lost:
// fn should change nothing but what it is given, of which it keeps no pointer, and it must
// not call Update on the same Value.
//
// Update waits for its turn until ctx ends. If it is its turn, ctx may have ended; but fn
// runs no second time then.
//
// Errors: ErrClosed, and one that matches ctx.Err(). Either way nothing has changed.
//
// If fn panics, or its process dies, nothing has changed and the next Update runs. The panic
// goes on. A nil fn panics.
func (v *Value[T]) Update(ctx context.Context, fn func(*T)) error {
	if fn == nil {
		panic("ipc: Value.Update without a function")
	}
	if !v.use() {
		return ErrClosed
	}
	defer v.h.Release()
	if err := v.lock.lock(ctx, v.h); err != nil {
		return failed("update of a Value", err)
	}
	defer v.lock.unlock(v.h)
	segment.At("update: locked")
	if v.scratch == nil {
		v.scratch = new(T)
	}
	for {
		done, err := v.update(v.scratch, fn)
		if done || err != nil {
			segment.At("update: done")
			return err
		}
		if ctx.Err() != nil {
			return failed("update of a Value", segment.Ended(ctx))
		}
	}
}

// update runs fn on the value in x, and reports whether nobody came in between.
func (v *Value[T]) update(x *T, fn func(*T)) (done bool, err error) {
	switch {
	case unsafe.Sizeof(*x) <= 4:
		w := v.word32().Load()
		*x = *(*T)(unsafe.Pointer(&w))
		fn(x)
		segment.At("update: ran")
		return v.word32().CompareAndSwap(w, v.bits32(*x)), nil
	case unsafe.Sizeof(*x) <= 8:
		w := v.word64().Load()
		*x = *(*T)(unsafe.Pointer(&w))
		fn(x)
		segment.At("update: ran")
		return v.word64().CompareAndSwap(w, v.bits64(*x)), nil
	}
	version, err := v.long.read(v.h, bytesOf(x))
	if err != nil {
		return false, err
	}
	fn(x)
	segment.At("update: ran")
	return v.long.replace(v.h, version, bytesOf(x))
}

// Close lets go of the Value in this process. A method that is under way is not disturbed,
// but one that waits answers ErrClosed. Close may be called again, and answers nil.
func (v *Value[T]) Close() error { return v.close() }

// GobEncode is for the encoders of this library, which take the memory along; any other
// gets executor.ErrNotPortable.
func (v *Value[T]) GobEncode() ([]byte, error) {
	if v == nil {
		return nil, errNil("Value")
	}
	return v.encode("Value")
}

// GobDecode is the other end of GobEncode.
func (v *Value[T]) GobDecode(b []byte) error {
	l, spec, err := valueSpec(reflect.TypeFor[T]())
	if err != nil {
		return fmt.Errorf("ipc: a Value that came from another process: %w", err)
	}
	_, err = v.open("Value", b, kindValue, l.sig, func(params [segment.Params]uint64) (segment.Spec, error) {
		if params != spec.Params {
			return segment.Spec{}, fmt.Errorf("a value of %d bytes, not %d", params[0], l.size)
		}
		return spec, nil
	})
	if err != nil {
		return err
	}
	v.attach(l)
	return nil
}

// An Integer is what [Add] adds.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

// Add adds delta to the value and returns the sum, which wraps around as in Go. It is atomic
// across processes, and takes no lock.
func Add[T Integer](v *Value[T], delta T) (sum T) {
	v.mustUse()
	switch unsafe.Sizeof(delta) {
	case 8:
		sum = T(v.word64().Add(uint64(delta)))
	case 4:
		sum = T(v.word32().Add(uint32(delta)))
	default:
		for {
			w := v.word32().Load()
			sum = *(*T)(unsafe.Pointer(&w)) + delta
			if v.word32().CompareAndSwap(w, v.bits32(sum)) {
				break
			}
		}
	}
	v.h.Release()
	return sum
}
