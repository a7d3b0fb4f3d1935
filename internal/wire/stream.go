package wire

import (
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"unsafe"

	"example.com/futures/internal/carry"
)

// A gob stream describes each type once, so a stream that lasts costs a fraction of
// one for each value. But both sides must stay in step, and that is what this file
// is about:
//
//   - The descriptions of a closed type (one that holds no interfaces) precede its
//     first value. They are understood before the value is looked at, so a value
//     that is skipped, or fails to decode, or panics half-way, takes nothing along.
//   - Behind an interface any type can hide. Such values are encoded alone, each by an
//     encoder of its own, and what they hold is described before them: see encodeOpen.
//   - An Encode that fails may have described types to nobody. The stream ends then,
//     and the next value starts a new one.
//   - gob keeps a buffer as large as the largest value. A stream ends after a large
//     one, and both sides let go.
//   - A plain value passes the stream by: see [Plain]. So do large []byte that are parts of
//     a value: see [Encoder.part].

// streamLen is the size of a value after which a stream ends.
const streamLen = 256 << 10

// An Encoder encodes values for the Decoder at the other end. It is not safe for
// concurrent use.
type Encoder struct {
	limit  int64
	stream *gob.Encoder // nil: the next value starts a stream
	buf    []byte       // the value being encoded, its types' descriptions before it
	flags  uint8
	alias  []byte  // instead of buf: a large plain value, as it lies in memory
	beside *beside // what comes after buf
	nonce  uint64  // see stripper; 0: none yet

	whole bool   // each message stands alone: see Whole
	types []byte // the descriptions in the stream, if whole is set

	carries bool        // there is a socket for descriptors
	load    *carry.Load // those of the value, until somebody takes them; nil: none
	list    int         // the length of what buf begins with: which of them are whose
}

// NewEncoder returns an Encoder of values of at most limit bytes.
func NewEncoder(limit int64) *Encoder { return &Encoder{limit: limit} }

// Carries says that descriptors can go along with the messages. Otherwise a value with
// handles cannot be encoded.
func (e *Encoder) Carries() { e.carries = true }

// Message has fn encode one value and returns it with the flags of its frame. The
// payload is valid until the next Message; a large text or []byte in it is the value's
// own. With FlagCarry, the caller takes what is to go along by Load. If fn fails, panics or
// ends its goroutine, nothing has happened to the stream but that it starts anew.
func (e *Encoder) Message(fn func(*Encoder) error) (payload Payload, flags uint8, err error) {
	if cap(e.buf) > streamLen {
		e.buf = nil
	}
	e.buf, e.flags, e.list = e.buf[:0], 0, 0
	e.Load().Close() // nobody has taken it
	done := false
	defer func() {
		if !done {
			e.Drop()
			e.Load().Close()
		}
		e.alias, e.beside = nil, nil // nothing of the value is kept
	}()
	if err := fn(e); err != nil {
		return Payload{}, 0, err
	}
	done = true
	if e.alias != nil {
		return Payload{head: e.alias}, e.flags, nil
	}
	if len(e.buf) > streamLen && e.flags&(FlagAlone|FlagPlain) == 0 {
		e.flags |= FlagEnd
		e.stream = nil
	}
	if e.beside != nil {
		binary.LittleEndian.PutUint64(e.buf[e.list:], uint64(len(e.buf)-e.list))
	}
	return Payload{e.buf, e.beside}, e.flags, nil
}

// Load returns the descriptors that go along with the last message, nil if there are none.
// They are the caller's, once.
func (e *Encoder) Load() *carry.Load {
	l := e.load
	e.load = nil
	return l
}

// Drop says that the last message will not be sent.
func (e *Encoder) Drop() { e.stream = nil }

// Encode encodes v. It is for the function given to Message.
func (e *Encoder) Encode(v any) error {
	if k, p := plainIn(v); k != 0 {
		return e.EncodePlain(k, p)
	}
	known := factsOf(reflect.TypeOf(v))
	var types []reflect.Type // of what is in interfaces
	if !known.closed {
		var err error
		if types, err = dynamicTypes(reflect.Indirect(reflect.ValueOf(v))); err != nil {
			return err
		}
	}
	if e.carries && (known.holds || slices.ContainsFunc(types, holdsHandles)) {
		l, err := carry.Collect(reflect.ValueOf(v))
		if err != nil {
			return err
		}
		if l != nil {
			defer l.Encoded()
			e.load, e.flags = l, FlagCarry
			e.buf = l.Append(e.buf)
			e.list = len(e.buf)
		}
	}
	if known.layout != nil {
		var err error
		if v, err = e.part(v, known.layout); err != nil {
			return err
		}
	}
	if !known.closed {
		e.flags |= FlagAlone
		return encodeOpen(e, v, types)
	}
	if e.stream == nil {
		e.stream = gob.NewEncoder(e)
		e.types = e.types[:0]
		e.flags |= FlagStart
	}
	if e.whole {
		return e.encodeWhole(v)
	}
	return e.stream.Encode(v)
}

func holdsHandles(t reflect.Type) bool { return factsOf(t).holds }

// EncodePlain encodes the value at p, of a type whose Plain is k, as Encode does that
// of a [Box].
func (e *Encoder) EncodePlain(k Plain, p unsafe.Pointer) error {
	if err := e.fits(k.Len(p)); err != nil {
		return err
	}
	e.flags = FlagPlain
	if e.alias = k.alias(p); e.alias == nil {
		e.buf = AppendPlain(e.buf, k, p)
	}
	return nil
}

// Write is for gob.
func (e *Encoder) Write(b []byte) (int, error) {
	if err := e.fits(len(b)); err != nil {
		return 0, err
	}
	e.buf = append(e.buf, b...)
	return len(b), nil
}

// fits returns nil if there may be n bytes more.
func (e *Encoder) fits(n int) error {
	n += len(e.buf)
	if e.beside != nil {
		n += e.beside.size
	}
	if int64(n) > e.limit {
		return fmt.Errorf("%d bytes are over the limit of %d for one value", n, e.limit)
	}
	return nil
}

// errNoStream reports a frame that goes on with a stream that never started.
var errNoStream = errors.New("wire: a value of a stream that has not started")

// A Decoder decodes what an Encoder encoded. It is not safe for concurrent use.
type Decoder struct {
	stream *gob.Decoder
	src    source     // of stream
	types  *inspector // of stream
	value  Value      // the one that fn has
	steady []byte     // a copy of what somebody else may write to
}

// Message has fn decode the value of f, once at most, and returns what fn does. If f
// holds anything but a value, fn is not called, and the stream is at its end.
func (d *Decoder) Message(f Frame, fn func(*Value) error) error { return d.message(f, false, fn) }

// Shared is Message for a payload that somebody else may write to meanwhile. What gob
// reads is checked first, so that is copied. The rest is copied once anyway.
func (d *Decoder) Shared(f Frame, fn func(*Value) error) error { return d.message(f, true, fn) }

func (d *Decoder) message(f Frame, shared bool, fn func(*Value) error) error {
	if f.Flags&FlagCarry == 0 && f.Along == nil {
		return d.decode(f, nil, shared, fn)
	}
	if f.Flags&FlagCarry == 0 {
		f.Along.Close()
		d.stream = nil
		return errStrayFiles
	}
	load, rest, err := carry.Unpack(f.Payload, f.Along)
	f.Flags, f.Payload = f.Flags&^FlagCarry, rest
	switch {
	case errors.Is(err, carry.ErrLost): // the stream goes on
		return d.decode(f, nil, shared, func(*Value) error { return err })
	case err != nil:
		d.stream = nil
		return err
	}
	defer load.Close() // what fn has left of it
	return d.decode(f, load, shared, fn)
}

// decode is message for a value whose descriptors were taken from its frame.
func (d *Decoder) decode(f Frame, load *carry.Load, shared bool, fn func(*Value) error) error {
	v := &d.value
	if f.Flags&FlagPlain != 0 {
		if f.Flags != FlagPlain {
			d.stream = nil
			return errFlags
		}
		if load != nil {
			return errStrayFiles
		}
		defer func() { *v = Value{} }()
		v.Reset(f.Payload)
		return fn(v)
	}
	var rest []byte
	if f.Flags&FlagParts != 0 {
		var err error
		if f.Payload, rest, err = cutHead(f.Payload); err != nil {
			d.stream = nil
			return err
		}
	}
	if shared {
		if d.steady = append(d.steady[:0], f.Payload...); cap(d.steady) > smallLen {
			defer func() { d.steady = nil }()
		}
		f.Payload = d.steady
	}
	if f.Flags&FlagParts != 0 {
		var err error
		if v.filler, f.Payload, err = newFiller(f.Payload, rest); err != nil {
			d.stream = nil
			return err
		}
	}
	alone := f.Flags&FlagAlone != 0
	switch {
	case alone:
		v.dec, v.types = gob.NewDecoder(&source{f.Payload}), new(inspector)
	case f.Flags&FlagStart != 0:
		d.stream, d.types = gob.NewDecoder(&d.src), new(inspector)
		fallthrough
	default:
		if d.stream == nil {
			d.value = Value{}
			return errNoStream
		}
		v.dec, v.types = d.stream, d.types
		d.src.rest = f.Payload
	}
	if err := v.types.payload(f.Payload, alone); err != nil {
		d.stream, d.src.rest, d.value = nil, nil, Value{}
		return err
	}
	defer func() { // also if fn ends its goroutine
		if !v.used && v.dec == d.stream {
			_ = v.dec.DecodeValue(reflect.Value{}) // for the descriptions before the value
		}
		d.src.rest, d.value = nil, Value{}
		if f.Flags&FlagEnd != 0 {
			d.stream = nil
		}
	}()
	v.load = load
	return fn(v)
}

// Skip passes over the value of f.
func (d *Decoder) Skip(f Frame) { _ = d.Message(f, func(*Value) error { return nil }) }

// A Value is one value that waits to be decoded.
type Value struct {
	dec   *gob.Decoder // nil: it is plain
	types *inspector
	used  bool
	plain []byte

	filler *filler // nil: the value has no parts

	load    *carry.Load    // what came along, until Decode; nil: nothing
	handles []carry.Handle // those that were decoded
}

// Handles returns the handles in what was decoded. They are valid beyond the Value.
func (m *Value) Handles() []carry.Handle { return m.handles }

// Drop closes the handles in what was decoded, which nobody wants.
func (m *Value) Drop() {
	carry.CloseHandles(m.handles)
	m.handles = nil
}

// Reset makes m the plain value in b.
func (m *Value) Reset(b []byte) {
	if m.dec != nil {
		*m = Value{}
	}
	m.plain = b
}

// DecodePlain decodes the value to p, of a type whose Plain is k, as Decode does into a
// [Box].
func (m *Value) DecodePlain(k Plain, p unsafe.Pointer) error {
	if m.dec != nil {
		return errAsGob
	}
	return DecodePlain(m.plain, k, p)
}

// Decode decodes the value into v, a pointer to a struct. If it fails, the handles that it
// has come to are closed.
func (m *Value) Decode(v any) error {
	if m.load != nil {
		return m.decodeLoad(v)
	}
	return m.decode(v)
}

// decodeLoad is Decode where descriptors came along.
func (m *Value) decodeLoad(v any) error {
	load := m.load
	m.load = nil
	done := false
	defer func() { // also if a decoder panics
		load.Settle()
		carry.Found(reflect.ValueOf(v), func(h carry.Handle) { m.handles = append(m.handles, h) })
		if !done {
			m.Drop()
		}
	}()
	load.Arrive()
	err := m.decode(v)
	done = err == nil
	return err
}

func (m *Value) decode(v any) error {
	if k, p := plainIn(v); k != 0 || m.dec == nil {
		return m.DecodePlain(k, p)
	}
	if err := m.types.fits(reflect.TypeOf(v)); err != nil {
		return err
	}
	m.used = true
	if err := m.dec.Decode(v); err != nil || m.filler == nil {
		return err
	}
	if l := factsOf(reflect.TypeOf(v)).layout; l != nil {
		return m.filler.fill(l, reflect.ValueOf(v).UnsafePointer())
	}
	return nil
}

// A source is a payload as gob reads it. It is an io.ByteReader so that gob puts no
// buffer of its own before it.
type source struct{ rest []byte }

func (s *source) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *source) ReadByte() (byte, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b, nil
}

// closedUnder reports whether no value of t, which is inside of those in seen, holds an
// interface that gob looks into.
func closedUnder(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return true
	}
	seen[t] = true
	if t.Kind() != reflect.Interface && EncodesItself(t) {
		return true // its own bytes, which gob does not look into
	}
	switch t.Kind() {
	case reflect.Interface:
		return false
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return closedUnder(t.Elem(), seen)
	case reflect.Map:
		return closedUnder(t.Key(), seen) && closedUnder(t.Elem(), seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.IsExported() && !closedUnder(f.Type, seen) {
				return false
			}
		}
	}
	return true
}
