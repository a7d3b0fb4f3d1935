package wire

import (
	"slices"
	"sync"
)

// A message that any process may read has to describe its types itself. That is most of what
// gob does for a small value, on both sides, although the descriptions are the same each
// time. So a Wholes keeps encoders and decoders that know them:
//
//	message = descriptions, value       a stream of one value, as a new Encoder writes it
//
// An encoder's stream goes on, and the descriptions that it has once written are put before
// each value. A decoder that has read descriptions is kept under their bytes, and is given
// the values that come behind the very same bytes. Each value is inspected as always.

// Wholes encodes and decodes values, mostly of one type, as messages that stand alone. It is
// safe for concurrent use; the zero Wholes is ready.
type Wholes struct {
	encoders sync.Pool // of *Encoder

	mu       sync.Mutex // guards decoders
	decoders []primed   // nobody uses; the one that was used last at the end
}

// A primed is a decoder that has read descriptions.
type primed struct {
	types string
	dec   *Decoder
}

const (
	// mostPrimed is how many decoders are kept: several for one sender, if many decode at
	// once, and one for each of some programs that number their types in another way.
	mostPrimed = 8

	// mostTypes is the length of descriptions that are worth keeping, for their receiver:
	// their sender may be anybody.
	mostTypes = 16 << 10
)

// Encode encodes v, and calls use with the payload and the flags of its frame. The payload is
// valid until use returns. A message has limit bytes at most, the same each time.
func (w *Wholes) Encode(v any, limit int64, use func(Payload, uint8)) error {
	return w.Message(limit, func(e *Encoder) error { return e.Encode(v) }, use)
}

// Message is Encode of what fn encodes, one value. If fn panics or ends its goroutine, the
// encoder goes with it.
func (w *Wholes) Message(limit int64, fn func(*Encoder) error, use func(Payload, uint8)) error {
	e, _ := w.encoders.Get().(*Encoder)
	if e == nil {
		e = NewEncoder(limit)
		e.whole = true
	}
	payload, flags, err := e.Message(fn)
	if err != nil {
		return err
	}
	use(payload, flags)
	if cap(e.buf) <= streamLen {
		w.encoders.Put(e)
	}
	return nil
}

// encodeWhole is Encode of a stream whose values all have the descriptions before them.
func (e *Encoder) encodeWhole(v any) error {
	e.flags |= FlagStart
	e.buf = append(e.buf, e.types...)
	at := len(e.buf)
	if err := e.stream.Encode(v); err != nil {
		return err
	}
	if n := described(e.buf[at:]); n > 0 {
		e.types = append(e.types, e.buf[at:at+n]...)
	}
	return nil
}

// described returns the length of the descriptions that b begins with.
func described(b []byte) int {
	r := reader{b: b}
	for {
		at := r.at
		n := r.length()
		if r.bad || n == 0 {
			return at
		}
		m := reader{b: r.b[r.at : r.at+n]}
		if m.int() >= 0 {
			return at
		}
		r.at += n
	}
}

// Decode decodes the message f into v, a pointer to a struct. Nobody else writes to it.
func (w *Wholes) Decode(f Frame, v any) error {
	return w.Read(f, func(m *Value) error { return m.Decode(v) })
}

// Read has decode decode the message f, once at most, and returns what it does.
func (w *Wholes) Read(f Frame, decode func(*Value) error) error {
	n := 0
	if f.Flags == FlagStart {
		n = described(f.Payload)
	}
	if n == 0 || n > mostTypes {
		return new(Decoder).Message(f, decode)
	}
	p := w.known(f.Payload[:n])
	if p.dec == nil {
		p = primed{string(f.Payload[:n]), new(Decoder)}
	} else {
		f.Flags, f.Payload = 0, f.Payload[n:]
	}
	if err := p.dec.Message(f, decode); err != nil {
		return err // of such a decoder nobody knows what it has taken in
	}
	if len(f.Payload) <= streamLen {
		w.keep(p)
	}
	return nil
}

// known takes out a decoder that has read types, if there is one.
func (w *Wholes) known(types []byte) (p primed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, d := range slices.Backward(w.decoders) {
		if d.types == string(types) {
			w.decoders = slices.Delete(w.decoders, i, i+1)
			return d
		}
	}
	return p
}

// keep puts p back, in place of the one that was not used for longest if there are too many.
func (w *Wholes) keep(p primed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.decoders) == mostPrimed {
		w.decoders = append(w.decoders[:0], w.decoders[1:]...)
	}
	w.decoders = append(w.decoders, p)
}
