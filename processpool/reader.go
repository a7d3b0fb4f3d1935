package processpool

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"time"

	"example.com/futures/internal/remote"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// read is the reader: it is woken by frames of the worker, until the process has ended. A
// decoder that ends its goroutine ends this one: another goes on.
func (w *process) read() {
	returned := false
	defer func() {
		if !returned {
			go w.read()
		}
	}()
	w.attendTo(false)
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

// mostFrames is how many answers may be on the socket ahead of their records: a worker writes
// the one right before the other.
const mostFrames = 4

// receive deals with a frame.
func (w *process) receive(f wire.Frame) error {
	f.Payload = bytes.Clone(f.Payload)
	switch {
	case f.Kind == wire.KindBell && !w.socket:
	case w.socket:
		r := ring.Record{Kind: uint8(f.Kind), Flags: f.Flags, Tag: uint16(f.Seq), Payload: f.Payload}
		w.attending.Lock()
		w.in.records = append(w.in.records, record{r, int(f.Item), f.Along})
		w.attending.Unlock()
	case f.Kind == wire.KindResult || f.Kind == wire.KindError:
		w.attending.Lock()
		w.in.frames = append(w.in.frames, f)
		many := len(w.in.frames) > mostFrames
		w.attending.Unlock()
		if many {
			return errors.New("answers on the socket that nobody waits for")
		}
	default:
		f.Along.Close()
		return fmt.Errorf("a frame of kind %d", f.Kind)
	}
	w.attendTo(true)
	return nil
}

// attendTo attends to w until there are no answers, and with patience a little longer. It
// is for goroutines that may run code of the program's.
func (w *process) attendTo(patience bool) {
	w.attending.Lock()
	defer w.attending.Unlock()
	if w.socket {
		w.attend(true)
		return
	}
	r := w.proc.Ring
	r.Listen(false)
	one := [1]*process{w}
	for last := time.Now(); patience && w.pool.spins(); {
		if w.attend(true) {
			w.pool.gather(one[:])
			last = time.Now()
		} else if time.Since(last) > w.pool.spin {
			break
		}
		if w.in.slow {
			break // what comes next is on the socket, or never will be
		}
		if w.wanted.Swap(false) {
			break // somebody waits for an answer, and attends himself
		}
		runtime.Gosched()
	}
	r.Listen(true)
	w.attend(true)
}

// attendElse has another goroutine attend to w, and then call then. If w is about to go,
// who ends it does that.
func (w *process) attendElse(then func()) {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	if w.closing {
		go then()
		return
	}
	w.side.Go(func() {
		returned := false
		defer func() {
			if !returned {
				w.attendElse(then)
			}
		}()
		w.attendTo(false)
		returned = true
		then()
	})
}

// hangUp ends a process that has ended, or that is not to be listened to any more.
func (w *process) hangUp(err error) {
	w.mu.Lock()
	if w.wrong == nil {
		w.wrong = remote.Wrong(err)
	}
	w.mu.Unlock()
	w.proc.Kill() // it may have closed its socket only
	<-w.proc.Ended()
	w.attendTo(false) // what it had answered
	close(w.gone)
}
