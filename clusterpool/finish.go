package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// handBack gives the call back for another worker to begin, as if this one had not.
func (a *attempt) handBack() {
	a.mu.Lock()
	r := a.rec
	a.mu.Unlock()
	r.free, r.token = true, a.token()
	k := a.pub.store(a.recordMsg(a.id, &r, a.rec.seq, 0), drainPatience)
	if k.err == nil {
		a.answer(a.reply, "-NAK") // otherwise its lease runs out
	}
	a.drop(a)
}

// failAll ends the call with err.
func (a *attempt) failAll(err error) { a.finish(encodedFailure(err)) }

// finish makes items the call's outcome, if its record is still this attempt's, and does not
// wait for that.
func (a *attempt) finish(items []byte) {
	a.mu.Lock()
	r := a.rec
	a.mu.Unlock()
	after := r.seq
	r.kind, r.items, r.seq, r.why = recDone, items, 0, nil
	if r.token == 0 || r.worker != a.cfg.Worker { // it was not claimed
		r.token, r.worker, r.pid = a.token(), "", 0
	}
	if len(items) > a.inline() {
		key := a.id + "." + strconv.FormatUint(r.token, 36)
		if err := a.putBlob(key, items); err != nil {
			err = fmt.Errorf("clusterpool: task %q: a result of %d bytes, which is over the servers' limit for a message, could not be put into the object store: %w", a.head.task, len(items), err)
			r.items = encodedFailure(err)
		} else {
			r.blob, r.items = true, []byte(key)
		}
	}
	a.conclude(&r, after, 0)
}

// conclude makes r the record of the call, if that is the one with the number after.
func (a *attempt) conclude(r *record, after uint64, tries int) {
	a.pub.publish(a.recordMsg(a.id, r, after, a.head.keep), false, func(k ack) {
		switch {
		case k.err == nil:
			a.ended()
		case errors.Is(k.err, errSequence):
			go a.refused(r, after, tries) // ends with a request
		case errors.Is(k.err, errClosed):
		default:
			a.log.Error("clusterpool: an outcome could not be stored", "call", a.id, "err", k.err)
			a.drop(a)
		}
	})
}

const (
	concludeTries = 20
	concludePause = 50 * time.Millisecond
)

// ended acks the task: the outcome is the call's record, and kept. If the ack gets lost, the
// task is delivered again, to a worker who finds that.
func (a *attempt) ended() {
	a.answer(a.reply, "+ACK")
	a.drop(a)
	if a.head.blob {
		go a.deleteBlob(a.id) // ends with a request
	}
}

// refused looks why the outcome own was refused. A worker that finds the call in another's
// hands must not ack its task: that would take it from him. If it finds its own claim, a new
// leader had not yet come as far when it was asked.
func (a *attempt) refused(own *record, after uint64, tries int) {
	r, found, err := a.lastRecord(context.Background(), a.id)
	if err == nil && found && r.kind == recRunning && r.seq == after && tries < concludeTries {
		timer := time.NewTimer(concludePause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-a.quit:
		}
		a.conclude(own, after, tries+1)
		return
	}
	defer a.drop(a)
	if err != nil || !found || r.kind == recRunning {
		return
	}
	if r.token != own.token {
		a.log.Info("clusterpool: an outcome came too late", "call", a.id, "worker", a.cfg.Worker)
	}
	a.answer(a.reply, "+ACK")
}
