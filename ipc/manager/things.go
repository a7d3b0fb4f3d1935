package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"example.com/futures/ipc"
)

// The kinds of things that this package makes itself. Those from kindOwn on are others'.
const (
	kindDict uint8 = iota + 1
	kindList
	kindNamespace
	kindQueue
	kindValue
	kindArray
	kindLock
	kindRLock
	kindSemaphore
	kindEvent
	kindCond
	kindBarrier

	kindOwn uint8 = 64
)

// A keeper counts who names the objects that datums name.
//
// A thing keeps each datum that it stores, and releases it when it stores it no longer, but
// for what drop returns. To hand one out it writes it while it has it: before it releases it,
// and under its mutex if somebody else may. The writer sees to it that the client has the
// objects then.
type keeper interface {
	// keep holds what d names, once more, or reports false if there is no such object: not of
	// what comes with a request, or is kept. It may be called with a thing's mutex held.
	keep(d datum) bool

	// release takes one keep back. An object may go by that, so no mutex is held.
	release(d datum)
}

// errFirst is why the ctx of a thing's first call has ended.
var errFirst = errors.New("manager: it cannot be done at once")

// firstCtx is the ctx of a thing's first call, which must not wait. The second call may have
// one that has ended, too: the caller's. What that has to leave behind (a broken barrier)
// only the second call may do.
var firstCtx = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errFirst)
	return ctx
}()

// first reports whether ctx is that of a first call.
func first(ctx context.Context) bool {
	return ctx.Err() != nil && context.Cause(ctx) == errFirst //nolint:errorlint // the very same value
}

// newThing makes a thing of a standard kind, from the operands of its creation. find returns
// the thing that has an ID.
func newThing(kind uint8, in *reader, k keeper, find func(id uint64) (thing, bool)) (thing, error) {
	var made func() (thing, error)
	switch kind {
	case kindDict:
		made = func() (thing, error) { return newDictThing(k), nil }
	case kindList:
		made = func() (thing, error) { return newListThing(k), nil }
	case kindNamespace:
		made = func() (thing, error) { return newNamespaceThing(k), nil }
	case kindQueue:
		capacity := in.int()
		made = func() (thing, error) { return newQueueThing(k, capacity) }
	case kindValue:
		d := in.datum()
		made = func() (thing, error) { return newValueThing(k, d), nil }
	case kindArray:
		n := in.int()
		made = func() (thing, error) { return newArrayThing(k, n) }
	case kindLock:
		made = func() (thing, error) { return newLockThing(), nil }
	case kindRLock:
		made = func() (thing, error) { return newRLockThing(), nil }
	case kindSemaphore:
		n, bounded := in.int(), in.bool()
		made = func() (thing, error) { return newSemaphoreThing(n, bounded) }
	case kindEvent:
		made = func() (thing, error) { return newEventThing(), nil }
	case kindCond:
		id := in.uint()
		made = func() (thing, error) { return newCondOf(k, id, find) }
	case kindBarrier:
		parties := in.int()
		made = func() (thing, error) { return newBarrierThing(parties) }
	default:
		return nil, errBadRequest
	}
	if err := in.end(); err != nil {
		return nil, err
	}
	return made()
}

// endsWaits reports whether an operation waits for nobody, and is what others may wait for.
func endsWaits(t thing, op uint8) bool {
	switch t.(type) {
	case *lockThing, *rlockThing:
		return op == opUnlock
	case *semaphoreThing:
		return op == opRelease
	case *eventThing:
		return op == opEventSet
	case *condThing:
		return op == opCondNotify || op == opCondNotifyAll
	case *barrierThing:
		return op == opBarrierAbort || op == opBarrierReset
	case *queueThing:
		return op == opTaskDone || op == opQueueShutdown
	}
	return false
}

// stored returns d, which a thing keeps from now on.
func stored(k keeper, d datum) datum {
	if !k.keep(d) {
		panic("manager: a value names an object that does not exist")
	}
	return d
}

// let lets go of what a thing keeps no longer. An object may go by that, so no mutex is held.
func let(k keeper, ds ...datum) {
	for _, d := range ds {
		if len(d.refs) > 0 {
			k.release(d)
		}
	}
}

// inRange returns the error of an index that is not below n.
func inRange(i, n int) error {
	if i < 0 || i >= n {
		return fmt.Errorf("index %d is out of range: the length is %d", i, n)
	}
	return nil
}

// A waiter is a call that waits. The mutex of the thing guards it, but for what is fixed
// before ready is closed.
type waiter struct {
	by    *client
	ready chan struct{} // closed by who ends the wait
	err   error         // how it ended

	in         *line // nil: it does not wait in one
	prev, next *waiter

	n        int        // Semaphore: how many it waits for; Barrier: its number
	recovers bool       // Lock, RLock: it takes a lock that is marked, too
	token    uint64     // Lock, RLock: under which it holds it
	cond     *condThing // Cond: which one has notified it; nil: it was not notified, or gave up
	item     datum      // Queue: what it puts, or has got
}

func newWaiter(by *client) *waiter {
	return &waiter{by: by, ready: make(chan struct{})}
}

// end ends the wait of w, and takes it out of its line.
func (w *waiter) end(err error) {
	w.leave()
	w.err = err
	close(w.ready)
}

// ended reports whether the wait of w has ended.
func (w *waiter) ended() bool {
	select {
	case <-w.ready:
		return true
	default:
		return false
	}
}

// await waits until the wait of w has been ended or ctx ends. What has ended first counts:
// whoever was given something has it, and whoever gave up is in no line any more. In the
// second case gaveUp, if it is not nil, is called with mu held.
func (w *waiter) await(ctx context.Context, mu *sync.Mutex, gaveUp func()) error {
	select {
	case <-w.ready:
		return w.err
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	if w.ended() {
		return w.err
	}
	w.leave()
	if gaveUp != nil {
		gaveUp()
	}
	return ctx.Err()
}

// leave takes w out of its line.
func (w *waiter) leave() {
	if w.in != nil {
		w.in.remove(w)
	}
}

// A line is those who wait, in the order in which they came.
type line struct {
	head, tail *waiter
	n          int
}

func (l *line) push(w *waiter) {
	w.in, w.prev, w.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = w
	} else {
		l.head = w
	}
	l.tail = w
	l.n++
}

func (l *line) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.tail = w.prev
	}
	w.in, w.prev, w.next = nil, nil, nil
	l.n--
}

// all returns those who wait; they may leave meanwhile.
func (l *line) all() []*waiter {
	all := make([]*waiter, 0, l.n)
	for w := l.head; w != nil; w = w.next {
		all = append(all, w)
	}
	return all
}

// endAll ends the wait of all.
func (l *line) endAll(err error) {
	for l.head != nil {
		l.head.end(err)
	}
}

// gone ends the wait of those of a client that has gone.
func (l *line) gone(by *client) {
	for w := l.head; w != nil; {
		next := w.next
		if w.by == by {
			w.end(ipc.ErrClosed)
		}
		w = next
	}
}
