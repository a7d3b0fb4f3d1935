package processpool

import (
	"slices"
	"time"

	"example.com/futures/executor"
)

// take gives w its next call, or nil if it is to end.
func (p *Pool) take(w *process) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		p.arrived(w)
		if w.dead() || w.leaving || p.over() || p.surplus(w) {
			p.leave(w)
			p.dispatch() // somebody else may be needed for what is queued
			return nil
		}
		if w.elder != nil {
			p.park(w)
			continue
		}
		if r, ok := p.queue.pop(); ok {
			return p.give(w, r)
		}
		p.idle = append(p.idle, w)
		p.mu.Unlock()
		woken := w.idle()
		p.mu.Lock()
		if i := slices.Index(p.idle, w); i >= 0 {
			p.idle = slices.Delete(p.idle, i, i+1)
			if !woken { // by its death, or for having idled too long
				p.leave(w)
			}
		} else if !woken {
			<-w.wake // in the same moment
		}
	}
}

// surplus reports whether w has had its fill, or is one too many. mu is held.
func (p *Pool) surplus(w *process) bool {
	return w.full || p.cfg.MaxTasksPerChild > 0 && w.served >= p.cfg.MaxTasksPerChild || len(p.workers)-p.leaving > p.max
}

// give makes r the job of w. mu is held.
func (p *Pool) give(w *process, r part) *job {
	j := &job{part: r, worker: w, end: r.to, next: r.from}
	if most := p.cfg.MaxTasksPerChild; most > 0 {
		j.end = min(r.to, r.from+most-w.served)
		if p.nearlyFull(w, j.end-j.from) {
			p.replace(w)
		}
	}
	p.running[r.call] = j
	p.needsWatch()
	w.last = false
	w.mu.Lock()
	w.cur = j
	w.mu.Unlock()
	return j
}

// idle waits for something to do, and reports whether it was woken for it.
func (w *process) idle() bool {
	var tooLong <-chan time.Time
	if d := w.pool.cfg.KeepAlive; d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		tooLong = t.C
	}
	select {
	case <-w.wake:
		return true
	case <-w.gone:
	case <-tooLong:
	}
	return false
}

// startJob moves the call of j to running, and reports false if it was cancelled.
func (p *Pool) startJob(w *process, j *job) bool {
	if !p.start(j.call) {
		return false
	}
	j.started = true
	if p.cfg.Observer != nil {
		p.mu.Lock()
		p.began[j.call] = time.Now()
		p.mu.Unlock()
		p.observe(executor.Event{Kind: executor.EventStart, Items: j.call.Len(), Worker: w.pid()}, j.call)
	}
	return true
}

// expectLast notes whether item i, which is about to end, is the last one that keeps
// w busy.
func (p *Pool) expectLast(w *process, j *job, i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.last = i+1 == j.end && !p.filled(w, j)
}

// filled reports whether w will have had its fill after j. mu is held.
func (p *Pool) filled(w *process, j *job) bool {
	return p.cfg.MaxTasksPerChild > 0 && w.served+j.end-j.from >= p.cfg.MaxTasksPerChild
}

// left is called when w has no more to do with j. What remains of the call goes to
// whoever is free, before others.
func (p *Pool) left(j *job, remains part) {
	p.mu.Lock()
	delete(p.running, j.call)
	j.worker.last = false
	if j.worker.useful {
		p.failures = 0
	}
	if remains.from >= remains.to {
		delete(p.began, j.call)
		p.makeRoom()
		p.mu.Unlock()
		return
	}
	cause, broken := j.ended, p.broken
	if cause == nil && p.state >= closing {
		cause = executor.ErrShutdown
	}
	if cause == nil && broken == nil {
		p.queue.pushFront(remains)
		p.dispatch()
		p.mu.Unlock()
		return
	}
	delete(p.began, j.call)
	p.mu.Unlock()
	p.fail(remains, func() error {
		if cause != nil {
			return cancelled(cause)
		}
		return &executor.BrokenError{Cause: broken}
	})
}
