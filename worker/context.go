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
	deadline *time.Time // nil: none
	end      atomic.Pointer[ending]
	rest     atomic.Pointer[listeners] // nil until somebody asks for it
}

// An ending is how a context has ended: as ctx has.
type ending struct{ ctx context.Context }

// listeners are what hears of a context's end.
type listeners struct {
	mu     sync.Mutex // guards the fields below; nothing is called under it
	closed bool
	done   chan struct{}        // nil until Done is called
	after  map[*func()]struct{} // what to call at the end
}

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
		c.setDeadline(deadline)
	}
	return c
}

func newCallContext(deadline time.Time) *callContext {
	return (&contextMaker{slab: make([]callContext, 1)}).next(deadline)
}

// setDeadline is apart, so that a context without one has nothing to allocate.
func (c *callContext) setDeadline(deadline time.Time) { c.deadline = &deadline }

func (c *callContext) Deadline() (time.Time, bool) {
	if c.deadline == nil {
		return time.Time{}, false
	}
	return *c.deadline, true
}

func (c *callContext) Done() <-chan struct{} {
	l := c.listeners()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.closed {
			close(l.done)
		}
	}
	return l.done
}

func (c *callContext) Err() error {
	if end := c.end.Load(); end != nil {
		return end.ctx.Err()
	}
	return nil
}

// Value lets context.Cause find the cause: it asks for a cancelled context under a
// key of its own, and what end has is one.
func (c *callContext) Value(key any) any {
	if end := c.end.Load(); end != nil {
		return end.ctx.Value(key)
	}
	return nil
}

// AfterFunc lets contexts that derive from this one hear of its end without a
// goroutine each.
func (c *callContext) AfterFunc(fn func()) (stop func() bool) {
	l := c.listeners()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		go fn()
		return func() bool { return false }
	}
	if l.after == nil {
		l.after = map[*func()]struct{}{}
	}
	key := &fn
	l.after[key] = struct{}{}
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, there := l.after[key]
		delete(l.after, key)
		return there
	}
}

// listeners returns the listeners, made now if need be. They know if the context has
// ended.
func (c *callContext) listeners() *listeners {
	l := c.rest.Load()
	if l == nil {
		l = new(listeners)
		if !c.rest.CompareAndSwap(nil, l) {
			l = c.rest.Load()
		}
	}
	if c.end.Load() != nil { // finish may have come too early to see them
		for fn := range l.close() {
			go (*fn)() // the caller may hold locks that it takes
		}
	}
	return l
}

// close tells those who wait for done, and returns what else is to be told.
func (l *listeners) close() (after map[*func()]struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.done != nil {
		close(l.done)
	}
	after, l.after = l.after, nil
	return after
}

// over is the ending of an item that has returned, or was cancelled without a cause.
var over = func() *ending {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &ending{ctx}
}()

// finish ends the context: as one whose deadline has passed, or as one that was
// cancelled. The first end counts.
func (c *callContext) finish(deadline bool, cause error) {
	end := over
	switch {
	case c.end.Load() != nil:
		return
	case deadline:
		ctx, cancel := context.WithDeadlineCause(context.Background(), time.Unix(0, 0), cause)
		defer cancel()
		end = &ending{ctx}
	case cause != nil:
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(cause)
		end = &ending{ctx}
	}
	if !c.end.CompareAndSwap(nil, end) {
		return
	}
	if l := c.rest.Load(); l != nil {
		for fn := range l.close() {
			(*fn)()
		}
	}
}
