package processpool

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/ring"
)

// spinTime is how long somebody looks for an answer before he sleeps: about what it
// takes to be woken.
const spinTime = 20 * time.Microsecond

// How long answers gather before somebody looks again who has just read some. Looking takes
// the memory away from the worker that writes there, and a processor, perhaps, from it: so
// where all processors have work for a while, who waits sleeps through a part of it.
const (
	gatherTime = 3 * time.Microsecond
	leastSleep = 30 * time.Microsecond // less cannot be had
	mostSleep  = 100 * time.Microsecond
)

// spins reports whether it makes sense to look for an answer for a while: not if calls take
// much longer than being woken.
func (p *Pool) spins() bool { return p.spin > 0 && time.Duration(p.pace.Load()) < 2*p.spin }

// gather lets answers of the workers ws gather.
func (p *Pool) gather(ws []*process) {
	if d := p.sleeps(ws); d >= leastSleep {
		ring.Nap(min(d, mostSleep))
		return
	}
	for start := time.Now(); time.Since(start) < gatherTime; {
		ring.Yield()
	}
}

// sleeps returns for how long nobody needs the answers of ws: a quarter of the work that the
// one has that has least, if all processors have work.
func (p *Pool) sleeps(ws []*process) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.busy() {
		return 0
	}
	least := mostAhead
	for _, w := range ws {
		least = min(least, w.window.live)
	}
	return time.Duration(least) * p.each / 4
}

// spinsFor returns how long somebody may look for an answer, or a worker for a call, before
// he sleeps: not at all where that takes a core from who would bring it.
func spinsFor() time.Duration {
	if runtime.GOMAXPROCS(0) < 2 || runtime.NumCPU() < 2 || proc.Quota() {
		return 0
	}
	return spinTime
}

// mostHelped is to how many workers a waiter attends at a time.
const mostHelped = 8

// Help is what a waiter does before he sleeps: he reads the answers of the workers, of the
// one that has his call and of others that have something, for as long as it takes to be
// woken, and so mostly need not be.
func (h host) Help(ctx context.Context, c executor.Call, done interface{ IsDone() bool }) {
	p := h.p
	if !p.spins() || !p.helped.CompareAndSwap(false, true) {
		return // somebody does that already, and wakes who waits
	}
	defer p.helped.Store(false)
	var room [mostHelped]*process
	ws := p.helpable(room[:0], c)
	n := 0
	for _, w := range ws {
		if w.attending.TryLock() {
			ws[n] = w
			n++
		} else {
			w.wanted.Store(true)
		}
	}
	ws = ws[:n]
	for _, w := range ws {
		w.proc.Ring.Listen(false)
	}
	end := ctx.Done()
	last := time.Now()
	for n := 1; len(ws) > 0 && !done.IsDone(); n++ {
		any := false
		for _, w := range ws {
			any = w.attend(false) || any
			if w.in.slow {
				last = time.Time{}
			}
		}
		if last.IsZero() {
			break // by what the round before has found, or this one
		}
		if any {
			if !done.IsDone() {
				p.gather(ws)
			}
			last = time.Now()
			select {
			case <-end:
				last = time.Time{}
			default:
			}
		} else if n%16 == 0 {
			spun := time.Since(last)
			if spun > p.spin {
				break
			}
			if spun > ring.Rude {
				ring.Yield()
			}
		}
	}
	for _, w := range ws {
		w.proc.Ring.Listen(true)
		w.attend(false)
		slow := w.in.slow
		w.attending.Unlock()
		if slow {
			w.attendElse(func() {})
		}
	}
}

// helpable returns the workers to which somebody can attend who waits for c, as far as
// there is room for them in ws.
func (p *Pool) helpable(ws []*process, c executor.Call) []*process {
	p.mu.Lock()
	defer p.mu.Unlock()
	own, _ := c.Assigned().(*process)
	if own != nil && !own.socket {
		ws = append(ws, own)
	}
	for _, w := range p.working {
		if w != own && !w.socket && len(ws) < cap(ws) {
			ws = append(ws, w)
		}
	}
	return ws
}

// Settle completes what the workers have answered by now.
func (h host) Settle() {
	p := h.p
	p.mu.Lock()
	all := slices.Clone(p.list)
	p.mu.Unlock()
	var done sync.WaitGroup
	for _, w := range all {
		done.Add(1)
		w.attendElse(done.Done)
	}
	done.Wait()
}
