package processpool

import (
	"cmp"
	"math"
	"slices"
)

// overtake takes back what was sent ahead to workers and has a lower priority than a call
// that was just queued: the order of the queue decides again. It is not sent ahead once
// more until a worker has done with something, for whoever is first is to have that call.
// What is on its way into a ring stays. mu is held.
func (p *Pool) overtake(priority int) {
	if priority <= p.lowest {
		return
	}
	type parted struct {
		part
		order uint64
	}
	var all []parted
	p.lowest = math.MaxInt
	for _, w := range p.list {
		jobs := w.window.all()
		for i := len(jobs) - 1; i > 0 && !jobs[i].took; i-- {
			j := jobs[i]
			if j.ghost || j.started {
				continue
			}
			if own := j.call.Priority(); own >= priority || !j.sent.Load() {
				p.lowest = min(p.lowest, own)
				continue
			}
			r := parted{j.part, j.order}
			if !p.withdraw(w, j) {
				break
			}
			r.call.Assign(nil)
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b parted) int { return cmp.Compare(b.order, a.order) })
	for _, r := range all {
		p.queue.back(r.part)
	}
}
