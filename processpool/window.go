package processpool

import (
	"sync/atomic"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/remote"
)

// A window is what was given to a worker and has not come back: the call that runs, and
// those that were sent ahead, in the order in which they lie in the ring. The worker
// answers in that order, once for each item, and once for a call that was taken back. Its
// memory is there for as long as something is in its window.
//
//	         give                         the last answer
//	queue ──────────▶ window ─────────────────────────────▶ done
//	  ▲                 │
//	  └──── recall ─────┘ until the worker takes the call up; a ghost stays in the window
//
// The pool's lock guards windows and what is in them.
type window struct {
	jobs []*job // from first on
	from int
	live int // that are no ghosts
}

// A job is a part of a call in the hands of a worker.
type job struct {
	part
	end   int // items from up to end are the worker's
	seq   uint64
	order uint64       // in which calls left the queue
	next  int          // the first item that has not ended
	ghost bool         // it was taken back: what comes of it is one answer, that it was skipped
	sent  atomic.Bool  // all items are in the ring, or on their way through the socket; set before they are published
	upTo  atomic.Int64 // items before this one are there, too, of a job that is not sent as a whole
	took  bool         // it is known that the worker has taken it up
	said  bool         // the worker has said so
	ended error        // why its context has ended, if it has
	rare  *rare        // nil for most
}

// rare is what few jobs need.
type rare struct {
	interrupted bool        // its context has ended
	cause       error       // why
	reason      error       // why its worker was killed, if it was
	kill        *time.Timer // kills the worker when the grace is over
}

// sentTo returns the item before which all were sent.
func (j *job) sentTo() int {
	if j.sent.Load() {
		return j.end
	}
	return int(j.upTo.Load())
}

// cause returns why j was interrupted, and reports whether it was.
func (j *job) cause() (error, bool) {
	if j.rare == nil {
		return nil, false
	}
	return j.rare.cause, j.rare.interrupted
}

func (j *job) rarely() *rare {
	if j.rare == nil {
		j.rare = new(rare)
	}
	return j.rare
}

// stopTimers ends what waits for the end of j.
func (j *job) stopTimers() {
	if j.rare != nil && j.rare.kill != nil {
		j.rare.kill.Stop()
	}
}

func (w *window) len() int { return len(w.jobs) - w.from }

// all returns the jobs, the oldest first.
func (w *window) all() []*job { return w.jobs[w.from:] }

// front returns the oldest job, nil if there is none.
func (w *window) front() *job {
	if w.from == len(w.jobs) {
		return nil
	}
	return w.jobs[w.from]
}

func (w *window) push(j *job) {
	w.jobs = append(w.jobs, j)
	w.live++
}

// pop removes the oldest job.
func (w *window) pop() {
	if !w.jobs[w.from].ghost {
		w.live--
	}
	w.jobs[w.from] = nil
	if w.from++; w.from == len(w.jobs) {
		w.jobs, w.from = w.jobs[:0], 0
	} else if w.from > 256 && w.from > len(w.jobs)/2 {
		n := copy(w.jobs, w.jobs[w.from:])
		clear(w.jobs[n:])
		w.jobs, w.from = w.jobs[:n], 0
	}
}

// find returns the job of c, nil if there is none.
func (w *window) find(c executor.Call) *job {
	for _, j := range w.all() {
		if j.call == c {
			return j
		}
	}
	return nil
}

// withdraw takes j back, and reports false if the worker has taken it up, which is noted
// then. mu is held.
func (p *Pool) withdraw(w *process, j *job) bool {
	switch {
	case j.ghost:
		return true
	case j.took:
		return false
	case w.proc.Ring.Withdraw(j.seq):
		p.bury(w, j)
		return true
	}
	p.took(w, j, time.Now())
	return false
}

// bury makes j, which the worker will not run, a ghost. mu is held.
func (p *Pool) bury(w *process, j *job) {
	j.stopTimers()
	w.given -= j.end - j.from
	j.ghost, j.call, j.absent = true, nil, nil
	w.window.live--
	p.tally(w)
}

// took notes that the worker has taken j up. mu is held.
func (p *Pool) took(w *process, j *job, at time.Time) {
	if j.took {
		return
	}
	j.took = true
	p.taken++
	if !j.started {
		j.started = true
		if j.call.StartAt(at) {
			p.pending -= j.call.Len()
		}
	}
	p.makeRoom()
}

// look notes what the worker has taken up. mu is held.
func (p *Pool) look(w *process) {
	for _, j := range w.window.all() {
		if j.ghost || j.took {
			continue
		}
		if !w.proc.Ring.Taken(j.seq) {
			return
		}
		p.took(w, j, time.Now())
	}
}

// pop removes the oldest job of w, whose end has come. mu is held.
func (p *Pool) pop(w *process, j *job, now time.Time) {
	j.stopTimers()
	w.window.pop()
	p.tally(w)
	if j.took && !j.ghost {
		p.taken--
		p.makeRoom()
	}
	w.since = now
	if next := w.window.front(); next != nil {
		w.watchLimit(next)
	}
	// Timers may know one that has a rare part; and who sends it has it until that is noted,
	// which may be later than its answer comes.
	if len(p.spareJobs) < mostSpare && j.rare == nil && j.sent.Load() {
		*j = job{}
		p.spareJobs = append(p.spareJobs, j)
	}
}

// mostSpare is how many jobs are kept to be used again.
const mostSpare = 1024

// watchLimit has the time of j begin, which is at the front. The worker ends an item that
// is over its time by itself; this is for one that goes on. mu is held.
func (w *process) watchLimit(j *job) {
	if j.ghost || j.call.Timeout() <= 0 {
		return
	}
	w.since = time.Now()
	w.armLimit(remote.Patience(j.call.Timeout(), w.pool.cfg.Worker.KillGrace))
}

// armLimit has overLimit called in d, or before. mu is held.
func (w *process) armLimit(d time.Duration) {
	due := time.Now().Add(d)
	switch {
	case w.limit == nil:
		w.limit = time.AfterFunc(d, w.overLimit)
	case w.limitDue.IsZero() || due.Before(w.limitDue):
		w.limit.Reset(d)
	default:
		return
	}
	w.limitDue = due
}

// overLimit kills the process if the item that it is at has been there for longer than
// its time and the grace. The time of an item that it has not taken up has not begun; but
// a process that never does is frozen.
func (w *process) overLimit() {
	p := w.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	w.limitDue = time.Time{}
	j := w.window.front()
	if j == nil || j.ghost || j.call.Timeout() <= 0 || w.dead() {
		return
	}
	most := remote.Patience(j.call.Timeout(), p.cfg.Worker.KillGrace)
	if !w.begun(j) {
		most = max(most, p.cfg.Worker.StartTimeout)
	}
	if is := time.Since(w.since); is < most {
		w.armLimit(most - is)
		return
	}
	w.killFor(j, executor.ErrTimeout)
}

// begun reports whether the worker has begun with the next item of j.
func (w *process) begun(j *job) bool {
	return w.proc.Ring.Taken(j.seq) && w.proc.Ring.Begun(j.seq) > j.next-j.from
}

// killFor kills the process for j, which is at the front. mu is held.
func (w *process) killFor(j *job, reason error) {
	if r := j.rarely(); r.reason == nil {
		r.reason = reason
	}
	w.proc.Kill()
}

// interrupt ends the context of j's call in the worker, which has taken it up, and kills
// the worker if the call goes on for longer than the grace. mu is held.
func (p *Pool) interrupt(w *process, j *job, cause error) {
	r := j.rarely()
	if r.interrupted {
		return
	}
	r.interrupted, r.cause = true, cause
	grace := p.cfg.Worker.KillGrace
	if grace > 0 && !w.closing {
		w.tell(w.proc, j.seq, remote.ByDeadline(j.call.Context()), cause)
	}
	seq := j.seq
	r.kill = time.AfterFunc(grace, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if f := w.window.front(); f == j && f.seq == seq && !f.ghost && !w.dead() {
			w.killFor(j, cause)
		}
	})
}
