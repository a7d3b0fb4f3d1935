package ipc

import (
	"context"
	"fmt"

	"example.com/futures/internal/segment"
)

// A Lock is a mutual exclusion lock between processes. The process that took it holds it,
// not a goroutine: any goroutine of that process may unlock it.
//
// The holder may die, or close the handle by which it took the lock. Then the lock is let
// go and marked: [Lock.Lock], [Lock.TryLock] and [Cond.Wait] answer [ErrOwnerDied] to
// everybody, until somebody takes it by [Lock.Recover], who thereby says that he has dealt
// with what may be half-written.
//
// A Lock is safe for concurrent use, in and between processes. It is a handle: see the
// package on how it travels and who closes it.
//
// Reference: multiprocessing.Lock (Python 3.14), which stays locked for ever when its holder
// dies, and which any process may release; PTHREAD_MUTEX_ROBUST, whose first locker alone
// learns of the death.
type Lock struct {
	object
	robust robust
	conds  conds
}

// The bells of a Lock.
const (
	bellLock segment.Bell = iota
	bellCond
)

// lockBody is the length of the body of a lock: its word, on a line of its own, and what its
// conds need.
const lockBody = 64 + condsLen

// NewLock returns a new lock that nobody holds.
//
// Errors: what the system answers when there is no memory or no descriptor left.
func NewLock() (*Lock, error) {
	l := new(Lock)
	if err := l.create("lock", lockSpec, nil); err != nil {
		return nil, err
	}
	l.bind()
	return l, nil
}

var lockSpec = segment.Spec{Kind: kindLock, Body: lockBody, Bury: buryLock}

func buryLock(s *segment.Segment, i int) {
	condsAt(s).bury(s, i)
	robust{word: s.Word32(0)}.bury(i)
}

func (l *Lock) bind() {
	l.robust = robust{word: l.h.Word32(0), bell: bellLock}
	l.conds = condsAt(l.h.Segment)
}

// Lock waits until this process holds the lock.
//
// Errors: one that matches ctx.Err() when ctx ends first, [ErrOwnerDied], [ErrClosed]. With
// an error the lock is not held. A lock that is free is taken also under a ctx that has ended.
func (l *Lock) Lock(ctx context.Context) error {
	if !l.use() {
		return ErrClosed
	}
	err := l.robust.lock(ctx, l.h)
	l.h.Release()
	return failed("lock", err)
}

// TryLock takes the lock if it is free, and reports whether it did.
//
// Errors: [ErrOwnerDied], [ErrClosed].
func (l *Lock) TryLock() (bool, error) {
	if !l.use() {
		return false, ErrClosed
	}
	ok, err := l.robust.tryLock(l.h)
	l.h.Release()
	return ok, failed("try lock", err)
}

// Recover is Lock, but for one thing: it also takes a lock whose holder died, and clears the
// mark. It is for who can mend, or need not, what the lock guards.
//
// Errors: one that matches ctx.Err(), [ErrClosed].
func (l *Lock) Recover(ctx context.Context) error {
	if !l.use() {
		return ErrClosed
	}
	err := l.robust.recover(ctx, l.h)
	l.h.Release()
	return failed("recover", err)
}

// Unlock lets go of the lock.
//
// Errors: [ErrNotHeld] unless this process holds it, [ErrClosed].
func (l *Lock) Unlock() error {
	if !l.use() {
		return ErrClosed
	}
	err := l.robust.unlock(l.h)
	l.h.Release()
	return err
}

// Holder returns the ID of the process that holds the lock, as that process knows it; 0 if
// nobody does. By the time it returns that may have changed.
//
// Holder panics with [ErrClosed] on a closed handle.
func (l *Lock) Holder() int {
	l.mustUse()
	defer l.h.Release()
	l.robust.check(l.h)
	if i, held := l.robust.holder(); held {
		return l.h.PID(i)
	}
	return 0
}

// String says whether the lock is held, and by which process.
func (l *Lock) String() string {
	if !l.use() {
		return "ipc.Lock(closed)"
	}
	defer l.h.Release()
	return "ipc.Lock(" + l.robust.state(l.h) + ")"
}

func (r robust) state(h *segment.Handle) string {
	r.check(h)
	switch i, held := r.holder(); {
	case held && h.Mine(i):
		return "held by this process"
	case held:
		return fmt.Sprintf("held by process %d", h.PID(i))
	case r.word.Load() == marked:
		return "its holder died"
	default:
		return "free"
	}
}

// Close lets go of this process's handle, and of the lock, marking it, if it was taken by
// this handle. Who waits by it is answered [ErrClosed]. It may be called again; the error is
// always nil.
func (l *Lock) Close() error { return l.close() }

// GobEncode is for the encoders of this module, which take descriptors along.
//
// Errors: executor.ErrNotPortable from any other one.
func (l *Lock) GobEncode() ([]byte, error) {
	if l == nil {
		return nil, errNil("Lock")
	}
	return l.encode("Lock")
}

// GobDecode is for the decoders of this module.
func (l *Lock) GobDecode(b []byte) error {
	if _, err := l.open("lock", b, kindLock, 0, fixed(lockSpec)); err != nil {
		return err
	}
	l.bind()
	return nil
}

// fixed is the layout of an object that has always the same.
func fixed(spec segment.Spec) func([segment.Params]uint64) (segment.Spec, error) {
	return func([segment.Params]uint64) (segment.Spec, error) { return spec, nil }
}
