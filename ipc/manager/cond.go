package manager

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"example.com/futures/ipc"
)

// A Cond is a condition variable between the clients of a manager: a place to wait for a change
// of what its lock guards, and to tell of one.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost].
//
// A Cond is a [Proxy], and safe for concurrent use, in and between processes. A proxy that has
// come from another process, or from [Lookup], has an L of its own.
//
// Reference: sync.Cond; SyncManager.Condition (Python 3.14), where a waiter that died takes a
// notification with it.
type Cond struct {
	object

	// L is the lock that is held to wait and to notify. It is not changed.
	L *Lock

	came bool // with an L of its own
}

// NewCond has the server of m make a condition of l, which is its L, and returns a proxy of it.
//
// Errors: an l of another manager; [ipc.ErrClosed], [ErrLost].
func NewCond(ctx context.Context, m *Manager, l *Lock) (*Cond, error) {
	c := &Cond{L: l}
	if l == nil {
		return nil, errors.New("manager: new Cond: the lock is nil")
	}
	of, err := l.manager()
	if err != nil {
		return nil, err
	}
	if to, err := m.connection(); err == nil && to.id != of.id {
		return nil, fmt.Errorf("manager: new Cond: its lock: %w", errOther)
	}
	err = create(ctx, m, kindCond, c, func(w *writer) { w.uint(l.id()) })
	runtime.KeepAlive(l) // until the condition holds it
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Wait lets go of L, waits until it is notified, and takes L again. As with any condition
// variable the caller looks again, in a loop, at what it waits for.
//
// Whoever is notified while it gives up has either been notified, and the error is nil, or
// leaves the notification to somebody else.
//
// Errors: [ipc.ErrNotHeld] unless this process holds L; one that matches ctx.Err() when ctx ended
// first; [ipc.ErrOwnerDied], [ipc.ErrClosed] and [ErrLost], which come without L. With any other
// answer L is held, however long that takes.
func (c *Cond) Wait(ctx context.Context) error { return c.do(ctx, "cond wait", opCondWait, nil) }

// Notify wakes n of those who wait, those first who came first, or all, if there are fewer.
// Nothing of it is kept for who comes later. It is carried out under a ctx that has ended, too.
//
// Errors: [ipc.ErrNotHeld] unless this process holds L; an n below 0.
func (c *Cond) Notify(ctx context.Context, n int) error {
	if n < 0 {
		return fmt.Errorf("manager: notify: n is %d, and must not be negative", n)
	}
	return c.do(ctx, "notify", opCondNotify, func(w *writer) { w.int(n) })
}

// NotifyAll wakes all who wait. It is carried out under a ctx that has ended, too.
//
// Errors: [ipc.ErrNotHeld] unless this process holds L.
func (c *Cond) NotifyAll(ctx context.Context) error {
	return c.do(ctx, "notify all", opCondNotifyAll, nil)
}

// Close lets go of the condition. L stays open, but for the L of a Cond that came from another
// process or from [Lookup], which nobody else has: it is closed too. It may be called again; the
// error is always nil.
func (c *Cond) Close() error {
	if c == nil {
		return nil
	}
	if c.came {
		_ = c.L.Close()
	}
	return c.object.Close()
}

// condTime is how long the server may take to tell what the lock of a Cond is that has come.
const condTime = 30 * time.Second

// complete gets the lock of a proxy that has come.
func (c *Cond) complete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, condTime)
	defer cancel()
	err := c.call(ctx, opCondLock, nil, func(r *reader) error {
		d := r.datum()
		if err := r.end(); err != nil {
			return err
		}
		if len(d.refs) != 1 {
			return ipc.ErrClosed
		}
		l := new(Lock)
		l.h = c.h.conn.handle(d.refs[0], l.describe())
		c.L, c.came = l, true
		return nil
	})
	if err != nil {
		_ = c.object.Close()
		return fmt.Errorf("manager: the lock of a Cond: %w", err)
	}
	return nil
}

func (*Cond) describe() string { return "Cond" }

// GobEncode is for the encoders of this module. L goes along.
//
// Errors: executor.ErrNotPortable from any other one.
func (c *Cond) GobEncode() ([]byte, error) { return encode(c) }

// GobDecode is for the decoders of this module.
func (c *Cond) GobDecode(b []byte) error {
	if err := c.decode(c, b); err != nil {
		return err
	}
	return c.complete(context.Background())
}
