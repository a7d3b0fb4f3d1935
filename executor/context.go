package executor

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"example.com/futures/internal/lend"
)

// head is the part of a call that does not depend on its types. It is also the
// context that its task sees, as a taskContext, so that a task that never asks for
// Done costs nothing.
type head struct {
	ctx    context.Context // the caller's
	opts   *options
	host   Host   // set by Accept
	lender Lender // set by Run
	id     atomic.Uint64

	inner atomic.Pointer[ending]      // made when somebody asks how the task's context ends
	watch atomic.Pointer[func() bool] // stops listening to ctx; sealed once the call is done
	flags atomic.Uint32
}

// The flags of a head.
const (
	inRun      = 1 << iota // Run has begun
	holding                // Encode reads the argument
	dropWanted             // the call is over: the argument goes once Encode has read it
	left                   // the task's context has ended with the call
)

// ending is how the context of a running task ends.
type ending struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

var (
	ended = func() *ending { // of a call that ended before anybody asked
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(nil)
		return &ending{ctx, cancel}
	}()
	unwatched = func() bool { return false }
	ids       atomic.Uint64
	noOptions options
)

// ID, Context and the options are Call's.

func (h *head) ID() uint64 {
	if id := h.id.Load(); id != 0 {
		return id
	}
	h.id.CompareAndSwap(0, ids.Add(1))
	return h.id.Load()
}

func (h *head) Context() context.Context { return h.ctx }
func (h *head) Timeout() time.Duration   { return h.opts.timeout }
func (h *head) Retries() int             { return h.opts.retries }
func (h *head) Priority() int            { return h.opts.priority }
func (h *head) Accept(host Host)         { h.host = host }
func (h *head) sealed()                  {}

// ending returns how the task's context ends, made now if need be.
func (h *head) ending() *ending {
	if e := h.inner.Load(); e != nil {
		return e
	}
	e := new(ending)
	e.ctx, e.cancel = context.WithCancelCause(h.ctx)
	if !h.inner.CompareAndSwap(nil, e) {
		e.cancel(nil)
	}
	return h.inner.Load()
}

// enter begins Run and returns the task's context.
func (h *head) enter(l Lender) context.Context {
	h.lender = l
	h.flags.Or(inRun)
	return (*taskContext)(h)
}

// leave ends the task's context and stops listening to the caller's.
func (h *head) leave() {
	h.flags.Or(left)
	if !h.inner.CompareAndSwap(nil, ended) {
		h.inner.Load().cancel(nil)
	}
	if h.ctx.Done() != nil {
		if stop := h.watch.Swap(&unwatched); stop != nil {
			(*stop)()
		}
	}
}

// listen has fn called when the caller's context ends, unless the call is done.
func (h *head) listen(fn func()) {
	if h.ctx.Done() == nil || h.watch.Load() != nil {
		return
	}
	stop := context.AfterFunc(h.ctx, fn)
	if !h.watch.CompareAndSwap(nil, &stop) {
		stop()
	}
}

// limited returns ctx with the call's time limit, which starts now.
func (h *head) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, h.opts.timeout, ErrTimeout)
}

// hold keeps the argument while Encode reads it, and reports false if the call has
// dropped it. release lets go, and reports whether the argument is to be dropped.
func (h *head) hold() bool { return h.flags.Or(holding)&dropWanted == 0 }

func (h *head) release() (drop bool) { return h.flags.And(^uint32(holding))&dropWanted != 0 }

// wantDrop reports whether the caller may drop the argument now.
func (h *head) wantDrop() bool { return h.flags.Or(dropWanted)&holding == 0 }

// A taskContext is a head as the context of its task.
type taskContext head

func (c *taskContext) head() *head { return (*head)(c) }

// Deadline is the caller's. A time limit has a context of its own around this one.
func (c *taskContext) Deadline() (time.Time, bool) { return c.ctx.Deadline() }

// Done makes the channel when it is first asked for.
func (c *taskContext) Done() <-chan struct{} { return c.head().ending().ctx.Done() }

// Err does without the channel.
func (c *taskContext) Err() error {
	if e := c.inner.Load(); e != nil {
		return e.ctx.Err()
	}
	return c.ctx.Err()
}

// Value answers for the worker, and otherwise as the caller's context does. Package
// context asks it for the cancelling context that Done comes from.
func (c *taskContext) Value(key any) any {
	e := c.inner.Load()
	switch k := key.(type) {
	case lend.Key:
		if c.lender != nil && c.flags.Load()&left == 0 {
			return c.lender
		}
	case inTaskKey:
		if c.lender != nil && c.flags.Load()&left == 0 && c.lender.Executor() == k.ex {
			return true
		}
	}
	if e != nil && e != ended {
		return e.ctx.Value(key)
	}
	return c.ctx.Value(key)
}

// String is for context's own texts.
func (c *taskContext) String() string { return "executor.taskContext" }

// JoinCause returns the error of a call that returned err after its context had
// ended with cause: one that matches both, or err itself if it does so already or
// is nil. It is for backends that run tasks without [Call.Run].
func JoinCause(err, cause error) error {
	if err == nil || cause == nil || errors.Is(err, cause) {
		return err
	}
	return &interruptedError{err, cause}
}

// interruptedError is what becomes of a call that failed after it was interrupted.
type interruptedError struct{ err, cause error }

func (e *interruptedError) Error() string   { return e.err.Error() + " (" + e.cause.Error() + ")" }
func (e *interruptedError) Unwrap() []error { return []error{e.err, e.cause} }

// outcome returns the error of a call that returned err under ctx.
func outcome(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return JoinCause(err, context.Cause(ctx))
}
