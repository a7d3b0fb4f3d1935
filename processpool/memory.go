package processpool

import (
	"time"

	"example.com/futures/internal/proc"
)

// needsWatch starts watching the memory of the workers, if there is a limit and nobody
// does. mu is held.
func (p *Pool) needsWatch() {
	if p.cfg.Worker.MemoryLimit > 0 && !p.watching {
		p.watching = true
		go p.watchMemory() // ends when nothing runs; the pool's done waits for it
	}
}

// watchMemory looks at the resident size of the workers that run a call or are being
// started, and kills those that have passed the limit.
func (p *Pool) watchMemory() {
	limit := p.cfg.Worker.MemoryLimit
	timer := time.NewTimer(0)
	defer timer.Stop()
	var watched []*process
	for {
		select {
		case <-timer.C:
		case <-p.unwatch:
		}
		watched = watched[:0]
		p.mu.Lock()
		for w := range p.all {
			if w.eats() {
				watched = append(watched, w)
			}
		}
		if len(watched) == 0 {
			p.watching = false
			p.settle()
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		next := proc.NextLook(0, limit)
		for _, w := range watched {
			next = min(next, w.checkMemory(limit))
		}
		timer.Reset(next)
	}
}

// eats reports whether the worker has a call or is being started. The pool's lock is held.
func (w *process) eats() bool {
	if w.window.live > 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.ready
}

// checkMemory looks at the process, unless it idles, and kills it if it has passed the
// limit. It returns when to look again.
//
// Only the item that was there before the look and still is pays for what was seen, not
// one that was taken up meanwhile.
func (w *process) checkMemory(limit int64) time.Duration {
	w.pool.mu.Lock()
	pr, j, next, ready := w.doing()
	w.pool.mu.Unlock()
	if pr == nil || j == 0 && ready {
		return proc.NextLook(0, limit)
	}
	size := pr.Resident()
	if size > limit {
		p := w.pool
		p.mu.Lock()
		if _, j2, next2, ready2 := w.doing(); j2 == j && next2 == next && ready2 == ready {
			pr.KillOver(size, limit)
		}
		p.mu.Unlock()
	}
	return proc.NextLook(size, limit)
}

// doing returns the process, the number of the call that it is at and the item of that,
// both 0 if it idles, and whether it is ready. The pool's lock is held.
func (w *process) doing() (pr *proc.Process, seq uint64, item int, ready bool) {
	if j := w.window.front(); j != nil {
		seq, item = j.seq, j.next
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proc, seq, item, w.ready
}

// swollen reports whether the process idles with more memory than it may have: a call
// has left that behind, and the next one is not to pay for it.
func (w *process) swollen() bool {
	limit := w.pool.cfg.Worker.MemoryLimit
	return limit > 0 && w.proc.Resident() > limit
}
