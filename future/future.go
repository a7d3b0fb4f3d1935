package future

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"

	"example.com/futures/internal/promise"
)

// State is where a future stands.
type State int

const (
	Pending   State = iota // nothing has begun to compute it
	Running                // it is being computed
	Cancelled              // it was cancelled before it ran, and never will
	Finished               // it has a value or an error
)

// String returns the state as a lower-case word.
func (s State) String() string {
	switch s {
	case Pending:
		return "pending"
	case Running:
		return "running"
	case Cancelled:
		return "cancelled"
	case Finished:
		return "finished"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// A Future is a value of type T that will be, or the error that comes instead. It
// is the side of those who wait; the other side is a [Promise], or a pool.
//
// A future is pending, then running, then finished; or pending, then cancelled.
// The last two are called done, and final. What the completer did before it
// completed the future happens before every call that sees it done.
//
// Futures are used by pointer. All methods are safe for any number of goroutines.
//
// Reference: concurrent.futures.Future (Python 3.14), with one cancelled state
// instead of two: a cancelled future is done for everybody at once.
type Future[T any] promise.Cell[T]

func (f *Future[T]) cell() *promise.Cell[T] { return (*promise.Cell[T])(f) }
func (f *Future[T]) core() *promise.Core    { return f.cell().Core() }
func (f *Future[T]) same(g any) bool        { return g == any(f) }

// Result waits until the future is done and returns its value, or its error with
// the zero T.
//
// A future that is done answers at once, even under a ctx that has ended, so an
// ended ctx polls. Under the context of a task of this process, the task's place
// in its pool is lent to other calls while Result waits.
//
// Errors: what the call returned, as it is. Of a cancelled future, one that matches
// [ErrCancelled] and the cause of the cancellation. If ctx ends first, one that
// matches [ErrNotDone], ctx.Err() and context.Cause(ctx): by ErrNotDone a wait
// that timed out is told from a call that returned context.DeadlineExceeded.
//
// Reference: Future.result (Python); java.util.concurrent.Future.get.
func (f *Future[T]) Result(ctx context.Context) (T, error) {
	if err := f.Exception(ctx); err != nil {
		var zero T
		return zero, err
	}
	return f.cell().Value(), nil
}

// Exception waits like Result and returns the error alone: nil when the call
// succeeded.
//
// Reference: Future.exception (Python), which raises for a cancelled future; here
// the cancellation is the error.
func (f *Future[T]) Exception(ctx context.Context) error {
	if !f.core().Wait(ctx) {
		if s := f.State(); s < Cancelled { // else it was done a moment ago
			return notDone(ctx, s.String())
		}
	}
	return f.core().Err()
}

// Done returns a channel that is closed once the future is done. It is made when
// first asked for; [Future.Result] does without.
func (f *Future[T]) Done() <-chan struct{} { return f.core().Done() }

// IsDone reports whether the future is cancelled or finished.
func (f *Future[T]) IsDone() bool { return f.core().IsDone() }

// IsRunning reports whether the call runs at this moment.
func (f *Future[T]) IsRunning() bool { return f.core().IsRunning() }

// IsCancelled reports whether the future was cancelled.
func (f *Future[T]) IsCancelled() bool { return f.core().IsCancelled() }

// State returns the state. All but the final two may be out of date when it returns.
func (f *Future[T]) State() State {
	switch f.core().Phase() {
	case promise.Running:
		return Running
	case promise.Cancelled:
		return Cancelled
	case promise.Finished:
		return Finished
	default:
		return Pending
	}
}

// Cancel cancels the future if it is pending: it is done at once, waiters wake, and
// its callbacks have run when Cancel returns. Cancel reports whether the future is
// cancelled now: true again the second time, false once it runs or has finished.
// [Future.Interrupt] reaches a running call.
//
// Reference: Future.cancel (Python).
func (f *Future[T]) Cancel() bool {
	cbs, ok := f.core().Cancel(ErrCancelled)
	cbs.Wait()
	return ok
}

// Interrupt cancels a pending future, or ends the context of a running call, with
// cause. It reports whether it did either, and does not wait for the call: one that
// ignores its context goes on, on a goroutine; a worker process is killed after its
// grace. cause may be nil; it is what context.Cause says in the task, and
// the error of the future matches it.
//
// Reference: Future.cancel(true) of java.util.concurrent.
func (f *Future[T]) Interrupt(cause error) bool {
	if cause == nil {
		cause = context.Canceled
	}
	cbs, ok := f.core().Interrupt(promise.CancelledError(cause), cause)
	cbs.Wait()
	return ok
}

// AddDoneCallback has fn called once with the future when it is done, after every
// waiter can see the result. Callbacks run one after another in the order added: of
// a [Promise], and at a Cancel, before the completing call returns; of a pool, on a
// goroutine of their own, so that a slow one delays no call. Added to a future that
// is done, fn has run when AddDoneCallback returns.
//
// A callback may add callbacks, cancel, submit or shut its pool down. One that
// panics, or ends its goroutine, is logged, and the next ones run.
//
// AddDoneCallback panics if fn is nil.
//
// Reference: Future.add_done_callback (Python).
func (f *Future[T]) AddDoneCallback(fn func(*Future[T])) {
	if fn == nil {
		panic("future: AddDoneCallback of a nil function")
	}
	call := func() {
		defer func() {
			if v := recover(); v != nil {
				slog.Error("future: a done callback panicked", "future", f.String(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			}
		}()
		fn(f)
	}
	if !f.core().Listen(new(promise.Node), call) {
		promise.One(call).Wait()
	}
}

// String describes the future: its type, its state, and, once finished, the type of
// its value or of its error.
func (f *Future[T]) String() string {
	name := fmt.Sprintf("Future[%v]", reflect.TypeFor[T]())
	switch s := f.State(); {
	case s != Finished:
		return fmt.Sprintf("%s(%v)", name, s)
	case f.core().Err() != nil:
		return fmt.Sprintf("%s(finished, failed with %T)", name, f.core().Err())
	default:
		return fmt.Sprintf("%s(finished, returned %T)", name, f.cell().Value())
	}
}

// Resolved returns a future that has finished with v.
func Resolved[T any](v T) *Future[T] {
	p := NewPromise[T]()
	_ = p.Resolve(v) // a new promise takes its first value
	return p.Future()
}

// Rejected returns a future that has finished with err. It panics if err is nil.
func Rejected[T any](err error) *Future[T] {
	p := NewPromise[T]()
	_ = p.Reject(err)
	return p.Future()
}
