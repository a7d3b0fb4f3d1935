package manager

import (
	"context"
	"encoding/gob"
	"fmt"
	"reflect"
	"strings"

	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

func init() {
	// So that an interface can hold a proxy. Of the types with a parameter, the program
	// registers those that it wants there.
	gob.Register(new(Namespace))
	gob.Register(new(Lock))
	gob.Register(new(RLock))
	gob.Register(new(Semaphore))
	gob.Register(new(Event))
	gob.Register(new(Cond))
	gob.Register(new(Barrier))
}

// failed puts before err what was to be done: "manager: lock: …". A nil err stays nil, and
// what says so itself stays as it is.
func failed(what string, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), "manager: ") || strings.HasPrefix(err.Error(), "ipc: ") {
		return err
	}
	return fmt.Errorf("manager: %s: %w", what, err)
}

// travels returns why values of T cannot be sent, nil if they can.
func travels[T any](what string) error {
	if err := wire.CheckType(reflect.TypeFor[T]()); err != nil {
		return fmt.Errorf("manager: new %s: %w", what, err)
	}
	return nil
}

// do has the server carry out an operation without a result.
func (o *object) do(ctx context.Context, what string, op uint8, operands func(*writer)) error {
	return failed(what, o.call(ctx, op, operands, nil))
}

// askBool and askInt have it carry out one with such a result.
func (o *object) askBool(ctx context.Context, what string, op uint8, operands func(*writer)) (x bool, err error) {
	err = o.call(ctx, op, operands, func(r *reader) error {
		x = r.bool()
		return r.end()
	})
	return x, failed(what, err)
}

func (o *object) askInt(ctx context.Context, what string, op uint8) (x int, err error) {
	err = o.call(ctx, op, nil, func(r *reader) error {
		x = r.int()
		return r.end()
	})
	return x, failed(what, err)
}

// askDatum has it carry out one whose result is a datum.
func askDatum[T any](ctx context.Context, o *object, what string, op uint8, operands func(*writer)) (v T, err error) {
	err = o.call(ctx, op, operands, func(r *reader) (err error) {
		d := r.datum()
		if err := r.end(); err != nil {
			return err
		}
		v, err = unpack[T](d)
		return err
	})
	return v, failed(what, err)
}

// askMaybe has it carry out one whose result is a datum, or that there is none.
func askMaybe[T any](ctx context.Context, o *object, what string, op uint8, operands func(*writer)) (v T, ok bool, err error) {
	err = o.call(ctx, op, operands, func(r *reader) (err error) {
		var d datum
		if ok = r.bool(); ok {
			d = r.datum()
		}
		if err := r.end(); err != nil || !ok {
			return err
		}
		v, err = unpack[T](d)
		return err
	})
	return v, ok && err == nil, failed(what, err)
}

// tell has it carry out one with a value.
func tellValue[T any](ctx context.Context, o *object, what string, op uint8, v T, before func(*writer)) error {
	d, err := pack(v)
	if err != nil {
		return failed(what, err)
	}
	return o.do(ctx, what, op, func(w *writer) {
		if before != nil {
			before(w)
		}
		w.datum(d)
	})
}

// update has fn change a copy of a value, and swap store it, until nobody has written in
// between.
func update[T any](ctx context.Context, fn func(*T), load func() (v T, version uint64, err error), swap func(version uint64, d datum) (bool, error)) error {
	for {
		v, version, err := load()
		if err != nil {
			return err
		}
		fn(&v)
		d, err := pack(v)
		if err != nil {
			return err
		}
		if done, err := swap(version, d); done || err != nil {
			return err
		}
		if ctx.Err() != nil {
			return remote.Ended(ctx)
		}
	}
}
