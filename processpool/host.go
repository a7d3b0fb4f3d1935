package processpool

import (
	"errors"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/promise"
)

// A host is the pool as its calls see it.
//
// A call that was sent to a worker is running from the moment in which the worker takes
// it up. The worker notes that in shared memory and sends no word of it, unless somebody
// is to hear of it at once (an observer, a submit that waits for room): the pool looks
// when somebody asks. Until then it is pending and can be cancelled, wherever it lies.
type host struct{ p *Pool }

// Withdraw is executor.Host's.
func (h host) Withdraw(c executor.Call) bool {
	p := h.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := c.Assigned().(*process); ok {
		if j := w.window.find(c); j == nil || !p.withdraw(w, j) {
			return false // it runs, or its answer is there, and who completes it asks whose it is
		}
	}
	c.Assign(p.nobody)
	return true
}

// Look is asked by who wants to know whether c runs.
func (h host) Look(c executor.Call) {
	p := h.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := c.Assigned().(*process); ok {
		p.look(w)
	}
}

// nobody is who has a call that was cancelled: no worker gets it any more.
type nobody struct{ p *Pool }

func (n *nobody) Finished(c executor.Call, o executor.Outcome) { n.p.finished(c, o, nil) }
func (n *nobody) Lend()                                        {}
func (n *nobody) Reclaim()                                     {}
func (n *nobody) Executor() executor.Executor                  { return n.p }

// Finished makes a worker an executor.Lender: it hears how the calls ended that it has.
func (w *process) Finished(c executor.Call, o executor.Outcome) { w.pool.finished(c, o, w) }

// Lend, Reclaim and Executor are executor.Lender's, and not asked of a worker elsewhere.
func (w *process) Lend()                       {}
func (w *process) Reclaim()                    {}
func (w *process) Executor() executor.Executor { return w.pool }

// Cancelled is executor.Host's.
func (h host) Cancelled(c executor.Call, err error) {
	p, n := h.p, c.Len()
	p.mu.Lock()
	p.pending -= n
	p.stats.Cancelled += uint64(n)
	p.live.Add(-int64(n))
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
	var r part
	waits := false
	if w, ok := c.Assigned().(*process); ok {
		if j := w.window.find(c); j != nil {
			if j.ended == nil {
				j.ended = cause
			}
			if r = j.part; p.withdraw(w, j) {
				waits = true
			} else {
				p.interrupt(w, j, cause)
			}
		}
	} else {
		r, waits = p.queue.takePart(c)
	}
	if why, ok := p.limbo[c]; ok && why == nil {
		p.limbo[c] = cause
	}
	p.mu.Unlock()
	if waits {
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
func (h host) Finished(c executor.Call, o executor.Outcome) { h.p.finished(c, o, nil) }

// finished counts items of c, which worker w had, if it is not nil.
func (p *Pool) finished(c executor.Call, o executor.Outcome, w *process) {
	if o.Failed > 0 {
		if never := new(neverRanError); errors.As(o.Err, &never) {
			o.Cancelled, o.Failed = o.Cancelled+o.Failed, 0
		}
	}
	p.succeeded.Add(uint64(o.Succeeded))
	if o.Failed > 0 {
		p.failed.Add(uint64(o.Failed))
	}
	if o.Cancelled > 0 {
		p.cancelled.Add(uint64(o.Cancelled))
	}
	if n := o.Succeeded + o.Failed + o.Cancelled; p.live.Add(-int64(n)) == 0 && p.closes.Load() {
		p.mu.Lock()
		p.settle()
		p.mu.Unlock()
	}
	if p.cfg.Observer == nil {
		return
	}
	e := executor.Event{Items: o.Succeeded + o.Failed, Err: o.Err}
	if w != nil {
		e.Worker = w.pid()
	}
	p.mu.Lock()
	now := time.Now()
	if b, ok := p.began[c]; ok {
		e.Ran = now.Sub(b.at)
		b.at = now // of the next item
		if b.left -= o.Succeeded + o.Failed + o.Cancelled; b.left > 0 {
			p.began[c] = b
		} else {
			delete(p.began, c)
		}
	}
	p.mu.Unlock()
	if e.Items > 0 {
		e.Kind = executor.EventFinish
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
