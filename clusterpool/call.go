package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/futures/executor"
	"example.com/futures/internal/promise"
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
	conn      uint64       // by which connection: see Pool.connection
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

// The pool is the Host of its calls.

// Withdraw is asked before a call is cancelled. It makes that the call's last record, unless
// there is one: then the call runs, or is done, and is told so.
func (p *Pool) Withdraw(c executor.Call) bool {
	e := c.Assigned().(*call)
	p.mu.Lock()
	if !e.sent {
		e.withdrawn = true
	}
	withdrawn, running := e.withdrawn, !e.started.IsZero()
	if !withdrawn && !running {
		e.asking++
	}
	p.mu.Unlock()
	if withdrawn || running {
		return withdrawn
	}
	var r record
	found := false
	a := ack{err: errNoBroker}
	if p.kept(e) {
		a = p.pub.await(&publication{msg: p.cancelMsg(e), bound: true}, apiPatience)
	}
	if a.err == nil && !p.kept(e) { // carryOut will say what that record is worth
		a.err = errNoBroker
	}
	if errors.Is(a.err, errSequence) {
		var err error
		if r, found, err = p.lastRecord(p.base, e.id); err == nil && found && r.kind == recCancelled {
			a.err = nil // by this program before, whose answer was lost, or by another
		}
	}
	if a.err == nil {
		p.withdrawn(e)
	} else if found {
		p.carryOut(e, &r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e.asking--
	if e.withdrawn {
		e.own = true
	} else if !found && !e.over {
		e.wanted = true
		if !p.known(e) || p.certain(e) { // otherwise there is nothing to learn
			p.checkSoon()
		}
	}
	return e.withdrawn
}

// cancelMsg returns the message that cancels e, if it has no record yet.
func (p *Pool) cancelMsg(e *call) *nats.Msg {
	return p.recordMsg(e.id, &record{kind: recCancelled}, 0, p.cfg.KeepResults)
}

// withdrawn notes that the record of e says that it is cancelled, by the caller.
func (p *Pool) withdrawn(e *call) {
	p.mu.Lock()
	e.withdrawn, e.own = true, true
	seq := e.taskSeq
	p.mu.Unlock()
	if seq != 0 {
		p.deleteTask(seq)
	}
}

// Cancelled forgets a call that will not run.
func (p *Pool) Cancelled(c executor.Call, err error) {
	e := c.Assigned().(*call)
	p.mu.Lock()
	p.stats.Queued -= e.left
	p.stats.Cancelled += uint64(e.left)
	p.forget(e)
	p.mu.Unlock()
	p.observe(e, executor.Event{Kind: executor.EventCancel, Items: c.Len(), Err: err})
}

// Interrupt has the worker end the context of a call.
func (p *Pool) Interrupt(c executor.Call, cause error) {
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
func (p *Pool) Finished(c executor.Call, o executor.Outcome) { c.Assigned().(*call).Finished(c, o) }

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

// cancelled cancels e, since its record says so.
func (e *call) cancelled(r *record) {
	var cause error
	if len(r.items) > 0 {
		cause = executor.DecodeError(r.items)
	} else if e.pool.isClosed() {
		cause = executor.ErrShutdown
	} else if e.Context().Err() != nil { // this program has asked for it, and was not answered in time
		cause = context.Cause(e.Context())
	}
	if !e.Cancel(cause) { // it has started, which its record rules out
		e.fail(promise.CancelledError(cause))
	}
}

// fail ends e, every item that has not ended, with err.
func (e *call) fail(err error) {
	for i := range e.Len() {
		e.Fail(i, err)
	}
}

// giveUp ends a call that nobody can be believed to end.
func (p *Pool) giveUp(e *call, why error) { p.endWith(e, p.lostError(e, why)) }

// endWith ends a call with err. If the servers can be reached, it is made its last record
// first, so that nobody starts it or brings a result any more; if it is done or cancelled by
// then, it ends as it has.
func (p *Pool) endWith(e *call, err error) {
	for range claimTries {
		p.mu.Lock()
		seq, over, sent, task := e.seq, e.over, e.sent, e.taskSeq
		cancelled := e.withdrawn
		if !sent {
			e.withdrawn = true
		}
		p.mu.Unlock()
		if over {
			return
		}
		if cancelled {
			e.cancelled(&record{kind: recCancelled})
			return
		}
		if !sent || !p.nc.IsConnected() {
			break
		}
		r := record{kind: recDone, items: encodedFailure(err)}
		a := p.pub.store(p.recordMsg(e.id, &r, seq, p.cfg.KeepResults), apiPatience)
		if a.err == nil && task != 0 {
			p.deleteTask(task) // else it would run when its record is not kept any more
		}
		if !errors.Is(a.err, errSequence) {
			break
		}
		last, found, lerr := p.lastRecord(p.base, e.id)
		if lerr != nil || !found {
			break
		}
		p.carryOut(e, &last)
	}
	e.fail(err)
}

func (p *Pool) lostError(e *call, why error) *executor.WorkerLostError {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.worker != "" {
		why = fmt.Errorf("worker %s: %w", e.worker, why)
	}
	return &executor.WorkerLostError{PID: e.pid, Task: e.Task(), ExitCode: -1, Cause: why}
}

// encodedFailure returns the outcomes of a call all of whose items ended with err, which is
// in there once: a chunk has thousands, and the text of a lost worker pages.
func encodedFailure(err error) []byte {
	return appendItem(nil, outRest, 0, executor.EncodeError(err))
}

// runs reports whether e was taken up by a worker.
func (p *Pool) runs(e *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !e.started.IsZero()
}

// cancelAll cancels calls that have not started, all at the same time, for the cause
// ErrShutdown. Those of which the servers do not say in time that they will not start are
// left.
func (p *Pool) cancelAll(calls []*call) {
	var asked sync.WaitGroup
	var asking []*call
	over := false // nobody waits any more; guarded by mu
	for _, e := range calls {
		p.mu.Lock()
		if !e.sent {
			e.withdrawn = true
		}
		ask := !e.over && !e.withdrawn && e.started.IsZero()
		if ask {
			e.asking++
		}
		p.mu.Unlock()
		if ask {
			asking = append(asking, e)
			asked.Add(1)
			p.pub.begin(&publication{msg: p.cancelMsg(e), done: func(a ack) {
				defer asked.Done()
				p.mu.Lock()
				certain, late := p.certain(e), over
				p.mu.Unlock()
				if a.err != nil || !certain { // carryOut will say what it is worth
					return
				}
				p.withdrawn(e)
				if late {
					go e.Cancel(executor.ErrShutdown) // an observer may hear of it
				}
			}})
		}
	}
	answered := make(chan struct{})
	go func() {
		asked.Wait() // for as long as the pool's connection, if nobody answers
		close(answered)
	}()
	timer := time.NewTimer(apiPatience)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	}
	finish := func(calls []*call) {
		for _, e := range calls {
			p.mu.Lock()
			withdrawn := e.withdrawn
			p.mu.Unlock()
			if withdrawn {
				e.Cancel(executor.ErrShutdown)
			}
		}
	}
	finish(calls)
	p.mu.Lock()
	over = true
	for _, e := range asking {
		e.asking--
	}
	p.mu.Unlock()
	finish(asking) // those whose record has come since, while carryOut left them to this
}

// Look is asked whether a pending call has started: the record that says so may be on its
// way.
func (p *Pool) Look(c executor.Call) {
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

func (p *Pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// endAll is endWith for many calls, all at the same time: those that the servers do not
// answer for in time end as well.
func (p *Pool) endAll(calls []*call, with func(*call) error) {
	var asked, ends sync.WaitGroup
	connected := p.nc.IsConnected()
	for _, e := range calls {
		p.mu.Lock()
		seq, over, sent, task, cancelled := e.seq, e.over, e.sent, e.taskSeq, e.withdrawn
		p.mu.Unlock()
		if over || !sent || cancelled || !connected {
			continue
		}
		r := record{kind: recDone, items: encodedFailure(with(e))}
		asked.Add(1)
		p.pub.begin(&publication{
			msg: p.recordMsg(e.id, &r, seq, p.cfg.KeepResults), until: time.Now().Add(apiPatience),
			done: func(a ack) {
				defer asked.Done()
				switch {
				case errors.Is(a.err, errSequence):
					ends.Go(func() { p.endWith(e, with(e)) })
				case a.err == nil && task != 0:
					p.deleteTask(task)
				}
			},
		})
	}
	asked.Wait() // there is a limit
	ends.Wait()  // the servers answer
	for _, e := range calls {
		p.mu.Lock()
		over, cancelled := e.over, e.withdrawn
		if !e.sent {
			e.withdrawn = true
		}
		p.mu.Unlock()
		switch {
		case over:
		case cancelled:
			e.cancelled(&record{kind: recCancelled})
		default:
			e.fail(with(e))
		}
	}
}
