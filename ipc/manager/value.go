package manager

import "context"

// A Value is one variable of type T that lives in a manager's server. A T is anything that can
// be a task's argument; unlike that of an [ipc.Value] it may have texts, slices and maps. A T
// that is, or holds, a proxy of the same manager is live, and lives as long as it is stored.
//
// Each method is one round trip, Update two. None has to wait, so that all are carried out
// under a ctx that has ended, too.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost], what keeps a value from being
// encoded or decoded.
//
// A Value is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.Value (Python 3.14), which has no lock, so that v.value += 1 loses
// what others write meanwhile; see [Value.Update].
type Value[T any] struct{ object }

// NewValue has the server of m make a Value that holds v, and returns a proxy of it.
//
// Errors: what keeps v from being encoded; [ipc.ErrClosed], [ErrLost].
func NewValue[T any](ctx context.Context, m *Manager, v T) (*Value[T], error) {
	val := new(Value[T])
	if err := travels[T](val.describe()); err != nil {
		return nil, err
	}
	d, err := pack(v)
	if err != nil {
		return nil, failed("new "+val.describe(), err)
	}
	if err := create(ctx, m, kindValue, val, func(w *writer) { w.datum(d) }); err != nil {
		return nil, err
	}
	return val, nil
}

// Load returns the value.
func (v *Value[T]) Load(ctx context.Context) (T, error) {
	x, _, err := v.load(ctx)
	return x, failed("value load", err)
}

func (v *Value[T]) load(ctx context.Context) (x T, version uint64, err error) {
	err = v.call(ctx, opValueLoad, nil, func(r *reader) (err error) {
		version = r.uint()
		d := r.datum()
		if err := r.end(); err != nil {
			return err
		}
		x, err = unpack[T](d)
		return err
	})
	return x, version, err
}

// Store makes x the value.
func (v *Value[T]) Store(ctx context.Context, x T) error {
	return tellValue(ctx, &v.object, "value store", opValueStore, x, nil)
}

// Update has fn change a copy of the value, here, and stores that when fn returns. If somebody
// else has stored one in between, by an Update of his or not, fn runs again, on the newer value,
// so that nothing is lost: fn should change nothing but what it is given.
//
// Errors: as of all methods, and one that matches ctx.Err(): once ctx has ended fn runs no second
// time. With an error nothing has changed.
//
// If fn panics, nothing has changed, and the panic goes on. A nil fn panics.
func (v *Value[T]) Update(ctx context.Context, fn func(*T)) error {
	if fn == nil {
		panic("manager: Value.Update without a function")
	}
	return failed("value update", update(ctx, fn, func() (T, uint64, error) { return v.load(ctx) },
		func(version uint64, d datum) (bool, error) {
			return v.askBool(ctx, "value update", opValueSwap, func(w *writer) {
				w.uint(version)
				w.datum(d)
			})
		}))
}

func (*Value[T]) describe() string { return "Value[" + typeText[T]() + "]" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (v *Value[T]) GobEncode() ([]byte, error) { return encode(v) }

// GobDecode is for the decoders of this module.
func (v *Value[T]) GobDecode(b []byte) error { return v.decode(v, b) }
