package executor

import (
	"context"
	"iter"

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
		r.emit = func(c *chunk[A, R], done int) bool {
			results, failures := c.results[:done], c.failures()
			for i := c.yielded; i < len(results); i++ {
				var err error
				if failures != nil {
					if err = failures[i].err; r.endedBy(c, failures[i]) {
						r.stop = true
						return true
					}
				}
				v := results[i].V
				results[i] = wire.Box[R]{}
				if !yield(v, err) {
					return false
				}
			}
			return true
		}
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
		r.emit = func(c *chunk[A, R], done int) bool {
			failures := c.failures()
			for i := c.yielded; i < done; i++ {
				item := Item[A, R]{Index: c.first + i, Arg: c.args[i].V, Value: c.results[i].V}
				c.args[i], c.results[i] = wire.Box[A]{}, wire.Box[R]{}
				var err error
				if failures != nil {
					if err = failures[i].err; r.endedBy(c, failures[i]) {
						continue
					}
				}
				if !yield(item, err) {
					return false
				}
			}
			return true
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
