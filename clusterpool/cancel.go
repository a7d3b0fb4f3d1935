package clusterpool

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/futures/executor"
	"example.com/futures/internal/promise"
)

// Withdraw is asked before a call is cancelled. It makes that the call's last record, unless
// there is one: then the call runs, or is done, and is told so.
func (h host) Withdraw(c executor.Call) bool {
	p := h.p
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
