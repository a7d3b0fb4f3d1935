package threadpool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"weak"

	"example.com/futures/executor"
)

// A pool is what a Pool handle, the workers and the accepted calls share.
//
//	            submit                       free worker: handed over
//	caller ───────────────▶ execute ─────────────────────────────────▶ worker
//	          (room?)          │                                         ▲  │
//	                           │ all busy                      next call │  │ nothing
//	                           ▼                                         │  │ queued
//	                         queue ──────────────────────────────────────┘  ▼
//	                                                                      idle
//
// A worker that runs a call holds one of limit places. It gives its place back
// while its task waits for another call, and takes it again without asking: so
// there may be more than limit places taken after such a wait, until workers come to
// the end of their calls.
//
// Whenever mu is free: if something is queued, then all places are taken, or enough
// workers are on their way to fetch it. dispatch restores that after each change
// that could break it, and it is why no call can be forgotten.
type pool struct {
	cfg     Config
	handle  weak.Pointer[Pool] // for Lender.Executor; the workers must not keep the handle alive
	refuses atomic.Bool        // state is not open; may be stale, so state is asked again under mu

	initCtx  context.Context // what the initializer runs under; nil without one
	initStop context.CancelCauseFunc

	done       chan struct{}  // closed by finish
	goroutines sync.WaitGroup // the workers' goroutines, which outlive done by a few instructions
	events     *events        // nil without an observer

	// mu guards the fields below, the queue, and the fields of workers and slots that
	// say so. It is not held while anything waits, nor while user code runs. It is
	// left by unlock, which does what has been put off until then.
	mu       sync.Mutex
	state    state
	cancels  bool      // calls that no worker has are cancelled
	finished bool      // done is closed: the pool is shut down and no worker is left
	broken   error     // why the pool cannot work, once it cannot
	limit    int       // places
	live     int       // workers that are counted: all but those that have been told to end
	lent     int       // live workers whose place is lent out
	parked   int       // live workers in the idle list
	fresh    int       // live workers that are on their way to their first call
	workers  []*worker // live workers by index; nil where there is none
	vacant   int       // no index below is free
	idle     *worker   // the one that parked last; linked by below and above
	queue    queue
	dead     int // calls in the queue that are cancelled; off by what is on its way between two locks

	announced int // accepted calls that the observer is being told of, and no worker yet

	bound room // the bounded queue's book-keeping

	wake *worker // workers to be started or woken by unlock, linked by then

	submitted uint64 // items accepted
	withdrawn uint64 // items cancelled before they started
	taken     int64  // items started by workers that are gone, and those failed without a worker

	// Written by Finished, without mu.
	_         [64]byte // keeps the counters off the line of mu
	succeeded atomic.Int64
	failed    atomic.Int64
	stopped   atomic.Int64 // items of interrupted chunks that never ran
}

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

func newPool(cfg Config) *pool {
	p := &pool{cfg: cfg, limit: cfg.Workers, done: make(chan struct{})}
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
		p.unlock()
		return nil
	}
	if w := p.idle; w != nil && p.queue.len() == 0 && p.active() < p.limit {
		p.unpark(w)
		w.call = c
	} else {
		p.bound.fill(n)
		p.queue.push(c)
		p.dispatch()
	}
	p.unlock()
	return nil
}

// announce tells the observer that c was accepted, before a worker can have it. It
// is called with mu held and returns with it held, but lets go of it in between. It
// reports whether c goes on its way; if not, the pool was closed or broke meanwhile,
// and c has been ended as queued calls are.
func (p *pool) announce(c executor.Call, items int) bool {
	p.announced++
	p.bound.reserve(items)
	p.unlock()
	p.events.submitted(c, items)
	p.mu.Lock()
	goes := p.broken == nil && !p.cancels
	if !goes {
		err := p.refusal()
		p.unlock()
		p.turnAway(c, err)
		p.mu.Lock()
	}
	p.announced--
	p.bound.release(items)
	p.finish()
	return goes
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

// dispatch gives places that are free to what is queued. It is called with mu held.
func (p *pool) dispatch() {
	for p.queue.len() > 0 && p.active() < p.limit {
		if w := p.idle; w != nil {
			p.unpark(w)
			w.call = p.pop()
			continue
		}
		// A new worker fetches its call when its initializer has run. Until then the
		// call is anybody's.
		if p.queue.len() <= p.fresh {
			return
		}
		p.hire()
	}
}

// pop takes the next call out of the queue. It is called with mu held.
func (p *pool) pop() executor.Call {
	c := p.queue.pop()
	if p.bound.limit > 0 {
		p.bound.empty(c.Len())
	}
	return c
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

// dismiss stops counting w, whose goroutine ends: it was told to, or ends by
// itself. It is called with mu held.
func (p *pool) dismiss(w *worker) {
	w.gone = true
	w.settle()
	p.live--
	p.workers[w.index] = nil
	p.vacant = min(p.vacant, w.index)
	p.taken += w.taken.Load()
	p.dispatch()
	p.finish()
}

// dismissIdle ends idle workers until the others are few enough. It is called with mu held.
func (p *pool) dismissIdle(enough func() bool) {
	for p.idle != nil && !enough() {
		w := p.idle
		p.unpark(w) // wakes up without a call
		p.dismiss(w)
	}
}

// finish closes done if there is nothing left to wait for. It is called with mu held.
func (p *pool) finish() {
	if p.live == 0 && p.announced == 0 && p.state != open && !p.finished {
		p.finished = true
		close(p.done)
	}
}

// end moves the pool to a later state and returns the calls that are to be ended,
// the queued ones first. It is called with mu held.
func (p *pool) end(to state, cancelPending bool) []executor.Call {
	p.state = max(p.state, to)
	p.refuses.Store(true)
	p.bound.refuse(executor.ErrShutdown)
	var calls []executor.Call
	if cancelPending {
		p.cancels = true
		calls = p.queue.take()
	}
	if to == closed {
		for _, w := range p.workers {
			if w != nil && w.call != nil {
				calls = append(calls, w.call)
			}
		}
	}
	p.dismissIdle(never)
	p.finish()
	return calls
}

func never() bool { return false }

// shutdown begins to shut down.
func (p *pool) shutdown(cancelPending bool) {
	p.mu.Lock()
	calls := p.end(draining, cancelPending)
	p.unlock()
	for _, c := range calls {
		c.Interrupt(executor.ErrShutdown)
	}
}

// close begins to close. A call that a worker is about to start is found in its
// worker, and Interrupt cancels it or, if it has started, ends its context.
func (p *pool) close() {
	p.mu.Lock()
	calls := p.end(closed, true)
	p.unlock()
	if p.initStop != nil {
		p.initStop(executor.ErrShutdown)
	}
	for _, c := range calls {
		c.Interrupt(executor.ErrShutdown)
	}
}

// abandon is what happens when the handle has been collected: what was accepted
// runs, then the workers end. A pool that was shut down is left alone.
func (p *pool) abandon() {
	if !p.refuses.Load() {
		p.shutdown(false)
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
	p.refuses.Store(true)
	p.bound.refuse(&executor.BrokenError{Cause: err})
	calls := p.queue.take()
	p.dismissIdle(never)
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
