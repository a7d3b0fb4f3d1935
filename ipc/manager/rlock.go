package manager

import "context"

// An RLock is a lock between the clients of a manager that whoever holds it can take again. The
// owner is a context: [RLock.Lock] returns one that owns the lock, and Lock under it, or under
// one derived from it, enters again.
//
// When the holder dies it is as with a [Lock]: the lock is let go, and marked.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost].
//
// An RLock is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.RLock (Python 3.14), whose owner is a thread of a client.
type RLock struct{ object }

// rlockKey asks a ctx for its ownership of a lock: the token under which the server has it.
type rlockKey struct {
	manager managerID
	lock    uint64
}

// NewRLock has the server of m make a lock that nobody holds, and returns a proxy of it.
//
// Errors: [ipc.ErrClosed], [ErrLost].
func NewRLock(ctx context.Context, m *Manager) (*RLock, error) {
	l := new(RLock)
	if err := create(ctx, m, kindRLock, l, nil); err != nil {
		return nil, err
	}
	return l, nil
}

// Lock waits until the ctx that it returns owns the lock. If ctx owns it already, Lock enters
// once more, and returns ctx.
//
// Errors: as of [Lock.Lock]. With an error ctx comes back as it was.
func (l *RLock) Lock(ctx context.Context) (context.Context, error) {
	return l.enter(ctx, "lock", opLock)
}

// Recover is Lock, but that it also takes a lock whose holder died, and clears the mark.
//
// Errors: one that matches ctx.Err() when ctx ends first. With an error ctx comes back as it was.
func (l *RLock) Recover(ctx context.Context) (context.Context, error) {
	return l.enter(ctx, "recover", opRecover)
}

func (l *RLock) enter(ctx context.Context, what string, op uint8) (context.Context, error) {
	c, err := l.manager()
	if err != nil {
		return ctx, err
	}
	key := rlockKey{c.id, l.h.id}
	had, _ := ctx.Value(key).(uint64)
	var token uint64
	err = l.call(ctx, op, func(w *writer) { w.uint(had) }, func(r *reader) error {
		token = r.uint()
		return r.end()
	})
	switch {
	case err != nil:
		return ctx, failed(what, err)
	case token == had:
		return ctx, nil
	default:
		return context.WithValue(ctx, key, token), nil
	}
}

// Unlock takes one Lock back. After the last one the ctx owns nothing any more. It is carried
// out under a ctx that has ended, too, and under one that does not own the lock.
//
// Errors: [ipc.ErrNotHeld] unless this process holds the lock.
func (l *RLock) Unlock(ctx context.Context) error { return l.do(ctx, "unlock", opUnlock, nil) }

func (*RLock) describe() string { return "RLock" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (l *RLock) GobEncode() ([]byte, error) { return encode(l) }

// GobDecode is for the decoders of this module.
func (l *RLock) GobDecode(b []byte) error { return l.decode(l, b) }
