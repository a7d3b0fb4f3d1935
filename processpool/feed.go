package processpool

import (
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/ring"
)

// How calls get to a worker. Whoever has something for a worker feeds it: who submits,
// who reads its answers, or its owner. One does at a time; who comes meanwhile leaves
// word that there is more, and goes on.
//
// Encoding an argument may run code of the program's, which may do what it likes: wait,
// submit, end its goroutine. That is for the owner alone, and so is what waits for the
// socket. All others send what takes neither (Call.Direct).

// The states of process.feeding.
const (
	unfed  = iota
	fed    // somebody feeds the worker
	hungry // and is to look once more
	closed // the worker gets nothing more
)

// The bounds of what is sent ahead.
const (
	aheadTime = 300 * time.Microsecond // so much work, by what calls took before
	mostAhead = 128                    // calls
	longCall  = 5 * time.Millisecond   // beside this the way to a worker is nothing
	lowAhead  = 8                      // calls that are enough for now: others follow in one go
)

// acquire makes the caller the one who feeds w, and reports false if there is one.
func (w *process) acquire() bool {
	for {
		switch s := w.feeding.Load(); s {
		case unfed:
			if w.feeding.CompareAndSwap(unfed, fed) {
				return true
			}
		case fed:
			if w.feeding.CompareAndSwap(fed, hungry) {
				return false
			}
		default:
			return false
		}
	}
}

// release ends that, and reports false if the caller is to look once more.
func (w *process) release() bool {
	for {
		switch s := w.feeding.Load(); {
		case s == hungry:
			w.feeding.Store(fed)
			return false
		case w.feeding.CompareAndSwap(fed, unfed):
			return true
		}
	}
}

// feed gives w what it may have. owner says that the caller is its owner, who may wait.
func (p *Pool) feed(w *process, owner bool) {
	if !w.acquire() {
		return
	}
	p.mu.Lock()
	p.assign(w, owner)
	p.mu.Unlock()
	p.deliver(w, owner)
}

// deliver sends what was assigned to w, and assigns more as long as there is something.
// The caller feeds w, and has ended that when deliver returns.
func (p *Pool) deliver(w *process, owner bool) {
	deep := false
	for {
		all := w.send(owner)
		deep = deep || w.deep
		if all < mostBatch && w.release() {
			break
		}
		p.mu.Lock()
		p.assign(w, owner)
		p.mu.Unlock()
	}
	if deep && p.idlers.Load() > 0 {
		p.share(w)
	}
}

// mostBatch is how many calls are assigned to a worker at a time.
const mostBatch = 64

// A delivery is a job that is to be sent, as whoever feeds the worker knows it.
type delivery struct {
	job   *job
	call  executor.Call
	seq   uint64
	first int // the first item of the job
	from  int // the first item that was not sent
	end   int
	told  bool // the worker has been told of the call
	ghost bool // it was taken back: nothing but that the worker is told of it is to come
}

// assign gives w calls from the queue, or from other workers, as far as it may have
// more. If there is nothing for it, it idles, or is to end. mu is held, and the caller
// feeds w.
func (p *Pool) assign(w *process, owner bool) {
	p.arrived(w)
	if len(w.unsent) > 0 { // there was no room for it, or it is the owner's to send
		for i := range w.unsent {
			w.unsent[i].ghost = w.unsent[i].ghost || w.unsent[i].job != nil && w.unsent[i].job.ghost
		}
		return // what follows comes after that
	}
	for {
		n := p.allowance(w)
		for ; n > 0; n-- {
			c := p.queue.peek()
			if c == nil || p.surplus(w) {
				break
			}
			if !owner && (w.socket || !c.Direct()) {
				p.expect(w)
				w.call()
				return
			}
			// An encoder, or a decoder, may wait for another call: that is not to lie behind.
			direct := c.Direct()
			if !direct && w.window.live > 0 || w.alone {
				break
			}
			r, _ := p.queue.pop()
			j := p.give(w, r)
			w.alone = !direct
			w.unsent = append(w.unsent, delivery{job: j, call: j.call, seq: j.seq, first: j.from, from: j.from, end: j.end})
		}
		switch {
		case w.window.len() > 0 || !w.up || w.idle && !p.unable(w):
			return
		case p.unable(w):
			p.unidle(w)
			p.leave(w)
			p.dispatch() // somebody else may be needed for what is queued
			w.call()
			return
		case w.elder != nil || w.checking:
			return
		case !p.steal():
			p.rest(w)
			return
		}
	}
}

// unable reports whether w will not get calls any more. mu is held.
func (p *Pool) unable(w *process) bool {
	return w.leaving || w.dead() || p.over() || p.surplus(w)
}

// surplus reports whether w has had its fill, or is one too many. mu is held.
func (p *Pool) surplus(w *process) bool {
	return w.full || p.cfg.MaxTasksPerChild > 0 && w.given >= p.cfg.MaxTasksPerChild || len(p.workers)-p.leaving > p.max
}

// allowance returns how many more calls w may have now. mu is held.
func (p *Pool) allowance(w *process) int {
	if !w.up || w.idle || w.checking || w.elder != nil || w.window.len() >= ring.Slots-mostBatch || p.unable(w) {
		return 0
	}
	have := w.window.live
	if have == 0 {
		w.alone = false
	} else if w.alone {
		return 0
	}
	most := p.ahead()
	if have > 0 && (len(p.idle) > 0 && !p.crowded() || have > most/2) {
		return 0
	}
	return min(most-have, mostBatch)
}

// ahead returns how many calls a worker may have at a time, the one that it runs
// included. mu is held.
func (p *Pool) ahead() int {
	if !p.sendsAhead || p.each == 0 || p.each > longCall {
		return 1
	}
	return 1 + min(max(int(aheadTime/max(p.each, 1)), 1), mostAhead)
}

// give makes r a job of w. mu is held.
func (p *Pool) give(w *process, r part) *job {
	var j *job
	if n := len(p.spareJobs); n > 0 {
		j, p.spareJobs = p.spareJobs[n-1], p.spareJobs[:n-1]
	} else {
		j = new(job)
	}
	w.seq++
	p.order++
	j.order = p.order
	j.part, j.end, j.next, j.seq = r, r.to, r.from, w.seq
	if most := p.cfg.MaxTasksPerChild; most > 0 {
		j.end = min(r.to, r.from+most-w.given)
		if p.nearlyFull(w, j.end-j.from) {
			p.replace(w)
		}
	}
	w.given += j.end - j.from
	if w.window.live > 0 {
		p.lowest = min(p.lowest, j.call.Priority())
	}
	j.call.Assign(w)
	w.proc.Ring.Offer(j.seq)
	w.window.push(j)
	p.tally(w)
	w.deep = w.window.live > 1
	if w.window.len() == 1 {
		now := time.Now()
		w.since = now
		w.answered = now
		w.watchLimit(j)
	}
	p.needsWatch()
	return j
}
