// Package promise is the state machine under every future: one word of state, a
// list of those who wait, made when somebody does, and the hooks of whoever
// completes it. Package future gives it its public face; package executor embeds
// it in a call, so that a call, its argument and its future are one object.
//
//	           Start                 settle
//	Pending ──────────▶ Running ──────────────▶ Finished
//	   │ │                                        ▲
//	   │ └──────────────── settle ────────────────┘
//	   └──────▶ Cancelled
//
// A step to a final state takes two: the winner of a compare-and-swap moves the
// word to a settling state, alone writes the outcome, and then stores the final
// state. Who reads a final state therefore sees the outcome; who reads a settling
// one is told the state before.
//
// No wake-up is lost: a waiter hangs an ext on the future, or links itself into it,
// and then reads the state; the completer stores the state and then looks for an ext.
// Go's atomics are sequentially consistent, so at least one of them sees the other.
// The same second look ties an owner's Bits to the state, see there.
package promise

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"example.com/futures/internal/lend"
)

// The states of the word. The settling states are seen for a few instructions.
const (
	pending uint32 = iota
	running
	settlingPending // settling from pending
	settlingRunning // settling from running
	cancelled
	finished
)

// A Phase is what one look at a Core shows.
type Phase int

const (
	Pending Phase = iota
	Running
	Cancelled
	Finished
)

// An Owner hears about a future that it will complete. Withdraw is called between
// states, Cancelled while others wait for this cancellation to be over: nobody may
// cancel or interrupt a future while he holds a lock that these take.
type Owner interface {
	// Withdraw is asked before a pending future is cancelled; false refuses.
	Withdraw() bool
	// Cancelled is called when the future is cancelled, with err as its outcome,
	// before anybody can see it.
	Cancelled(err error)
	// InterruptRunning ends what runs, with cause, and reports whether it could.
	InterruptRunning(cause error) bool
}

// A Looker is an Owner whose future may have started without its knowledge: Look is called
// before somebody is told that it is pending.
type Looker interface{ Look() }

// A Helper is an Owner that can bring on the end of its future: Help is called by who is
// about to wait for it under ctx, and does not take longer than it takes to be woken, or as
// long as other calls end.
type Helper interface{ Help(ctx context.Context) }

// A Core is a future without its value. The zero Core is pending.
type Core struct {
	state atomic.Uint32

	// Bits are the owner's, to use as it likes. They fill a hole.
	Bits atomic.Uint32

	ext   atomic.Pointer[ext] // nil until somebody waits; sealed once done
	owner Owner               // fixed before the future is shared; may be nil
	err   error               // written while settling; read once done
}

// ext holds those who wait. Whoever waits under a context that cannot end waits for
// over, which costs nothing beyond the ext and may be waited for by any number; the
// others share the done channel.
type ext struct {
	over sync.WaitGroup // of one, which the completer takes away

	mu sync.Mutex // guards the fields below; nothing is called under it

	closed     bool // the future is done and the list was taken
	head, tail *Node
	done       chan struct{} // made by Done, closed by the completer
}

// sealed stands in for the ext of a done future.
var sealed = &ext{closed: true}

// closedChan is the done channel of a future that was done when it was asked for.
var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// A Node links one group or callback to a Core. Exactly one of group and fn is set.
// It belongs to the Core while it is linked.
type Node struct {
	prev, next *Node
	linked     bool
	group      *Group
	index      int
	fn         func()
}

// SetOwner sets the hooks. It comes before the future is shared.
func (c *Core) SetOwner(o Owner) { c.owner = o }

// OwnerOf returns the hooks of c, nil if it has none.
func OwnerOf(c *Core) Owner { return c.owner }

// IsDone reports whether the future is cancelled or finished.
func (c *Core) IsDone() bool { return c.state.Load() >= cancelled }

// IsPending, IsRunning and IsCancelled report the state.
func (c *Core) IsPending() bool {
	s := c.looked()
	return s == pending || s == settlingPending
}

func (c *Core) IsRunning() bool {
	s := c.looked()
	return s == running || s == settlingRunning
}

// looked returns the state, after its owner has had a look if it is pending.
func (c *Core) looked() uint32 {
	s := c.state.Load()
	if s != pending {
		return s
	}
	if l, ok := c.owner.(Looker); ok {
		l.Look()
		s = c.state.Load()
	}
	return s
}

func (c *Core) IsCancelled() bool { return c.state.Load() == cancelled }

// Over reports whether the future is done or about to be: nothing can start it, finish
// it or cancel it any more.
func (c *Core) Over() bool { return c.state.Load() >= settlingPending }

// Phase returns the state as of one look: several of the questions above, asked one
// after another, may straddle a step.
func (c *Core) Phase() Phase {
	switch c.looked() {
	case pending, settlingPending:
		return Pending
	case running, settlingRunning:
		return Running
	case cancelled:
		return Cancelled
	default:
		return Finished
	}
}

// Err returns the outcome's error. The future is done.
func (c *Core) Err() error { return c.err }

// Start moves a pending future to running, and reports whether it did.
func (c *Core) Start() bool { return c.state.CompareAndSwap(pending, running) }

// Begin wins the right to finish a pending or running future. Whoever is told true
// calls Finish next; nobody else can complete the future any more.
func (c *Core) Begin() bool {
	for {
		switch s := c.state.Load(); s {
		case pending, running:
			if c.state.CompareAndSwap(s, s+settlingPending) {
				return true
			}
		default:
			return false
		}
	}
}

// Cancel cancels a pending future with err as its outcome, and reports whether it
// is cancelled now. The callbacks are for the caller to run.
func (c *Core) Cancel(err error) (Callbacks, bool) {
	cbs, won := c.cancel(err)
	return cbs, won || c.IsCancelled()
}

// cancel cancels a pending future, and reports whether it was this call that did.
// A false answer is given only once the future is refused, runs or is done.
func (c *Core) cancel(err error) (Callbacks, bool) {
	for {
		switch c.state.Load() {
		case pending:
		case settlingPending:
			runtime.Gosched() // another goroutine is between two stores
			continue
		default:
			return Callbacks{}, false
		}
		if c.owner != nil && !c.owner.Withdraw() {
			if c.state.Load() == pending {
				return Callbacks{}, false
			}
			continue // the owner refused because somebody else was first: see what it became
		}
		if !c.state.CompareAndSwap(pending, settlingPending) {
			continue
		}
		c.err = err
		return c.finishCancel(), true
	}
}

// finishCancel ends what cancel began, also when the owner panics: everybody else
// waits for the end of a settling state.
func (c *Core) finishCancel() (cbs Callbacks) {
	returned := false
	defer func() {
		cbs = c.publish(cancelled)
		if !returned {
			cbs.Go() // the caller will not get to them
		}
	}()
	if c.owner != nil {
		c.owner.Cancelled(c.err)
	}
	returned = true
	return cbs
}

// Interrupt cancels a pending future with err, or asks the owner to end what runs,
// with cause. It reports whether either was done.
func (c *Core) Interrupt(err, cause error) (Callbacks, bool) {
	for {
		switch c.state.Load() {
		case pending, settlingPending:
			if cbs, won := c.cancel(err); won {
				return cbs, true
			}
			if c.IsPending() {
				return Callbacks{}, false // refused
			}
		case running:
			return Callbacks{}, c.owner != nil && c.owner.InterruptRunning(cause)
		default:
			return Callbacks{}, false
		}
	}
}

// Publish makes a future without a value done. It follows a Begin that reported true.
func (c *Core) Publish() Callbacks { return c.publish(finished) }

// Settle waits for the few steps from a Begin that reported true to the end of its
// Publish or Finish. It is for an owner that does nothing in between which waits.
func (c *Core) Settle() {
	for s := c.state.Load(); s == settlingPending || s == settlingRunning; s = c.state.Load() {
		runtime.Gosched()
	}
}

// publish makes the outcome visible, wakes the waiters and returns the callbacks.
// Groups hear of it first: they keep the order in which futures are done, so what a
// waiter does on waking, such as completing another future, must come after.
func (c *Core) publish(final uint32) Callbacks {
	c.state.Store(final)
	e := c.ext.Load()
	if e == nil {
		return Callbacks{} // who links itself in now will see the state
	}
	e.mu.Lock()
	head, done := e.head, e.done
	e.head, e.tail, e.done, e.closed = nil, nil, nil, true
	e.mu.Unlock()
	c.ext.Store(sealed)
	for n := head; n != nil; n = n.next {
		if n.group != nil {
			n.group.wake(n.index)
		}
	}
	if done != nil {
		close(done)
	}
	e.over.Done()
	var cbs Callbacks
	for n := head; n != nil; {
		next := n.next
		n.prev, n.next = nil, nil
		if n.fn != nil {
			cbs.fns = append(cbs.fns, n.fn)
			n.fn = nil
		}
		n = next
	}
	return cbs
}

// add links n in and reports true, or reports false if the future is done.
func (c *Core) add(n *Node) bool {
	if c.IsDone() {
		return false
	}
	e := c.extend()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || c.IsDone() {
		return false
	}
	n.linked, n.prev = true, e.tail
	if e.tail != nil {
		e.tail.next = n
	} else {
		e.head = n
	}
	e.tail = n
	return true
}

// remove takes n out again, if the completer has not.
func (c *Core) remove(n *Node) {
	e := c.ext.Load()
	if e == nil || e == sealed { // sealed.mu would be one lock for all done futures
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || !n.linked {
		return
	}
	n.linked = false
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		e.head = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		e.tail = n.prev
	}
	n.prev, n.next, n.fn = nil, nil, nil
}

func (c *Core) extend() *ext {
	if e := c.ext.Load(); e != nil {
		return e
	}
	e := new(ext)
	e.over.Add(1)
	if c.ext.CompareAndSwap(nil, e) {
		return e
	}
	return c.ext.Load()
}

// Done returns a channel that is closed once the future is done.
func (c *Core) Done() <-chan struct{} {
	if c.IsDone() {
		return closedChan
	}
	e := c.extend()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || c.IsDone() {
		return closedChan
	}
	if e.done == nil {
		e.done = make(chan struct{})
	}
	return e.done
}

// Wait waits until the future is done or ctx has ended, and reports whether the
// future is done. Under a task's context it lends the task's place meanwhile.
func (c *Core) Wait(ctx context.Context) bool {
	if c.IsDone() {
		return true
	}
	end := ctx.Done()
	if end != nil && ctx.Err() != nil {
		return c.IsDone()
	}
	if h, ok := c.owner.(Helper); ok {
		if h.Help(ctx); c.IsDone() {
			return true
		}
	}
	if l := lend.From(ctx); l != nil {
		l.Lend()
		defer l.Reclaim()
	}
	if end == nil {
		if e := c.extend(); e != sealed && !c.IsDone() {
			e.over.Wait()
		}
		return true
	}
	select {
	case <-c.Done():
		return true
	case <-end:
		return c.IsDone()
	}
}

// Listen registers fn, through n, which is zero, to be among the callbacks of the
// future. It reports false if the future is done already.
func (c *Core) Listen(n *Node, fn func()) bool {
	n.fn = fn
	return c.add(n)
}

// Forget takes back what Listen or Group.Add linked.
func (c *Core) Forget(n *Node) { c.remove(n) }

// A Cell is a future with its value. The zero Cell is pending.
type Cell[T any] struct {
	core Core
	val  T // written while settling; read once done
}

// Core returns the part that does not depend on T.
func (c *Cell[T]) Core() *Core { return &c.core }

// Value returns the outcome's value. The future is done.
func (c *Cell[T]) Value() T { return c.val }

// Finish writes the outcome, a value or, where err is not nil, err, and makes the
// future done. It follows a Begin that reported true.
func (c *Cell[T]) Finish(v T, err error) Callbacks {
	if err != nil {
		c.core.err = err
	} else {
		c.val = v
	}
	return c.core.publish(finished)
}
