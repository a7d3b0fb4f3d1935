package executor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/internal/lend"
	"example.com/futures/internal/promise"
	"example.com/futures/internal/wire"
)

// Map calls t with each input of args on ex and yields the results in the order of
// the inputs, each with its error.
//
// Nothing happens before the range begins, and each range is a run of its own. Map
// takes inputs ahead of the consumer, as many as [WithBuffer] says, and no more;
// the default keeps every worker busy. The sequence args runs in the goroutine of
// the range. Inputs go to workers in chunks, see [WithChunk]; that changes no result.
// Map waits for room in a bounded queue even if ex is set to refuse calls then.
// Under the context of a task of this process, the task's place is lent while it waits.
//
// Errors: an item's own error stands beside the item, and the iteration goes on.
// When ctx ends, Map yields what is done up to the first item that is not, then one
// error that matches ctx.Err() and context.Cause(ctx), and stops. When ex is shut
// down under way, likewise, and the error matches [ErrShutdown]. The value beside an
// error is the zero R.
//
// A break cancels what is queued and interrupts what runs, without waiting for it.
// If args panics, the panic reaches the range; the pool goes on.
//
// Map panics if t is the zero Task or args is nil.
//
// Reference: concurrent.futures.Executor.map with buffersize (Python 3.14), which
// starts at once, and multiprocessing.pool.Pool.imap.
func Map[A, R any](ctx context.Context, ex Executor, t Task[A, R], args iter.Seq[A], opts ...CallOption) iter.Seq2[R, error] {
	task := t.must("Map").with(opts)
	if args == nil {
		panic("executor: Map of a nil sequence")
	}
	return func(yield func(R, error) bool) {
		r := newMapRun(ctx, ex, task, false)
		r.yield = func(_ *chunk[A, R], _ int, v R, err error) bool { return yield(v, err) }
		if r.iterate(args) && r.final != nil {
			var zero R
			yield(zero, r.final)
		}
	}
}

// MapUnordered is [Map] in the order in which the calls are done. It yields each
// result with the input that it belongs to.
//
// The Item beside an error has Index and Arg, but for the one error that ends the
// iteration: its Item is zero but for Index, which is -1.
//
// Reference: multiprocessing.pool.Pool.imap_unordered.
func MapUnordered[A, R any](ctx context.Context, ex Executor, t Task[A, R], args iter.Seq[A], opts ...CallOption) iter.Seq2[Item[A, R], error] {
	task := t.must("MapUnordered").with(opts)
	if args == nil {
		panic("executor: MapUnordered of a nil sequence")
	}
	return func(yield func(Item[A, R], error) bool) {
		r := newMapRun(ctx, ex, task, true)
		r.yield = func(c *chunk[A, R], i int, v R, err error) bool {
			item := Item[A, R]{Index: c.first + i, Arg: c.args[i].V, Value: v}
			c.args[i] = wire.Box[A]{}
			return yield(item, err)
		}
		if r.iterate(args) && r.final != nil {
			yield(Item[A, R]{Index: -1}, r.final)
		}
	}
}

// An Item is one result of [MapUnordered].
type Item[A, R any] struct {
	Index int // of the input, from 0
	Arg   A   // the input
	Value R   // the result; zero beside an error
}

// How a Map without WithChunk sizes its chunks: so that one takes about chunkTime,
// which makes the cost of handing it over small and still spreads the work evenly.
// The first chunks are single items, and each is at most chunkGrowth times as long as
// one that was measured.
const (
	chunkTime   = 500 * time.Microsecond
	chunkGrowth = 4
	chunkMax    = 1 << 14
	strideTime  = 20 * time.Microsecond // between two looks at what is done
	batchTime   = 20 * chunkTime        // a batch that fills more slowly has a slow input
)

// A mapRun is one range over a Map. Its goroutine takes inputs, hands over chunks
// and yields results; workers report to it by progress.
type mapRun[A, R any] struct {
	ctx       context.Context
	ex        Executor
	task      *taskOf[A, R]
	unordered bool
	lender    lend.Lender // of the task that ranges over the map, or nil
	yield     func(c *chunk[A, R], i int, v R, err error) bool

	// The goroutine's own.
	workers int            // of the executor, at most
	size    int            // of the next chunk
	stride  int            // of the next chunk
	batch   []wire.Box[A]  // taken and not handed over
	since   time.Time      // when the first of batch was taken, if size is above 1
	flight  []*chunk[A, R] // handed over and not yielded in full, in order
	first   int            // index of the first input in batch
	ahead   int            // inputs taken and not yielded
	final   error          // ends the iteration, after what is done
	stop    bool           // nothing but final is to be yielded

	want atomic.Pointer[chunk[A, R]] // the chunk whose progress the goroutine waits for
	bell chan struct{}               // of one token: there is progress

	mu    sync.Mutex     // guards ready and chunk.queued
	ready []*chunk[A, R] // unordered: chunks with items that are done
}

func newMapRun[A, R any](ctx context.Context, ex Executor, task *taskOf[A, R], unordered bool) *mapRun[A, R] {
	r := &mapRun[A, R]{
		ctx: ctx, ex: ex, task: task, unordered: unordered, lender: lend.From(ctx),
		workers: capacity(ex), size: 1, stride: 1, bell: make(chan struct{}, 1),
	}
	if n := task.opts.chunk; n > 0 {
		r.size = n
	}
	return r
}

// capacity returns how many workers ex may have. An executor says so by a method
// Capacity; otherwise it is taken to use the processors of this machine.
func capacity(ex Executor) int {
	if c, ok := ex.(interface{ Capacity() int }); ok {
		return max(1, c.Capacity())
	}
	return runtime.GOMAXPROCS(0)
}

// buffer returns how many inputs may be ahead of the consumer.
func (r *mapRun[A, R]) buffer() int {
	if r.task.opts.buffer > 0 {
		return r.task.opts.buffer
	}
	chunks := 2 * (r.workers + 1)
	if r.size > math.MaxInt/chunks {
		return math.MaxInt
	}
	return r.size * chunks
}

// iterate runs the map, and reports false if the consumer broke it off.
func (r *mapRun[A, R]) iterate(args iter.Seq[A]) bool {
	defer r.abandon() // a break, a panic of args, or an end before all is done
	if r.ctx.Err() != nil {
		r.final = r.ended(context.Cause(r.ctx))
		return true
	}
	for arg := range args {
		r.batch = append(r.batch, wire.Box[A]{V: arg})
		r.ahead++
		if r.size > 1 && r.task.opts.chunk == 0 {
			r.keepUp()
		}
		full := r.ahead >= r.buffer()
		if len(r.batch) >= r.size || full && len(r.flight) < r.workers {
			r.dispatch()
		}
		for r.final == nil && r.ahead >= r.buffer() {
			// The buffer shrinks with the chunks when calls turn out to be slow, so
			// that it may be full of nothing but the batch.
			if len(r.flight) == 0 {
				r.dispatch()
			} else if !r.deliver() {
				return false
			}
		}
		if r.final != nil {
			break
		}
	}
	if len(r.batch) > 0 && r.final == nil {
		r.dispatch()
	}
	for len(r.flight) > 0 && !r.over() {
		if !r.deliver() {
			return false
		}
	}
	return true
}

// keepUp makes chunks single items again, and with them what is taken ahead, when the
// input is so slow that a batch takes long to fill: what was taken would wait for the
// rest of its batch. It looks at the clock now and then, since that costs more than
// the rest of taking an input.
func (r *mapRun[A, R]) keepUp() {
	switch n := len(r.batch); {
	case n == 1:
		r.since = time.Now()
	case (n%16 == 0 || n < 16 && n&(n-1) == 0) && time.Since(r.since) > batchTime:
		r.size = 1
	}
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
	c := newChunk(r, r.first, r.stride, r.batch)
	if err := r.ex.Execute(c); err != nil {
		c.host = nil
		r.end(err)
		return
	}
	r.first += len(r.batch)
	r.batch = make([]wire.Box[A], 0, min(r.size, r.buffer(), chunkMax))
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
	r.flight, r.batch = nil, nil
}

// deliver waits for results and yields some: in order, those of the first chunk in
// flight; else those that are there. It reports false if the consumer broke off.
func (r *mapRun[A, R]) deliver() bool {
	if !r.unordered {
		return r.deliverFrom(r.flight[0], true)
	}
	c := r.next()
	if c == nil {
		r.end(nil)
		r.stop = true
		return true
	}
	return r.deliverFrom(c, false)
}

// deliverFrom yields what is done of c, in order all of it, and retires it when all
// of it was yielded.
func (r *mapRun[A, R]) deliverFrom(c *chunk[A, R], all bool) bool {
	if c.yielded == len(c.args) {
		return true // it reported again while the last of it was yielded
	}
	for c.yielded < len(c.args) {
		if int(c.prefix.Load()) <= c.yielded {
			if c.gone.Load() {
				r.end(c.interrupted())
				r.retire(c, false)
				return true
			}
			if !all {
				return true
			}
			if !r.await(c) && int(c.prefix.Load()) <= c.yielded {
				r.end(c.interrupted())
				r.retire(c, false)
				return true
			}
		}
		i := c.yielded
		v, f := c.take(i)
		c.yielded++
		if f.late {
			if cause := r.why(c); cause != nil && errors.Is(f.err, cause) {
				r.end(cause) // not an outcome of its own
				if all {
					r.retire(c, false)
					return true
				}
				r.ahead--
				continue
			}
		}
		r.ahead--
		if !r.yield(c, i, v, f.err) {
			return false
		}
	}
	r.retire(c, true)
	return true
}

// why returns what interrupted c, if something did. The end of ctx reaches an item
// before the chunk is told.
func (r *mapRun[A, R]) why(c *chunk[A, R]) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	return c.interrupted()
}

// retire takes c out of flight. In an ordered map, what follows a chunk that will
// never be whole is not yielded any more.
func (r *mapRun[A, R]) retire(c *chunk[A, R], whole bool) {
	if whole {
		r.measure(c)
	}
	if !whole && !r.unordered {
		r.stop = true // abandon sees to the rest
		return
	}
	c.yielded = len(c.args) // should it report again
	i := slices.Index(r.flight, c)
	if i > 0 { // in a map without order
		r.flight[i] = r.flight[0]
	}
	r.flight[0] = nil
	r.flight = r.flight[1:]
}

// measure sizes the next chunks by how long c took, and what is taken ahead by how
// many workers there may be by now.
func (r *mapRun[A, R]) measure(c *chunk[A, R]) {
	r.workers = capacity(r.ex)
	each := max(1, time.Duration(c.took.Load())/time.Duration(len(c.args)))
	if !r.unordered { // there an item is yielded when it is done, whatever comes after it
		r.stride = max(1, int(strideTime/each))
	}
	if r.task.opts.chunk > 0 {
		return
	}
	n := min(int(chunkTime/each), chunkGrowth*len(c.args), chunkMax)
	if r.task.opts.buffer > 0 {
		n = min(n, r.task.opts.buffer/(2*r.workers))
	}
	r.size = max(1, n)
}

// progress is called by a worker when items of c are done, or c was cancelled.
func (r *mapRun[A, R]) progress(c *chunk[A, R]) {
	if r.unordered {
		r.mu.Lock()
		if !c.queued {
			c.queued = true
			r.ready = append(r.ready, c)
		}
		r.mu.Unlock()
	} else if r.want.Load() != c {
		return
	}
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// await waits for progress of c, and reports false if there will be none: c was
// cancelled, or ctx ended.
func (r *mapRun[A, R]) await(c *chunk[A, R]) bool {
	r.want.Store(c) // and then look again: progress looks in the other order
	defer r.want.Store(nil)
	return r.wait(func() bool { return int(c.prefix.Load()) > c.yielded || c.gone.Load() }) && !c.gone.Load()
}

// next waits for a chunk with progress; nil says that ctx ended.
func (r *mapRun[A, R]) next() (c *chunk[A, R]) {
	r.wait(func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.ready) == 0 {
			return false
		}
		c, r.ready[0] = r.ready[0], nil
		r.ready = r.ready[1:]
		c.queued = false
		return true
	})
	return c
}

// wait waits until found reports true, which it does, or ctx has ended. What is
// there when ctx ends is found.
func (r *mapRun[A, R]) wait(found func() bool) bool {
	if found() {
		return true
	}
	if r.ctx.Err() != nil {
		return found()
	}
	if r.lender != nil {
		r.lender.Lend()
		defer r.lender.Reclaim()
	}
	for {
		select {
		case <-r.bell:
			if found() {
				return true
			}
		case <-r.ctx.Done():
			return found()
		}
	}
}
