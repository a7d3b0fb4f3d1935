package future

import (
	"fmt"
	"sync"

	"example.com/futures/internal/promise"
)

// A Promise is the side of a [Future] that completes it, once. It is for code that
// makes futures of its own; a pool's futures need none.
//
// A Promise is made by [NewPromise] and safe for concurrent use. Its callbacks run
// before the call that completes it returns.
//
// Reference: set_running_or_notify_cancel, set_result and set_exception of
// concurrent.futures.Future; java.util.concurrent.CompletableFuture.
type Promise[T any] struct {
	cell  promise.Cell[T]
	hooks hooks
}

// hooks is what a Promise knows about interrupts and cancellations.
type hooks struct {
	mu          sync.Mutex // guards the fields below; user code is called without it
	onInterrupt func(error)
	onCancel    func() bool
	cause       error  // of an interrupt that came before onInterrupt was set
	forget      func() // drops what a cancelled future no longer needs
	over        bool   // the future is done, or about to be: nothing is kept any more
}

// NewPromise returns a promise with a pending future.
func NewPromise[T any]() *Promise[T] {
	p := new(Promise[T])
	p.cell.Core().SetOwner(&p.hooks)
	return p
}

// Future returns the promise's future, the same each time.
func (p *Promise[T]) Future() *Future[T] { return (*Future[T])(&p.cell) }

// Start moves the future from pending to running. It reports false if the future
// was cancelled, or started or completed before: then do not compute it.
func (p *Promise[T]) Start() bool { return p.cell.Core().Start() }

// Resolve finishes the future with v.
//
// Errors: [ErrInvalidState] unless the future is pending or running. What it was
// completed with first stays.
func (p *Promise[T]) Resolve(v T) error { return p.finish("Resolve", v, nil) }

// Reject finishes the future with err. It panics if err is nil.
//
// Errors: [ErrInvalidState] unless the future is pending or running. What it was
// completed with first stays.
func (p *Promise[T]) Reject(err error) error {
	if err == nil {
		panic("future: Reject with a nil error")
	}
	var zero T
	return p.finish("Reject", zero, err)
}

func (p *Promise[T]) finish(action string, v T, err error) error {
	if !p.cell.Core().Begin() {
		p.cell.Core().Settle() // so that the future is done when the error says so
		return fmt.Errorf("%w: %s of a future that is %v", ErrInvalidState, action, p.Future().State())
	}
	cbs := p.cell.Finish(v, err)
	p.hooks.drop()
	cbs.Wait()
	return nil
}

// OnInterrupt sets what [Future.Interrupt] does to the running call: fn is called
// with the cause, in the interrupter's goroutine, each time. If an Interrupt has
// come while the future ran and no fn was set, which answered false, fn is called
// for it at once. A later OnInterrupt replaces fn.
func (p *Promise[T]) OnInterrupt(fn func(cause error)) {
	h := &p.hooks
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		return
	}
	h.onInterrupt = fn
	cause := h.cause
	if fn != nil {
		h.cause = nil
	}
	h.mu.Unlock()
	if fn != nil && cause != nil {
		fn(cause)
	}
}

// OnCancel sets who is asked before the pending future is cancelled: if fn reports
// false, Cancel is refused and the future stays pending. fn may be asked more than
// once, and by several goroutines at a time.
func (p *Promise[T]) OnCancel(fn func() bool) {
	p.hooks.mu.Lock()
	defer p.hooks.mu.Unlock()
	if !p.hooks.over {
		p.hooks.onCancel = fn
	}
}

// Withdraw, Cancelled and InterruptRunning make hooks a promise.Owner.

func (h *hooks) Withdraw() bool {
	h.mu.Lock()
	fn := h.onCancel
	h.mu.Unlock()
	return fn == nil || fn()
}

func (h *hooks) Cancelled(error) {
	if forget := h.drop(); forget != nil {
		forget()
	}
}

func (h *hooks) InterruptRunning(cause error) bool {
	h.mu.Lock()
	fn := h.onInterrupt
	if fn == nil && h.cause == nil && !h.over {
		h.cause = cause
	}
	h.mu.Unlock()
	if fn == nil {
		return false
	}
	fn(cause)
	return true
}

// drop lets go of everything, once the future is done or about to be cancelled, and
// returns forget. A done future keeps its outcome alive and nothing else.
func (h *hooks) drop() (forget func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	forget = h.forget
	h.onInterrupt, h.onCancel, h.cause, h.forget, h.over = nil, nil, nil, nil, true
	return forget
}
