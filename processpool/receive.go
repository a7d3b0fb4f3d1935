package processpool

import (
	"fmt"

	"example.com/futures/executor"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// read is the reader: it completes calls with what comes back, until the process has
// ended. A decoder that ends its goroutine ends this one: another goes on.
func (w *process) read() {
	returned := false
	defer func() {
		if !returned {
			go w.read()
		}
	}()
	if j := w.reading; j != nil {
		j.call.Fail(w.readingItem, remote.DecodeError(j.call, remote.ErrGoexit))
		w.ended(j)
	}
	for {
		f, err := w.proc.In.Next()
		if err == nil {
			err = w.receive(f)
		}
		if err != nil {
			w.hangUp(err)
			break
		}
	}
	returned = true
}

// hangUp ends a process that has ended, or that is not to be listened to any more.
func (w *process) hangUp(err error) {
	w.mu.Lock()
	w.wrong = remote.Wrong(err)
	w.mu.Unlock()
	w.proc.Kill() // it may have closed its socket only
	<-w.proc.Ended()
	close(w.gone)
}

// receive completes an item.
func (w *process) receive(f wire.Frame) error {
	w.mu.Lock()
	j := w.cur
	if j != nil && j.offered {
		w.skipAbsent(j)
	}
	if j == nil || !j.offered || j.seq != f.Seq || j.next != int(f.Item) || j.next >= j.end {
		w.mu.Unlock()
		return fmt.Errorf("an answer to item %d of call %d, which nobody waits for", f.Item, f.Seq)
	}
	i, cause := j.next, j.cause
	w.mu.Unlock()
	w.pool.expectLast(w, j, i)
	w.reading, w.readingItem = j, i
	var err error
	switch f.Kind {
	case wire.KindResult:
		err = w.dec.Message(f, func(v *wire.Value) error {
			_ = j.call.Complete(i, v) // what fails is the item's error
			return nil
		})
	case wire.KindError:
		j.call.Fail(i, executor.DecodeError(f.Payload))
	case wire.KindSkipped:
		if cause == nil {
			return fmt.Errorf("item %d of call %d was skipped without being interrupted", f.Item, f.Seq)
		}
		j.call.Fail(i, cancelled(cause))
	default:
		err = fmt.Errorf("a frame of kind %d", f.Kind)
	}
	if err != nil {
		w.reading = nil
		return err
	}
	w.ended(j)
	return nil
}

// ended moves on to the next item, and says when it was the last.
func (w *process) ended(j *job) {
	w.reading = nil
	w.mu.Lock()
	defer w.mu.Unlock()
	j.next++
	w.skipAbsent(j)
	switch {
	case !j.sent:
	case j.next == j.end:
		w.done(j)
		w.free <- struct{}{}
	default:
		w.watchLimit(j)
	}
}
