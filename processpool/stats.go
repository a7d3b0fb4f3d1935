package processpool

import (
	"example.com/futures/executor"
)

// Stats returns a snapshot of the pool's counters. It waits for nobody; a call whose
// future is done is counted as ended.
func (p *Pool) Stats() executor.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.list {
		p.look(w)
	}
	s := p.stats
	s.Succeeded, s.Failed = p.succeeded.Load(), p.failed.Load()
	s.Cancelled += p.cancelled.Load()
	s.Workers = len(p.workers)
	s.Idle = len(p.idle)
	running, behind := p.runs()
	s.Running, s.Queued = running, p.pending+behind
	return s
}

// runs returns how many items run, and how many have not begun of calls that have. mu is
// held.
func (p *Pool) runs() (running, behind int) {
	for w := range p.all {
		var last *job // those before it have an answer that was not read yet
		for _, j := range w.window.all() {
			if j.took && !j.ghost {
				last = j
			}
		}
		if last != nil {
			running++
			behind += last.to - last.next - 1
		}
	}
	for _, r := range p.queue.front {
		if r.started {
			behind += r.to - r.from
		}
	}
	return running, behind
}
