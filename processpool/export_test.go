package processpool

import (
	"testing"

	"example.com/futures/internal/wire"
)

// Means are the means of a pool, by the names of those that are left out.
var Means = map[string]func(*means){
	"all":           func(*means) {},
	"no ring":       func(m *means) { m.rings = false },
	"nothing ahead": func(m *means) { m.sendsAhead = false },
	"no stealing":   func(m *means) { m.steals = false },
	"no spinning":   func(m *means) { m.spinning = false },
	"no arena":      func(m *means) { m.mostLarge = wire.MostInline },
}

// Without has the pools that are made during the test do without some means. Tests that
// call it do not run in parallel.
func Without(tb testing.TB, name string) {
	was := seam
	tb.Cleanup(func() { seam = was })
	Means[name](&seam)
}

// Quicken has p believe that calls have been short, so that it sends many ahead.
func Quicken(p *Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.each = 1
}

// Ahead returns how many calls lie before workers that have not taken them up.
func Ahead(p *Pool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.list {
		for _, j := range w.window.all() {
			if !j.ghost && !j.took && j.sent.Load() && !w.proc.Ring.Taken(j.seq) {
				n++
			}
		}
	}
	return n
}

// Given returns how many calls workers have, whether they have taken them up or not.
func Given(p *Pool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.list {
		n += w.window.live
	}
	return n
}

// Held returns how many large arguments lie in the arenas of p's workers.
func Held(p *Pool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		n += int(w.store.held.Load())
	}
	return n
}
