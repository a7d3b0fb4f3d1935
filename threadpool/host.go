package threadpool

import (
	"sync/atomic"

	"example.com/futures/executor"
)

// sweepAt is how many cancelled calls a queue may hold before it is worth a look
// whether they are more than half of it.
const sweepAt = 64

var _ executor.Host = (*pool)(nil)

// Withdraw lets every pending call be cancelled: a worker that holds it finds that
// it cannot start it.
func (p *pool) Withdraw(executor.Call) bool { return true }

// Cancelled stops counting a call that was cancelled. It may still be in the queue,
// where it takes no room any more, or in the hands of a worker, which says so when
// it finds out (see worker.settle). The queue forgets such calls together once they
// are more than half of it: that costs each of them a few steps, whatever their
// number.
func (p *pool) Cancelled(c executor.Call, err error) {
	n := c.Len()
	if p.events != nil {
		p.events.cancelled(c, n, err) // first: the pool may be at its end when c is counted
	}
	p.mu.Lock()
	p.withdrawn += uint64(n)
	p.bound.empty(n)
	p.dead++
	if p.dead > sweepAt && p.dead > p.queue.len()/2 {
		p.recall()
		p.dead -= p.queue.sweep()
	}
	p.finish()
	p.unlock()
}

// Interrupt has nothing to do: calls run in this process and end their contexts
// themselves.
func (p *pool) Interrupt(executor.Call, error) {}

// Finished counts items that ended without a worker.
func (p *pool) Finished(c executor.Call, o executor.Outcome) {
	p.mu.Lock()
	p.done.add(o)
	p.mu.Unlock()
	if p.events != nil {
		p.events.finished(c, o)
	}
}

// counters count items that ended. One goroutine at a time writes them; others read.
type counters struct {
	succeeded, failed atomic.Int64
	stopped           atomic.Int64 // items of interrupted chunks that never ran
}

// add counts o. A store is cheaper than an atomic addition, which nobody needs here.
func (c *counters) add(o executor.Outcome) {
	if o.Succeeded > 0 {
		c.succeeded.Store(c.succeeded.Load() + int64(o.Succeeded))
	}
	if o.Failed > 0 {
		c.failed.Store(c.failed.Load() + int64(o.Failed))
	}
	if o.Cancelled > 0 {
		c.stopped.Store(c.stopped.Load() + int64(o.Cancelled))
	}
}

// absorb adds what o shows.
func (c *counters) absorb(o *counters) {
	c.succeeded.Store(c.succeeded.Load() + o.succeeded.Load())
	c.failed.Store(c.failed.Load() + o.failed.Load())
	c.stopped.Store(c.stopped.Load() + o.stopped.Load())
}

// tally is what counters show.
type tally struct{ succeeded, failed, stopped int64 }

func (t *tally) add(c *counters) {
	t.succeeded += c.succeeded.Load()
	t.failed += c.failed.Load()
	t.stopped += c.stopped.Load()
}

// ended returns what all counters show. It is called with mu held.
func (p *pool) ended() (t tally) {
	t.add(&p.done)
	for _, w := range p.workers {
		if w != nil {
			t.add(&w.done)
		}
	}
	return t
}

// stats is Stats.
func (p *pool) stats() executor.Stats {
	p.mu.Lock()
	defer p.unlock()
	// Calls start and end without the lock. Counts of ended calls that are the same
	// before and after the count of the started ones fit it; under a steady stream of
	// short calls the last try is near enough.
	var t tally
	var taken int64
	for range 100 {
		t, taken = p.ended(), p.taken
		for _, w := range p.workers {
			if w != nil {
				taken += w.taken.Load()
			}
		}
		if t == p.ended() {
			break
		}
	}
	return executor.Stats{
		Workers:   p.live,
		Idle:      p.parked,
		Queued:    int(max(0, int64(p.submitted)-int64(p.withdrawn)-taken)),
		Running:   int(max(0, taken-t.succeeded-t.failed-t.stopped)),
		Submitted: p.submitted,
		Succeeded: uint64(t.succeeded),
		Failed:    uint64(t.failed),
		Cancelled: p.withdrawn + uint64(t.stopped),
	}
}
