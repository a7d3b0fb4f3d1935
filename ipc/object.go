package ipc

import (
	"fmt"
	"strings"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/segment"
)

// The kinds of objects. A handle of one is not taken for one of another.
const (
	kindLock uint32 = iota + 1
	kindRLock
	kindSemaphore
	kindEvent
	kindBarrier
	kindValue
	kindArray
	kindQueue
	kindPipe
)

// An object is what all handles have in common: this process's hold on the shared memory.
// It is the zero object in a handle that was not made by a constructor, and in one whose
// decoding failed: that is a closed handle.
type object struct{ h *segment.Handle }

// use keeps the memory from being unmapped until o.h.Release, and reports false if the
// handle is closed.
func (o *object) use() bool { return o.h != nil && o.h.Use() }

// close is Close.
func (o *object) close() error {
	if o.h != nil {
		o.h.Close()
	}
	return nil
}

// mustUse is use for methods that have no error to answer with.
func (o *object) mustUse() {
	if !o.use() {
		panic(ErrClosed)
	}
}

// CarryID, Export and Exported are for the encoders of this module.
func (o *object) CarryID() carry.ID {
	if o.h == nil {
		return carry.ID{}
	}
	return o.h.CarryID()
}

// Export is for the encoders of this module.
func (o *object) Export() ([]int, error) {
	if o.h == nil {
		return nil, ErrClosed
	}
	return o.h.Export()
}

// Exported is for the encoders of this module.
func (o *object) Exported() { o.h.Exported() }

// encode is GobEncode: what descriptors go along with.
func (o *object) encode(what string) ([]byte, error) {
	if o.h == nil || !o.h.Travelling() {
		return nil, errForeign("ipc." + what)
	}
	id := o.h.CarryID()
	return id[:], nil
}

// errForeign is the answer to encoders that take no descriptors along.
func errForeign(what string) error {
	return fmt.Errorf("%w: the descriptors of an %s go along with no encoder but this library's own: give it to a task as an argument, or send it through a Conn", executor.ErrNotPortable, what)
}

// MarshalText answers executor.ErrNotPortable, for encoders to text, such as encoding/json:
// they would write an object without anything in it.
func (o *object) MarshalText() ([]byte, error) { return nil, errForeign("ipc handle") }

// errNil is GobEncode's error for a nil handle in a slice or a map, which gob cannot do without.
func errNil(what string) error {
	return fmt.Errorf("ipc: a nil *%s cannot be encoded as an element: leave it out", what)
}

// claim is GobDecode: it returns the descriptors that came with b, n of them, and the rest of b.
func claim(what string, b []byte, n int) (fds []int, rest []byte, err error) {
	var id carry.ID
	if len(b) < len(id) {
		return nil, nil, fmt.Errorf("ipc: an encoded %s has %d bytes, which are too few", what, len(b))
	}
	fds, ok, err := carry.Claim(carry.ID(b[:len(id)]))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("ipc: a %s that came from another process: %w", what, err)
	case !ok:
		return nil, nil, fmt.Errorf("%w: an ipc.%s came without its descriptors", executor.ErrNotPortable, what)
	case len(fds) != n:
		carry.CloseAll(fds)
		return nil, nil, fmt.Errorf("ipc: a %s came with %d descriptors, not %d", what, len(fds), n)
	}
	return fds, b[len(id):], nil
}

// create makes an object of one file.
func (o *object) create(what string, spec segment.Spec, init func(*segment.Segment)) (err error) {
	if o.h, err = segment.Create(spec, init); err != nil {
		return fmt.Errorf("ipc: new %s: %w", what, err)
	}
	return nil
}

// open opens an object of one file that came encoded as b.
func (o *object) open(what string, b []byte, kind uint32, sig uint64, layout func([segment.Params]uint64) (segment.Spec, error)) (rest []byte, err error) {
	fds, rest, err := claim(what, b, 1)
	if err != nil {
		return nil, err
	}
	if o.h, err = segment.Open(fds[0], kind, sig, layout); err != nil {
		return nil, fmt.Errorf("ipc: a %s that came from another process: %w", what, err)
	}
	return rest, nil
}

// failed puts before err what was to be done: "ipc: lock: …". A nil err stays nil, and what
// says so itself stays as it is.
func failed(what string, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), "ipc: ") {
		return err
	}
	return fmt.Errorf("ipc: %s: %w", what, err)
}
