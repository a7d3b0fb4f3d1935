package processpool

import (
	"runtime"
	"slices"
	"time"
)

// Where calls are short, more workers than processors take time from one another and from
// the parent, and waking one of them takes longer than a call. So while the processors have
// workers enough, calls go ahead to those that are awake, and the others idle on.
//
// A call that turns out long would keep what was sent ahead behind it, beside workers that
// idle. So as long as calls wait beside those, somebody looks whether that is so, takes such
// calls back and wakes who is there.

const (
	// shortCall is how long calls may take, of late, that do without further workers.
	shortCall = 50 * time.Microsecond

	// crowdLook is how often somebody looks, and how long a call may take before it counts
	// as a long one.
	crowdLook = time.Millisecond
)

// crowded reports whether those who work suffice. mu is held.
func (p *Pool) crowded() bool {
	return p.sendsAhead && p.steals && p.each > 0 && p.each < shortCall && p.busy()
}

// busy reports whether there are as many workers with calls as can run at a time. mu is held.
func (p *Pool) busy() bool { return len(p.working) >= p.cores }

// tally notes whether w has calls. mu is held.
func (p *Pool) tally(w *process) {
	if has := w.window.live > 0; has == w.works {
		return
	} else if w.works = has; has {
		p.working = append(p.working, w)
		return
	}
	i := slices.Index(p.working, w)
	p.working = slices.Delete(p.working, i, i+1)
}

// cores returns how many workers can run at a time.
func cores() int { return min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) }

// watchCrowd has somebody look in a while, and as long as there is something to see. mu is
// held.
func (p *Pool) watchCrowd() {
	if !p.watchesCrowd {
		p.watchesCrowd = true
		time.AfterFunc(crowdLook, p.lookAtCrowd)
	}
}

func (p *Pool) lookAtCrowd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchesCrowd = false
	if len(p.idle) == 0 || p.over() {
		return
	}
	waits := p.queue.waiting() > 0
	for _, w := range slices.Clone(p.working) {
		if is := time.Since(w.answered); is > crowdLook {
			p.each = max(p.each, is) // so that nobody counts on it
			p.recall(w, w.window.len())
		}
		waits = waits || w.window.live > 1
	}
	p.dispatch()
	if waits && len(p.idle) > 0 {
		p.watchCrowd()
	}
}
