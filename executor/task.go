package executor

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync"
	"unsafe"

	"example.com/futures/internal/wire"
)

// A Task is a function from A to R under a name, so that it can be called in
// another process that runs the same program. It is a value, cheap to copy, made by
// [NewTask] or [LocalTask]; the zero Task is invalid, and using it panics.
//
// A Task is safe for concurrent use.
type Task[A, R any] struct{ t *taskOf[A, R] }

// taskOf is what a Task refers to, and its Function.
type taskOf[A, R any] struct {
	name string // "" for a local task
	fn   func(context.Context, A) (R, error)
	opts options

	arg, result wire.Plain // how they travel
	check       *portability
}

// A portability is whether calls of a task can leave the process, once somebody asked.
type portability struct {
	once   sync.Once
	err    error
	direct bool // see Call.Direct
}

// newTask returns what a Task refers to.
func newTask[A, R any](name string, fn func(context.Context, A) (R, error), opts []CallOption) *taskOf[A, R] {
	t := &taskOf[A, R]{name: name, fn: fn, check: new(portability)}
	t.arg, t.result = wire.PlainOf(reflect.TypeFor[A]()), wire.PlainOf(reflect.TypeFor[R]())
	t.opts = *t.opts.apply(opts)
	return t
}

// registry has the named tasks of the program.
var registry = struct {
	sync.RWMutex
	byName map[string]Function
}{byName: map[string]Function{}}

// NewTask makes fn a task called name, with opts as the options of its calls.
//
// Tasks are made in package variables, so that a worker process, which runs the
// same program up to worker.Main, has them too. fn must keep nothing that a call
// needs outside its argument: in a worker process the variables of the program are
// the worker's own.
//
// fn gets its argument by value: in process as it is, so what it points to is
// shared; in a worker process as gob delivers it. Anything that gob can carry as a
// field of a struct will do, with these changes: a pointer to a zero value and an
// empty slice or map may arrive as nil, and a value in an interface needs
// gob.Register. Numbers, texts and []byte by themselves, and a []byte of 4 KiB or more in
// structs and slices, are copied without gob, once on each side: what fn gets is its own
// to write to and append to. A type with unexported fields that does not encode itself is
// refused there, since gob would drop them without a word.
//
// The ctx that fn is given ends when the call's ctx does, by Future.Interrupt, when
// its time is over ([WithTimeout]), when the pool is closed, and when fn returns:
// what fn leaves behind under it is told to stop. The values of the caller's ctx
// are there in process only; its deadline, its end and the cause of its end always.
//
// NewTask panics if name is empty or used before in this program, as gob.Register
// does, or if fn is nil.
func NewTask[A, R any](name string, fn func(context.Context, A) (R, error), opts ...CallOption) Task[A, R] {
	if name == "" {
		panic("executor: NewTask with an empty name; a task without one is made by LocalTask")
	}
	if fn == nil {
		panic(fmt.Sprintf("executor: NewTask(%q) with a nil function", name))
	}
	t := newTask(name, fn, opts)
	registry.Lock()
	defer registry.Unlock()
	if old, ok := registry.byName[name]; ok {
		panic(fmt.Sprintf("executor: NewTask(%q, %s): the name is taken by a task with signature %s", name, t.Signature(), old.Signature()))
	}
	registry.byName[name] = t
	return Task[A, R]{t}
}

// LocalTask makes a closure usable as a task: for Submit, Map and Bind, in this
// process only. Elsewhere its calls fail with [ErrNotPortable].
//
// LocalTask panics if fn is nil.
func LocalTask[A, R any](fn func(context.Context, A) (R, error), opts ...CallOption) Task[A, R] {
	if fn == nil {
		panic("executor: LocalTask with a nil function")
	}
	return Task[A, R]{newTask("", fn, opts)}
}

// Name returns the name given to [NewTask], "" for a local task.
func (t Task[A, R]) Name() string { return t.must("Name").name }

// must returns what t refers to, and panics for the zero Task.
func (t Task[A, R]) must(action string) *taskOf[A, R] {
	if t.t == nil {
		panic(fmt.Sprintf("executor: %s of the zero Task[%v, %v]: make it with NewTask", action, reflect.TypeFor[A](), reflect.TypeFor[R]()))
	}
	return t.t
}

// with returns t with opts applied: t itself if there are none, so that calls without
// options of their own share their task's. A nil t stands for any closure.
func (t *taskOf[A, R]) with(opts []CallOption) *taskOf[A, R] {
	if len(opts) == 0 {
		return t
	}
	n := new(taskOf[A, R])
	o := &noOptions
	if t != nil {
		*n = *t
		o = &t.opts
	}
	n.opts = *o.apply(opts)
	return n
}

// callable reports whether t has a function.
func (t *taskOf[A, R]) callable() bool { return t != nil && t.fn != nil }

// Name and Signature are Function's.
func (t *taskOf[A, R]) Name() string { return t.name }

func (t *taskOf[A, R]) Signature() string {
	return fmt.Sprintf("func(%s) %s", wire.Signature(reflect.TypeFor[A]()), wire.Signature(reflect.TypeFor[R]()))
}

// Portable returns nil if calls of t can leave the process.
func (t *taskOf[A, R]) Portable() error {
	t.check.once.Do(t.look)
	return t.check.err
}

// Direct reports whether the types of t are encoded without code of their own. They are
// not if they are not encoded at all.
func (t *taskOf[A, R]) Direct() bool {
	t.check.once.Do(t.look)
	return t.check.direct
}

// look finds out what check is to say.
func (t *taskOf[A, R]) look() {
	if t.name == "" {
		t.check.err = notPortable("a closure cannot run in another process: make it a Task with NewTask, in a package variable")
		return
	}
	if err := wire.CheckType(reflect.TypeFor[A]()); err != nil {
		t.check.err = notPortable(fmt.Sprintf("the argument of task %q: %v", t.name, err))
		return
	}
	if err := wire.CheckType(reflect.TypeFor[R]()); err != nil {
		t.check.err = notPortable(fmt.Sprintf("the result of task %q: %v", t.name, err))
		return
	}
	t.check.direct = wire.Direct(reflect.TypeFor[A]()) && wire.Direct(reflect.TypeFor[R]())
}

// notPortable returns an error that matches ErrNotPortable and says why.
func notPortable(why string) error { return fmt.Errorf("%w: %s", ErrNotPortable, why) }

// Serve is Function's.
func (t *taskOf[A, R]) Serve(ctx context.Context, dec Decoder, reply func(result any, err error)) {
	var result any
	var err error
	returned := false
	defer func() {
		if !returned {
			result, err = nil, abnormal(recover())
		}
		reply(result, err)
	}()
	result, err = t.serve(ctx, dec)
	returned = true
}

// serve returns what is to be replied.
func (t *taskOf[A, R]) serve(ctx context.Context, dec Decoder) (result any, err error) {
	arg, err := decode[A](dec, t.arg)
	if err != nil {
		return nil, fmt.Errorf("executor: task %q: decoding the argument: %w", t.name, err)
	}
	v, err := t.fn(ctx, arg)
	if err != nil {
		return nil, err
	}
	out := &wire.Box[R]{V: v}
	if t.result == 0 {
		if err := wire.CheckValue(out); err != nil {
			return nil, fmt.Errorf("executor: task %q: encoding the result: %w", t.name, err)
		}
	}
	return boxed(out), nil
}

// abnormal returns the error of a function that did not return: v is what recover
// said in a deferred function.
func abnormal(v any) error {
	if v != nil {
		return &PanicError{Value: v, Stack: debug.Stack()}
	}
	return errGoexit
}

// guarded calls fn and makes an error of its panic.
func guarded(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn()
}

// boxed returns what an Encoder is given for b.
func boxed[T any](b *wire.Box[T]) any {
	if unsafe.Sizeof(b.V) == 0 {
		return new(wire.Unit)
	}
	return b
}

// encode writes b, whose value travels as k says. A plain value runs nobody's code and
// can hold nothing that has to be looked at; but only wire's own Encoder knows of it.
func encode[T any](enc Encoder, b *wire.Box[T], k wire.Plain) error {
	if e, ok := enc.(*wire.Encoder); ok && k != 0 {
		return e.EncodePlain(k, unsafe.Pointer(&b.V))
	}
	return guarded(func() error {
		if err := wire.CheckValue(b); err != nil {
			return err
		}
		return enc.Encode(boxed(b))
	})
}

// decode reads what encode wrote.
func decode[T any](dec Decoder, k wire.Plain) (T, error) {
	if d, ok := dec.(*wire.Value); ok && k != 0 {
		var v T
		err := d.DecodePlain(k, unsafe.Pointer(&v))
		return v, err
	}
	return decodeBox[T](dec)
}

// dropHandles closes the handles in a value that was decoded and that nobody gets.
func dropHandles(dec Decoder) {
	if d, ok := dec.(*wire.Value); ok {
		d.Drop()
	}
}

// decodeBox has dec, which may be anybody's, read a Box. It is apart from decode so that
// a plain value needs none.
func decodeBox[T any](dec Decoder) (T, error) {
	b := new(wire.Box[T])
	err := guarded(func() error { return dec.Decode(boxed(b)) })
	return b.V, err
}

// A Bound is a task with its argument: what a pool runs in each new worker as its
// Initializer. The zero Bound is none. It is made by [Bind] and safe for
// concurrent use.
type Bound struct{ b bound }

type bound interface {
	Name() string
	Portable() error
	Encode(Encoder) error
	Run(context.Context) error
}

type boundOf[A, R any] struct {
	*taskOf[A, R]
	arg wire.Box[A]
}

// Bind returns t together with arg. The result of t is not used, only its error.
// It panics if t is the zero Task.
func Bind[A, R any](t Task[A, R], arg A) Bound {
	return Bound{&boundOf[A, R]{t.must("Bind"), wire.Box[A]{V: arg}}}
}

// IsZero reports whether b is the zero Bound.
func (b Bound) IsZero() bool { return b.b == nil }

// Name returns the name of the task, "" for a local task and for the zero Bound.
func (b Bound) Name() string {
	if b.b == nil {
		return ""
	}
	return b.b.Name()
}

// Portable returns nil if b can run in another process, see [Call].
func (b Bound) Portable() error {
	if b.b == nil {
		return nil
	}
	return b.b.Portable()
}

// Encode writes the argument with enc.
func (b Bound) Encode(enc Encoder) error {
	if b.b == nil {
		return errors.New("executor: Encode of the zero Bound")
	}
	return b.b.Encode(enc)
}

// Run runs the task here under ctx and returns its error; a panic is a
// [*PanicError]. Of the zero Bound it does nothing.
func (b Bound) Run(ctx context.Context) error {
	if b.b == nil {
		return nil
	}
	return b.b.Run(ctx)
}

func (b *boundOf[A, R]) Encode(enc Encoder) error { return encode(enc, &b.arg, b.taskOf.arg) }

func (b *boundOf[A, R]) Run(ctx context.Context) error {
	return guarded(func() error {
		_, err := b.fn(ctx, b.arg.V)
		return err
	})
}
