package manager

import (
	"context"
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// An Array is n variables of type T that live in a manager's server. A T is anything that can be
// a task's argument. The server has elements encoded, so they are copies; a T that is, or holds,
// a proxy of the same manager is live, and lives as long as it is there. Elements that were
// never set take no room in the server.
//
// Each method is one round trip, and is done as a whole. None has to wait, so that all are
// carried out under a ctx that has ended, too.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost], where they take an index one
// that names it and the length if it is out of range, and what keeps a value from being encoded
// or decoded.
//
// An Array is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.Array (Python 3.14), which is made of a sequence.
type Array[T any] struct{ object }

// NewArray has the server of m make an Array of n elements, which are zero, and returns a proxy
// of it.
//
// Errors: an n below 0, or more than there can be; a T that cannot travel: the error names the
// field, and what it is; [ipc.ErrClosed], [ErrLost].
func NewArray[T any](ctx context.Context, m *Manager, n int) (*Array[T], error) {
	a := new(Array[T])
	if err := travels[T](a.describe()); err != nil {
		return nil, err
	}
	var zero T
	if size := int(unsafe.Sizeof(zero)); n < 0 || n > math.MaxInt/max(size, 1) {
		return nil, fmt.Errorf("manager: new %s: it cannot have %d elements", a.describe(), n)
	}
	if err := create(ctx, m, kindArray, a, func(w *writer) { w.int(n) }); err != nil {
		return nil, err
	}
	return a, nil
}

// Get returns element i.
func (a *Array[T]) Get(ctx context.Context, i int) (T, error) {
	v, _, err := askMaybe[T](ctx, &a.object, "array get", opArrayGet, func(w *writer) { w.int(i) })
	return v, err
}

// Set makes v element i.
func (a *Array[T]) Set(ctx context.Context, i int, v T) error {
	return tellValue(ctx, &a.object, "array set", opArraySet, v, func(w *writer) { w.int(i) })
}

// Len returns the number of elements.
func (a *Array[T]) Len(ctx context.Context) (int, error) {
	return a.askInt(ctx, "array len", opArrayLen)
}

// All returns a copy of all elements as they are at one time, which is the caller's. Those that
// were ever set are one result, for which Config.MaxMessage is the limit.
func (a *Array[T]) All(ctx context.Context) ([]T, error) {
	var all []T
	err := a.call(ctx, opArrayAll, nil, func(r *reader) error {
		n, set := r.int(), r.int()
		if r.err != nil {
			return r.err
		}
		var zero T
		if size := int(unsafe.Sizeof(zero)); n < 0 || n > math.MaxInt/max(size, 1) {
			return errLength
		}
		all = make([]T, n)
		for ; set > 0 && r.err == nil; set-- {
			i, d := r.int(), r.datum()
			if r.err != nil {
				break
			}
			if i < 0 || i >= n {
				return errLength
			}
			var err error
			if all[i], err = unpack[T](d); err != nil {
				return err
			}
		}
		return r.end()
	})
	if err != nil {
		return nil, failed("array all", err)
	}
	return all, nil
}

var errLength = errors.New("the server's answer has a length that cannot be")

func (*Array[T]) describe() string { return "Array[" + typeText[T]() + "]" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (a *Array[T]) GobEncode() ([]byte, error) { return encode(a) }

// GobDecode is for the decoders of this module.
func (a *Array[T]) GobDecode(b []byte) error { return a.decode(a, b) }
