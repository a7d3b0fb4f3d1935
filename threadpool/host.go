package threadpool

import "example.com/futures/executor"

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
		p.dead -= p.queue.sweep()
	}
	p.finish()
	p.unlock()
}

// Interrupt has nothing to do: calls run in this process and end their contexts
// themselves.
func (p *pool) Interrupt(executor.Call, error) {}

// Finished counts items that ended.
func (p *pool) Finished(c executor.Call, o executor.Outcome) {
	if o.Succeeded > 0 {
		p.succeeded.Add(int64(o.Succeeded))
	}
	if o.Failed > 0 {
		p.failed.Add(int64(o.Failed))
	}
	if o.Cancelled > 0 {
		p.stopped.Add(int64(o.Cancelled))
	}
	if p.events != nil {
		p.events.finished(c, o)
	}
}

// stats is Stats.
func (p *pool) stats() executor.Stats {
	p.mu.Lock()
	defer p.unlock()
	// Calls start and end without the lock. Counts of ended calls that are the same
	// before and after the count of the started ones fit it; under a steady stream of
	// short calls the last try is near enough.
	var succeeded, failed, stopped, taken int64
	for range 100 {
		succeeded, failed, stopped = p.succeeded.Load(), p.failed.Load(), p.stopped.Load()
		taken = p.taken
		for _, w := range p.workers {
			if w != nil {
				taken += w.taken.Load()
			}
		}
		if succeeded == p.succeeded.Load() && failed == p.failed.Load() && stopped == p.stopped.Load() {
			break
		}
	}
	return executor.Stats{
		Workers:   p.live,
		Idle:      p.parked,
		Queued:    int(max(0, int64(p.submitted)-int64(p.withdrawn)-taken)),
		Running:   int(max(0, taken-succeeded-failed-stopped)),
		Submitted: p.submitted,
		Succeeded: uint64(succeeded),
		Failed:    uint64(failed),
		Cancelled: p.withdrawn + uint64(stopped),
	}
}
