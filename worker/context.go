package worker

import (
	"context"
	"sync"
	"time"
)

// A callContext is the context of one item that runs here. Its end, with its cause,
// comes from the parent or from the item's time limit; its deadline is only told.
// The standard library's contexts cannot do that: one with a deadline ends by its
// own clock, before the parent's cause could arrive, and one without answers
// Canceled where the caller's answers DeadlineExceeded.
type callContext struct {
	deadline time.Time // zero: none
	done     chan struct{}

	mu    sync.Mutex // guards the fields below
	end   context.Context
	after map[*func()]struct{} // what to call at the end
}

func newCallContext(deadline time.Time) *callContext {
	return &callContext{deadline: deadline, done: make(chan struct{})}
}

func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }
func (c *callContext) Done() <-chan struct{}       { return c.done }

func (c *callContext) Err() error {
	if end := c.ended(); end != nil {
		return end.Err()
	}
	return nil
}

// Value lets context.Cause find the cause: it asks for a cancelled context under a
// key of its own, and end is one.
func (c *callContext) Value(key any) any {
	if end := c.ended(); end != nil {
		return end.Value(key)
	}
	return nil
}

func (c *callContext) ended() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// AfterFunc lets contexts that derive from this one hear of its end without a
// goroutine each.
func (c *callContext) AfterFunc(fn func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		go fn()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = map[*func()]struct{}{}
	}
	key := &fn
	c.after[key] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, there := c.after[key]
		delete(c.after, key)
		return there
	}
}

// finish ends the context: as one whose deadline has passed, or as one that was
// cancelled. The first end counts.
func (c *callContext) finish(deadline bool, cause error) {
	var end context.Context
	var cancel context.CancelFunc
	if deadline {
		end, cancel = context.WithDeadlineCause(context.Background(), time.Unix(0, 0), cause)
	} else {
		var cancelCause context.CancelCauseFunc
		end, cancelCause = context.WithCancelCause(context.Background())
		cancelCause(cause)
		cancel = func() {}
	}
	defer cancel()
	c.mu.Lock()
	if c.end != nil {
		c.mu.Unlock()
		return
	}
	c.end = end
	after := c.after
	c.after = nil
	c.mu.Unlock()
	close(c.done)
	for fn := range after {
		(*fn)()
	}
}
