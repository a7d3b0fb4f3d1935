package executor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

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
	shared  bool         // the rest is run by several workers; Run's own
	claimed atomic.Int64 // of a shared chunk: the items below are somebody's
	gone    atomic.Bool  // cancelled. The run is told a moment before core says so, so it asks here
	stop    atomic.Bool  // interrupted: items that have not begun are cancelled
	prefix  atomic.Int64 // items from the front that are done
	begun   time.Time    // set by Start
	ran     atomic.Int64 // nanoseconds that a worker elsewhere took, by its own word; 0: it has not said
	took    atomic.Int64 // nanoseconds from Start to the last item, or ran; written before prefix is full
	yielded int          // the run's own

	queued atomic.Bool // unordered: it is in the run's ready list, or on the way there

	errs atomic.Pointer[[]failure] // nil until an item fails; set under mu, its items before prefix

	mu    sync.Mutex // guards the fields below; a leaf
	front int        // the items below are taken: as long as all are in order, that says it all
	ends  []itemEnd  // of the others; nil until an item is completed out of order
	whole bool       // all items were completed one by one, and it is over by that
	cause error      // why it was cancelled or interrupted
}

// An itemEnd is how far an item is that is completed out of order.
type itemEnd uint8

const (
	itemOpen  itemEnd = iota
	itemTaken         // somebody completes it, or prefix is beyond it
	itemDone          // its result is there, and was counted, but prefix is before it
)

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
func (c *chunk[A, R]) Direct() bool           { return c.task.Direct() }
func (c *chunk[A, R]) Timeout() time.Duration { return c.task.opts.timeout }
func (c *chunk[A, R]) Retries() int           { return c.task.opts.retries }
func (c *chunk[A, R]) Priority() int          { return c.task.opts.priority }

func (c *chunk[A, R]) Len() int           { return len(c.args) }
func (c *chunk[A, R]) WaitsForRoom() bool { return true }
func (c *chunk[A, R]) IsDone() bool       { return c.core.IsDone() }

func (c *chunk[A, R]) Start() bool { return c.StartAt(time.Now()) }

func (c *chunk[A, R]) StartAt(t time.Time) bool {
	if !c.core.Start() {
		return false
	}
	c.begun = t
	return true
}

func (c *chunk[A, R]) Ran(d time.Duration) { c.ran.Store(int64(d)) }

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
	c.forget(i, i+1)
}

// forget lets go of the arguments of the items from i up to end, which are done.
func (c *chunk[A, R]) forget(i, end int) {
	if !c.run.unordered && !held(&c.core) {
		clear(c.args[i:end])
	}
}

// interrupted returns why the chunk was cancelled or interrupted, if it was.
func (c *chunk[A, R]) interrupted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// clock notes how long the chunk took, if it has started.
func (c *chunk[A, R]) clock() {
	if ran := c.ran.Load(); ran > 0 {
		c.took.Store(ran)
	} else if !c.begun.IsZero() {
		c.took.Store(int64(time.Since(c.begun)))
	}
}

func (c *chunk[A, R]) Encode(i int, enc Encoder) error {
	there := hold(&c.core)
	defer func() {
		if release(&c.core) {
			clear(c.args)
		}
	}()
	if !there {
		return promise.ErrCancelled
	}
	return encode(enc, &c.args[i], c.task.arg)
}

func (c *chunk[A, R]) PackPlain(b []byte, from, to, room int) ([]byte, int) {
	k := c.task.arg
	if to = min(to, len(c.args)); k == 0 || from >= to {
		return b, from
	}
	if hold(&c.core) {
		var n int
		b, n = wire.AppendPacked(b, k, unsafe.Pointer(&c.args[from].V), unsafe.Sizeof(c.args[from]), to-from, room)
		from += n
	}
	if release(&c.core) {
		clear(c.args)
	}
	return b, from
}

func (c *chunk[A, R]) Complete(i int, dec Decoder) error {
	v, err := decode[R](dec, c.task.result)
	if err != nil {
		err = decodeError(c.task.name, err)
	}
	if !c.settle(i, wire.Box[R]{V: v}, err) {
		dropHandles(dec)
	}
	return err
}

func (c *chunk[A, R]) Fail(i int, err error) { c.settle(i, wire.Box[R]{}, err) }

// settle completes item i of a chunk that runs elsewhere. It reports false if the item was
// complete before.
func (c *chunk[A, R]) settle(i int, out wire.Box[R], err error) bool {
	o := Outcome{Succeeded: 1}
	if err != nil {
		o = Outcome{Failed: 1, Err: err}
	}
	return c.finish(i, out, err, o, c.hears())
}

// finish completes item i out of order, and tells who counts it. It reports false if the
// item was complete before.
func (c *chunk[A, R]) finish(i int, out wire.Box[R], err error, o Outcome, who hearer) bool {
	if c.take(i, i+1) == i {
		return false
	}
	if err != nil {
		c.fail(i, err, nil)
	} else {
		c.results[i] = out
		c.forget(i, i+1)
	}
	who.Finished(c, o)
	c.finished(i, i+1)
	return true
}

func (c *chunk[A, R]) CompletePlain(i int, results [][]byte) int {
	k := c.task.result
	if k == 0 {
		return 0
	}
	end := c.take(i, min(i+len(results), len(c.args)))
	if end == i {
		return 0
	}
	var o Outcome
	results = results[:end-i]
	for at := i; at < end; {
		n, err := wire.DecodePacked(results[at-i:], k, unsafe.Pointer(&c.results[at].V), unsafe.Sizeof(c.results[at]))
		if at += n; err != nil {
			c.fail(at, decodeError(c.task.name, err), &o)
			at++
		}
	}
	o.Succeeded = end - i - o.Failed
	c.forget(i, end)
	c.hears().Finished(c, o)
	c.finished(i, end)
	return end - i
}

// finished makes the items from i up to end visible, which are the caller's and counted.
func (c *chunk[A, R]) finished(i, end int) {
	if c.advance(i, end) {
		c.leave()
		c.core.Publish().Go()
	}
	c.run.progress(c)
}

// take makes the items from i up to end the caller's to complete, or those before the
// first that is somebody's, and returns where they end.
func (c *chunk[A, R]) take(i, end int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.core.IsDone() || i < c.front {
		return i
	}
	if i == c.front && c.ends == nil {
		c.front = max(i, end)
		return c.front
	}
	ends := c.itemEnds()
	for ; i < end && ends[i] == itemOpen; i++ {
		ends[i] = itemTaken
	}
	return i
}

// itemEnds returns ends, made now if need be. mu is held.
func (c *chunk[A, R]) itemEnds() []itemEnd {
	if c.ends == nil {
		c.ends = make([]itemEnd, len(c.args))
	}
	return c.ends
}

// advance makes the items from i up to end visible, and those behind them that have
// waited for it. It reports whether they were the last, and the chunk is the caller's to
// publish: it is over before anybody sees them all.
func (c *chunk[A, R]) advance(i, end int) (over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int(c.prefix.Load())
	if n == i {
		n = end
	} else {
		ends := c.itemEnds()
		for ; i < end; i++ {
			ends[i] = itemDone // not before, or others would show an item that is not there
		}
	}
	for n < len(c.ends) && c.ends[n] == itemDone {
		n++
	}
	if n == len(c.args) {
		c.clock()
		c.whole = c.core.Begin()
	}
	c.prefix.Store(int64(n))
	return c.whole
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

// recycle returns the arguments and results of c, which is done, if nobody reads or writes
// them any more. An Encode that comes now finds that c is over and leaves them be; but who
// cancels c may still clear them.
func (c *chunk[A, R]) recycle() (b buffers[A, R], ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.front == 0 && c.ends == nil && c.core.Bits.Load() == inRun: // Run alone has run it
	case c.whole && c.core.Bits.Load()&inRun == 0 && !held(&c.core):
		clear(c.args) // an argument that an Encode read when its item was done is still there
	default:
		return b, false
	}
	return buffers[A, R]{c.args[:cap(c.args)], c.results[:cap(c.results)]}, true
}
