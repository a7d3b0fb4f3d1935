package manager

import (
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"unsafe"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/wire"
)

// typeText returns how a type is called in the name of a proxy's type.
func typeText[T any]() string { return wire.Signature(reflect.TypeFor[T]()) }

// pack returns v encoded. Proxies in it become names; those of several managers, and handles
// of package ipc, are errors. A large text or []byte in the datum is that of v.
func pack[T any](v T) (datum, error) {
	t := reflect.TypeFor[T]()
	if k := wire.PlainOf(t); k != 0 {
		at := unsafe.Pointer(&v)
		if b := large(k, at); b != nil {
			return datum{flags: wire.FlagPlain, bytes: b}, nil
		}
		return datum{flags: wire.FlagPlain, bytes: wire.AppendPlain(nil, k, at)}, nil
	}
	if err := wire.CheckType(t); err != nil {
		return datum{}, fmt.Errorf("manager: a value of %v cannot travel: %w", t, err)
	}
	box := &wire.Box[T]{V: v}
	return packBox(t, box, boxed(box), reflect.ValueOf(box).Elem().Field(0))
}

// packBox returns the value v of type t encoded, which is in box, and encoded as that of sent.
func packBox(t reflect.Type, box, sent any, v reflect.Value) (datum, error) {
	var d datum
	err := guarded(func() error {
		if err := wire.CheckValue(box); err != nil {
			return err
		}
		err := d.mark(v)
		defer func() {
			for _, h := range d.by {
				h.marks.Add(-1)
			}
		}()
		if err != nil {
			return err
		}
		payload, flags, err := wire.NewEncoder(mostMessage).Message(func(e *wire.Encoder) error { return e.Encode(sent) })
		if err == nil {
			d.flags, d.bytes = flags, payload.Bytes()
		}
		return err
	})
	if err != nil {
		return datum{}, fmt.Errorf("manager: encoding a value of %v: %w", t, err)
	}
	return d, nil
}

// largeLen is the length from which texts and bytes are not copied.
const largeLen = 4 << 10

func large(k wire.Plain, at unsafe.Pointer) []byte {
	switch reflect.Kind(k) {
	case reflect.String:
		if s := *(*string)(at); len(s) >= largeLen {
			return unsafe.Slice(unsafe.StringData(s), len(s))
		}
	case reflect.Slice:
		if b := *(*[]byte)(at); len(b) >= largeLen {
			return slices.Clip(b)
		}
	}
	return nil
}

// mark notes the proxies in v and lets them be encoded, which the caller ends.
func (d *datum) mark(v reflect.Value) (err error) {
	carry.Found(v, func(found carry.Handle) {
		if err != nil {
			return
		}
		p, ok := found.(Proxy)
		if !ok {
			err = fmt.Errorf("%w: it holds a %T, which a manager cannot keep", executor.ErrNotPortable, found)
			return
		}
		c, closed := p.base().manager()
		switch {
		case closed != nil:
			err = fmt.Errorf("it holds a proxy of a %s: %w", p.describe(), closed)
			return
		case d.at != nil && d.at.id != c.id:
			err = fmt.Errorf("%w: it holds proxies of two managers, and a manager can keep those of its own only", executor.ErrNotPortable)
			return
		}
		h := p.base().h
		h.marks.Add(1)
		d.by = append(d.by, h)
		d.at = c
		d.refs = append(d.refs, h.id) // once for each that will be decoded
	})
	return err
}

// unpack returns the value that d is. A large text or []byte is a part of d. Proxies in the
// value are the caller's.
func unpack[T any](d datum) (v T, err error) {
	t := reflect.TypeFor[T]()
	if k := wire.PlainOf(t); k != 0 {
		at := unsafe.Pointer(&v)
		switch n := len(d.bytes); {
		case d.flags != wire.FlagPlain || len(d.refs) > 0:
			return v, errKind(t)
		case n >= largeLen && reflect.Kind(k) == reflect.String:
			*(*string)(at) = unsafe.String(&d.bytes[0], n)
		case n >= largeLen && reflect.Kind(k) == reflect.Slice:
			*(*[]byte)(at) = slices.Clip(d.bytes)
		default:
			err = wire.DecodePlain(d.bytes, k, at)
		}
		return v, err
	}
	box := new(wire.Box[T])
	if err := unpackBox(t, d, boxed(box), reflect.ValueOf(box).Elem().Field(0)); err != nil {
		return v, err
	}
	return box.V, nil
}

// unpackBox decodes d to the value v of type t, as that of sent.
func unpackBox(t reflect.Type, d datum, sent any, v reflect.Value) error {
	if d.at != nil {
		d.at.expect(d.refs)
		defer d.at.unexpect(d.refs)
	}
	err := guarded(func() error {
		f := wire.Frame{Header: wire.Header{Flags: d.flags}, Payload: d.bytes}
		return new(wire.Decoder).Message(f, func(m *wire.Value) error { return m.Decode(sent) })
	})
	if err == nil {
		return nil
	}
	if carry.Holds(t) {
		carry.Found(v, func(h carry.Handle) {
			if p, ok := h.(Proxy); ok {
				_ = p.Close() // nobody else will
			}
		})
	}
	return fmt.Errorf("manager: decoding a value of %v: %w", t, err)
}

func errKind(t reflect.Type) error {
	return fmt.Errorf("manager: the server has a value of another type than %v", t)
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
