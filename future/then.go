package future

import (
	"errors"
	"runtime/debug"

	"example.com/futures/internal/promise"
)

// errGoexit is what becomes of a Then whose function ends its goroutine.
var errGoexit = errors.New("future: the function of Then called runtime.Goexit")

// Then returns a future of what fn makes of f's value. fn runs where a callback of f
// would, and at once, in the caller, if f is done.
//
// An error of f passes to the new future, and so does its cancellation; fn does not
// run then. Cancelling the new future while it is pending leaves f alone. A panic
// in fn is a [*PanicError] of the new future.
//
// Then panics if fn is nil.
//
// Reference: CompletableFuture.thenApply; Promise.prototype.then, without the
// second function.
func Then[T, U any](f *Future[T], fn func(T) (U, error)) *Future[U] {
	if fn == nil {
		panic("future: Then with a nil function")
	}
	p := NewPromise[U]()
	node := new(promise.Node)
	p.hooks.forget = func() { f.core().Forget(node) } // nobody else has p yet
	call := func() { derive(p, f, fn).Inline() }
	if !f.core().Listen(node, call) {
		promise.One(call).Wait()
	}
	return p.Future()
}

// derive completes p from f, which is done, and returns the callbacks of p.
func derive[T, U any](p *Promise[U], f *Future[T], fn func(T) (U, error)) (cbs promise.Callbacks) {
	core := p.cell.Core()
	if f.IsCancelled() {
		cbs, _ = core.Cancel(f.core().Err())
		return cbs
	}
	if !core.Start() {
		return cbs
	}
	p.hooks.drop() // forget holds f
	finish := func(v U, err error) {
		if core.Begin() {
			cbs = p.cell.Finish(v, err)
		}
	}
	var zero U
	if err := f.core().Err(); err != nil {
		finish(zero, err)
		return cbs
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			finish(zero, &PanicError{Value: v, Stack: debug.Stack()})
			return
		}
		finish(zero, errGoexit)
		cbs.Go() // the caller will not get to them
	}()
	v, err := fn(f.cell().Value())
	returned = true
	finish(v, err)
	return cbs
}
