package ipc

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"

	"example.com/futures/internal/segment"
)

// The body of an Array.
const (
	arrayLockAt = 0   // of Update
	arrayPairAt = 4   // of At and Set of complex128
	arrayNoteAt = 8   // what such a Set is about to write: see notePair
	arrayAt     = 128 // the elements
)

// An Array is n variables of type T that several processes share. T has a fixed layout:
// numbers, bools, arrays and structs of them, unexported fields too, and no pointers.
//
// At and Set of numbers and bools are atomic: each sees, and leaves, a whole element, beside
// any other At and Set, also if its process is killed. Elements of other types, and several
// elements at once, are for Update. The function of an Update writes in place, so that At
// sees its work piece by piece: of a complex128 one half before the other.
//
// An Array is safe for concurrent use, in and between processes. As an argument of a task,
// as a result or in a message it stays the same memory. Close it when it is no longer needed.
//
// After Close, Update answers ErrClosed, and the other methods panic with it.
//
// Reference: multiprocessing.Array and RawArray (Python 3.14).
type Array[T any] struct {
	object
	elems  []T  // the memory itself
	number bool // T is a number or a bool
	lock   updateLock
}

// NewArray makes an Array of n elements, which are zero.
//
// Errors: one that names n if that is below zero or too large; one that names the field, its
// type, and what to use instead, if T has no fixed layout; errors.ErrUnsupported outside of
// Linux; what the system says if memory or descriptors are short.
func NewArray[T any](n int) (*Array[T], error) { return newArray[T](n, nil) }

// ArrayOf makes an Array of copies of values. Its errors are those of NewArray.
func ArrayOf[T any](values []T) (*Array[T], error) { return newArray(len(values), values) }

func newArray[T any](n int, values []T) (*Array[T], error) {
	l, err := fixedLayout(reflect.TypeFor[T]())
	if err != nil {
		return nil, fmt.Errorf("ipc: new Array: %w", err)
	}
	if n < 0 {
		return nil, fmt.Errorf("ipc: new Array: it cannot have %d elements", n)
	}
	spec, err := arraySpec(l, uint64(n))
	if err != nil {
		return nil, fmt.Errorf("ipc: new Array: %w", err)
	}
	a := new(Array[T])
	err = a.create(fmt.Sprintf("Array of %d elements", n), spec, func(s *segment.Segment) {
		copy(elements[T](s, n), values)
	})
	if err != nil {
		return nil, err
	}
	a.attach(l, n)
	return a, nil
}

// arraySpec returns what an Array of n elements is made of.
func arraySpec(l *layout, n uint64) (segment.Spec, error) {
	length, ok := product(n, uint64(max(l.size, 1)))
	if !ok {
		return segment.Spec{}, fmt.Errorf("it cannot have %d elements of %d bytes", n, l.size)
	}
	return segment.Spec{
		Kind:   kindArray,
		Sig:    l.sig,
		Params: [segment.Params]uint64{n, uint64(l.size)},
		Body:   arrayAt + max(length+7, 8)&^7, // whole words, of which a bool has its part
		Bury:   buryArray,
	}, nil
}

func elements[T any](s *segment.Segment, n int) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(&s.Body[arrayAt])), n)
}

// buryArray lets go of the locks that participant i has, and ends the Set that it began.
func buryArray(s *segment.Segment, i int) {
	buryUpdate(s.Word32(arrayLockAt), i, ownerDied)
	pair := pairOf(s)
	if pair.Word.Load() == uint32(i)+1 {
		carryOut(s)
	}
	pair.Bury(i)
}

// attach finds the parts of a in its memory.
func (a *Array[T]) attach(l *layout, n int) {
	a.lock.word = a.h.Word32(arrayLockAt)
	a.number = l.number
	a.elems = elements[T](a.h.Segment, n)
}

// Len returns the number of elements.
func (a *Array[T]) Len() int {
	a.mustUse()
	a.h.Release()
	return len(a.elems)
}

// outside panics for an i that is out of range, as a slice would.
func (a *Array[T]) outside(i int) {
	a.Len()
	_ = a.elems[i]
}

// At returns element i. An i out of range panics, as in a slice.
func (a *Array[T]) At(i int) (x T) {
	if uint(i) >= uint(len(a.elems)) {
		a.outside(i)
	}
	a.mustUse()
	p := unsafe.Pointer(&a.elems[i])
	switch {
	case !a.number:
		x = a.elems[i]
	case unsafe.Sizeof(x) == 8:
		w := atomic.LoadUint64((*uint64)(p))
		x = *(*T)(unsafe.Pointer(&w))
	case unsafe.Sizeof(x) == 4:
		w := atomic.LoadUint32((*uint32)(p))
		x = *(*T)(unsafe.Pointer(&w))
	case unsafe.Sizeof(x) < 4:
		word, part := a.part(i)
		w := word.Load()
		x = *(*T)(unsafe.Add(unsafe.Pointer(&w), part))
	default:
		w, err := loadPair(a.h, i)
		if err != nil {
			a.h.Release()
			panic(err) // closed meanwhile
		}
		x = *(*T)(unsafe.Pointer(&w))
	}
	a.h.Release()
	return x
}

// Set makes x element i. An i out of range panics, as in a slice.
func (a *Array[T]) Set(i int, x T) {
	if uint(i) >= uint(len(a.elems)) {
		a.outside(i)
	}
	a.mustUse()
	p := unsafe.Pointer(&a.elems[i])
	switch {
	case !a.number:
		a.elems[i] = x
	case unsafe.Sizeof(x) == 8:
		var w uint64
		*(*T)(unsafe.Pointer(&w)) = x
		atomic.StoreUint64((*uint64)(p), w)
	case unsafe.Sizeof(x) == 4:
		var w uint32
		*(*T)(unsafe.Pointer(&w)) = x
		atomic.StoreUint32((*uint32)(p), w)
	case unsafe.Sizeof(x) < 4:
		word, part := a.part(i)
		for {
			old := word.Load()
			w := old
			*(*T)(unsafe.Add(unsafe.Pointer(&w), part)) = x
			if word.CompareAndSwap(old, w) {
				break
			}
		}
	default:
		var w [2]uint64
		*(*T)(unsafe.Pointer(&w)) = x
		if err := storePair(a.h, i, w); err != nil {
			a.h.Release()
			panic(err) // closed meanwhile
		}
	}
	a.h.Release()
}

// part returns the word that element i, of less than 4 bytes, is in, and where in it: no
// machine's atomics that Go offers are smaller.
func (a *Array[T]) part(i int) (word *atomic.Uint32, part uintptr) {
	var x T
	at := uintptr(i) * unsafe.Sizeof(x)
	return (*atomic.Uint32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(a.elems)), at&^3)), at & 3
}

// Update has fn change the elements in place, which no other Update does at the same time,
// in all processes. The slice is valid until fn returns.
//
// Update waits for its turn until ctx ends. If it is its turn, ctx may have ended. fn must
// not call Update on the same Array.
//
// Errors: ErrClosed, and one that matches ctx.Err(); ErrOwnerDied if whoever was updating
// before died over it, so that the elements may be half-changed: one Update learns of that,
// and the next runs. With an error fn has not run.
//
// If fn panics, the next Update runs, what fn has written stays, and the panic goes on. A
// nil fn panics.
func (a *Array[T]) Update(ctx context.Context, fn func([]T)) error {
	if fn == nil {
		panic("ipc: Array.Update without a function")
	}
	if !a.use() {
		return ErrClosed
	}
	defer a.h.Release()
	if err := a.lock.lock(ctx, a.h); err != nil {
		return failed("update of an Array", err)
	}
	defer a.lock.unlock(a.h)
	segment.At("update: locked")
	fn(a.elems)
	segment.At("update: ran")
	return nil
}

// shown are the handles of arrays whose memory Slice has shown: they are not collected, for
// the slice does not keep them.
var shown sync.Map // of *segment.Handle

// Slice returns the elements themselves. Reading and writing them takes no lock and is not
// atomic: it is for when nobody else writes, or for atomics of the caller's own.
//
// The slice is valid until Close, and in a worker until the call ends that a was an argument
// of. Touching it later is a fault, which nothing recovers from. So that it does not come
// sooner, an Array whose Slice was called is not collected before Close.
func (a *Array[T]) Slice() []T {
	a.mustUse()
	defer a.h.Release()
	shown.LoadOrStore(a.h, nil)
	if a.h.Closing() {
		shown.Delete(a.h)
	}
	return a.elems
}

// Close lets go of the Array in this process, and what Slice returned is no longer valid. An
// Update whose function runs is not disturbed; one that waits answers ErrClosed. Close may
// be called again, and answers nil.
func (a *Array[T]) Close() error {
	err := a.close()
	shown.Delete(a.h)
	return err
}

// GobEncode is for the encoders of this library, which take the memory along; any other
// gets executor.ErrNotPortable.
func (a *Array[T]) GobEncode() ([]byte, error) {
	if a == nil {
		return nil, errNil("Array")
	}
	return a.encode("Array")
}

// GobDecode is the other end of GobEncode.
func (a *Array[T]) GobDecode(b []byte) error {
	l, err := fixedLayout(reflect.TypeFor[T]())
	if err != nil {
		return fmt.Errorf("ipc: an Array that came from another process: %w", err)
	}
	n := 0
	_, err = a.open("Array", b, kindArray, l.sig, func(params [segment.Params]uint64) (segment.Spec, error) {
		spec, err := arraySpec(l, params[0])
		if err == nil && params != spec.Params {
			err = errors.New("elements of another size")
		}
		n = int(params[0])
		return spec, err
	})
	if err != nil {
		return err
	}
	a.attach(l, n)
	return nil
}
