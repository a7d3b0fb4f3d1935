package executor

import (
	"context"
	"time"

	"example.com/futures/internal/lend"
	"example.com/futures/internal/promise"
	"example.com/futures/internal/wire"
)

// How a chunk runs in this process: one worker runs its items in order, a stretch of
// them between two publications. If that keeps the consumer waiting, and the backend
// has a worker with nothing to do, the rest is shared: each of the workers claims an
// item at a time.

// Run begins the chunk, or joins those who run a shared one.
func (c *chunk[A, R]) Run(l Lender) {
	ctx := (*chunkContext[A, R])(c)
	if c.core.Bits.Or(inRun)&inRun != 0 {
		c.takePart(&helperContext{ctx, &c.core, l}, l)
		return
	}
	c.lender = l
	persist(func() bool { return !c.shared && c.next < len(c.args) }, func() { c.stretch(ctx) })
	if c.shared {
		c.takePart(ctx, l)
	}
}

// persist calls step while there is something left to do. If a task ends this
// goroutine, it goes on in others, one after another: each may be ended in turn.
func persist(left func() bool, step func()) {
	defer func() {
		for left() {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				step()
			}()
			<-ended
		}
	}()
	for left() {
		step()
	}
}

// stretch runs items from c.next on, to the end or up to one that does not return.
// That one costs itself alone: it has its error, and c.next is beyond it. Going on
// from here instead, in the deferred function, would nest as deep as items panic.
func (c *chunk[A, R]) stretch(ctx context.Context) {
	var o Outcome // of the items from first on, but for how many succeeded
	first := c.next
	at, cancel := ctx, context.CancelFunc(nil) // of one item
	returned := false
	defer func() {
		if returned {
			return
		}
		err := outcome(at, abnormal(recover()))
		if cancel != nil {
			cancel()
		}
		c.fail(c.next, err, &o)
		c.next++
		c.publish(first, o)
	}()
	limit, keepArgs := c.Timeout(), c.run.unordered // which yields them too
	for c.next < len(c.args) {
		if c.shared = c.share(c.next); c.shared {
			break
		}
		first, o = c.next, Outcome{}
		// Nobody sees an item before its stretch is published, so that is short, and
		// ends when somebody waits.
		for end := min(first+c.pace.stretch, len(c.args)); c.next < end; {
			i := c.next
			if c.stop.Load() {
				c.fail(i, promise.CancelledError(context.Cause(ctx)), nil)
				o.Cancelled++
				c.next++
				continue
			}
			if limit > 0 {
				at, cancel = limited(ctx, limit)
			}
			v, err := c.task.fn(at, c.args[i].V)
			if err != nil {
				c.fail(i, outcome(at, err), &o)
			} else {
				c.results[i].V = v
				if !keepArgs {
					c.args[i] = wire.Box[A]{}
				}
			}
			if cancel != nil {
				cancel()
			}
			c.next++
			if c.run.hungry.Load() {
				break
			}
		}
		returned = true // a panic of an observer is none of an item
		c.publish(first, o)
		returned = false
	}
	returned = true
}

// publish makes the items from first up to c.next visible as done, after telling who
// counts them. What o does not count has succeeded.
func (c *chunk[A, R]) publish(first int, o Outcome) {
	n := c.next
	o.Succeeded = n - first - o.Failed - o.Cancelled
	all := n == len(c.args)
	if all {
		c.clock()
		c.core.Begin() // it has started, so nobody else can
		c.leave()
	}
	c.report(c, o)
	c.prefix.Store(int64(n))
	if all {
		c.core.Publish().Go()
	}
	if all || n >= c.tellAt || c.run.hungry.Load() {
		c.tellAt = n + c.pace.tell
		c.run.progress(c)
	}
}

// share has a worker that has nothing to do take part in the chunk, whose items from
// next on nobody has begun, if the consumer is waiting and the backend can do that: its
// Lender has a method Share then. That gives c to such a worker, which calls Run and
// nothing else, and reports whether there is one.
func (c *chunk[A, R]) share(next int) bool {
	if !c.run.hungry.Load() || len(c.args)-next < 2 {
		return false
	}
	s, ok := c.lender.(interface{ Share(Call) bool })
	if !ok {
		return false
	}
	c.claimed.Store(int64(next)) // before somebody comes
	return s.Share(c)
}

// takePart runs items of a shared chunk until all are somebody's.
func (c *chunk[A, R]) takePart(ctx context.Context, l Lender) {
	s := l.(interface{ Share(Call) bool })
	left := func() bool { return int(c.claimed.Load()) < len(c.args) }
	persist(left, func() {
		for left() {
			if c.run.hungry.Load() {
				s.Share(c) // with one more
			}
			if i := int(c.claimed.Add(1)) - 1; i < len(c.args) {
				c.runOne(ctx, i, l)
			}
		}
	})
}

// runOne runs item i of a shared chunk.
func (c *chunk[A, R]) runOne(ctx context.Context, i int, l Lender) {
	if c.stop.Load() {
		c.finish(i, wire.Box[R]{}, promise.CancelledError(context.Cause(ctx)), Outcome{Cancelled: 1}, l)
		return
	}
	if limit := c.Timeout(); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = limited(ctx, limit)
		defer cancel()
	}
	var out wire.Box[R]
	var err error
	returned := false
	defer func() {
		if !returned {
			err = abnormal(recover())
		}
		o := Outcome{Succeeded: 1}
		if err = outcome(ctx, err); err != nil {
			o = Outcome{Failed: 1, Err: err}
		}
		c.finish(i, out, err, o, l)
	}()
	out.V, err = c.task.fn(ctx, c.args[i].V)
	returned = true
}

// A chunkContext is a chunk as the context of its items.
type chunkContext[A, R any] chunk[A, R]

// Deadline is the caller's. A time limit has a context of its own around this one.
func (c *chunkContext[A, R]) Deadline() (time.Time, bool) { return c.ctx.Deadline() }
func (c *chunkContext[A, R]) Done() <-chan struct{}       { return c.end(&c.core) }
func (c *chunkContext[A, R]) Err() error                  { return c.endErr(&c.core) }
func (c *chunkContext[A, R]) Value(key any) any           { return c.value(&c.core, key) }

// String is for context's own texts.
func (c *chunkContext[A, R]) String() string { return "executor.taskContext" }

// A helperContext is a chunkContext for a worker that takes part in a shared chunk.
type helperContext struct {
	context.Context
	core   *promise.Core
	lender Lender
}

func (h *helperContext) Value(key any) any {
	if !h.core.Over() {
		switch k := key.(type) {
		case lend.Key:
			return h.lender
		case inTaskKey:
			return h.lender.Executor() == k.ex
		}
	}
	return h.Context.Value(key)
}
