package threadpool

import (
	"context"
	"errors"
	"sync"
	"weak"

	"example.com/futures/executor"
)

// A pool is what a Pool handle, the workers and the accepted calls share.
//
//	          push                pop, some at a time           one at a time
//	caller ─────────▶ queue ─────────────────────────▶ batch ──────────────────▶ run
//	(room?)             ▲                           of a worker
//	                    └──────────────────────────────┘
//	                      recall, when others can do it sooner
//
// A worker that runs a call holds one of limit places. It gives its place back
// while its task waits for another call, and takes it again without asking: so
// there may be more than limit places taken after such a wait, until workers come to
// the end of their calls.
//
// Whenever mu is free: if something is queued, then all places are taken, or a worker
// is on its way to fetch it: woken, or new. dispatch restores that after
// each change that could break it. A worker that comes and takes something calls it
// too, so one woken worker wakes the next as long as there is need: a submit wakes
// nobody if somebody is on the way, and no call can be forgotten.
//
// What is in a batch is not queued, and nobody is woken for it. It need not be: a
// worker does not go idle before it has recalled all batches, none is filled while a
// place is free, and a place that becomes free makes dispatch recall them.
type pool struct {
	cfg    Config
	handle weak.Pointer[Pool] // for Lender.Executor; the workers must not keep the handle alive

	initCtx  context.Context // what the initializer runs under; nil without one
	initStop context.CancelCauseFunc

	over       chan struct{}  // closed by finish
	goroutines sync.WaitGroup // the workers' goroutines, which outlive over by a few instructions
	events     *events        // nil without an observer

	// mu guards the fields below, the queue, and the fields of workers and slots that
	// say so. It is not held while anything waits, nor while user code runs. It is
	// left by unlock, which does what has been put off until then.
	mu       sync.Mutex
	state    state
	cancels  bool      // calls that no worker has are cancelled
	finished bool      // over is closed: the pool is shut down and no worker is left
	broken   error     // why the pool cannot work, once it cannot
	limit    int       // places
	live     int       // workers that are counted: all but those that have been told to end
	lent     int       // live workers whose place is lent out
	parked   int       // live workers in the idle list
	fresh    int       // live workers that are on their way to their first call
	coming   int       // live workers that were idle and are on their way to the queue
	batched  []*worker // those that may have something in their batch
	workers  []*worker // live workers by index; nil where there is none
	vacant   int       // no index below is free
	idle     *worker   // the one that parked last; linked by below and above
	queue    queue
	dead     int // calls in the queue that are cancelled; off by what is on its way between two locks

	hands int // goroutines that hold accepted calls which no worker has: to announce or to end them

	bound room // the bounded queue's book-keeping

	wake *worker // workers to be started or woken by unlock, linked by then

	submitted uint64 // items accepted
	withdrawn uint64 // items cancelled before they started
	taken     int64  // items started by workers that are gone, and those failed without a worker

	done counters // of items that ended elsewhere than in a worker, or in one that is gone
}

func newPool(cfg Config) *pool {
	p := &pool{cfg: cfg, limit: cfg.Workers, over: make(chan struct{})}
	p.bound.limit = cfg.QueueLimit
	if !cfg.Initializer.IsZero() {
		p.initCtx, p.initStop = context.WithCancelCause(context.Background())
	}
	if cfg.Observer != nil {
		p.events = newEvents(cfg.Observer)
	}
	return p
}

// unlock releases mu and does what must not be done under it: it wakes and starts
// workers and tells those who wait for room.
func (p *pool) unlock() {
	if p.bound.waiting.Len() > 0 {
		p.admit()
	}
	wake, answered := p.wake, p.bound.answered
	p.wake, p.bound.answered = nil, nil
	p.mu.Unlock()

	for wake != nil {
		w := wake
		wake, w.then = w.then, nil // before w goes on and may be put into another list
		if w.started {
			w.wake <- struct{}{}
		} else {
			w.started = true
			go w.run()
		}
	}
	for answered != nil {
		a := answered
		answered, a.then = a.then, nil
		close(a.answered)
	}
}

// active returns how many places are taken.
func (p *pool) active() int { return p.live - p.parked - p.lent }

// surplus reports whether there are more workers than there are places for.
func (p *pool) surplus() bool { return p.live-p.lent > p.limit }

// execute is Execute.
func (p *pool) execute(c executor.Call) error {
	n := c.Len()
	c.Accept(p)
	p.mu.Lock()
	err := p.refusal()
	if err == nil && p.bound.limit > 0 {
		err = p.enter(c, n)
	}
	if err != nil {
		p.unlock()
		return err
	}
	p.submitted += uint64(n)
	if p.events != nil && !p.announce(c, n) {
		p.finish()
		p.unlock()
		return nil
	}
	if w := p.idle; w != nil && p.parked == p.live && p.queue.len() == 0 {
		// A call that comes alone: it goes to its worker directly. In a burst that would
		// wake a worker for each call.
		p.unpark(w)
		w.give(c)
	} else {
		p.bound.fill(n)
		p.push(c)
		p.dispatch()
	}
	p.unlock()
	return nil
}

// executeAll is ExecuteAll.
func (p *pool) executeAll(calls []executor.Call) (accepted int, err error) {
	if p.bound.limit > 0 || p.events != nil { // each may wait, or is to be announced
		for i, c := range calls {
			if err := p.execute(c); err != nil {
				return i, err
			}
		}
		return len(calls), nil
	}
	for _, c := range calls {
		c.Accept(p)
	}
	p.mu.Lock()
	defer p.unlock()
	if err := p.refusal(); err != nil {
		return 0, err
	}
	for _, c := range calls {
		p.submitted += uint64(c.Len())
		p.push(c)
	}
	p.dispatch()
	return len(calls), nil
}

// announce tells the observer that c was accepted, before a worker can have it. It
// is called with mu held and returns with it held, but lets go of it in between. It
// reports whether c goes on its way; if not, the pool was closed or broke meanwhile,
// and c has been ended as queued calls are.
func (p *pool) announce(c executor.Call, items int) bool {
	p.hands++
	p.bound.reserve(items)
	p.unlock()
	p.events.submitted(c, items)
	p.mu.Lock()
	defer func() { p.hands-- }()
	p.bound.release(items)
	if p.broken == nil && !p.cancels {
		return true
	}
	err := p.refusal()
	p.unlock()
	p.turnAway(c, err)
	p.mu.Lock()
	return false
}

// refusal returns why no call is taken, or nil. It is called with mu held.
func (p *pool) refusal() error {
	switch {
	case p.broken != nil:
		return &executor.BrokenError{Cause: p.broken}
	case p.state != open:
		return executor.ErrShutdown
	}
	return nil
}

// turnAway ends an accepted call that no worker will take up. It is called without mu.
func (p *pool) turnAway(c executor.Call, err error) {
	if errors.Is(err, executor.ErrShutdown) {
		c.Interrupt(err)
		return
	}
	if !c.Start() { // cancelled meanwhile
		return
	}
	n := c.Len()
	p.mu.Lock()
	p.taken += int64(n)
	p.unlock()
	for i := range n {
		c.Fail(i, err)
	}
}

// dispatch sees to it that somebody fetches what is queued, as far as places are
// free. It is called with mu held.
func (p *pool) dispatch() {
	if p.coming > 0 || p.active() >= p.limit {
		return
	}
	if p.queue.len() == 0 {
		p.recall()
		if p.queue.len() == 0 {
			return
		}
	}
	if w := p.idle; w != nil {
		p.unpark(w)
		w.called = true
		p.coming++
		return
	}
	// A new worker comes when its initializer has run, which may take long: there is
	// one for each call.
	for p.queue.len() > p.fresh && p.active() < p.limit {
		p.hire()
	}
}

// push puts c into the queue. It is called with mu held.
func (p *pool) push(c executor.Call) {
	if len(p.batched) > 0 && c.Priority() > p.queue.priority() {
		p.recall() // c goes before what workers have taken ahead
	}
	p.queue.push(c)
}

// pop takes the next call out of the queue. It is called with mu held.
func (p *pool) pop() executor.Call {
	c := p.queue.pop()
	if p.bound.limit > 0 {
		p.bound.empty(c.Len())
	}
	return c
}

// take gives w, which has a place and nothing in its batch, the next call of the
// queue, and some more if calls are quick. The queue is not empty. It is called with mu
// held.
func (p *pool) take(w *worker) {
	if n := w.share(); n > 1 {
		w.size = p.queue.popSome(w.batch[:n])
		p.batched = append(p.batched, w)
		w.call, w.surrendered = w.batch[0], false
		w.position.Store(1)
	} else {
		w.give(p.pop())
	}
	p.dispatch()
}

// recall puts all that workers have in their batches back to the front of the queue.
// It is called with mu held.
func (p *pool) recall() {
	for _, w := range p.batched {
		w.surrender()
	}
	clear(p.batched)
	p.batched = p.batched[:0]
}

// hire adds a worker, which unlock starts. It is called with mu held.
func (p *pool) hire() {
	w := newWorker(p)
	for p.vacant < len(p.workers) && p.workers[p.vacant] != nil {
		p.vacant++
	}
	if p.vacant == len(p.workers) {
		p.workers = append(p.workers, nil)
	}
	p.workers[p.vacant], w.index = w, p.vacant
	p.live++
	p.fresh++
	p.goroutines.Add(1)
	w.then, p.wake = p.wake, w
}

// unpark takes w from the idle list; unlock wakes it. It is called with mu held.
func (p *pool) unpark(w *worker) {
	p.unlist(w)
	w.then, p.wake = p.wake, w
}
