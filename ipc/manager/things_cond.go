package manager

import (
	"context"
	"fmt"
	"slices"

	"example.com/futures/ipc"
)

// The operations of a Cond.
const (
	opCondWait   uint8 = iota + 1
	opCondNotify       // int
	opCondNotifyAll
	opCondLock // → datum that names it
)

// A condThing is a condition of a lock. Who waits for it moves to the line of the lock when
// it is notified, or gives up:
//
//	                ┌──── notified: cond is set ────▶┐
//	Wait ── waiting ┤                                ├ line of the lock ──▶ holds it
//	        │       └─── ctx ended: cond is nil ────▶┘  │
//	        └─ goes                                     └─ goes: what it was notified of passes on
//
// The mutex of the lock guards all of it.
type condThing struct {
	lock    *lockThing
	held    datum // the name of the lock
	waiting line
}

// newCondOf makes a condition of the lock that has an ID.
func newCondOf(k keeper, id uint64, find func(id uint64) (thing, bool)) (thing, error) {
	t, ok := find(id)
	if !ok {
		return nil, fmt.Errorf("its lock: %w", ipc.ErrClosed)
	}
	l, ok := t.(*lockThing)
	if !ok {
		return nil, errBadRequest
	}
	return newCondThing(k, l, id), nil
}

func newCondThing(k keeper, l *lockThing, id uint64) *condThing {
	c := &condThing{lock: l, held: stored(k, datum{refs: []uint64{id}})}
	l.mu.Lock()
	l.conds = append(l.conds, c)
	l.mu.Unlock()
	return c
}

func (c *condThing) do(ctx context.Context, by *client, op uint8, in *reader, out *writer) error {
	n := 0
	if op == opCondNotify {
		n = in.int()
	}
	if err := in.end(); err != nil {
		return err
	}
	switch op {
	case opCondWait:
		return c.wait(ctx, by)
	case opCondNotify:
		return c.notifyBy(by, n)
	case opCondNotifyAll:
		return c.notifyBy(by, -1)
	case opCondLock:
		out.datum(c.held)
		return nil
	default:
		return errBadRequest
	}
}

func (c *condThing) wait(ctx context.Context, by *client) error {
	l := c.lock
	l.mu.Lock()
	if l.holder != by {
		l.mu.Unlock()
		return ipc.ErrNotHeld
	}
	if first(ctx) {
		l.mu.Unlock()
		return ctx.Err()
	}
	w := newWaiter(by)
	c.waiting.push(w)
	l.letGo()
	l.mu.Unlock()

	select {
	case <-w.ready:
		return w.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	gaveUp := w.in == &c.waiting
	if gaveUp {
		w.leave()
		if noProxy(ctx) {
			l.mu.Unlock()
			return ipc.ErrClosed
		}
		if ok, err := l.try(by, false); ok || err != nil {
			l.mu.Unlock()
			if err == nil {
				err = ctx.Err()
			}
			return err
		}
		l.line.push(w)
	}
	l.mu.Unlock()
	<-w.ready // until the lock is let go, or the client has gone
	if w.err == nil && gaveUp {
		return ctx.Err()
	}
	return w.err
}

func (c *condThing) notifyBy(by *client, n int) error {
	c.lock.mu.Lock()
	defer c.lock.mu.Unlock()
	if c.lock.holder != by {
		return ipc.ErrNotHeld
	}
	c.notify(n)
	return nil
}

// notify has up to n who wait wait for the lock instead; all, if n is negative. The mutex of
// the lock is held. Somebody holds the lock, or it is about to be handed to its line.
func (c *condThing) notify(n int) {
	for n != 0 && c.waiting.head != nil {
		w := c.waiting.head
		if w.by.left.Load() {
			w.end(ipc.ErrClosed)
			continue
		}
		w.leave()
		w.cond = c
		c.lock.line.push(w)
		n--
	}
}

// gone is for a client that has no proxy of the condition any more. Of one that has gone
// altogether the lock is told, too.
func (c *condThing) gone(by *client) {
	l := c.lock
	l.mu.Lock()
	defer l.mu.Unlock()
	c.waiting.gone(by)
	for _, w := range l.line.all() {
		if w.by == by && w.cond == c {
			w.pass()
		}
	}
}

func (c *condThing) drop() []datum {
	l := c.lock
	l.mu.Lock()
	defer l.mu.Unlock()
	c.waiting.endAll(ipc.ErrClosed)
	if i := slices.Index(l.conds, c); i >= 0 {
		l.conds = slices.Delete(l.conds, i, i+1)
	}
	return []datum{c.held}
}
