package manager

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
)

// Publish gives the object of p a name, by which [Lookup] finds it, in any process that has a
// Manager of the same server. It may have several. A name goes with its object: it does not keep
// it alive, so whoever publishes keeps p open.
//
// Errors: one that matches fs.ErrExist if another object, or the same one, has the name already,
// executor.ErrNotPortable for a proxy of another manager; ipc.ErrClosed, [ErrLost].
//
// Reference: BaseManager.register of a callable that returns an object that exists already.
func Publish(ctx context.Context, m *Manager, name string, p Proxy) error {
	err := publish(ctx, m, name, p)
	if err != nil {
		return fmt.Errorf("manager: publish %q: %w", name, err)
	}
	return nil
}

func publish(ctx context.Context, m *Manager, name string, p Proxy) error {
	c, err := m.connection()
	if err != nil {
		return err
	}
	of, err := p.base().manager()
	switch {
	case err != nil:
		return err
	case of.id != c.id:
		return errOther
	}
	err = c.call(ctx, 0, opPublish, func(w *writer) {
		w.text(name)
		w.uint(p.base().id())
	}, nil)
	runtime.KeepAlive(p)
	return err
}

// Lookup returns a new proxy of the object that was published under a name:
//
//	jobs, err := manager.Lookup[*manager.Queue[Job]](ctx, m, "jobs")
//
// Errors: one that matches fs.ErrNotExist if there is none; if the object is of another type than
// P stands for, one that names both; ipc.ErrClosed, [ErrLost].
func Lookup[P Proxy](ctx context.Context, m *Manager, name string) (P, error) {
	var none P
	t := reflect.TypeFor[P]()
	if t.Kind() != reflect.Pointer {
		return none, fmt.Errorf("manager: lookup %q: %v is no type of a proxy", name, t)
	}
	p := reflect.New(t.Elem()).Interface().(P)
	if err := lookup(ctx, m, name, p); err != nil {
		return none, fmt.Errorf("manager: lookup %q: %w", name, err)
	}
	return p, nil
}

func lookup(ctx context.Context, m *Manager, name string, p Proxy) error {
	c, err := m.connection()
	if err != nil {
		return err
	}
	err = c.call(ctx, 0, opLookup, func(w *writer) { w.text(name) }, func(r *reader) error {
		id, is := r.uint(), r.text()
		if err := r.end(); err != nil {
			return err
		}
		if is != p.describe() {
			return fmt.Errorf("it is a %s, not a %s", is, p.describe())
		}
		p.base().h = c.handle(id, is)
		return nil
	})
	if c, ok := p.(interface{ complete(context.Context) error }); ok && err == nil {
		err = c.complete(ctx)
	}
	return err
}
