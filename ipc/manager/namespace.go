package manager

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"example.com/futures/internal/wire"
)

// A Namespace is values of any types by name, which live in a manager's server. A value is
// anything that can be a task's argument. The server has it encoded, so it is a copy: who wants
// to change it changes his, and sets it. A value that is, or holds, a proxy of the same manager
// is live, and lives as long as it is there.
//
// Each method is one round trip. None has to wait, so that all are carried out under a ctx that
// has ended, too.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost].
//
// A Namespace is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.Namespace (Python 3.14), whose names are attributes.
type Namespace struct{ object }

// NewNamespace has the server of m make an empty Namespace, and returns a proxy of it.
//
// Errors: [ipc.ErrClosed], [ErrLost].
func NewNamespace(ctx context.Context, m *Manager) (*Namespace, error) {
	n := new(Namespace)
	if err := create(ctx, m, kindNamespace, n, nil); err != nil {
		return nil, err
	}
	return n, nil
}

// Set makes v the value of name, whatever it was before, and of whatever type.
//
// Errors: a v that is nil, for it has no type; what keeps v from being encoded.
func (n *Namespace) Set(ctx context.Context, name string, v any) error {
	d, typ, err := packAny(v)
	if err != nil {
		return failed(fmt.Sprintf("namespace set %q", name), err)
	}
	return n.do(ctx, fmt.Sprintf("namespace set %q", name), opNamespaceSet, func(w *writer) {
		w.text(name)
		w.text(typ)
		w.datum(d)
	})
}

// Get stores the value of name in what ptr points to, and reports whether there is one. If there
// is none, *ptr stays as it is.
//
// Errors: one that names both types if *ptr is of another type than the value that was set, to
// the dot: an int is no int64; a ptr that is nil or no pointer; what keeps the value from being
// decoded. With an error *ptr stays as it is.
func (n *Namespace) Get(ctx context.Context, name string, ptr any) (ok bool, err error) {
	p := reflect.ValueOf(ptr)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return false, fmt.Errorf("manager: namespace get %q: %T is no pointer to store to", name, ptr)
	}
	err = n.call(ctx, opNamespaceGet, func(w *writer) { w.text(name) }, func(r *reader) error {
		if ok = r.bool(); !ok {
			return r.end()
		}
		typ, d := r.text(), r.datum()
		if err := r.end(); err != nil {
			return err
		}
		t := p.Type().Elem()
		if want := wire.Signature(t); typ != want {
			return fmt.Errorf("its type is %s, not %s", typ, want)
		}
		box := reflect.New(boxOf(t))
		if err := unpackAny(t, d, box); err != nil {
			return err
		}
		p.Elem().Set(box.Elem().Field(0))
		return nil
	})
	return ok && err == nil, failed(fmt.Sprintf("namespace get %q", name), err)
}

// Delete deletes name and its value. It is no error if there is none.
func (n *Namespace) Delete(ctx context.Context, name string) error {
	return n.do(ctx, fmt.Sprintf("namespace delete %q", name), opNamespaceDelete, func(w *writer) { w.text(name) })
}

// boxOf returns what a wire.Box of t looks like.
func boxOf(t reflect.Type) reflect.Type {
	return reflect.StructOf([]reflect.StructField{{Name: "V", Type: t}})
}

// sentAs is boxed, for such a box.
func sentAs(t reflect.Type, box reflect.Value) any {
	if t.Size() == 0 {
		return new(wire.Unit)
	}
	return box.Interface()
}

// packAny is pack for a value of whatever type, whose name it returns.
func packAny(v any) (d datum, typ string, err error) {
	t := reflect.TypeOf(v)
	if t == nil {
		return d, "", errors.New("the value is nil, and has no type: set a pointer, a slice or whatever of its type")
	}
	typ = wire.Signature(t)
	if err := wire.CheckType(t); err != nil {
		return d, "", fmt.Errorf("a value of %v cannot travel: %w", t, err)
	}
	box := reflect.New(boxOf(t))
	field := box.Elem().Field(0)
	field.Set(reflect.ValueOf(v))
	if k := wire.PlainOf(t); k != 0 {
		return datum{flags: wire.FlagPlain, bytes: wire.AppendPlain(nil, k, field.Addr().UnsafePointer())}, typ, nil
	}
	d, err = packBox(t, box.Interface(), sentAs(t, box), field)
	return d, typ, err
}

// unpackAny decodes d to the value of type t in box.
func unpackAny(t reflect.Type, d datum, box reflect.Value) error {
	field := box.Elem().Field(0)
	if k := wire.PlainOf(t); k != 0 {
		if d.flags != wire.FlagPlain || len(d.refs) > 0 {
			return errKind(t)
		}
		return wire.DecodePlain(d.bytes, k, field.Addr().UnsafePointer())
	}
	return unpackBox(t, d, sentAs(t, box), field)
}

func (*Namespace) describe() string { return "Namespace" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (n *Namespace) GobEncode() ([]byte, error) { return encode(n) }

// GobDecode is for the decoders of this module.
func (n *Namespace) GobDecode(b []byte) error { return n.decode(n, b) }
