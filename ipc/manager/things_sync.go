package manager

import (
	"context"
	"fmt"
	"math"
	"sync"

	"example.com/futures/ipc"
)

// The operations of a Semaphore, each with an int.
const (
	opAcquire uint8 = iota + 1
	opTryAcquire
	opRelease
)

// A semaphoreThing hands what is released to the first of those who wait that it is enough
// for, so that nobody waits for what there is.
type semaphoreThing struct {
	bounded bool
	limit   int // of a bounded one

	mu   sync.Mutex // guards what follows
	free int
	held map[*client]int // of a bounded one
	line line
}

func newSemaphoreThing(n int, bounded bool) (*semaphoreThing, error) {
	if n < 0 {
		return nil, fmt.Errorf("n is %d, and must not be negative", n)
	}
	return &semaphoreThing{bounded: bounded, limit: n, free: n, held: make(map[*client]int)}, nil
}

func (s *semaphoreThing) do(ctx context.Context, by *client, op uint8, in *reader, out *writer) error {
	n := in.int()
	if err := in.end(); err != nil {
		return err
	}
	switch {
	case n < 0:
		return fmt.Errorf("n is %d, and must not be negative", n)
	case op != opRelease && s.bounded && n > s.limit:
		return fmt.Errorf("n is %d, and the semaphore has %d", n, s.limit)
	}
	switch op {
	case opAcquire:
		return s.acquire(ctx, by, n)
	case opTryAcquire:
		s.mu.Lock()
		ok, err := s.try(by, n)
		s.mu.Unlock()
		out.bool(ok)
		return err
	case opRelease:
		return s.release(by, n)
	default:
		return errBadRequest
	}
}

func (s *semaphoreThing) acquire(ctx context.Context, by *client, n int) error {
	s.mu.Lock()
	if ok, err := s.try(by, n); ok || err != nil {
		s.mu.Unlock()
		return err
	}
	if ctx.Err() != nil {
		s.mu.Unlock()
		return ctx.Err()
	}
	w := newWaiter(by)
	w.n = n
	s.line.push(w)
	s.mu.Unlock()
	return w.await(ctx, &s.mu, nil)
}

// try takes n if there are so many. mu is held.
func (s *semaphoreThing) try(by *client, n int) (bool, error) {
	switch {
	case by.left.Load():
		return false, ipc.ErrClosed
	case n > s.free:
		return false, nil
	}
	s.free -= n
	if s.bounded && n > 0 {
		s.held[by] += n
	}
	return true, nil
}

func (s *semaphoreThing) release(by *client, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.bounded && s.free > math.MaxInt-n:
		return fmt.Errorf("%d and %d more are too many to count", s.free, n)
	case s.bounded && s.held[by] < n:
		return ipc.ErrNotHeld
	}
	s.give(by, n)
	return nil
}

// give takes n back from by. mu is held.
func (s *semaphoreThing) give(by *client, n int) {
	if s.bounded {
		if s.held[by] -= n; s.held[by] == 0 {
			delete(s.held, by)
		}
	}
	s.free += n
	for w := s.line.head; w != nil && s.free > 0; {
		next := w.next
		if ok, err := s.try(w.by, w.n); ok || err != nil {
			w.end(err)
		}
		w = next
	}
}

func (s *semaphoreThing) gone(by *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line.gone(by)
	s.give(by, s.held[by])
}

func (s *semaphoreThing) drop() []datum { return nil }

// The operations of an Event.
const (
	opEventSet uint8 = iota + 1
	opEventClear
	opEventIsSet // → bool
	opEventWait
)

type eventThing struct {
	mu   sync.Mutex // guards what follows
	set  bool
	line line // empty if it is set
}

func newEventThing() *eventThing { return new(eventThing) }

func (e *eventThing) do(ctx context.Context, by *client, op uint8, in *reader, out *writer) error {
	if err := in.end(); err != nil {
		return err
	}
	if op == opEventWait {
		return e.wait(ctx, by)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch op {
	case opEventSet:
		e.set = true
		e.line.endAll(nil)
	case opEventClear:
		e.set = false
	case opEventIsSet:
		out.bool(e.set)
	default:
		return errBadRequest
	}
	return nil
}

func (e *eventThing) wait(ctx context.Context, by *client) error {
	e.mu.Lock()
	if e.set || ctx.Err() != nil {
		defer e.mu.Unlock()
		if e.set {
			return nil
		}
		return ctx.Err()
	}
	w := newWaiter(by)
	e.line.push(w)
	e.mu.Unlock()
	return w.await(ctx, &e.mu, nil)
}

func (e *eventThing) gone(by *client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.line.gone(by)
}

func (e *eventThing) drop() []datum { return nil }

// The operations of a Barrier.
const (
	opBarrierWait uint8 = iota + 1 // → int
	opBarrierAbort
	opBarrierReset
	opBarrierWaiting // → int
)

// A barrierThing has the parties that wait in a line. Whoever ends a pass, well or not, ends
// the wait of all of them at once, so that no pass knows of another.
type barrierThing struct {
	parties int

	mu     sync.Mutex // guards what follows
	broken bool
	line   line // of parties-1 at most
}

func newBarrierThing(parties int) (*barrierThing, error) {
	if parties < 1 || parties > math.MaxInt32 {
		return nil, fmt.Errorf("parties is %d, and must be from 1 to %d", parties, math.MaxInt32)
	}
	return &barrierThing{parties: parties}, nil
}

func (b *barrierThing) do(ctx context.Context, by *client, op uint8, in *reader, out *writer) error {
	if err := in.end(); err != nil {
		return err
	}
	if op == opBarrierWait {
		index, err := b.wait(ctx, by)
		out.int(index)
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch op {
	case opBarrierAbort:
		b.breakUp()
	case opBarrierReset:
		b.line.endAll(ipc.ErrBrokenBarrier)
		b.broken = false
	case opBarrierWaiting:
		out.int(b.line.n)
	default:
		return errBadRequest
	}
	return nil
}

// breakUp breaks the barrier. mu is held.
func (b *barrierThing) breakUp() {
	b.broken = true
	b.line.endAll(ipc.ErrBrokenBarrier)
}

func (b *barrierThing) wait(ctx context.Context, by *client) (index int, err error) {
	b.mu.Lock()
	switch {
	case by.left.Load():
		b.mu.Unlock()
		return 0, ipc.ErrClosed
	case b.broken:
		b.mu.Unlock()
		return 0, ipc.ErrBrokenBarrier
	case b.line.n == b.parties-1:
		b.line.endAll(nil)
		b.mu.Unlock()
		return b.parties - 1, nil
	case first(ctx):
		b.mu.Unlock()
		return 0, ctx.Err()
	}
	w := newWaiter(by)
	w.n = b.line.n
	b.line.push(w)
	b.mu.Unlock()

	gaveUp := false
	err = w.await(ctx, &b.mu, func() {
		gaveUp = true
		b.breakUp()
	})
	switch {
	case gaveUp:
		return 0, fmt.Errorf("%w: %w", ipc.ErrBrokenBarrier, err)
	case err != nil:
		return 0, err
	}
	return w.n, nil
}

func (b *barrierThing) gone(by *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.line.n; n > 0 {
		if b.line.gone(by); b.line.n < n {
			b.breakUp()
		}
	}
}

func (b *barrierThing) drop() []datum { return nil }
