package ipc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"

	"example.com/futures/internal/segment"
)

// An RLock is a lock between processes that whoever holds it can take again. A goroutine has
// no identity that a library could go by, so the owner is a context: [RLock.Lock] returns one
// that owns the lock, and Lock under it, or under one derived from it, enters again.
//
// When the holder dies it is as with a [Lock]: the lock is let go, and marked.
//
// An RLock is safe for concurrent use, in and between processes. It is a handle: see the
// package on how it travels and who closes it.
//
// Reference: multiprocessing.RLock (Python 3.14), whose owner is a thread.
type RLock struct {
	object
	robust robust
	name   uint64         // which lock this is, in all processes
	state  *atomic.Uint64 // who has it, which is what a ctx carries, and in the lowest bits how often he has entered; 0: nobody
}

// depthMask is the bits of the state that count.
const depthMask = 1<<24 - 1

// rlockKey asks a ctx for its ownership of a lock.
type rlockKey struct{ lock uint64 }

func rlockSpec(name uint64) segment.Spec {
	return segment.Spec{Kind: kindRLock, Params: [segment.Params]uint64{name}, Body: 64, Bury: func(s *segment.Segment, i int) {
		r := robust{word: s.Word32(0)}
		if holder, held := r.holder(); held && holder == i {
			s.Word64(8).Store(0) // its ctx owns nothing any more
		}
		r.bury(i)
	}}
}

// NewRLock returns a new lock that nobody holds.
//
// Errors: what the system answers when there is no memory or no descriptor left.
func NewRLock() (*RLock, error) {
	l := &RLock{name: random()}
	if err := l.create("rlock", rlockSpec(l.name), nil); err != nil {
		return nil, err
	}
	l.bind()
	return l, nil
}

func (l *RLock) bind() {
	l.robust = robust{word: l.h.Word32(0)}
	l.state = l.h.Word64(8)
}

func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) | 1<<63
}

// Lock waits until the ctx that it returns owns the lock. If ctx owns it already, Lock enters
// once more, and returns ctx.
//
// Errors: as of [Lock.Lock]. With an error ctx comes back as it was.
func (l *RLock) Lock(ctx context.Context) (context.Context, error) {
	if !l.use() {
		return ctx, ErrClosed
	}
	defer l.h.Release()
	if l.enter(ctx) {
		return ctx, nil
	}
	return l.entered(ctx, "lock", l.robust.lock(ctx, l.h))
}

// Recover is Lock, but that it also takes a lock whose holder died, and clears the mark.
//
// Errors: one that matches ctx.Err(), [ErrClosed]. With an error ctx comes back as it was.
func (l *RLock) Recover(ctx context.Context) (context.Context, error) {
	if !l.use() {
		return ctx, ErrClosed
	}
	defer l.h.Release()
	if l.enter(ctx) {
		return ctx, nil
	}
	return l.entered(ctx, "recover", l.robust.recover(ctx, l.h))
}

// enter enters once more if ctx owns the lock: while it is held, and not by somebody who
// is just letting go of it.
func (l *RLock) enter(ctx context.Context) bool {
	who, _ := ctx.Value(rlockKey{l.name}).(uint64)
	if who == 0 || !l.robust.mine(l.h) {
		return false
	}
	for {
		s := l.state.Load()
		if s&depthMask == 0 || s&^depthMask != who {
			return false
		}
		if l.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// entered makes ctx the owner of a lock that was just taken.
func (l *RLock) entered(ctx context.Context, what string, err error) (context.Context, error) {
	if err != nil {
		return ctx, failed(what, err)
	}
	who := random() &^ depthMask
	l.state.Store(who | 1)
	return context.WithValue(ctx, rlockKey{l.name}, who), nil
}

// Unlock takes one Lock back. After the last one the ctx owns nothing any more.
//
// Errors: [ErrNotHeld] unless this process holds the lock, [ErrClosed].
func (l *RLock) Unlock() error {
	if !l.use() {
		return ErrClosed
	}
	defer l.h.Release()
	if !l.robust.mine(l.h) {
		return ErrNotHeld
	}
	for {
		switch s := l.state.Load(); {
		case s&depthMask == 0:
			return ErrNotHeld // somebody else here was faster
		case s&depthMask > 1:
			if l.state.CompareAndSwap(s, s-1) {
				return nil
			}
		case l.state.CompareAndSwap(s, 0):
			segment.At("rlock: nobody's")
			return l.robust.unlock(l.h)
		}
	}
}

// String says whether the lock is held, and by which process.
func (l *RLock) String() string {
	if !l.use() {
		return "ipc.RLock(closed)"
	}
	defer l.h.Release()
	return "ipc.RLock(" + l.robust.state(l.h) + ")"
}

// Close lets go of this process's handle, and of the lock, marking it, if it was taken by
// this handle. Who waits by it is answered [ErrClosed]. It may be called again; the error is
// always nil.
func (l *RLock) Close() error { return l.close() }

// GobEncode is for the encoders of this module, which take descriptors along.
//
// Errors: executor.ErrNotPortable from any other one.
func (l *RLock) GobEncode() ([]byte, error) {
	if l == nil {
		return nil, errNil("RLock")
	}
	return l.encode("RLock")
}

// GobDecode is for the decoders of this module.
func (l *RLock) GobDecode(b []byte) error {
	_, err := l.open("rlock", b, kindRLock, 0, func(params [segment.Params]uint64) (segment.Spec, error) {
		l.name = params[0]
		return rlockSpec(params[0]), nil
	})
	if err != nil {
		return err
	}
	l.bind()
	return nil
}
