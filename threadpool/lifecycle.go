package threadpool

import (
	"context"
	"errors"
	"fmt"

	"example.com/futures/executor"
)

// state says which calls a pool takes.
type state uint8

const (
	open     state = iota
	draining       // no new calls; what was accepted runs
	closed         // no new calls; what was queued is cancelled
)

var (
	errOwnTask = errors.New("the caller is a task of this pool, which would wait for itself")
	errGoexit  = errors.New("the worker's goroutine was ended by runtime.Goexit")
)

// dismiss stops counting w, whose goroutine ends: it was told to, or ends by
// itself. It is called with mu held.
func (p *pool) dismiss(w *worker) {
	w.gone = true
	w.settle()
	p.live--
	p.workers[w.index] = nil
	p.vacant = min(p.vacant, w.index)
	p.taken += w.taken.Load()
	p.done.absorb(&w.done)
	p.dispatch()
	p.finish()
}

// dismissIdle ends idle workers until there are few enough. It is called with mu held.
func (p *pool) dismissIdle(enough func() bool) {
	for p.idle != nil && !enough() {
		w := p.idle
		p.unpark(w) // wakes up without a call
		p.dismiss(w)
	}
}

// finish closes over if there is nothing left to wait for: no worker, and no call
// that somebody else is about to end. One that was cancelled is such a call until
// Cancelled has counted it, although no worker could start it any more. It is called
// with mu held.
func (p *pool) finish() {
	if p.live == 0 && p.hands == 0 && p.state != open && !p.finished && p.submitted == p.withdrawn+uint64(p.taken) {
		p.finished = true
		close(p.over)
	}
}

// end moves the pool to a later state, and ends what is queued and, when it is
// closed, what runs. A call that a worker is about to start is found in its worker:
// Interrupt cancels it or, if it has started by then, ends its context. It is called
// without mu.
func (p *pool) end(to state, cancelPending bool) {
	p.mu.Lock()
	p.state = max(p.state, to)
	p.bound.refuse(executor.ErrShutdown)
	var calls []executor.Call
	p.recall()
	if cancelPending {
		p.cancels = true
		calls = p.queue.take()
	}
	if to == closed {
		for _, w := range p.workers {
			if w == nil {
				continue
			}
			if c := w.running(); c != nil {
				calls = append(calls, c)
			}
		}
	}
	p.dismissIdle(func() bool { return false })
	p.hands++ // nobody is told that the end has come while calls are still to be ended
	p.unlock()

	if to == closed && p.initStop != nil {
		p.initStop(executor.ErrShutdown)
	}
	for _, c := range calls {
		c.Interrupt(executor.ErrShutdown)
	}

	p.mu.Lock()
	p.hands--
	p.finish()
	p.unlock()
}

// abandon is what happens when the handle has been collected: what was accepted
// runs, then the workers end. Without workers there is nothing to do. It matters to
// do nothing: in the cleanup's goroutine, touching a channel made in a
// testing/synctest bubble would crash the program.
func (p *pool) abandon() {
	p.mu.Lock()
	empty := p.live == 0 && p.hands == 0
	p.unlock()
	if !empty {
		p.end(draining, false)
	}
}

// breakDown ends the pool's work after an initializer failed with err.
func (p *pool) breakDown(err error) {
	p.mu.Lock()
	if p.state == closed || p.broken != nil {
		p.unlock() // Close made it fail, or another was first
		return
	}
	p.broken = err
	p.bound.refuse(&executor.BrokenError{Cause: err})
	p.recall()
	calls := p.queue.take()
	p.dismissIdle(func() bool { return false })
	p.unlock()

	p.cfg.Logger.Error("threadpool: the pool is broken: its initializer failed",
		"initializer", p.cfg.Initializer.Name(), "err", err, "calls", len(calls))
	for _, c := range calls {
		p.turnAway(c, &executor.BrokenError{Cause: err})
	}
}

// resize is Resize.
func (p *pool) resize(limit int) error {
	p.mu.Lock()
	defer p.unlock()
	if err := p.refusal(); err != nil {
		return err
	}
	p.limit = limit
	p.dispatch()
	p.dismissIdle(func() bool { return !p.surplus() })
	return nil
}

// ended returns an error that matches ctx.Err and, where it is another, the cause.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
