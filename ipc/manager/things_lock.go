package manager

import (
	"context"
	"sync"

	"example.com/futures/ipc"
)

// The operations of a Lock, and of an RLock.
const (
	opLock uint8 = iota + 1 // of an RLock: the token of the ctx, or 0 → the token
	opTryLock
	opRecover // as opLock
	opUnlock
)

// A robust is a lock that clients hold while their own code runs. If the holder goes it
// leaves a mark, for what the lock guards may be half-written.
//
//	       ┌──────────── lock ────────────▶┐
//	free ──┤                               ├─ held ── holder goes ──▶ marked
//	  ▲    └◀──────────── unlock ──────────┘    ▲                       │
//	  │                                         └────────recover ───────┘
//
// Whoever lets go hands it to the first who waits, so that nobody waits for a lock that is
// free or marked.
type robust struct {
	mu     sync.Mutex // guards all
	holder *client    // nil: free, or marked
	marked bool
	token  uint64 // of the holder: how often the lock was taken
	depth  int    // how often the holder has entered
	line   line
	conds  []*condThing // of a Lock
}

// enter takes the lock for by, or enters it again if by holds it under token, and returns
// the token under which it is held.
func (r *robust) enter(ctx context.Context, by *client, token uint64, recovers bool) (uint64, error) {
	r.mu.Lock()
	if token != 0 && r.holder == by && r.token == token {
		r.depth++
		r.mu.Unlock()
		return token, nil
	}
	if ok, err := r.try(by, recovers); ok || err != nil {
		token = r.token
		r.mu.Unlock()
		return token, err
	}
	if ctx.Err() != nil {
		r.mu.Unlock()
		return 0, ctx.Err()
	}
	w := newWaiter(by)
	w.recovers = recovers
	r.line.push(w)
	r.mu.Unlock()
	if err := w.await(ctx, &r.mu, nil); err != nil {
		return 0, err
	}
	return w.token, nil
}

// try takes the lock for by if nobody holds it. mu is held.
func (r *robust) try(by *client, recovers bool) (bool, error) {
	switch {
	case by.left.Load():
		return false, ipc.ErrClosed
	case r.holder != nil:
		return false, nil
	case r.marked && !recovers:
		return false, ipc.ErrOwnerDied
	}
	r.hold(by)
	return true, nil
}

// hold makes by the holder. mu is held.
func (r *robust) hold(by *client) {
	r.holder, r.marked, r.depth = by, false, 1
	r.token++
}

// letGo hands the lock to the first who waits. mu is held.
func (r *robust) letGo() {
	r.holder, r.depth = nil, 0
	for r.line.head != nil {
		w := r.line.head
		if w.by.left.Load() {
			w.pass()
			continue
		}
		r.hold(w.by)
		w.token = r.token
		w.end(nil)
		return
	}
}

// pass ends the wait of w, whose client has gone. What w was notified of goes on to another.
func (w *waiter) pass() {
	w.end(ipc.ErrClosed)
	if w.cond != nil {
		w.cond.notify(1)
	}
}

// exit takes one enter of the holder back.
func (r *robust) exit(by *client) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holder != by {
		return ipc.ErrNotHeld
	}
	if r.depth--; r.depth == 0 {
		r.letGo()
	}
	return nil
}

func (r *robust) gone(by *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conds {
		c.waiting.gone(by)
	}
	for _, w := range r.line.all() {
		if w.by == by {
			w.pass()
		}
	}
	if r.holder == by {
		r.mark()
	}
}

// mark tells those who wait that the holder is gone, but for one who takes the lock in spite
// of that. mu is held.
func (r *robust) mark() {
	r.holder, r.marked, r.depth = nil, true, 0
	for _, c := range r.conds {
		c.waiting.endAll(ipc.ErrOwnerDied)
	}
	for _, w := range r.line.all() {
		if !w.recovers {
			w.end(ipc.ErrOwnerDied)
		}
	}
	if r.line.head != nil {
		r.letGo()
	}
}

func (r *robust) drop() []datum { return nil }

type lockThing struct{ robust }

func newLockThing() *lockThing { return new(lockThing) }

func (l *lockThing) do(ctx context.Context, by *client, op uint8, in *reader, out *writer) error {
	if err := in.end(); err != nil {
		return err
	}
	var err error
	switch op {
	case opLock:
		_, err = l.enter(ctx, by, 0, false)
	case opTryLock:
		var ok bool
		l.mu.Lock()
		ok, err = l.try(by, false)
		l.mu.Unlock()
		out.bool(ok)
	case opRecover:
		_, err = l.enter(ctx, by, 0, true)
	case opUnlock:
		err = l.exit(by)
	default:
		err = errBadRequest
	}
	return err
}

type rlockThing struct{ robust }

func newRLockThing() *rlockThing { return new(rlockThing) }

func (l *rlockThing) do(ctx context.Context, by *client, op uint8, in *reader, out *writer) error {
	var token uint64
	if op == opLock || op == opRecover {
		token = in.uint()
	}
	if err := in.end(); err != nil {
		return err
	}
	switch op {
	case opLock, opRecover:
		token, err := l.enter(ctx, by, token, op == opRecover)
		out.uint(token)
		return err
	case opUnlock:
		return l.exit(by)
	default:
		return errBadRequest
	}
}
