package processpool

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
)

// A loss is an item that its worker was at when it died.
type loss struct {
	part
	ended  error // why its context has ended, if it has
	reason error // why its worker was killed, if it was
}

// judge decides what becomes of the calls that the process had when it ended. All that
// it answered has been read, so items that have ended keep what they ended with. The next
// one of the first call is lost if the process had taken it up, or if it is the third one
// that died with it on its way; what lies behind it runs elsewhere.
func (w *process) judge() {
	p := w.pool
	p.countLost() // before anybody learns of it by a call
	var lost []loss
	var back []refusal
	p.mu.Lock()
	for _, j := range slices.Backward(w.window.all()) {
		if j.ghost {
			continue
		}
		j.stopTimers()
		r := j.part
		if r.from = j.next; j.next > j.from {
			r.tries, r.refused = 0, 0 // another item's
		}
		taken := w.begun(j)
		switch {
		case taken:
			p.took(w, j, time.Now())
		case j == w.window.front():
			// Its argument may be what kills the workers: by its size, while they read it.
			r.refused++
			taken = r.refused == mostRefusals
		}
		if j.took {
			p.taken--
			r.started = true
		}
		if !taken && r.started && p.state >= killing {
			taken = true // it was on its way, its future says that it runs, and nothing else will run it
		}
		if !taken || r.from >= j.end {
			back = append(back, p.giveBack(r, j.ended))
			continue
		}
		l := loss{part: r, ended: j.ended}
		if j.rare != nil {
			if l.reason = j.rare.reason; j.rare.interrupted {
				l.reason = j.rare.cause
			}
		}
		j.call.Assign(nil)
		p.limbo[j.call] = nil
		w.useful = true
		lost = append(lost, l)
	}
	w.window = window{}
	p.tally(w)
	p.makeRoom()
	p.mu.Unlock()
	for _, r := range back {
		r.carryOut(p)
	}
	for _, l := range lost {
		p.lose(l, w.lostError(l.call.Task(), l.reason))
	}
}

// lose has an item that was lost run again, or fail with err, and what lies behind it
// run elsewhere.
func (p *Pool) lose(l loss, err *executor.WorkerLostError) {
	r := l.part
	if !r.started && !p.start(r.call) {
		r.from = r.to // it was cancelled
		p.mu.Lock()
		p.giveBack(r, nil)
		p.mu.Unlock()
		return
	}
	r.started = true
	if l.reason == nil && r.tries < r.call.Retries() && p.mayRetry() {
		p.retry(r.call, err)
		r.tries++
		r.refused = 0
	} else {
		r.call.Fail(r.from, executor.JoinCause(err, l.reason))
		r.from, r.tries, r.refused = r.from+1, 0, 0
	}
	p.mu.Lock()
	back := p.giveBack(r, l.ended)
	p.mu.Unlock()
	back.carryOut(p)
}

// lostError says how the process ended. reason is why it was killed, if it was.
func (w *process) lostError(task string, reason error) *executor.WorkerLostError {
	w.mu.Lock()
	wrong := w.wrong
	w.mu.Unlock()
	return remote.Lost(w.proc, task, wrong, reason)
}

// mayRetry reports whether calls whose worker was lost run again.
func (p *Pool) mayRetry() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken == nil && p.state < closing
}

// retry counts and tells that an item runs again.
func (p *Pool) retry(c executor.Call, lost error) {
	p.mu.Lock()
	p.stats.Retried++
	p.mu.Unlock()
	p.observe(executor.Event{Kind: executor.EventRetry, Items: 1, Err: lost}, c)
}

// started counts w as ready.
func (p *Pool) started(w *process) {
	p.mu.Lock()
	p.ready++
	w.up, w.upAt = true, time.Now()
	w.startup = w.upAt.Sub(w.began)
	if w.elder == nil {
		p.starting--
		p.expect(w)
	}
	p.list = append(p.list, w)
	p.mu.Unlock()
	p.observe(executor.Event{Kind: executor.EventWorkerStart, Worker: w.pid()}, nil)
}

// countLost counts a worker that died, unless Terminate or Kill ended it.
func (p *Pool) countLost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state < killing {
		p.stats.WorkersLost++
	}
}

// forced reports whether Terminate or Kill was called.
func (p *Pool) forced() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state >= killing
}

// ended is called when the process of w has ended. died says that it was not asked to.
func (p *Pool) ended(w *process, pr *proc.Process, died bool) {
	e := executor.Event{Kind: executor.EventWorkerEnd, Worker: pr.PID}
	died = died && !p.forced()
	if died {
		lost := w.lostError("", nil)
		e.Kind, e.Err = executor.EventWorkerLost, lost
		p.log.Warn("worker process lost", "name", p.cfg.Worker.Name, "pid", pr.PID, "how", pr.Exit().String())
	}
	p.observe(e, nil)
	p.mu.Lock()
	p.ready--
	var give bool
	if died {
		give = !w.useful && p.state < closing && p.fails() && w.seq == initSeq // else a call may be to blame
	}
	p.remove(w)
	p.mu.Unlock()
	if give {
		p.breakWith(fmt.Errorf("workers die before they take up a call: %w", e.Err))
	}
}

// forget is called when nothing is left of a worker.
func (p *Pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owners--
	p.settle()
}

// remove takes w from the pool's workers: another may start. mu is held.
func (p *Pool) remove(w *process) {
	p.arrived(w)
	p.unidle(w)
	if i := slices.Index(p.list, w); i >= 0 {
		p.list = slices.Delete(p.list, i, i+1)
	}
	switch {
	case p.workers[w.index] != w:
		delete(p.others, w)
		if w.elder != nil {
			w.elder.heir = nil
		}
	case w.heir != nil:
		p.succeed(w)
	default:
		delete(p.workers, w.index)
		if w.leaving {
			p.leaving--
		}
	}
	p.spread()
	p.dispatch()
}

// The pauses between starts that fail, and how many in a row break a pool.
const (
	firstPause   = 20 * time.Millisecond
	lastPause    = time.Second
	mostFailures = 3
)

// mostRefusals is how many workers may die with a call before they have taken it up.
const mostRefusals = 3

// startFailed takes w from the pool, which tries again after a pause, or breaks.
func (p *Pool) startFailed(w *process, err error) {
	var mismatch *proc.MismatchError
	var init *initError
	final := errors.As(err, &mismatch) || errors.As(err, &init)
	p.mu.Lock()
	if w.elder == nil {
		p.starting--
	}
	unwanted := errors.Is(err, errStopped) || p.state >= closing
	give := !unwanted && (p.fails() || final)
	p.remove(w)
	p.mu.Unlock()
	if !unwanted {
		p.log.Error("worker process not ready", "name", p.cfg.Worker.Name, "error", err)
	}
	if give {
		p.breakWith(err)
	}
	p.forget()
}

// fails counts a worker that was of no use, and reports whether there were so many in a
// row that the pool is broken. If not, it pauses before the next start. mu is held.
func (p *Pool) fails() bool {
	p.failures++
	if !p.resting {
		p.resting = true
		time.AfterFunc(min(lastPause, firstPause<<min(p.failures, 10)), p.rested)
	}
	return p.failures >= mostFailures && p.ready == 0
}

// rested lets the pool start workers again.
func (p *Pool) rested() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting = false
	p.spread()
	p.dispatch()
}

// breakWith makes the pool refuse calls, and fails what is queued, each call with an
// error of its own. What runs goes on.
func (p *Pool) breakWith(cause error) {
	p.mu.Lock()
	if p.broken != nil {
		p.mu.Unlock()
		return
	}
	if p.state == open {
		close(p.refuses)
	}
	p.broken = cause
	calls, front := p.queue.takeCalls(), p.queue.takeFront()
	p.settle()
	p.mu.Unlock()
	p.log.Error("process pool broken", "name", p.cfg.Worker.Name, "cause", cause)
	for _, c := range calls {
		front = append(front, part{call: c, to: c.Len()})
	}
	for _, r := range front {
		p.fail(r, func() error { return &executor.BrokenError{Cause: cause} })
	}
}
