package executor

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"example.com/futures/internal/lend"
	"example.com/futures/internal/promise"
)

// head is the part of a call that does not depend on its types, but for the core of
// its future, which its methods are given.
//
// A call that nobody interrupts, and whose task never asks for its context's end,
// pays for neither. Each such pair of a rare and a common step is tied by a second
// look: the rare one leaves its mark and then looks whether the call is over; the
// end of the call makes it over and then looks for the mark.
type head struct {
	ctx    context.Context // the caller's
	host   Host            // set by Accept
	lender Lender          // set by Run, or by Assign
	rare   atomic.Pointer[rare]
}

// rare is what few calls need.
type rare struct {
	id    atomic.Uint64               // given when asked for
	inner atomic.Pointer[ending]      // made when somebody asks how the task's context ends
	watch atomic.Pointer[func() bool] // stops listening to ctx; sealed once the call is done
}

// The Bits of a call's core.
const (
	inRun      = 1 << iota // Run has begun
	dropWanted             // the call is over: the argument goes once Encode has read it
	holding                // from here on: how many read the argument, each in an Encode or PackPlain
)

// ending is how the context of a running task ends.
type ending struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

var (
	unwatched = func() bool { return false }
	ids       atomic.Uint64
	noOptions options
)

// ID, Context and Accept are Call's.

func (h *head) ID() uint64 {
	id := &h.rarely().id
	if id := id.Load(); id != 0 {
		return id
	}
	id.CompareAndSwap(0, ids.Add(1))
	return id.Load()
}

func (h *head) Context() context.Context { return h.ctx }
func (h *head) Accept(host Host)         { h.host = host }

// Host returns what Accept was given, nil if the call was refused. It is for who has the
// call's future.
func (h *head) Host() Host { return h.host }

func (h *head) sealed() {}

// Assign and Assigned are Call's.

func (h *head) Assign(l Lender)  { h.lender = l }
func (h *head) Assigned() Lender { return h.lender }

// A hearer is told how items of a call ended.
type hearer interface{ Finished(c Call, o Outcome) }

// hears returns who is told.
func (h *head) hears() hearer {
	if h.lender != nil {
		return h.lender
	}
	return h.host
}

// report says how items of c, whose head this is, ended.
func (h *head) report(c Call, o Outcome) { h.hears().Finished(c, o) }

// rarely returns the rare part, made now if need be.
func (h *head) rarely() *rare {
	if r := h.rare.Load(); r != nil {
		return r
	}
	h.rare.CompareAndSwap(nil, new(rare))
	return h.rare.Load()
}

// ending returns how the task's context ends, made now if need be.
func (h *head) ending(core *promise.Core) *ending {
	inner := &h.rarely().inner
	if e := inner.Load(); e != nil {
		return e
	}
	e := new(ending)
	e.ctx, e.cancel = context.WithCancelCause(h.ctx)
	if !inner.CompareAndSwap(nil, e) {
		e.cancel(nil)
		return inner.Load()
	}
	if core.Over() {
		e.cancel(nil) // leave may have come too early to see it
	}
	return e
}

// leave ends the task's context and stops listening to the caller's. The core is
// over by then.
func (h *head) leave() {
	r := h.rare.Load()
	if r == nil {
		return
	}
	if e := r.inner.Load(); e != nil {
		e.cancel(nil)
	}
	if stop := r.watch.Swap(&unwatched); stop != nil {
		(*stop)()
	}
}

// listen has fn called when the caller's context ends, unless the call is done. The
// rare part is there before the look at the core, so leave, which comes when the core
// is over, either finds it and seals watch, or came before that look.
func (h *head) listen(core *promise.Core, fn func()) {
	watch := &h.rarely().watch
	if core.Over() || watch.Load() != nil {
		return
	}
	stop := context.AfterFunc(h.ctx, fn)
	if !watch.CompareAndSwap(nil, &stop) {
		stop()
	}
}

// limited returns ctx with the time limit d, which starts now.
func limited(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, ErrTimeout)
}

// hold keeps the argument while Encode reads it, and reports false if the call is
// over. Either way release follows, and reports whether the argument is to be dropped.
func hold(core *promise.Core) bool {
	core.Bits.Add(holding)
	return !core.Over()
}

func release(core *promise.Core) (drop bool) {
	bits := core.Bits.Add(^uint32(holding - 1))
	return bits < holding && bits&dropWanted != 0
}

// held reports whether Encode reads the argument.
func held(core *promise.Core) bool { return core.Bits.Load() >= holding }

// mayDrop reports whether the caller, for whom the core is over, may drop the
// argument now: if Encode reads it, release says so later.
func mayDrop(core *promise.Core) bool {
	return !held(core) || core.Bits.Or(dropWanted) < holding
}

// The methods of a task's context. Each kind of call has a type of its own for it,
// since it is the call itself.

// end returns the channel of the context's end, made when first asked for.
func (h *head) end(core *promise.Core) <-chan struct{} { return h.ending(core).ctx.Done() }

// endErr is Err, and does without the channel.
func (h *head) endErr(core *promise.Core) error {
	if r := h.rare.Load(); r != nil {
		if e := r.inner.Load(); e != nil {
			return e.ctx.Err()
		}
	}
	if core.Over() {
		return context.Canceled
	}
	return h.ctx.Err()
}

// value answers for the worker, and otherwise as the caller's context does. Package
// context asks it for the cancelling context that Done comes from.
func (h *head) value(core *promise.Core, key any) any {
	switch k := key.(type) {
	case lend.Key:
		if h.lender != nil && !core.Over() {
			return h.lender
		}
	case inTaskKey:
		if h.lender != nil && !core.Over() && h.lender.Executor() == k.ex {
			return true
		}
	}
	if r := h.rare.Load(); r != nil {
		if e := r.inner.Load(); e != nil {
			return e.ctx.Value(key)
		}
	}
	return h.ctx.Value(key)
}

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
