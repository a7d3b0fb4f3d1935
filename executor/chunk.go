package executor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/internal/promise"
	"example.com/futures/internal/wire"
)

// A chunk is a Call with several items: what a Map hands to a worker at a time. Its
// run sees each item as it is done; the whole is done when all items are.
//
// Items run in order in one goroutine, or are completed in any order by a backend
// that runs them elsewhere. In both cases prefix counts the items from the front
// that are done, and the run reads an item once prefix is beyond it.
type chunk[A, R any] struct {
	head
	core  promise.Core
	task  *taskOf[A, R] // its options are the run's
	run   *mapRun[A, R]
	first int // the index in the map of item 0

	// args[i] is zeroed when item i is done, or yielded if the run yields it too;
	// results[i] when it was yielded.
	args    []wire.Box[A]
	results []wire.Box[R]

	pace    pace
	next    int          // the first item that Run has not begun; Run's own
	tellAt  int          // how many items are done when the run is told next; Run's own
	gone    atomic.Bool  // cancelled. The run is told a moment before core says so, so it asks here
	stop    atomic.Bool  // interrupted: items that have not begun are cancelled
	prefix  atomic.Int64 // items from the front that are done
	begun   time.Time    // set by Start
	took    atomic.Int64 // nanoseconds from Start to the last item; written before prefix is full
	yielded int          // the run's own

	queued atomic.Bool // unordered: it is in the run's ready list, or on the way there

	errs atomic.Pointer[[]failure] // nil until an item fails; set under mu, its items before prefix

	mu    sync.Mutex // guards the fields below; a leaf
	done  []bool     // nil until an item is completed out of Run
	cause error      // why it was cancelled or interrupted
}

// A failure is the error of an item.
type failure struct {
	err  error
	late bool // it came when the call's context had ended, perhaps because of that
}

// newChunk makes the batch of run a chunk.
func newChunk[A, R any](run *mapRun[A, R]) *chunk[A, R] {
	n := run.filled
	c := &chunk[A, R]{
		head: head{ctx: run.ctx}, task: run.task, run: run, first: run.first, pace: run.pace,
		args: run.batch.args[:n], results: run.batch.results[:n],
	}
	c.tellAt = c.pace.tell
	c.core.SetOwner(c)
	return c
}

func (c *chunk[A, R]) Task() string           { return c.task.name }
func (c *chunk[A, R]) Portable() error        { return c.task.Portable() }
func (c *chunk[A, R]) Timeout() time.Duration { return c.task.opts.timeout }
func (c *chunk[A, R]) Retries() int           { return c.task.opts.retries }
func (c *chunk[A, R]) Priority() int          { return c.task.opts.priority }

func (c *chunk[A, R]) Len() int           { return len(c.args) }
func (c *chunk[A, R]) WaitsForRoom() bool { return true }
func (c *chunk[A, R]) IsDone() bool       { return c.core.IsDone() }

func (c *chunk[A, R]) Start() bool {
	if !c.core.Start() {
		return false
	}
	c.begun = time.Now()
	return true
}

func (c *chunk[A, R]) Cancel(cause error) bool {
	cbs, ok := c.core.Cancel(c.because(cause))
	cbs.Go()
	return ok
}

func (c *chunk[A, R]) Interrupt(cause error) {
	cbs, _ := c.core.Interrupt(c.because(cause), cause)
	cbs.Go()
}

// because remembers the first cause and returns the error of a cancelled item.
func (c *chunk[A, R]) because(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
	}
	return promise.CancelledError(c.cause)
}

func (c *chunk[A, R]) ctxEnded() { c.Interrupt(context.Cause(c.ctx)) }

// Withdraw, Cancelled and InterruptRunning make a chunk a promise.Owner.

func (c *chunk[A, R]) Withdraw() bool { return c.host == nil || c.host.Withdraw(c) }

func (c *chunk[A, R]) Cancelled(err error) {
	c.drop()
	if c.host != nil {
		c.host.Cancelled(c, err)
	}
	c.leave()
	c.gone.Store(true)
	c.run.progress(c)
}

func (c *chunk[A, R]) InterruptRunning(cause error) bool {
	c.ending(&c.core).cancel(cause) // first: the items that stop cancels ask the context why
	c.stop.Store(true)
	if c.core.Bits.Load()&inRun == 0 && c.host != nil {
		c.host.Interrupt(c, cause)
	}
	return true
}

func (c *chunk[A, R]) drop() {
	if mayDrop(&c.core) {
		clear(c.args)
	}
}

func (c *chunk[A, R]) Run(l Lender) {
	c.lender = l
	c.core.Bits.Or(inRun)
	ctx := (*chunkContext[A, R])(c)
	defer func() {
		// Reached with items left if a task ended this goroutine. The rest runs in
		// others, one after another: each may be ended in turn.
		for c.next < len(c.args) {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				c.stretch(ctx)
			}()
			<-ended
		}
	}()
	for c.next < len(c.args) {
		c.stretch(ctx)
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

// fail notes the error of an item, and counts it in o if there is one.
func (c *chunk[A, R]) fail(i int, err error, o *Outcome) {
	c.mu.Lock()
	errs := c.errs.Load()
	if errs == nil {
		all := make([]failure, len(c.args))
		errs = &all
		c.errs.Store(errs)
	}
	(*errs)[i] = failure{err, c.cause != nil || c.ctx.Err() != nil}
	c.mu.Unlock()
	if o != nil {
		o.Failed++
		o.Err = err
	}
	c.forget(i)
}

// forget lets go of the argument of item i, which is done.
func (c *chunk[A, R]) forget(i int) {
	if !c.run.unordered && c.core.Bits.Load()&holding == 0 {
		c.args[i] = wire.Box[A]{}
	}
}

// interrupted returns why the chunk was cancelled or interrupted, if it was.
func (c *chunk[A, R]) interrupted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
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

// clock notes how long the chunk took, if it has started.
func (c *chunk[A, R]) clock() {
	if !c.begun.IsZero() {
		c.took.Store(int64(time.Since(c.begun)))
	}
}

func (c *chunk[A, R]) Encode(i int, enc Encoder) error {
	held := hold(&c.core)
	defer func() {
		if release(&c.core) {
			clear(c.args)
		}
	}()
	if !held {
		return promise.ErrCancelled
	}
	return encode(enc, &c.args[i])
}

func (c *chunk[A, R]) Complete(i int, dec Decoder) error {
	var out wire.Box[R]
	err := decode(dec, &out)
	if err != nil {
		err = decodeError(c.task.name, err)
	}
	c.settle(i, out, err)
	return err
}

func (c *chunk[A, R]) Fail(i int, err error) { c.settle(i, wire.Box[R]{}, err) }

// settle completes item i of a chunk that runs elsewhere.
func (c *chunk[A, R]) settle(i int, out wire.Box[R], err error) {
	o := Outcome{Succeeded: 1}
	if err != nil {
		o = Outcome{Failed: 1, Err: err}
	}
	c.mu.Lock()
	if c.done == nil {
		c.done = make([]bool, len(c.args))
	}
	if c.core.IsDone() || c.done[i] {
		c.mu.Unlock()
		return
	}
	c.done[i] = true
	c.mu.Unlock()
	if err != nil {
		c.fail(i, err, nil)
	} else {
		c.results[i] = out
		c.forget(i)
	}
	c.host.Finished(c, o)
	c.mu.Lock()
	n := int(c.prefix.Load())
	for n < len(c.done) && c.done[n] {
		n++
	}
	all := n == len(c.args)
	if all {
		c.clock()
	}
	c.prefix.Store(int64(n))
	c.mu.Unlock()
	if all && c.core.Begin() {
		c.leave()
		c.core.Publish().Go()
	}
	c.run.progress(c)
}

// progressed reports whether items are done that were not yielded.
func (c *chunk[A, R]) progressed() bool { return int(c.prefix.Load()) > c.yielded }

// failures returns the errors of items, of which those are settled that are done; nil
// if none of them failed.
func (c *chunk[A, R]) failures() []failure {
	if errs := c.errs.Load(); errs != nil {
		return *errs
	}
	return nil
}

// ranHere reports whether c, which is done, was run by Run alone, and nobody reads its
// arguments any more: an Encode that comes now finds that c is over and leaves them be.
func (c *chunk[A, R]) ranHere() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done == nil && c.core.Bits.Load() == inRun
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
