package clusterpool

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"example.com/futures/executor"
)

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
		if lerr != nil {
			break
		}
		if !found { // it has gone
			p.mu.Lock()
			e.seq = 0
			p.mu.Unlock()
			continue
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
