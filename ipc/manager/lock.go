package manager

import "context"

// A Lock is a mutual exclusion lock between the clients of a manager. The process that took it
// holds it, by the connection that it has to the server, not a goroutine: any goroutine of that
// process may unlock it.
//
// The holder may die, or close its last proxy of the lock. Then the lock is let go and marked:
// [Lock.Lock], [Lock.TryLock] and [Cond.Wait] answer [ipc.ErrOwnerDied] to everybody, until
// somebody takes it by [Lock.Recover], who thereby says that he has dealt with what may be
// half-written.
//
// Each method is one round trip. Who waits is served in the order in which he came.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost].
//
// A Lock is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.Lock (Python 3.14), which stays locked for ever when its holder dies,
// and which any process may release.
type Lock struct{ object }

// NewLock has the server of m make a lock that nobody holds, and returns a proxy of it.
//
// Errors: [ipc.ErrClosed], [ErrLost].
func NewLock(ctx context.Context, m *Manager) (*Lock, error) {
	l := new(Lock)
	if err := create(ctx, m, kindLock, l, nil); err != nil {
		return nil, err
	}
	return l, nil
}

// Lock waits until this process holds the lock.
//
// Errors: one that matches ctx.Err() when ctx ends first, [ipc.ErrOwnerDied]. With an error the
// lock is not held. A lock that is free is taken also under a ctx that has ended.
func (l *Lock) Lock(ctx context.Context) error { return l.do(ctx, "lock", opLock, nil) }

// TryLock takes the lock if it is free, and reports whether it did.
//
// Errors: [ipc.ErrOwnerDied].
func (l *Lock) TryLock(ctx context.Context) (bool, error) {
	return l.askBool(ctx, "try lock", opTryLock, nil)
}

// Recover is Lock, but for one thing: it also takes a lock whose holder died, and clears the
// mark. It is for who can mend, or need not, what the lock guards.
//
// Errors: one that matches ctx.Err() when ctx ends first.
func (l *Lock) Recover(ctx context.Context) error { return l.do(ctx, "recover", opRecover, nil) }

// Unlock lets go of the lock. It is carried out under a ctx that has ended, too.
//
// Errors: [ipc.ErrNotHeld] unless this process holds it.
func (l *Lock) Unlock(ctx context.Context) error { return l.do(ctx, "unlock", opUnlock, nil) }

func (*Lock) describe() string { return "Lock" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (l *Lock) GobEncode() ([]byte, error) { return encode(l) }

// GobDecode is for the decoders of this module.
func (l *Lock) GobDecode(b []byte) error { return l.decode(l, b) }
