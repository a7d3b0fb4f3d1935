package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"example.com/futures/executor"
)

// token returns a number that no other attempt has.
func (s *server) token() uint64 {
	const salt = 0x9e3779b97f4a7c15
	if s.tokens.Load() == 0 {
		n, _ := strconv.ParseUint(randomName(10), 36, 64)
		s.tokens.CompareAndSwap(0, n|1)
	}
	return s.tokens.Add(salt)
}

// claim makes the record of the call say that this worker runs it. If that is false, the
// attempt is over.
func (a *attempt) claim() bool {
	began, doubt := time.Now(), a.late()
	if doubt {
		if there, err := a.queued(); !there {
			a.notRun(err)
			return false
		}
		if a.back.Load() {
			a.later(0)
			return false
		}
	}
	r := record{kind: recRunning, token: a.token(), worker: a.cfg.Worker, pid: os.Getpid()}
	// A call without retries that was delivered before, so long ago that its outcome may be
	// gone by now: if it has no record, it cannot be known whether it has started (pitfall 4).
	old := a.delivery.times > 1 && time.Since(a.delivery.stored) > a.head.keep && a.head.retries == 0
	after := uint64(0)
	for range claimTries {
		k := ack{err: errSequence}
		if !old {
			k = a.pub.store(a.recordMsg(a.id, &r, after, 0), a.cfg.Lease)
		}
		if k.err == nil {
			r.seq = k.seq
			a.rec = r
			return a.current(doubt || k.again || time.Since(began) > a.cfg.Lease/10)
		}
		if !errors.Is(k.err, errSequence) {
			break
		}
		last, found, err := a.lastRecord(context.Background(), a.id)
		switch {
		case err != nil:
			a.later(a.cfg.Lease / 2)
			return false
		case !found && old:
			a.failAll(&executor.WorkerLostError{Task: a.head.task, ExitCode: -1, Cause: errors.New("its worker was lost so long ago that its outcome would not be kept any more")})
			return false
		case !found: // it has gone since
			after, doubt = 0, true
			continue
		case last.kind != recRunning:
			a.answer(a.reply, "+ACK")
			a.drop(a)
			return false
		case last.token == r.token: // the answer was lost, not the claim
			a.rec = last
			return a.current(true)
		case !a.succeed(&r, &last):
			return false
		}
		after, old = last.seq, false
	}
	a.later(a.cfg.Lease / 2) // nobody answers, or others are quicker
	return false
}

const claimTries = 5

// current reports whether a call that this attempt has claimed is still there to be run. If
// it is not, the claim is taken back, and the attempt is over. That is asked if there is doubt,
// which there is none of as a rule.
//
// A call without a record has not been started, ended or cancelled by anybody, unless its record
// is not there any more: the servers have lost their memory since the delivery, and the claim
// has come to those that they are now; or this worker stood still, until the record of a call
// that others have run was let go of. In both cases the task is gone, too.
func (a *attempt) current(doubt bool) bool {
	if !doubt && !a.late() {
		return true
	}
	there, err := a.queued()
	if there {
		return true
	}
	r := a.rec
	r.free, r.token = true, a.token()
	keep := a.head.keep
	if err == nil { // it is of interest to others that have the call in hand, as late
		keep = min(keep, keepLeases*a.cfg.Lease)
	}
	a.pub.publish(a.recordMsg(a.id, &r, a.rec.seq, keep), false, func(k ack) {
		if k.err == nil {
			a.notRun(err)
		} else {
			a.drop(a)
		}
	})
	return false
}

// notRun gives the call up: its task is gone, or why that could not be found out.
func (a *attempt) notRun(why error) {
	a.log.Info("clusterpool: a call that came late is not run", "call", a.id, "worker", a.cfg.Worker, "err", why)
	if why != nil {
		a.later(a.cfg.Lease / 2)
		return
	}
	a.drop(a)
}

// queued reports whether the task of the attempt is still in the queue, in its place. It asks
// for as long as a lease.
func (a *attempt) queued() (bool, error) {
	end := time.Now().Add(a.cfg.Lease)
	for {
		m, found, err := a.message(context.Background(), a.tasks(), map[string]any{"seq": a.delivery.seq})
		if isStreamGone(err) {
			return false, nil
		}
		if err == nil || time.Now().After(end) || a.back.Load() {
			return found && m.subject == a.subject, err
		}
		select {
		case <-time.After(min(a.cfg.Lease/10, 500*time.Millisecond)):
		case <-a.quit:
			return false, err
		}
	}
}

// succeed makes r, a claim, the successor of last, that of another attempt which is given
// up. If that is false, the attempt is over: the call must not run again, or it is too early.
func (a *attempt) succeed(r, last *record) bool {
	r.takeovers, r.losses, r.lost, r.retried = last.takeovers, last.losses, last.lost, last.retried
	if last.free {
		r.why = last.why
		return true
	}
	if a.delivery.times == 1 { // a task that was queued again, whose other message somebody may have
		a.later(a.cfg.Lease)
		return false
	}
	if a.held(last.worker) {
		a.later(a.cfg.Lease / 2)
		return false
	}
	lost := &executor.WorkerLostError{
		PID: last.pid, Task: a.head.task, ExitCode: -1,
		Cause: fmt.Errorf("worker %s: nothing was heard of it for longer than its lease", last.worker),
	}
	r.takeovers++
	r.retried += a.head.items
	r.why = executor.EncodeError(lost)
	for i := range a.head.items {
		if r.runs(i) <= a.head.retries {
			return true
		}
	}
	a.rec = *last
	a.failAll(lost)
	return false
}

// held reports whether worker, which the record names, says that it has the call in hand.
// The servers believe that its time is up also where they were away themselves for longer
// than a lease, and nobody could be heard.
func (a *attempt) held(worker string) bool {
	if worker == a.cfg.Worker {
		return a.has(a.id, a)
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(a.cfg.Lease/4, 500*time.Millisecond))
	defer cancel()
	answer, err := a.nc.RequestWithContext(ctx, a.asked(worker), []byte(a.id)) // fails at once if it has gone
	return err == nil && string(answer.Data) == "+"
}
