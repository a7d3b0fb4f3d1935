package manager

import (
	"context"
	"fmt"
	"reflect"
	"runtime"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/ipc"
)

// A Proxy stands for an object that lives in a manager's server. It is a pointer to one of the
// types of this package: [*Dict], [*List], [*Object] and so on.
//
// A proxy is safe for concurrent use. Close lets go of it; when no proxy of an object is left,
// in any process, and no other object holds it, the object is dropped. A proxy that is dropped
// without Close is collected, and that is a Close.
type Proxy interface {
	Close() error

	// base returns what all proxies have in common.
	base() *object

	// describe returns the name of the type: Dict[string,int]. Two that have the same can stand
	// for the same object. It is called on a pointer that may be nil.
	describe() string
}

// An object is what all proxies have in common. Each type embeds it, and has these methods of
// its own, for only they know what it is:
//
//	func (*Dict[K, V]) describe() string             { return "Dict[" + typeText[K]() + "," + typeText[V]() + "]" }
//	func (d *Dict[K, V]) GobEncode() ([]byte, error) { return encode(d) }
//	func (d *Dict[K, V]) GobDecode(b []byte) error   { return d.decode(d, b) }
//
// The zero object is that of a proxy that no function of this package has made: it is closed.
type object struct{ h *handle }

func (o *object) base() *object { return o }

// Close lets go of the object. After it every call by this proxy answers ipc.ErrClosed. If it is
// the last proxy of the object that this process has, what the process holds by it (a lock, a
// part of a bounded semaphore) is let go, and who waits by it is answered ipc.ErrClosed. Methods
// of a [Type] that are under way go on. It may be called again; the error is always nil.
func (o *object) Close() error {
	if o != nil && o.h != nil {
		o.h.close()
	}
	return nil
}

// id returns the number of the object in its server; 0: there is none.
func (o *object) id() uint64 {
	if o == nil || o.h == nil {
		return 0
	}
	return o.h.id
}

// manager returns where the object is, and ipc.ErrClosed for a proxy that is closed.
func (o *object) manager() (*conn, error) {
	if o == nil || o.h == nil || o.h.closed.Load() {
		return nil, ipc.ErrClosed
	}
	return o.h.conn, nil
}

// call has the server carry out operation op of the object. operands writes what it needs, and
// results reads all of what comes of it; either may be nil. What results reads may be kept.
//
// If ctx has ended, what need not wait is done all the same. If the server answers that
// nothing was done since ctx ended, the error matches ctx.Err() and its cause. What thing.do
// returned as its error comes back as from a worker.
func (o *object) call(ctx context.Context, op uint8, operands func(*writer), results func(*reader) error) error {
	c, err := o.manager()
	if err != nil {
		return err
	}
	err = c.call(ctx, o.h.id, op, operands, results)
	runtime.KeepAlive(o.h) // until then the object is held
	return err
}

// create makes a new object in the server of m and p its proxy. operands writes what newThing
// reads for that kind.
func create(ctx context.Context, m *Manager, kind uint8, p Proxy, operands func(*writer)) error {
	c, err := m.connection()
	if err == nil {
		err = c.call(ctx, 0, opNew, func(w *writer) {
			w.uint(uint64(kind))
			w.text(p.describe())
			if operands != nil {
				operands(w)
			}
		}, func(r *reader) error {
			id := r.uint()
			if err := r.end(); err != nil {
				return err
			}
			p.base().h = c.handle(id, p.describe())
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("manager: new %s: %w", p.describe(), err)
	}
	return nil
}

// CarryID, Export and Exported are for the encoders of this module.
func (o *object) CarryID() carry.ID {
	if o == nil || o.h == nil {
		return carry.ID{}
	}
	return o.h.carryID()
}

// Export is for the encoders of this module.
func (o *object) Export() ([]int, error) {
	if _, err := o.manager(); err != nil {
		return nil, err
	}
	return o.h.export()
}

// Exported is for the encoders of this module.
func (o *object) Exported() { o.h.marks.Add(-1) }

// encode is GobEncode.
func encode[P Proxy](p P) ([]byte, error) {
	if reflect.ValueOf(p).IsNil() {
		return nil, fmt.Errorf("manager: a nil proxy of a %s cannot be encoded as an element: leave it out", p.describe())
	}
	o := p.base()
	if o.h == nil || o.h.marks.Load() == 0 {
		return nil, fmt.Errorf("%w: a proxy of a manager's %s goes along with no encoder but this library's own: give it to a task as an argument, or keep it in an object of the same manager", executor.ErrNotPortable, p.describe())
	}
	return o.h.encoded(), nil
}

// decode is GobDecode: p is the proxy that o is in.
func (o *object) decode(p Proxy, b []byte) error {
	h, err := arrive(b, p.describe())
	if err != nil {
		return err
	}
	o.h = h
	return nil
}
