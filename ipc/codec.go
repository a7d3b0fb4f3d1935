package ipc

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"reflect"
	"runtime/debug"
	"sync"
	"unsafe"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/wire"
)

// A codec knows how values of T travel: numbers, texts and bytes as they are, all others as
// a message of gob's that stands alone, since any process may be the one that reads it.
type codec[T any] struct {
	plain wire.Plain // 0: by gob
	holds bool       // a T can hold a handle
	sends bool       // handles go along
	sig   uint64
	wires *wire.Wholes // of all codecs of T in this process
}

// wires has a *wire.Wholes for each reflect.Type that was sent by gob.
var wires sync.Map

// newCodec returns the codec of T, or why there is none.
func newCodec[T any](sends bool) (codec[T], error) {
	t := reflect.TypeFor[T]()
	if err := wire.CheckType(t); err != nil {
		return codec[T]{}, err
	}
	sig := fnv.New64a()
	_, _ = io.WriteString(sig, wire.Signature(t))
	c := codec[T]{plain: wire.PlainOf(t), holds: carry.Holds(t), sends: sends, sig: sig.Sum64()}
	if c.plain == 0 {
		w, _ := wires.LoadOrStore(t, new(wire.Wholes))
		c.wires = w.(*wire.Wholes)
	}
	return c, nil
}

// pack makes p what v travels as. A large text or []byte in p is that of v.
func (c *codec[T]) pack(v T, p *parcel) error {
	if c.plain == 0 {
		return c.packGob(v, p)
	}
	at := unsafe.Pointer(&v)
	n := c.plain.Len(at)
	p.flags = wire.FlagPlain
	switch {
	case n > maxItem:
		return tooLarge(n)
	case n <= inlineLen:
		p.n = len(wire.AppendPlain(p.small[:0], c.plain, at))
	case reflect.Kind(c.plain) == reflect.String:
		s := *(*string)(at)
		p.data = unsafe.Slice(unsafe.StringData(s), n)
	default:
		p.data = *(*[]byte)(at)
	}
	return nil
}

func tooLarge(n int) error {
	return fmt.Errorf("%d bytes are over the limit of %d for one value", n, maxItem)
}

// maxFiles is how many descriptors go along with a message: SCM_MAX_FD of Linux.
const maxFiles = 253

func (c *codec[T]) packGob(v T, p *parcel) error {
	box := &wire.Box[T]{V: v}
	var load *carry.Load
	done := false
	defer func() { // also if a GobEncode ends its goroutine
		load.Encoded()
		if !done {
			load.Close()
		}
	}()
	err := guarded(func() error {
		if err := wire.CheckValue(box); err != nil {
			return err
		}
		if c.holds {
			var err error
			if load, err = c.collect(reflect.ValueOf(box).Elem().Field(0)); err != nil {
				return err
			}
		}
		return c.wires.Encode(boxed(box), maxItem, func(payload wire.Payload, flags uint8) {
			p.flags = flags
			if n := payload.Len(); n <= inlineLen {
				payload.CopyTo(p.small[:])
				p.n = n
			} else {
				p.data = make([]byte, n)
				payload.CopyTo(p.data)
			}
		})
	})
	if err != nil {
		return err
	}
	done, p.load = true, load
	return nil
}

// collect returns the descriptors that go along with v.
func (c *codec[T]) collect(v reflect.Value) (*carry.Load, error) {
	if !c.sends {
		found := false
		carry.Found(v, func(carry.Handle) { found = true })
		if found {
			return nil, fmt.Errorf("%w: it holds a handle, which a queue cannot keep: send it through a Conn", executor.ErrNotPortable)
		}
		return nil, nil
	}
	load, err := carry.Collect(v)
	if err != nil {
		return nil, err
	}
	if n := len(load.Files()); n > maxFiles {
		load.Encoded()
		load.Close()
		return nil, fmt.Errorf("the handles in it have %d descriptors, and no more than %d go along with one message", n, maxFiles)
	}
	return load, nil
}

// unpack returns the value that travelled as p.
func (c *codec[T]) unpack(p *parcel) (v T, err error) {
	if c.plain == 0 {
		return c.unpackGob(p.flags, p.payload(), p.load)
	}
	if p.load != nil || p.flags != wire.FlagPlain {
		p.load.Close()
		return v, errDamaged
	}
	at := unsafe.Pointer(&v)
	switch {
	case p.data == nil:
		err = wire.DecodePlain(p.small[:p.n], c.plain, at)
	case reflect.Kind(c.plain) == reflect.Slice:
		*(*[]byte)(at) = p.data
	case reflect.Kind(c.plain) == reflect.String:
		*(*string)(at) = unsafe.String(&p.data[0], len(p.data))
	default:
		err = errDamaged
	}
	return v, err
}

// payload returns the bytes of p. They are not a part of it.
func (p *parcel) payload() []byte {
	if p.data == nil {
		return bytes.Clone(p.small[:p.n])
	}
	return p.data
}

func (c *codec[T]) unpackGob(flags uint8, b []byte, load *carry.Load) (T, error) {
	box := new(wire.Box[T])
	load.Arrive()
	defer load.Settle()
	err := guarded(func() error {
		f := wire.Frame{Header: wire.Header{Flags: flags}, Payload: b}
		return c.wires.Decode(f, boxed(box))
	})
	if err == nil {
		return box.V, nil
	}
	if c.holds {
		carry.Found(reflect.ValueOf(box).Elem().Field(0), func(h carry.Handle) {
			if h, ok := h.(io.Closer); ok {
				_ = h.Close() // nobody else will
			}
		})
	}
	var none T
	return none, err
}

// boxed returns what is encoded for b.
func boxed[T any](b *wire.Box[T]) any {
	if unsafe.Sizeof(b.V) == 0 {
		return new(wire.Unit)
	}
	return b
}

// guarded calls fn and makes an error of its panic: methods of the value's types run in it.
func guarded(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &executor.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn()
}
