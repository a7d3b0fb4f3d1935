package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A callContext is the context of one item that runs here. Its end, with its cause,
// comes from the parent or from the item's time limit; its deadline is only told.
// The standard library's contexts cannot do that: one with a deadline ends by its
// own clock, before the parent's cause could arrive, and one without answers
// Canceled where the caller's answers DeadlineExceeded.
//
// Few tasks ask for more than whether it has ended, and that is all that it has room
// for. The rest is tied to it by a second look: who asks for it makes it, and then
// looks whether the context has ended; who ends the context notes that, and then looks
// for the rest.
type callContext struct {
	rest  atomic.Pointer[contextRest] // nil until it is needed
	state atomic.Uint32
}

// The states of a callContext: open, and then, for good, one of the others.
const (
	open      uint32 = iota
	cancelled        // without a cause, as an item is that has returned
	ended            // as rest.end says
)

// A contextRest is what few contexts need.
type contextRest struct {
	deadline time.Time // fixed by next; zero: none
	end      atomic.Pointer[ending]

	mu     sync.Mutex // guards the fields below; nothing is called under it
	closed bool
	done   chan struct{}        // nil until Done is called
	after  map[*func()]struct{} // what to call at the end
}

// An ending is how a context has ended: as ctx has.
type ending struct{ ctx context.Context }

// A contextMaker makes contexts, several at a time: one of its own costs an item more than
// a cheap task does. None is used twice, for a task may keep its context. It is not safe
// for concurrent use.
type contextMaker struct{ slab []callContext }

// slabLen is how many contexts are made at a time. All of them are kept as long as one of
// them is.
const slabLen = 32

// next returns a context. A deadline that is zero is none.
func (m *contextMaker) next(deadline time.Time) *callContext {
	if len(m.slab) == 0 {
		m.slab = make([]callContext, slabLen)
	}
	c := &m.slab[0]
	m.slab = m.slab[1:]
	if !deadline.IsZero() {
		c.rest.Store(&contextRest{deadline: deadline})
	}
	return c
}

func newCallContext(deadline time.Time) *callContext {
	return (&contextMaker{slab: make([]callContext, 1)}).next(deadline)
}

func (c *callContext) Deadline() (time.Time, bool) {
	if r := c.rest.Load(); r != nil {
		return r.deadline, !r.deadline.IsZero()
	}
	return time.Time{}, false
}

func (c *callContext) Done() <-chan struct{} {
	r := c.listening()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.closed {
			close(r.done)
		}
	}
	return r.done
}

func (c *callContext) Err() error {
	if end := c.ended(); end != nil {
		return end.Err()
	}
	return nil
}

// Value lets context.Cause find the cause: it asks for a cancelled context under a
// key of its own, and what ended returns is one.
func (c *callContext) Value(key any) any {
	if end := c.ended(); end != nil {
		return end.Value(key)
	}
	return nil
}

// ended returns a context that has ended as this one has; nil if it has not.
func (c *callContext) ended() context.Context {
	switch c.state.Load() {
	case cancelled:
		return withoutCause
	case ended:
		return c.rest.Load().end.Load().ctx
	}
	return nil
}

// AfterFunc lets contexts that derive from this one hear of its end without a
// goroutine each.
func (c *callContext) AfterFunc(fn func()) (stop func() bool) {
	r := c.listening()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		go fn()
		return func() bool { return false }
	}
	if r.after == nil {
		r.after = map[*func()]struct{}{}
	}
	key := &fn
	r.after[key] = struct{}{}
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		_, there := r.after[key]
		delete(r.after, key)
		return there
	}
}

// listening returns the rest, which knows if the context has ended.
func (c *callContext) listening() *contextRest {
	r := c.more()
	if c.state.Load() != open { // finish may have come too early to see it
		for fn := range r.close() {
			go (*fn)() // the caller may hold locks that it takes
		}
	}
	return r
}

// more returns the rest, made now if need be.
func (c *callContext) more() *contextRest {
	if r := c.rest.Load(); r != nil {
		return r
	}
	c.rest.CompareAndSwap(nil, new(contextRest))
	return c.rest.Load()
}

// close tells those who wait for done, and returns what else is to be told.
func (r *contextRest) close() (after map[*func()]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	if r.done != nil {
		close(r.done)
	}
	after, r.after = r.after, nil
	return after
}

// withoutCause is a context that was cancelled without a cause.
var withoutCause = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// finish ends the context: as one whose deadline has passed, or as one that was
// cancelled. The first end counts.
func (c *callContext) finish(deadline bool, cause error) {
	to := cancelled
	if (deadline || cause != nil) && c.state.Load() == open {
		to = ended
		c.more().end.CompareAndSwap(nil, newEnding(deadline, cause)) // or another is there, and to be the end
	}
	if !c.state.CompareAndSwap(open, to) {
		return
	}
	if r := c.rest.Load(); r != nil {
		for fn := range r.close() {
			(*fn)()
		}
	}
}

func newEnding(deadline bool, cause error) *ending {
	if deadline {
		ctx, cancel := context.WithDeadlineCause(context.Background(), time.Unix(0, 0), cause)
		cancel()
		return &ending{ctx}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return &ending{ctx}
}
