package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"example.com/futures/ipc"
)

// A Type is a type of objects of your own, which a manager's server makes and has. It is made by
// [NewType], and safe for concurrent use. The zero Type is none.
type Type[A, O any] struct{ t *ownType }

// A Method is what a proxy of an [Object] has done to it. It is made by [NewMethod], and safe for
// concurrent use. The zero Method is none.
type Method[O, A, R any] struct{ m *ownMethod }

// An Object is a proxy of an object of a [Type]: of an O, which its server has.
type Object[O any] struct{ object }

// An ownType is a Type, as client and server have it.
type ownType struct {
	name   string
	sig    string
	object string // how proxies describe it
	create func(ctx context.Context, d datum) (any, error)

	mu      sync.Mutex
	methods map[string]*ownMethod
}

// An ownMethod is a Method, likewise.
type ownMethod struct {
	of   *ownType
	name string
	sig  string
	call func(ctx context.Context, o any, d datum) (datum, error)
}

var ownTypes sync.Map // *ownType by name

// NewType gives a type of objects a name: create makes one from an argument, in the server. It
// is a package variable, since the server's program must have it as well:
//
//	var Counters = manager.NewType("counter", func(ctx context.Context, start int) (*Counter, error) { … })
//	var CounterAdd = manager.NewMethod(Counters, "Add", (*Counter).Add)
//
// Objects are used by several clients at the same time, and look after that themselves. One that
// has a method Close() error is closed when it is dropped.
//
// It panics if create is nil, the name "" or used before, or if an A can never be sent, like
// executor.NewTask.
//
// Reference: BaseManager.register (Python 3.14).
func NewType[A, O any](name string, create func(context.Context, A) (O, error)) Type[A, O] {
	switch {
	case name == "":
		panic("manager: NewType: the name is empty")
	case create == nil:
		panic(fmt.Sprintf("manager: NewType %q: create is nil", name))
	}
	t := &ownType{
		name: name, sig: typeText[A]() + " → " + typeText[O](), object: (*Object[O])(nil).describe(),
		methods: map[string]*ownMethod{},
		create: func(ctx context.Context, d datum) (any, error) {
			arg, err := unpack[A](d)
			if err != nil {
				return nil, err
			}
			o, err := create(ctx, arg)
			if err != nil {
				return nil, err
			}
			return o, nil
		},
	}
	if _, twice := ownTypes.LoadOrStore(name, t); twice {
		panic(fmt.Sprintf("manager: NewType %q: the name is used twice", name))
	}
	return Type[A, O]{t}
}

// NewMethod gives a method of the objects of t a name. fn is a method expression, (*Counter).Add,
// or any function that takes the object first. It runs in the server, at the same time as other
// calls, and its ctx ends with the caller's, or with the caller.
//
// It panics if t is the zero Type, fn nil, or the name "" or used before with t.
func NewMethod[A0, O, A, R any](t Type[A0, O], name string, fn func(O, context.Context, A) (R, error)) Method[O, A, R] {
	switch {
	case t.t == nil:
		panic("manager: NewMethod: the Type is none that NewType has made")
	case name == "":
		panic(fmt.Sprintf("manager: NewMethod of %q: the name is empty", t.t.name))
	case fn == nil:
		panic(fmt.Sprintf("manager: NewMethod %q of %q: the function is nil", name, t.t.name))
	}
	m := &ownMethod{
		of: t.t, name: name, sig: typeText[A]() + " → " + typeText[R](),
		call: func(ctx context.Context, o any, d datum) (datum, error) {
			arg, err := unpack[A](d)
			if err != nil {
				return datum{}, err
			}
			v, err := fn(o.(O), ctx, arg)
			if err != nil {
				return datum{}, err
			}
			return pack(v)
		},
	}
	t.t.mu.Lock()
	defer t.t.mu.Unlock()
	if t.t.methods[name] != nil {
		panic(fmt.Sprintf("manager: NewMethod %q of %q: the name is used twice", name, t.t.name))
	}
	t.t.methods[name] = m
	return Method[O, A, R]{m}
}

// New has the server of m make an object from arg, and returns a proxy of it. ctx is the call's:
// the context that create sees ends with it.
//
// Errors: what create returns or panics with, as from a worker: see executor.EncodeError; one that
// names the type if the server's program does not have it, or has another under its name;
// arguments that cannot travel; ipc.ErrClosed, [ErrLost].
func (t Type[A, O]) New(ctx context.Context, m *Manager, arg A) (*Object[O], error) {
	if t.t == nil {
		panic("manager: New of a Type that NewType has not made")
	}
	d, err := pack(arg)
	if err != nil {
		return nil, err
	}
	o := new(Object[O])
	err = create(ctx, m, kindOwn, o, func(w *writer) {
		w.text(t.t.name)
		w.text(t.t.sig)
		w.datum(d)
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// Call calls m of the object of o with arg. If ctx ends, so does the context that m sees, with
// its cause, and Call returns what m does.
//
// Errors: what m returns or panics with, as from a worker; one that names m if the server's
// program does not have it, or with other types; an argument or a result that cannot travel;
// ipc.ErrClosed, [ErrLost].
func (m Method[O, A, R]) Call(ctx context.Context, o *Object[O], arg A) (R, error) {
	var v R
	if m.m == nil {
		panic("manager: Call of a Method that NewMethod has not made")
	}
	if o == nil {
		return v, ipc.ErrClosed
	}
	d, err := pack(arg)
	if err != nil {
		return v, err
	}
	err = o.call(ctx, opCallOwn, func(w *writer) {
		w.text(m.m.of.name)
		w.text(m.m.name)
		w.text(m.m.sig)
		w.datum(d)
	}, func(r *reader) error {
		d := r.datum()
		if err := r.end(); err != nil {
			return err
		}
		v, err = unpack[R](d)
		return err
	})
	return v, err
}

func (*Object[O]) describe() string { return "Object[" + typeText[O]() + "]" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (o *Object[O]) GobEncode() ([]byte, error) { return encode(o) }

// GobDecode is for the decoders of this module.
func (o *Object[O]) GobDecode(b []byte) error { return o.decode(o, b) }

// opCallOwn is the operation of an object of a user's type.
const opCallOwn uint8 = 1

// An ownThing is an object of a user's type, in its server.
type ownThing struct {
	srv *server
	typ *ownType
	obj any
}

// makeOwn makes one.
func (p *guest) makeOwn(ctx context.Context, object string, in *reader, w *writer) error {
	name, sig := in.text(), in.text()
	d := in.datum()
	if err := in.end(); err != nil {
		return err
	}
	found, ok := ownTypes.Load(name)
	if !ok {
		return fmt.Errorf("no type %q in the server's program: make it in a package variable, or at least before worker.Main", name)
	}
	t := found.(*ownType)
	if t.sig != sig || t.object != object {
		return fmt.Errorf("type %q is %s in this program and %s in the server's program", name, sig, t.sig)
	}
	var obj any
	err := p.srv.withRefs(ctx, d, func(d datum) (err error) {
		obj, err = t.create(ctx, d)
		return err
	})
	if err != nil {
		return err
	}
	w.object(p.srv.add(&ownThing{p.srv, t, obj}, object))
	return nil
}

// withRefs calls fn with d, whose names it can resolve.
func (s *server) withRefs(ctx context.Context, d datum, fn func(datum) error) error {
	if len(d.refs) == 0 {
		return fn(d)
	}
	c, err := s.ownConn(ctx)
	if err != nil {
		return err
	}
	return c.call(ctx, 0, opHold, func(w *writer) {
		w.uint(uint64(len(d.refs)))
		for _, id := range d.refs {
			w.uint(id)
		}
	}, func(r *reader) error {
		if err := r.end(); err != nil {
			return err
		}
		d.at = c
		return fn(d)
	})
}

func (t *ownThing) do(ctx context.Context, _ *client, op uint8, in *reader, out *writer) error {
	if op != opCallOwn {
		return errBadRequest
	}
	if first(ctx) {
		return ctx.Err() // for it runs in a goroutine of its own
	}
	of, name, sig := in.text(), in.text(), in.text()
	d := in.datum()
	if err := in.end(); err != nil {
		return err
	}
	if of != t.typ.name {
		return fmt.Errorf("manager: the object is one of type %q, and has no methods of %q", t.typ.name, of)
	}
	t.typ.mu.Lock()
	m := t.typ.methods[name]
	t.typ.mu.Unlock()
	switch {
	case m == nil:
		return fmt.Errorf("manager: no method %q of type %q in the server's program: make it in a package variable, or at least before worker.Main", name, of)
	case m.sig != sig:
		return fmt.Errorf("manager: method %q of type %q is %s in this program and %s in the server's program", name, of, sig, m.sig)
	}
	return t.srv.withRefs(ctx, d, func(d datum) error {
		result, err := m.call(ctx, t.obj, d)
		if err == nil && result.at != nil && result.at.id != t.srv.id {
			err = errOther
		}
		if err == nil {
			out.datum(result)
			runtime.KeepAlive(result.by)
		}
		return err
	})
}

func (t *ownThing) gone(*client) {}

func (t *ownThing) drop() []datum {
	c, ok := t.obj.(io.Closer)
	if !ok {
		return nil
	}
	t.srv.wg.Go(func() { // ends with Close
		if err := guarded(c.Close); err != nil {
			t.srv.log.Warn("manager: closing an object that was dropped", "type", t.typ.name, "err", err)
		}
	})
	return nil
}

var errGoexit = errors.New("manager: the method called runtime.Goexit")
