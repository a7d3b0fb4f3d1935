package processpool

import (
	"errors"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/promise"
)

// A host is the pool as its calls see it.
//
// A call is running from the moment in which an idle worker is given it: its first
// argument is encoded, and its frames are about to be written. The worker notes in
// shared memory when it takes it up, a moment later, so that a worker which dies in
// between loses nothing: the call goes to another. It stays running meanwhile. What
// waits for a worker is pending and can be cancelled.
//
// Making it running only on the worker's word was turned down for as long as nothing
// is sent ahead: the word would come later than what the task itself does, and cost a
// frame.
type host struct{ p *Pool }

// Withdraw is executor.Host's. A call starts in this process, and Start decides.
func (h host) Withdraw(executor.Call) bool { return true }

// Cancelled is executor.Host's.
func (h host) Cancelled(c executor.Call, err error) {
	p, n := h.p, c.Len()
	p.mu.Lock()
	p.pending -= n
	p.live -= n
	p.stats.Cancelled += uint64(n)
	p.queue.cancelled()
	p.makeRoom()
	p.settle()
	p.mu.Unlock()
	p.observe(executor.Event{Kind: executor.EventCancel, Items: n, Err: err}, c)
}

// Interrupt is executor.Host's.
func (h host) Interrupt(c executor.Call, cause error) {
	p := h.p
	p.mu.Lock()
	j := p.running[c]
	if j != nil && j.ended == nil {
		j.ended = cause
	}
	r, waits := p.queue.takePart(c)
	p.mu.Unlock()
	switch {
	case j != nil:
		j.worker.interrupt(j, cause)
	case waits:
		p.fail(r, func() error { return cancelled(cause) })
	}
}

// A neverRanError is the error of an item of a running call that was interrupted before
// it came to that item.
type neverRanError struct{ error }

func (e *neverRanError) Unwrap() error { return e.error }

// cancelled returns a neverRanError that matches future.ErrCancelled and cause.
func cancelled(cause error) error { return &neverRanError{promise.CancelledError(cause)} }

// Finished is executor.Host's.
func (h host) Finished(c executor.Call, o executor.Outcome) {
	p := h.p
	if never := new(neverRanError); errors.As(o.Err, &never) {
		o.Cancelled, o.Failed = o.Cancelled+o.Failed, 0
	}
	var e executor.Event
	p.mu.Lock()
	p.stats.Succeeded += uint64(o.Succeeded)
	p.stats.Failed += uint64(o.Failed)
	p.stats.Cancelled += uint64(o.Cancelled)
	p.live -= o.Succeeded + o.Failed + o.Cancelled
	if j := p.running[c]; j != nil {
		w := j.worker
		e.Worker = w.pid()
		if w.last && !w.leaving { // who sees the result and submits finds a worker that is about to be free
			p.expect(w)
		}
	}
	if p.cfg.Observer != nil {
		now := time.Now()
		if began, ok := p.began[c]; ok {
			e.Ran = now.Sub(began)
			p.began[c] = now // of the next item
		}
	}
	p.settle()
	p.mu.Unlock()
	if n := o.Succeeded + o.Failed; n > 0 {
		e.Kind, e.Items, e.Err = executor.EventFinish, n, o.Err
		p.observe(e, c)
	}
	if o.Cancelled > 0 {
		p.observe(executor.Event{Kind: executor.EventCancel, Items: o.Cancelled, Worker: e.Worker, Err: o.Err}, c)
	}
}

// observe tells the observer, if there is one. c may be nil.
func (p *Pool) observe(e executor.Event, c executor.Call) {
	if p.cfg.Observer == nil {
		return
	}
	e.Time = time.Now()
	if c != nil {
		e.Call, e.Task = c.ID(), c.Task()
	}
	p.cfg.Observer.Observe(e)
}
