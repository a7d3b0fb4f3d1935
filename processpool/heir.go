package processpool

import "time"

// A worker that is about to have had its fill gets an heir: a worker that is started
// while it still works, gets nothing until its elder gets no more calls, and then
// has its place, with its index. So a pool that recycles its workers is as fast as one
// that does not, as long as there is a core for the start.
//
//	spawn ──────────────────────────────▶ has a place ──▶ leaves ──▶ ended
//	                                          ▲              │
//	replace ──▶ starts ──▶ waits ─────────────┴── succeed ◀──┘
//
// What has a place is in Pool.workers; an heir, and an elder that ends while its heir
// has the place, is in Pool.others.

// replace starts an heir of w, unless there is one or nobody will need it. mu is held.
func (p *Pool) replace(w *process) {
	if w.heir != nil || p.resting || p.over() || len(p.workers)-p.leaving > p.max {
		return
	}
	if p.state >= draining && p.queue.waiting() == 0 {
		return
	}
	h := newProcess(p, w.index)
	w.heir, h.elder = h, w
	p.others[h] = true
	p.own(h)
}

// succeed gives the place of w to its heir. mu is held.
func (p *Pool) succeed(w *process) {
	h := w.heir
	w.heir, h.elder = nil, nil
	delete(p.others, h)
	p.workers[h.index] = h
	switch {
	case h.leaving: // it has died
		p.leaving++
	case h.up:
		p.expect(h)
		h.call()
	default:
		p.starting++
	}
}

// nearlyFull reports whether w is to be replaced now that it is given so many items: if
// it may have no more, or so few that they will not last for the start of another. mu is
// held.
func (p *Pool) nearlyFull(w *process, items int) bool {
	left := p.cfg.MaxTasksPerChild - w.given - items
	if left <= 0 {
		return true
	}
	if w.given == 0 {
		return false
	}
	each := time.Since(w.upAt) / time.Duration(w.given)
	return time.Duration(left)*each < 2*w.startup
}
