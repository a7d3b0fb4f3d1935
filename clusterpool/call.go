package clusterpool

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/futures/executor"
)

// A call is one that the pool has accepted and that has not ended.
type call struct {
	executor.Call
	pool *Pool
	id   string // C.G.N
	gen  *generation

	// step is held while a record is carried out, so that a start is told before the end.
	// Lock order: step, then Pool.mu.
	step  sync.Mutex
	ahead int // items that are complete before the call is; guarded by step

	// The pool's mu guards the fields below.
	left      int // items that have not ended
	sent      bool
	inWindow  bool         // it is on its way to the queue
	over      bool         // it has ended
	acked     bool         // the servers have said that it is in the queue
	taskSeq   uint64       // where
	again     int          // times that it was put into the queue again
	absent    int          // times that its outcome was not in the object store
	pub       *publication // nil once it is acked
	blobAt    time.Time    // when its argument was put into the object store; zero: it was not
	sentAt    time.Time    // first
	conn      uint64       // by which connection, or an earlier one: see Pool.connection
	heard     time.Time    // when it was last certain that somebody takes care of it
	missing   int          // looks in a row that found nothing of it
	asking    int          // goroutines that ask the servers to cancel it
	own       bool         // this program has cancelled it, and whoever did so goes on with that
	withdrawn bool         // it will not start: its record says so, or it was not sent
	wanted    bool         // somebody wanted to cancel it, and the servers did not answer
	seq       uint64       // of the last record that was carried out
	state     byte         // its kind; 0: none yet
	started   time.Time    // zero: not yet
	worker    string       // that runs it
	pid       int          // of that
	cause     error        // why it is interrupted, if it is
	token     uint64       // of the last record: whose attempt it is
	retried   int          // of the last record
	lost      int          // of the last record
}

// A host is the pool as its calls see it. Its Withdraw is in cancel.go.
type host struct{ p *Pool }

// Cancelled forgets a call that will not run.
func (h host) Cancelled(c executor.Call, err error) {
	p := h.p
	e := c.Assigned().(*call)
	p.mu.Lock()
	p.stats.Queued -= e.left
	p.stats.Cancelled += uint64(e.left)
	p.forget(e)
	p.mu.Unlock()
	p.observe(e, executor.Event{Kind: executor.EventCancel, Items: c.Len(), Err: err})
}

// Interrupt has the worker end the context of a call.
func (h host) Interrupt(c executor.Call, cause error) {
	p := h.p
	e := c.Assigned().(*call)
	p.mu.Lock()
	if e.cause == nil {
		e.cause = cause
	}
	worker := e.worker
	over := e.over
	p.mu.Unlock()
	if worker != "" && !over {
		p.tell(e, worker)
	}
}

// tell tells the worker that runs e that its context has ended. It does not wait.
func (p *Pool) tell(e *call, worker string) {
	p.mu.Lock()
	cause := e.cause
	p.mu.Unlock()
	m := interruption{id: e.id, deadline: errors.Is(e.Context().Err(), context.DeadlineExceeded), cause: executor.EncodeError(cause)}
	_ = p.nc.Publish(p.control(worker), m.append(nil)) // reconcile says it again
}

// Finished counts how items of c ended.
func (h host) Finished(c executor.Call, o executor.Outcome) { c.Assigned().(*call).Finished(c, o) }

// A call is the Lender of itself: it hears how its items end.

// Finished counts.
func (e *call) Finished(_ executor.Call, o executor.Outcome) {
	p := e.pool
	n := o.Succeeded + o.Failed + o.Cancelled
	var ran time.Duration
	p.mu.Lock()
	if e.started.IsZero() { // it failed before it ran
		p.stats.Queued -= n
	} else {
		p.stats.Running -= n
		ran = time.Since(e.started)
	}
	p.stats.Succeeded += uint64(o.Succeeded)
	p.stats.Failed += uint64(o.Failed)
	p.stats.Cancelled += uint64(o.Cancelled)
	if e.left -= n; e.left == 0 {
		p.forget(e)
	} else {
		p.wake()
	}
	pid := e.pid
	p.mu.Unlock()
	p.observe(e, executor.Event{Kind: executor.EventFinish, Items: n, Worker: pid, Ran: ran, Err: o.Err})
}

// Lend and Reclaim are not called: no task of the pool runs here.
func (e *call) Lend()                       {}
func (e *call) Reclaim()                    {}
func (e *call) Executor() executor.Executor { return e.pool }

// forget drops e, which has ended, and lets others have its room. mu is held.
func (p *Pool) forget(e *call) {
	e.over = true
	if !e.blobAt.IsZero() && !p.closing { // a worker that has run it has done this, too
		p.side.Go(func() { p.deleteBlob(e.id) }) // ends with a request
	}
	delete(p.calls, e.id)
	p.pub.retire(e.pub)
	e.gen.settled()
	p.leaveWindow(e)
	p.wake()
}

// leaveWindow frees the place of e among the calls on their way. mu is held.
func (p *Pool) leaveWindow(e *call) {
	if e.inWindow {
		e.inWindow = false
		p.unacked--
		p.wake()
	}
}

// carryOut does what a record says of e. It may be told of one more than once, and late, by
// the stream and by who has asked for it (pitfall 10).
func (p *Pool) carryOut(e *call, r *record) {
	e.step.Lock()
	defer e.step.Unlock()
	p.mu.Lock()
	if e.over || r.kind == recRunning && r.seq <= e.seq && e.state != 0 {
		p.mu.Unlock()
		return
	}
	e.seq, e.state, e.heard, e.missing = r.seq, r.kind, time.Now(), 0
	if r.kind == recCancelled && !p.certain(e) {
		lossy := p.lossAt.After(e.sentAt)
		e.state = 0
		e.missing = max(e.missing, 1)
		p.mu.Unlock()
		if lossy { // it is cancelled, but whether it had started is not known any more
			e.fail(p.lostError(e, errBrokerLost))
		} else {
			p.doubt()
		}
		return
	}
	if r.kind == recCancelled {
		e.withdrawn = true
		ours, started := e.own || e.asking > 0, !e.started.IsZero()
		task := e.taskSeq
		p.mu.Unlock()
		if ours && !started { // who asks knows the cause, and goes on with it
			return
		}
		if task != 0 {
			p.deleteTask(task)
		}
		e.cancelled(r)
		return
	}
	first := p.begun(e)
	e.token = r.token
	if r.worker != "" {
		e.worker, e.pid = r.worker, r.pid
	}
	retried, lost := r.retried-e.retried, r.lost-e.lost
	e.retried, e.lost = r.retried, r.lost
	p.stats.Retried += uint64(max(retried, 0))
	p.stats.WorkersLost += uint64(max(lost, 0))
	cause, items, pid, worker, closed := e.cause, e.left, e.pid, e.worker, p.closed
	p.mu.Unlock()

	if first {
		e.Start() // nobody else starts it, and nobody can have cancelled it
		p.observe(e, executor.Event{Kind: executor.EventStart, Items: items, Worker: pid})
	}
	why := r.lastLoss()
	for range min(lost, 1024) { // a worker says so
		p.observe(nil, executor.Event{Kind: executor.EventWorkerLost, Worker: pid, Err: why})
	}
	if retried > 0 {
		p.observe(e, executor.Event{Kind: executor.EventRetry, Items: retried, Worker: pid, Err: why})
	}
	if r.kind == recRunning {
		switch {
		case cause != nil:
			p.tell(e, worker) // it is another one than before
		case e.Context().Err() != nil: // while nobody could say whether it runs
			e.Interrupt(context.Cause(e.Context()))
		case closed: // it was being claimed while Close asked for it to be cancelled
			e.Interrupt(executor.ErrShutdown)
		}
		return
	}
	p.complete(e, r)
}

// begun notes that e has started, and reports whether that is news. mu is held.
func (p *Pool) begun(e *call) bool {
	if !e.started.IsZero() {
		return false
	}
	e.started = time.Now()
	p.stats.Queued -= e.left
	p.stats.Running += e.left
	p.wake()
	return true
}

// fail ends e, every item that has not ended, with err.
func (e *call) fail(err error) {
	for i := range e.Len() {
		e.Fail(i, err)
	}
}

// runs reports whether e was taken up by a worker.
func (p *Pool) runs(e *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !e.started.IsZero()
}

// Look is asked whether a pending call has started: the record that says so may be on its
// way.
func (h host) Look(c executor.Call) {
	p := h.p
	e := c.Assigned().(*call)
	p.mu.Lock()
	ask := e.sent && !e.over && e.started.IsZero()
	p.mu.Unlock()
	if !ask {
		return
	}
	m, found, err := p.glance(p.base, p.state(), p.record(e.id))
	if err != nil || !found {
		return
	}
	if r, err := parseRecord(m.data, m.seq); err == nil && r.kind == recRunning {
		p.carryOut(e, &r)
	}
}
