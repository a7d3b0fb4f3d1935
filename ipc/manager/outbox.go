package manager

import (
	"io"
	"sync"

	"example.com/futures/internal/wire"
)

// An outbox writes the frames of many goroutines to one connection, in the order in which they
// come. Nobody owns a goroutine for it: whoever finds nobody writing writes, and what comes
// meanwhile goes out together, next. A frame alone goes out at once.
//
// It is safe for concurrent use. After an error it stays with it.
type outbox struct {
	w io.Writer

	// mu guards the fields below. It is not held while anything is written.
	mu   sync.Mutex
	turn sync.Cond // signalled when busy ends
	busy bool      // somebody writes
	wait int       // how many wait for their turn
	buf  []byte    // what has gathered
	idle []byte    // the buffer that was written before
	err  error
}

const (
	// mostGathered is how much gathers before those who add more wait.
	mostGathered = 1 << 20

	// keptBuffer is how large a buffer is kept.
	keptBuffer = 128 << 10
)

func newOutbox(w io.Writer) *outbox {
	o := &outbox{w: w}
	o.turn.L = &o.mu
	return o
}

// A push says when a frame is to go out.
type push int

const (
	now    push = iota // the caller writes it, if nobody else does
	behind             // somebody else writes it: the caller does not wait
	later              // with the next flush
)

// add adds a frame of the payload that w has. It returns when w may be used again.
func (o *outbox) add(h wire.Header, w *writer, when push) error {
	if len(w.cuts) > 0 || len(w.b) > largePart {
		return o.large(h, w)
	}
	return o.frame(h, w.b, when)
}

// frame is add for a payload that is small.
func (o *outbox) frame(h wire.Header, payload []byte, when push) error {
	o.mu.Lock()
	if len(o.buf) > mostGathered && when != behind {
		o.take()
		o.write()
		o.give()
	}
	if o.err != nil {
		defer o.mu.Unlock()
		return o.err
	}
	o.buf = wire.Append(o.buf, h, payload)
	return o.pushed(when)
}

// pushed ends what has added something. mu is held, and let go.
func (o *outbox) pushed(when push) error {
	defer o.mu.Unlock()
	if o.busy || when == later {
		return o.err
	}
	o.busy = true
	if when == behind {
		go o.rest() // ends when nothing is left
		return nil
	}
	o.write()
	if len(o.buf) > 0 && o.err == nil && o.wait == 0 {
		go o.rest() // likewise: the caller may have to look after his answer
		return nil
	}
	o.give()
	return o.err
}

// rest writes until nothing is left, or somebody wants to do it. busy is its own.
func (o *outbox) rest() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.buf) > 0 && o.err == nil && o.wait == 0 {
		o.write()
	}
	o.give()
}

// take waits for busy. mu is held, but not meanwhile.
func (o *outbox) take() {
	for o.busy {
		o.wait++
		o.turn.Wait()
		o.wait--
	}
	o.busy = true
}

// give ends busy. Who waits writes what has gathered, too. mu is held.
func (o *outbox) give() {
	o.busy = false
	if o.wait > 0 {
		o.turn.Signal()
	} else if len(o.buf) > 0 && o.err == nil {
		o.busy = true
		go o.rest()
	}
}

// flush writes what has gathered, if nobody else does.
func (o *outbox) flush() error {
	o.mu.Lock()
	if len(o.buf) == 0 {
		defer o.mu.Unlock()
		return o.err
	}
	return o.pushed(now)
}

// write writes what has gathered. mu is held, but not meanwhile. busy is the caller's.
func (o *outbox) write() {
	if o.err != nil || len(o.buf) == 0 {
		return
	}
	b := o.buf
	o.buf, o.idle = o.idle[:0], nil
	o.mu.Unlock()
	_, err := o.w.Write(b)
	o.mu.Lock()
	if cap(b) <= keptBuffer {
		o.idle = b[:0]
	}
	o.broken(err)
}

// broken notes an error. mu is held.
func (o *outbox) broken(err error) {
	if err != nil && o.err == nil {
		o.err = err
		o.buf = nil
	}
}

// large is add for a payload that is written from where it is.
func (o *outbox) large(h wire.Header, w *writer) error {
	return o.alone(func(before []byte) error {
		head := wire.AppendHeader(before, h, w.len())
		at := 0
		for _, c := range w.cuts {
			head = append(head, w.b[at:c.at]...)
			if _, err := o.w.Write(head); err != nil {
				return err
			}
			if _, err := o.w.Write(c.bytes); err != nil {
				return err
			}
			head, at = head[:0], c.at
		}
		if head = append(head, w.b[at:]...); len(head) == 0 {
			return nil
		}
		_, err := o.w.Write(head)
		return err
	})
}

// alone calls fn when it is the only one that writes. fn writes first what has gathered before.
func (o *outbox) alone(fn func(before []byte) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.take()
	if o.err == nil {
		before := o.buf
		o.buf = nil
		o.mu.Unlock()
		err := fn(before)
		o.mu.Lock()
		o.broken(err)
	}
	o.give()
	return o.err
}
