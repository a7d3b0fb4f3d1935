package ipc

import (
	"context"
	"sync/atomic"

	"example.com/futures/internal/segment"
)

// An Event is a flag between processes that can be waited for.
//
// An Event is safe for concurrent use, in and between processes. It is a handle: see the
// package on how it travels and who closes it.
//
// Reference: multiprocessing.Event (Python 3.14), where an event that is set and cleared at
// once may wake nobody; here everybody who waited at that time goes on.
type Event struct {
	object
	word *atomic.Uint64 // how often it was set, and in the lowest bit whether it is
}

var eventSpec = segment.Spec{Kind: kindEvent, Body: 64, Bury: func(*segment.Segment, int) {}}

// NewEvent returns a new event that is not set.
//
// Errors: what the system answers when there is no memory or no descriptor left.
func NewEvent() (*Event, error) {
	e := new(Event)
	if err := e.create("event", eventSpec, nil); err != nil {
		return nil, err
	}
	e.word = e.h.Word64(0)
	return e, nil
}

// Set sets the event: who waits goes on, and whoever comes does not wait, until Clear.
//
// Errors: [ErrClosed].
func (e *Event) Set() error {
	if !e.use() {
		return ErrClosed
	}
	defer e.h.Release()
	for {
		w := e.word.Load()
		if w&1 != 0 {
			return nil // whoever has set it wakes the waiters
		}
		if e.word.CompareAndSwap(w, w+3) {
			segment.At("set: set")
			e.h.Ring(0, -1)
			return nil
		}
	}
}

// Clear takes Set back, for those who come from now on.
//
// Errors: [ErrClosed].
func (e *Event) Clear() error {
	if !e.use() {
		return ErrClosed
	}
	e.word.And(^uint64(1))
	e.h.Release()
	return nil
}

// IsSet reports whether the event is set.
//
// IsSet panics with [ErrClosed] on a closed handle.
func (e *Event) IsSet() bool {
	e.mustUse()
	set := e.word.Load()&1 != 0
	e.h.Release()
	return set
}

// Wait waits until the event is set, also if it is cleared again at once.
//
// Errors: one that matches ctx.Err() when ctx ended first, [ErrClosed].
func (e *Event) Wait(ctx context.Context) error {
	if !e.use() {
		return ErrClosed
	}
	defer e.h.Release()
	begin := e.word.Load()
	if begin&1 != 0 {
		return nil
	}
	return failed("event wait", e.h.Await(ctx, segment.Wait{All: true, Try: func() (bool, error) {
		w := e.word.Load()
		return w&1 != 0 || w>>1 != begin>>1, nil
	}}))
}

// String says whether the event is set.
func (e *Event) String() string {
	if !e.use() {
		return "ipc.Event(closed)"
	}
	defer e.h.Release()
	if e.word.Load()&1 != 0 {
		return "ipc.Event(set)"
	}
	return "ipc.Event(unset)"
}

// Close lets go of this process's handle. Who waits by it is answered [ErrClosed]. It may be
// called again; the error is always nil.
func (e *Event) Close() error { return e.close() }

// GobEncode is for the encoders of this module, which take descriptors along.
//
// Errors: executor.ErrNotPortable from any other one.
func (e *Event) GobEncode() ([]byte, error) {
	if e == nil {
		return nil, errNil("Event")
	}
	return e.encode("Event")
}

// GobDecode is for the decoders of this module.
func (e *Event) GobDecode(b []byte) error {
	if _, err := e.open("event", b, kindEvent, 0, fixed(eventSpec)); err != nil {
		return err
	}
	e.word = e.h.Word64(0)
	return nil
}
