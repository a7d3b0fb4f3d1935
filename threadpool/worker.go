package threadpool

import (
	"sync/atomic"
	"time"

	"example.com/futures/executor"
)

// A worker is a goroutine that runs calls. It ends when its pool tells it to, when
// it has idled for KeepAlive, and with a task that calls runtime.Goexit.
type worker struct {
	pool *pool
	wake chan struct{} // of one token: who took the worker from the idle list sends it

	// Guarded by pool.mu. The worker itself reads call without it, when it has taken
	// its wake token or has just set it.
	call         executor.Call // the one that it runs or is to run; nil while it has none
	slot         *slot         // what the running call holds of the pool
	index        int           // in pool.workers
	listed       bool          // it is in the idle list
	gone         bool          // it does not count any more
	hired        bool          // it has come to its first call
	below, above *worker       // its neighbours in the idle list
	then         *worker       // the next of pool.wake

	// The worker's own.
	started bool        // its goroutine runs; set before that is started
	ready   bool        // its initializer has run
	missed  int         // items of call, if that was cancelled before the worker could start it
	timer   *time.Timer // of KeepAlive; nil until needed

	taken atomic.Int64 // items that it has started; read by Stats
	_     [64]byte     // keeps taken off other workers' lines
}

func newWorker(p *pool) *worker {
	return &worker{pool: p, wake: make(chan struct{}, 1), slot: &slot{pool: p}}
}

// run is the worker's goroutine.
func (w *worker) run() {
	defer w.pool.goroutines.Done() // last: Shutdown returns then
	defer w.leave()                // also when a task ends the goroutine
	if !w.initialize() {
		return
	}
	for w.next() {
		w.runCall()
	}
}

// initialize runs the pool's initializer and reports whether the worker can work.
func (w *worker) initialize() bool {
	p := w.pool
	if p.initCtx != nil {
		if p.initCtx.Err() != nil {
			return false // closed already
		}
		err := errGoexit
		defer func() {
			if err != nil {
				p.breakDown(err)
			}
		}()
		if err = p.cfg.Initializer.Run(p.initCtx); err != nil {
			return false
		}
	}
	w.ready = true
	if p.events != nil {
		p.events.worker(executor.EventWorkerStart, w.index)
	}
	return true
}

// next ends the previous call and waits for another one. It reports whether there
// is one; if not, the worker is to end.
func (w *worker) next() bool {
	p := w.pool
	p.mu.Lock()
	w.settle()
	switch {
	case p.queue.len() > 0 && p.active() <= p.limit:
		w.call = p.pop()
		p.unlock()
		return true
	case p.state != open || p.broken != nil || p.surplus():
		p.dismiss(w)
		p.unlock()
		return false
	}
	p.list(w)
	p.unlock()
	return w.park()
}

// settle ends what the worker's previous call held of the pool. It is called with
// pool.mu held.
func (w *worker) settle() {
	p := w.pool
	if !w.hired {
		w.hired = true
		p.fresh--
	}
	if w.call == nil {
		return
	}
	if w.missed > 0 {
		// It was counted out by Cancelled, and before that when it left the queue.
		p.dead--
		p.bound.fill(w.missed)
		w.missed = 0
	}
	w.call = nil
	if w.slot.lent > 0 {
		// A goroutine that the task left behind still waits under its context. It
		// keeps the old slot, which is void; the place is the worker's again.
		w.slot.void = true
		w.slot = &slot{pool: p}
		p.lent--
	}
}

// park waits in the idle list for a call, and reports whether there is one.
func (w *worker) park() bool {
	if keep := w.pool.cfg.KeepAlive; keep > 0 {
		if w.timer == nil {
			w.timer = time.NewTimer(keep)
		} else {
			w.timer.Reset(keep)
		}
		select {
		case <-w.wake:
			w.timer.Stop()
			return w.call != nil
		case <-w.timer.C:
			if w.pool.expire(w) {
				return false
			}
			// Somebody was faster and is about to send the token.
		}
	}
	<-w.wake
	return w.call != nil
}

// runCall runs w.call, unless it was cancelled.
func (w *worker) runCall() {
	c := w.call
	n := c.Len()
	// Counted first, so that who sees the call run also sees it in Stats.
	w.taken.Add(int64(n))
	if !c.Start() {
		w.taken.Add(-int64(n))
		w.missed = n
		return
	}
	if w.pool.events != nil {
		w.runObserved(c, n)
		return
	}
	c.Run(w.slot)
}

// runObserved runs a call that has started, with an observer looking on.
func (w *worker) runObserved(c executor.Call, items int) {
	e := w.pool.events
	e.started(c, items, w.index)
	defer e.forget(c)
	c.Run(w.slot)
}

// leave ends the worker. If it has not been told to, a task ended its goroutine:
// whatever waits for it is given to others, which dismiss starts if there is need.
func (w *worker) leave() {
	p := w.pool
	p.mu.Lock()
	if !w.gone {
		p.dismiss(w)
	}
	p.unlock()
	if p.events != nil && w.ready {
		p.events.worker(executor.EventWorkerEnd, w.index)
	}
}

// expire ends w, which has idled for long enough, and reports whether it could:
// false means that w has been woken meanwhile.
func (p *pool) expire(w *worker) bool {
	p.mu.Lock()
	defer p.unlock()
	if !w.listed {
		return false
	}
	p.unlist(w)
	p.dismiss(w)
	return true
}

// list puts w on top of the idle list, where it is taken first: its memory is warm,
// and those that are not needed come of age at the bottom. It is called with mu held.
func (p *pool) list(w *worker) {
	w.listed, w.below = true, p.idle
	if p.idle != nil {
		p.idle.above = w
	}
	p.idle = w
	p.parked++
}

// unlist takes w out of the idle list. It is called with mu held.
func (p *pool) unlist(w *worker) {
	if w.above != nil {
		w.above.below = w.below
	} else {
		p.idle = w.below
	}
	if w.below != nil {
		w.below.above = w.above
	}
	w.listed, w.above, w.below = false, nil, nil
	p.parked--
}

// A slot is a running call's hold on its worker's place. It is the call's
// [executor.Lender]. A worker uses one slot for all its calls, until one of them
// ends while its place is lent.
type slot struct {
	pool *pool

	// Guarded by pool.mu.
	lent int  // waits that are under way; the goroutines of a task may wait at the same time
	void bool // the call has ended; who still waits under its context changes nothing
}

var _ executor.Lender = (*slot)(nil)

// Lend lets another call run in this one's place.
func (s *slot) Lend() {
	p := s.pool
	p.mu.Lock()
	defer p.unlock()
	s.lent++
	if s.lent == 1 && !s.void {
		p.lent++
		p.dispatch()
	}
}

// Reclaim takes the place back. It does not wait for one to be free: the call that
// would have to end first may itself be waiting for this one.
func (s *slot) Reclaim() {
	p := s.pool
	p.mu.Lock()
	defer p.unlock()
	s.lent--
	if s.lent == 0 && !s.void {
		p.lent--
	}
}

// Executor returns the pool's handle, or nil if nobody has it any more.
func (s *slot) Executor() executor.Executor {
	if h := s.pool.handle.Value(); h != nil {
		return h
	}
	return nil
}
