package executor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/internal/lend"
	"example.com/futures/internal/promise"
)

// A mapRun is one range over a Map. Its goroutine takes inputs into a batch, hands
// that over as a chunk, and yields results; workers report to it by progress.
//
//	args ──▶ batch ──dispatch──▶ flight: chunk, chunk, chunk ──emit──▶ yield
//	                              workers run them, and publish
//
// What happens for each item is kept to a few instructions: an input is stored, a
// result is read. All else is done for a batch, or for what is done of a chunk.
type mapRun[A, R any] struct {
	ctx       context.Context
	ex        Executor
	task      *taskOf[A, R]
	unordered bool
	lender    lend.Lender // of the task that ranges over the map, or nil

	// emit yields items of c from c.yielded up to done, and reports false if the
	// consumer broke off.
	emit func(c *chunk[A, R], done int) bool

	// The goroutine's own.
	workers int            // of the executor, at most
	pace    pace           // of the next chunk
	batch   buffers[A, R]  // inputs that are not handed over
	filled  int            // how many
	enough  int            // how many there are to be before there is anything to decide
	flight  []*chunk[A, R] // handed over and not yielded in full, in order
	spare   []buffers[A, R]
	first   int         // index of the first input in batch
	ahead   int         // inputs in flight that were not yielded
	final   error       // ends the iteration, after what is done
	stop    bool        // nothing but final is to be yielded
	timer   *time.Timer // of patience; made when needed

	inputTimer *time.Timer // of the batch; made when needed
	inputSlow  atomic.Bool // it has fired

	_ [64]byte // what workers read and write is on lines of its own

	want   atomic.Pointer[chunk[A, R]] // in order: the chunk whose progress the goroutine waits for
	hungry atomic.Bool                 // the goroutine has waited for long
	bell   chan struct{}               // of one token: there is progress

	mu    sync.Mutex     // guards ready
	ready []*chunk[A, R] // unordered: chunks with items that are done
}

func newMapRun[A, R any](ctx context.Context, ex Executor, task *taskOf[A, R], unordered bool) *mapRun[A, R] {
	r := &mapRun[A, R]{
		ctx: ctx, ex: ex, task: task, unordered: unordered, lender: lend.From(ctx),
		workers: capacity(ex), pace: pace{1, 1, 1, 2}, bell: make(chan struct{}, 1),
	}
	if n := task.opts.chunk; n > 0 {
		r.pace.size = n
	}
	return r
}

// iterate runs the map, and reports false if the consumer broke it off.
func (r *mapRun[A, R]) iterate(args iter.Seq[A]) bool {
	defer r.abandon() // a break, a panic of args, or an end before all is done
	if r.ctx.Err() != nil {
		r.final = r.ended(context.Cause(r.ctx))
		return true
	}
	r.aim()
	broken := false
	// Called like this, and not by a range statement, which keeps a state of its own
	// for each input, at about 1 ns. What the statement would guard against, an input
	// after the end, finds no room in the batch.
	args(func(arg A) bool {
		r.batch.args[r.filled].V = arg
		r.filled++
		if r.filled < r.enough && !r.inputSlow.Load() {
			return true
		}
		broken = !r.advance()
		if broken || r.final != nil {
			r.batch, r.filled = buffers[A, R]{}, 0
			return false
		}
		return true
	})
	if broken {
		return false
	}
	if r.filled > 0 && r.final == nil {
		r.dispatch()
	}
	for len(r.flight) > 0 && !r.over() {
		if !r.deliver() {
			return false
		}
	}
	return true
}

// advance hands the batch over if it is as large as it should be, and yields results
// until there is room for the next input. It reports false if the consumer broke off.
func (r *mapRun[A, R]) advance() bool {
	if r.inputSlow.Load() {
		r.inputSlow.Store(false)
		r.pace.size = 1 // what was taken waits for no more inputs
	}
	full := r.ahead+r.filled >= r.buffer()
	if r.filled >= r.pace.size || full && len(r.flight) < r.workers {
		r.dispatch()
	}
	for r.final == nil && r.ahead+r.filled >= r.buffer() {
		// The buffer shrinks with the chunks when calls turn out to be slow, so
		// that it may be full of nothing but the batch.
		if len(r.flight) == 0 {
			r.dispatch()
		} else if !r.deliver() {
			return false
		}
	}
	if r.final == nil {
		r.aim()
	}
	return true
}

// over reports that nothing more is to be yielded but the final error.
func (r *mapRun[A, R]) over() bool {
	return r.final != nil && (len(r.flight) == 0 || r.stop)
}

// dispatch hands the batch over as a chunk.
func (r *mapRun[A, R]) dispatch() {
	if r.ctx.Err() != nil {
		r.end(nil)
		return
	}
	c := newChunk(r)
	if err := r.ex.Execute(c); err != nil {
		c.host = nil
		r.end(err)
		return
	}
	r.first += r.filled
	r.ahead += r.filled
	r.batch, r.filled = buffers[A, R]{}, 0
	r.flight = append(r.flight, c)
	if r.ctx.Done() != nil {
		c.listen(&c.core, c.ctxEnded)
	}
}

// end notes why the iteration will end.
func (r *mapRun[A, R]) end(cause error) {
	if r.ctx.Err() != nil {
		cause = context.Cause(r.ctx)
	}
	if cause == nil {
		cause = promise.ErrCancelled
	}
	if r.final == nil {
		r.final = r.ended(cause)
	}
}

// ended returns the error that ends the iteration.
func (r *mapRun[A, R]) ended(cause error) error {
	err := fmt.Errorf("executor: map of task %q ended: %w", r.task.name, cause)
	if ctxErr := r.ctx.Err(); ctxErr != nil && !errors.Is(err, ctxErr) {
		err = JoinCause(ctxErr, cause)
	}
	return err
}

// abandon lets go of what is still in flight.
func (r *mapRun[A, R]) abandon() {
	for _, c := range r.flight { // before those that run end, and their workers take the next
		c.Cancel(context.Canceled)
	}
	for _, c := range r.flight {
		c.Interrupt(context.Canceled)
	}
	r.flight, r.batch, r.spare = nil, buffers[A, R]{}, nil
	if r.inputTimer != nil {
		r.inputTimer.Stop()
	}
}

// deliver waits for results and yields some: in order, those of the first chunk in
// flight; else those that are there. It reports false if the consumer broke off.
func (r *mapRun[A, R]) deliver() bool {
	if !r.unordered {
		return r.deliverAll(r.flight[0])
	}
	c := r.next()
	if c == nil {
		r.end(nil)
		r.stop = true
		return true
	}
	return r.deliverSome(c)
}

// deliverAll yields c as it is done, all of it or up to the item that ends the map.
func (r *mapRun[A, R]) deliverAll(c *chunk[A, R]) bool {
	for c.yielded < len(c.args) {
		if !c.progressed() && !r.await(c) {
			r.end(c.interrupted())
			r.stop = true // what follows a chunk that will never be whole is not yielded
			return true
		}
		if !r.deliverDone(c) {
			return false
		}
		if r.stop {
			return true
		}
	}
	r.retire(c)
	return true
}

// deliverSome yields what is done of c by now.
func (r *mapRun[A, R]) deliverSome(c *chunk[A, R]) bool {
	if c.yielded == len(c.args) {
		return true // it reported again while the last of it was yielded
	}
	gone := c.gone.Load() // before the look at what is done: it stays as it is then
	if !r.deliverDone(c) {
		return false
	}
	switch {
	case c.yielded == len(c.args):
		r.retire(c)
	case gone:
		r.end(c.interrupted())
		r.drop(c)
	}
	return true
}

// deliverDone yields what is done of c.
func (r *mapRun[A, R]) deliverDone(c *chunk[A, R]) bool {
	done := int(c.prefix.Load())
	if !r.emit(c, done) {
		return false
	}
	r.ahead -= done - c.yielded
	c.yielded = done
	return true
}

// endedBy reports whether f is no outcome of the item's own but the end of c, or of
// the whole map, which is noted then. The end of ctx reaches an item before the chunk
// is told.
func (r *mapRun[A, R]) endedBy(c *chunk[A, R], f failure) bool {
	if !f.late {
		return false
	}
	cause := c.interrupted()
	if r.ctx.Err() != nil {
		cause = context.Cause(r.ctx)
	}
	if cause == nil || !errors.Is(f.err, cause) {
		return false
	}
	r.end(cause)
	return true
}

// retire lets go of c, all of which was yielded.
func (r *mapRun[A, R]) retire(c *chunk[A, R]) {
	r.measure(c)
	if b, ok := c.recycle(); ok {
		r.spare = append(r.spare, b)
	}
	r.drop(c)
}

// drop takes c out of flight.
func (r *mapRun[A, R]) drop(c *chunk[A, R]) {
	r.ahead -= len(c.args) - c.yielded
	c.yielded = len(c.args) // should it report again
	i := slices.Index(r.flight, c)
	if i > 0 { // in a map without order
		r.flight[i] = r.flight[0]
	}
	r.flight[0] = nil
	r.flight = r.flight[1:]
}
