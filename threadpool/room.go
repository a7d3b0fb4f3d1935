package threadpool

import (
	"container/list"
	"context"

	"example.com/futures/executor"
	"example.com/futures/internal/lend"
)

// A room is the book-keeping of a bounded queue: how full it is and who waits for
// it to be less so. Room is given to the first waiter by whoever leaves the lock
// (see pool.unlock), in its name and before it wakes up: no wake-up can be lost, and
// nobody overtakes. pool.mu guards it.
//
// Room that was given to somebody who has yet to wake up counts as reserved.
type room struct {
	limit int // 0: the queue is not bounded, and nothing below is used

	items    int // in the queue, cancelled ones not counted
	reserved int // items that room was given to, and that are not in the queue yet
	coming   int // the calls that these belong to

	waiting  list.List // of *waiter, by falling priority, then by arrival
	answered *waiter   // those that unlock wakes, linked by then
}

// A waiter is a submit that waits for room.
type waiter struct {
	items    int
	priority int
	answered chan struct{} // closed by pool.unlock when there is an answer
	then     *waiter       // the next of room.answered

	// Guarded by pool.mu, and fixed once answered is closed.
	place *list.Element // in room.waiting; nil once there is an answer
	err   error         // why it is refused, or nil: room is reserved
}

// enter waits, if need be, until there is room for c. It is called with mu held and
// returns with it held, so the room is there as long as the caller does not let go.
func (p *pool) enter(c executor.Call, items int) error {
	b := &p.bound
	if !b.ahead(c.Priority()) && p.hasRoom(items) {
		return nil
	}
	if p.cfg.RejectWhenFull && !c.WaitsForRoom() {
		return executor.ErrQueueFull
	}
	w := b.wait(items, c.Priority())
	p.unlock()

	ended := b.await(c.Context(), w)

	p.mu.Lock()
	switch {
	case w.place != nil: // no answer yet
		b.waiting.Remove(w.place)
	case w.err != nil:
		return w.err
	default: // room was reserved
		b.release(items)
	}
	if ended != nil {
		return ended
	}
	return p.refusal()
}

// await waits for w's answer, and returns the cause of ctx's end if that comes
// first. It is called without mu.
func (b *room) await(ctx context.Context, w *waiter) error {
	if l := lend.From(ctx); l != nil { // a task: what it waits for may have to run in its place
		l.Lend()
		defer l.Reclaim()
	}
	select {
	case <-w.answered:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hasRoom reports whether a call of so many items can be taken now. It is called
// with mu held.
func (p *pool) hasRoom(items int) bool {
	b := &p.bound
	// Workers that are free, or on their way to a first call, take one call each out
	// of what is queued. It is a call of one item at least; if it has more, somebody
	// waits for room a moment longer, until the worker has it.
	free := max(0, p.limit-p.active()) + p.fresh + p.coming
	if p.queue.len()-p.dead+b.coming < free {
		return true
	}
	// A chunk larger than the queue has room in an empty one.
	return b.items+b.reserved-free+min(items, b.limit) <= b.limit
}

// admit gives room to those who wait for it, as far as there is any. It is called
// with mu held.
func (p *pool) admit() {
	b := &p.bound
	for e := b.waiting.Front(); e != nil; e = b.waiting.Front() {
		w := e.Value.(*waiter)
		if !p.hasRoom(w.items) {
			return
		}
		b.reserve(w.items)
		b.answer(w, nil)
	}
}

// ahead reports whether somebody waits who goes before a newcomer.
func (b *room) ahead(priority int) bool {
	e := b.waiting.Front()
	return e != nil && e.Value.(*waiter).priority >= priority
}

// wait puts a waiter into the list.
func (b *room) wait(items, priority int) *waiter {
	w := &waiter{items: items, priority: priority, answered: make(chan struct{})}
	e := b.waiting.Back()
	for e != nil && e.Value.(*waiter).priority < priority {
		e = e.Prev()
	}
	if e == nil {
		w.place = b.waiting.PushFront(w)
	} else {
		w.place = b.waiting.InsertAfter(w, e)
	}
	return w
}

// answer takes w out of the list; unlock wakes it.
func (b *room) answer(w *waiter, err error) {
	b.waiting.Remove(w.place)
	w.place, w.err = nil, err
	w.then, b.answered = b.answered, w
}

// refuse answers everybody who waits with err.
func (b *room) refuse(err error) {
	for e := b.waiting.Front(); e != nil; e = b.waiting.Front() {
		b.answer(e.Value.(*waiter), err)
	}
}

// reserve takes room for a call that is not in the queue yet.
func (b *room) reserve(items int) {
	b.reserved += items
	b.coming++
}

// release ends what reserve began: the call goes into the queue, to a worker, or away.
func (b *room) release(items int) {
	b.reserved -= items
	b.coming--
}

// fill counts items that come into the queue.
func (b *room) fill(items int) {
	if b.limit > 0 {
		b.items += items
	}
}

// empty counts items that leave the queue, or are cancelled in it.
func (b *room) empty(items int) {
	if b.limit > 0 {
		b.items -= items
	}
}
