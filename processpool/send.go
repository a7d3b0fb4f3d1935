package processpool

import (
	"fmt"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// A job is a part of a call in the hands of a worker.
type job struct {
	part
	worker *process
	end    int // items from up to end are the worker's
	seq    uint64
	ended  error // why its context has ended, if it has; the pool's lock guards it

	// The worker's lock guards these.
	first       int         // the first item that was sent; valid once offered
	offered     bool        // the worker has been told, or will be any moment
	sent        bool        // all items were sent
	next        int         // the first item that has not ended; part.absent is guarded, too
	interrupted bool        // its context has ended
	cause       error       // why
	reason      error       // why its worker was killed, if it was
	kill        *time.Timer // kills the worker when the grace is over
	limit       *time.Timer // kills the worker when an item is over its time, and the grace too
}

// rest returns what of the call was never meant for this worker.
func (j *job) rest() part {
	return part{call: j.call, from: j.end, to: j.to, started: true, absent: j.absent}
}

// send encodes the items of j and sends them. It reports false if nothing was sent
// that an answer will come to.
//
// The first argument is encoded while the call can still be cancelled. Nothing is sent
// of a call that has one item, and that fails.
func (w *process) send(j *job) bool {
	c := j.call
	exited := w.item >= j.from // the encoder of an item ended the goroutine
	if !exited {
		w.item++
	}
	for ; w.item < j.end && !w.dead(); w.item++ {
		i := w.item
		if w.skips(j, i) {
			continue
		}
		var payload []byte
		var flags uint8
		err := w.knows(c)
		switch {
		case exited:
			err, exited = remote.EncodeError(c, remote.ErrGoexit), false
		case err == nil:
			payload, flags, err = w.enc.Message(func(e *wire.Encoder) error { return c.Encode(i, e) })
			if err != nil {
				err = remote.EncodeError(c, err)
			}
		}
		switch {
		case !j.started && !w.pool.startJob(w, j): // cancelled
			w.enc.Drop()
			w.forgetJob(j)
			j.end = j.to
			return false
		case err != nil:
			w.unsent(j, i, err)
		case !w.offer(j, i):
			w.enc.Drop()
			return w.refuse(j, i)
		default:
			_ = w.proc.Add(wire.Header{Kind: wire.KindArg, Seq: j.seq, Item: uint32(i), Flags: flags}, payload)
		}
	}
	return w.sealed(j)
}

// dead reports whether the process has ended.
func (w *process) dead() bool {
	select {
	case <-w.gone:
		return true
	default:
		return false
	}
}

// knows returns nil if the worker may be sent calls of c's task. One that this
// program made after the worker started may be missing there: the worker says so.
func (w *process) knows(c executor.Call) error {
	theirs, ok := w.theirs[c.Task()]
	if !ok {
		return nil
	}
	if fn, ok := executor.Lookup(c.Task()); ok && fn.Signature() != theirs {
		return fmt.Errorf("processpool: task %q is %s here and %s in the worker's program", c.Task(), fn.Signature(), theirs)
	}
	return nil
}

// unsent ends an item that cannot be sent.
func (w *process) unsent(j *job, i int, err error) {
	w.mu.Lock()
	if j.absent == nil {
		j.absent = map[int]bool{}
	}
	j.absent[i] = true
	w.mu.Unlock()
	w.skips(j, i)
	w.pool.expectLast(w, j, i)
	j.call.Fail(i, err)
}

// skips reports whether item i has ended without being sent. The worker waits for as
// many arguments as it was told, so it is told of that one, too.
func (w *process) skips(j *job, i int) bool {
	w.mu.Lock()
	absent, offered := j.absent[i], j.offered
	w.mu.Unlock()
	if absent && offered {
		_ = w.proc.Add(wire.Header{Kind: wire.KindArg, Seq: j.seq, Item: uint32(i), Flags: wire.FlagAbsent}, nil)
	}
	return absent
}

// offer tells the worker of the call, unless it was told, and reports false if the
// call was interrupted before.
func (w *process) offer(j *job, first int) bool {
	w.mu.Lock()
	if j.offered || j.interrupted {
		offered := j.offered
		w.mu.Unlock()
		return offered
	}
	w.seq++
	j.seq, j.offered, j.first = w.seq, true, first
	w.mu.Unlock()
	head := remote.Head(j.call, w.theirs)
	w.proc.Page.Offer(j.seq)
	_ = w.proc.Add(wire.Header{Kind: wire.KindCall, Seq: j.seq, Item: uint32(j.end - first)}, head.Append(nil))
	return true
}

// refuse ends the items from i on of a call that was interrupted before it was sent.
func (w *process) refuse(j *job, i int) bool {
	w.mu.Lock()
	cause := j.cause
	w.mu.Unlock()
	w.forgetJob(j)
	j.end = j.to
	for ; i < j.to; i++ {
		if !j.absent[i] {
			w.pool.expectLast(w, j, i)
			j.call.Fail(i, cancelled(cause))
		}
	}
	return false
}

// sealed is called when all items were dealt with. It reports whether the reader is
// still to do something for the call.
func (w *process) sealed(j *job) bool {
	_ = w.proc.Flush() // if it fails, the process has ended, which the reader sees
	w.mu.Lock()
	defer w.mu.Unlock()
	j.sent = true
	if !j.offered {
		w.cur = nil
		return w.item < j.end // not sent, since the process has ended
	}
	w.skipAbsent(j)
	if j.next == j.end && w.cur == j {
		w.done(j)
		return false
	}
	w.watchLimit(j)
	return true
}

// skipAbsent moves next behind items that ended without being sent. mu is held.
func (w *process) skipAbsent(j *job) {
	for j.absent[j.next] {
		j.next++
	}
}

// done ends the worker's concern with j. mu is held.
func (w *process) done(j *job) {
	w.cur = nil
	j.stopTimers()
}

func (w *process) forgetJob(j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done(j)
}

// stopTimers is called with the worker's lock held.
func (j *job) stopTimers() {
	for _, t := range []*time.Timer{j.kill, j.limit} {
		if t != nil {
			t.Stop()
		}
	}
}

// watchLimit starts the time of the item that is next. The worker ends an item that
// is over its time by itself; this is for one that goes on. mu is held.
func (w *process) watchLimit(j *job) {
	limit := j.call.Timeout()
	if limit <= 0 {
		return
	}
	if j.limit != nil {
		j.limit.Stop()
	}
	w.armLimit(j, j.next, time.Now())
}

// armLimit has overLimit called when an item that began now would be over its time.
// mu is held.
func (w *process) armLimit(j *job, next int, since time.Time) {
	limit := j.call.Timeout()
	j.limit = time.AfterFunc(remote.Patience(limit, w.pool.cfg.Worker.KillGrace), func() { w.overLimit(j, next, since) })
}

// overLimit kills the process if it still is at item next of j. The time of an item
// that it has not taken up has not begun; but a process that never does is frozen.
func (w *process) overLimit(j *job, next int, since time.Time) {
	w.mu.Lock()
	waits := w.cur == j && j.next == next && w.proc.Page.Begun(j.seq) <= next-j.first
	if waits && time.Since(since) < w.pool.cfg.Worker.StartTimeout {
		w.armLimit(j, next, since)
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	w.killFor(j, next, executor.ErrTimeout)
}

// killFor kills the process if it still is at item next of j.
func (w *process) killFor(j *job, next int, reason error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cur != j || next >= 0 && j.next != next {
		return
	}
	if j.reason == nil {
		j.reason = reason
	}
	w.proc.Kill()
}

// interrupt ends the context of j's call in the worker, and kills the worker if the
// call goes on for longer than the grace.
func (w *process) interrupt(j *job, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cur != j || j.interrupted {
		return
	}
	j.interrupted, j.cause = true, cause
	if !j.offered {
		return // and will not be
	}
	grace := w.pool.cfg.Worker.KillGrace
	if grace > 0 {
		w.tell(w.proc, j.seq, remote.ByDeadline(j.call.Context()), cause)
	}
	j.kill = time.AfterFunc(grace, func() { w.killFor(j, -1, cause) })
}
