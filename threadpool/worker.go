package threadpool

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"example.com/futures/executor"
)

// How far a worker takes calls ahead: as many as it would run in batchTime, judging by
// those before, and never more than batchLen. A call that turns out to be slow keeps
// those behind it for stallTime at most before another worker that comes to the queue
// has them put back.
const (
	batchLen    = 64
	batchTime   = 100 * time.Microsecond
	batchGrowth = 4
	stallTime   = time.Millisecond
)

// processors is how many calls can really run at the same time.
var processors = runtime.GOMAXPROCS(0)

// A worker is a goroutine that runs calls. It ends when its pool tells it to, when
// it has idled for KeepAlive, and with a task that calls runtime.Goexit.
type worker struct {
	pool *pool
	wake chan struct{} // of one token: who took the worker from the idle list sends it

	// Guarded by pool.mu.
	slot         *slot     // what the running call holds of the pool
	index        int       // in pool.workers
	listed       bool      // it is in the idle list
	called       bool      // it was taken from there and counts in pool.coming
	gone         bool      // it does not count any more
	hired        bool      // it has come to its first call
	below, above *worker   // its neighbours in the idle list
	then         *worker   // the next of pool.wake
	lot          int       // calls that it took last; 0 if it has idled since
	since        time.Time // when it took them, if some were left in the queue
	seen         int       // position as of seenAt, for whoever looks whether it is stalled
	seenAt       time.Time

	// batch[:size] is what the worker took from the queue last, and position counts
	// how much of it has been claimed: a call is its who moved position past it, the
	// worker by one, whoever recalls the rest by all. Slots are cleared by their
	// claimers, the worker's with the claim of the next: once the rest was recalled, the
	// running call stays in batch[claimed-1].
	//
	// pool.mu guards these fields, and is held for every step but the claims of the
	// worker itself, which also reads size without it.
	position    atomic.Int64
	size        int
	batch       [batchLen]executor.Call
	surrendered bool // the rest was recalled: position is beyond the batch
	claimed     int  // if surrendered: position before that

	// The worker's own.
	call        executor.Call // the one that it runs
	started     bool          // its goroutine runs; set before that is started
	ready       bool          // its initializer has run
	joins       bool          // call is a chunk that another worker shares; written with pool.mu held
	missed      int           // calls that were cancelled before it could start them
	missedItems int           // and their items
	timer       *time.Timer   // of KeepAlive; nil until needed

	taken atomic.Int64 // items that it has started; it alone writes, Stats reads
	done  counters     // of items that ended here
	_     [64]byte     // keeps them off other workers' lines
}

func newWorker(p *pool) *worker {
	w := &worker{pool: p, wake: make(chan struct{}, 1)}
	w.slot = &slot{worker: w}
	return w
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
	if w.advance() {
		return true
	}
	p := w.pool
	p.mu.Lock()
	for {
		w.settle()
		if p.queue.len() == 0 {
			p.recall()
		}
		switch {
		case p.queue.len() > 0 && p.active() <= p.limit:
			p.take(w)
			p.unlock()
			return true
		case p.state != open || p.broken != nil || p.surplus():
			p.dismiss(w)
			p.unlock()
			return false
		}
		w.lot = 0
		p.list(w)
		p.unlock()
		if !w.park() {
			return false
		}
		if w.call != nil {
			return true // it was handed over
		}
		p.mu.Lock()
	}
}

// give makes c the next call of w, and the only one. It is called with pool.mu held.
func (w *worker) give(c executor.Call) {
	w.call = c
	w.batch[0], w.size, w.claimed, w.surrendered = c, 1, 1, true
}

// advance goes on to the next call of the batch, if there is one.
func (w *worker) advance() bool {
	i := w.position.Add(1) - 1
	if i >= int64(w.size) {
		return false
	}
	w.call = w.batch[i]
	if i > 0 {
		w.batch[i-1] = nil
	}
	return true
}

// share returns how many calls w may take: one, if it does not know that they are
// quick, or if others could have them. The queue is not empty. It is called with
// pool.mu held.
func (w *worker) share() int {
	p := w.pool
	left := p.queue.len() - 1
	if left == 0 || p.bound.limit > 0 || len(p.queue.levels) > 1 {
		w.lot = 0
		return 1
	}
	now := time.Now()
	n := 1
	if w.lot > 0 {
		each := max(1, now.Sub(w.since)/time.Duration(w.lot))
		n = max(1, min(int(batchTime/each), batchGrowth*w.lot, batchLen, 1+left/(2*min(p.limit, processors))))
	}
	w.lot, w.since = n, now
	p.unstall(now)
	return n
}

// unstall recalls what has been ahead of a worker for too long. It is called with mu held.
func (p *pool) unstall(now time.Time) {
	p.batched = slices.DeleteFunc(p.batched, func(w *worker) bool {
		switch at := int(w.position.Load()); {
		case at >= w.size:
			return true
		case at != w.seen:
			w.seen, w.seenAt = at, now
		case now.Sub(w.seenAt) > stallTime:
			w.surrender()
			return true
		}
		return false
	})
}

// surrender puts what is left of the batch back to the front of the queue. It is
// called with pool.mu held.
func (w *worker) surrender() {
	if w.surrendered {
		return
	}
	w.surrendered = true
	w.claimed = int(min(w.position.Swap(batchLen+1), int64(w.size)))
	for i := w.size - 1; i >= w.claimed; i-- {
		w.pool.queue.unpop(w.batch[i])
		w.batch[i] = nil
	}
}

// running returns the call that the worker has, or nil. It is called with pool.mu held.
func (w *worker) running() executor.Call {
	w.surrender() // it stays where it is from now on
	if w.claimed == 0 {
		return nil
	}
	return w.batch[w.claimed-1]
}

// settle notes that the worker is at the queue, and ends what its previous calls held
// of the pool. It is called with pool.mu held.
func (w *worker) settle() {
	p := w.pool
	if !w.hired {
		w.hired = true
		p.fresh--
	}
	if w.called {
		w.called = false
		p.coming--
	}
	if w.missed > 0 {
		// They were counted out by Cancelled, and before that when they left the queue.
		p.dead -= w.missed
		p.bound.fill(w.missedItems)
		w.missed, w.missedItems = 0, 0
	}
	w.surrender()
	clear(w.batch[:w.size])
	w.call, w.size, w.claimed = nil, 0, 0
	if w.slot.lent > 0 {
		// A goroutine that the task left behind still waits under its context. It
		// keeps the old slot, which is void; the place is the worker's again.
		w.slot.void = true
		w.slot = &slot{worker: w}
		p.lent--
	}
}

// park waits in the idle list until there may be something to do, and reports false
// if the worker is to end.
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
			return !w.gone
		case <-w.timer.C:
			if w.pool.expire(w) {
				return false
			}
			// Somebody was faster and is about to send the token.
		}
	}
	<-w.wake
	return !w.gone // written before the token was sent
}

// runCall runs w.call, unless it was cancelled.
func (w *worker) runCall() {
	c := w.call
	if w.joins {
		w.joins = false
		c.Run(w.slot) // who began it has counted it
		return
	}
	n := c.Len()
	// Counted first, so that who sees the call run also sees it in Stats.
	w.taken.Store(w.taken.Load() + int64(n))
	if !c.Start() {
		w.taken.Store(w.taken.Load() - int64(n))
		w.missed++
		w.missedItems += n
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
	worker *worker

	// Guarded by pool.mu.
	lent int  // waits that are under way; the goroutines of a task may wait at the same time
	void bool // the call has ended; who still waits under its context changes nothing
}

var _ executor.Lender = (*slot)(nil)

// Finished counts items that ended.
func (s *slot) Finished(c executor.Call, o executor.Outcome) {
	s.worker.done.add(o)
	if e := s.worker.pool.events; e != nil {
		e.finished(c, o)
	}
}

// Lend lets another call run in this one's place, first of all those that its worker
// has taken ahead: it may be one of them that the task waits for.
func (s *slot) Lend() {
	p := s.worker.pool
	p.mu.Lock()
	defer p.unlock()
	s.lent++
	if s.lent == 1 && !s.void {
		p.lent++
		s.worker.surrender()
		p.dispatch()
	}
}

// Reclaim takes the place back. It does not wait for one to be free: the call that
// would have to end first may itself be waiting for this one.
func (s *slot) Reclaim() {
	p := s.worker.pool
	p.mu.Lock()
	defer p.unlock()
	s.lent--
	if s.lent == 0 && !s.void {
		p.lent--
		if p.active() > p.limit {
			p.recall() // so that workers come to see it
		}
	}
}

// Share has a worker that has nothing to do take part in c, a chunk of a Map which this
// one runs, and reports whether there is one. An observer is told of each call by the
// worker that began it, so that with one nothing is shared.
func (s *slot) Share(c executor.Call) bool {
	p := s.worker.pool
	p.mu.Lock()
	defer p.unlock()
	w := p.idle
	if w == nil || p.queue.len() > 0 || p.active() >= p.limit || p.events != nil {
		return false
	}
	p.unpark(w)
	w.give(c)
	w.joins = true
	return true
}

// Executor returns the pool's handle, or nil if nobody has it any more.
func (s *slot) Executor() executor.Executor {
	if h := s.worker.pool.handle.Value(); h != nil {
		return h
	}
	return nil
}
