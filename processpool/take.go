package processpool

import (
	"slices"
	"time"

	"example.com/futures/executor"
)

// dispatch gives what is queued its workers: idle ones first, then new ones. mu is
// held, here and by its caller's change that made it necessary.
func (p *Pool) dispatch() {
	if p.over() {
		return
	}
	if len(p.idle) > 0 && p.crowded() {
		p.watchCrowd()
		return
	}
	need := p.queue.waiting() - p.coming
	for ; need > 0 && len(p.idle) > 0; need-- {
		p.awake().call()
	}
	for need -= p.starting; need > 0 && !p.resting && len(p.workers)-p.leaving < p.max; need-- {
		p.spawn()
	}
}

// awake takes the worker that has idled least out of the idle ones. mu is held.
func (p *Pool) awake() *process {
	w := p.idle[len(p.idle)-1]
	p.unidle(w)
	p.expect(w)
	return w
}

// rest makes w, which has nothing to do, idle. mu is held.
func (p *Pool) rest(w *process) {
	w.idle = true
	p.idle = append(p.idle, w)
	p.idlers.Store(int32(len(p.idle)))
	if p.cfg.KeepAlive > 0 {
		w.idleSince = time.Now()
		w.call()
	}
}

// unidle takes w out of the idle ones, if it is one. mu is held.
func (p *Pool) unidle(w *process) {
	if !w.idle {
		return
	}
	w.idle = false
	last := len(p.idle) - 1
	if p.idle[last] != w {
		p.idle = slices.Delete(p.idle, slices.Index(p.idle, w), slices.Index(p.idle, w)+1)
	} else {
		p.idle[last] = nil
		p.idle = p.idle[:last]
	}
	p.idlers.Store(int32(len(p.idle)))
}

// expect notes that w will ask for a call. mu is held.
func (p *Pool) expect(w *process) {
	if !w.expected {
		w.expected = true
		p.coming++
	}
}

// arrived notes that w asks, or never will. mu is held.
func (p *Pool) arrived(w *process) {
	if w.expected {
		w.expected = false
		p.coming--
	}
}

// candidate returns a worker for some of n calls that were just queued, and whom the caller is now
// to feed: an idle one, or where there is none, one that may have more than it has. mu is
// held.
func (p *Pool) candidate(n int) *process {
	if len(p.idle) > 0 && !p.crowded() {
		if w := p.awake(); w.acquire() {
			return w
		}
		return nil // whoever feeds it looks once more
	}
	if len(p.idle) > 0 {
		p.watchCrowd()
	}
	if w := p.queue.waiting(); w == 0 || w > n { // else the others would be gone
		return nil
	}
	for range p.working {
		p.turn++
		if w := p.working[p.turn%len(p.working)]; p.allowance(w) > 0 && w.acquire() {
			return w
		}
	}
	return nil
}

// steal has the queue get back what was sent ahead to some worker, for one that has
// nothing to do, and reports whether there was any. mu is held.
func (p *Pool) steal() bool {
	if p.crowded() {
		p.watchCrowd()
		return false
	}
	return p.stealHalf()
}

// stealHalf has the queue get back half of what was sent ahead to the worker that has most,
// and reports whether there was any. mu is held.
func (p *Pool) stealHalf() bool {
	if !p.steals {
		return false
	}
	victims := slices.Clone(p.working)
	slices.SortFunc(victims, func(v, w *process) int { return w.window.live - v.window.live })
	for _, w := range victims {
		if w.window.live < 2 {
			return false
		}
		if p.recall(w, w.window.live/2) {
			return true
		}
	}
	return false
}

// spread has the queue get back some of what was sent ahead, if there may be more workers
// and there is nothing else for them. mu is held.
func (p *Pool) spread() {
	if p.state < closing && p.queue.waiting() == 0 && len(p.idle) == 0 && p.coming+p.starting == 0 && len(p.workers)-p.leaving < p.max {
		p.stealHalf()
	}
}

// relieve has the queue get back what lies behind calls that go on for long, if that was
// not looked at for as long: it came before what others are about to be given, and they
// steal only when there is nothing else. mu is held.
func (p *Pool) relieve(now time.Time) {
	if !p.steals || now.Sub(p.relieved) < longCall {
		return
	}
	p.relieved = now
	for _, w := range slices.Clone(p.working) {
		if w.window.live > 1 && now.Sub(w.answered) >= longCall && p.recall(w, w.window.live) {
			p.dispatch()
		}
	}
}

// share gives idle workers what was just sent ahead to w: one of them may have looked
// for it too early.
func (p *Pool) share(w *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 || w.window.live < 2 || !p.steals {
		return
	}
	if p.crowded() || p.each > 0 && p.each < shortCall && len(p.list) > p.cores {
		p.watchCrowd() // there are few calls for a moment only, or there will be none soon
		return
	}
	if p.recall(w, w.window.live/2) {
		p.dispatch()
	}
}

// recall takes back calls that were sent ahead to w, the newest first, n at most, but
// not the first one, and puts them back into the queue. It reports whether there were any.
// mu is held.
func (p *Pool) recall(w *process, n int) (any bool) {
	jobs := w.window.all()
	for i := len(jobs) - 1; i > 0 && n > 0; i-- {
		j := jobs[i]
		if j.ghost || !j.sent.Load() {
			continue
		}
		r := j.part
		if !p.withdraw(w, j) {
			return any
		}
		r.call.Assign(nil)
		p.queue.back(r)
		any = true
		n--
	}
	return any
}

// recallAll takes back all that no worker has taken up. mu is held.
func (p *Pool) recallAll() {
	for _, w := range p.list {
		p.recall(w, len(w.window.all()))
		if j := w.window.front(); j != nil && !j.ghost && j.sent.Load() {
			if r := j.part; p.withdraw(w, j) {
				r.call.Assign(nil)
				p.queue.back(r)
			}
		}
	}
}

// A refusal is what of a call will not run, after a worker had it, and why; without a
// reason, since the pool was closed before it started. The zero refusal is none.
type refusal struct {
	part
	why func() error
}

// carryOut fails the items.
func (r refusal) carryOut(p *Pool) {
	switch {
	case r.call == nil:
	case r.why == nil:
		r.call.Cancel(executor.ErrShutdown)
	default:
		p.fail(r.part, r.why)
	}
}

// giveBack puts what a worker had of a call back into the queue, or answers why it will
// not run: its context has ended, for ended, or the pool. mu is held.
func (p *Pool) giveBack(r part, ended error) refusal {
	r.call.Assign(nil)
	if why, ok := p.limbo[r.call]; ok {
		delete(p.limbo, r.call)
		if ended == nil {
			ended = why
		}
	}
	if ended == nil && r.started && p.state >= closing {
		ended = executor.ErrShutdown
	}
	broken := p.broken
	switch {
	case r.from >= r.to:
		return refusal{}
	case ended != nil:
		return refusal{r, func() error { return cancelled(ended) }}
	case broken != nil:
		return refusal{r, func() error { return &executor.BrokenError{Cause: broken} }}
	case p.state >= closing:
		return refusal{part: r}
	}
	p.queue.back(r)
	p.dispatch()
	return refusal{}
}
