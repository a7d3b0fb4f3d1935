package manager

import (
	"cmp"
	"context"
	"runtime/debug"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
	"example.com/futures/ipc"
)

// manage carries out an operation of the manager itself.
func (p *guest) manage(f wire.Frame, op uint8, in reader, w *writer) error {
	if op == opDrain {
		return p.start(f, w, nil, func(ctx context.Context) error {
			idle := p.srv.drain()
			select {
			case <-idle: // whether or not ctx has ended
				return nil
			default:
			}
			select {
			case <-idle:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func() {})
	}
	if err := p.srv.begin(p); err != nil {
		return p.answer(f.Seq, w, err, later)
	}
	ended := func() { p.srv.done(nil) }
	if op == opNew {
		kind := in.uint()
		if kind == uint64(kindOwn) {
			name := in.text() // of the proxy's type
			return p.start(f, w, nil, func(ctx context.Context) (err error) {
				defer in.done()
				failed := guarded(func() error { err = p.makeOwn(ctx, name, &in, w); return nil })
				return cmp.Or(failed, err)
			}, ended)
		}
		defer ended()
		defer in.done()
		return p.answer(f.Seq, w, p.makeThing(kind, &in, w), later)
	}
	defer ended()
	return p.answer(f.Seq, w, p.manageAtOnce(op, &in, w), later)
}

func (p *guest) manageAtOnce(op uint8, in *reader, w *writer) error {
	switch op {
	case opPublish:
		name, id := in.text(), in.uint()
		if err := in.end(); err != nil {
			return err
		}
		return p.srv.publish(p, name, id)
	case opLookup:
		name := in.text()
		if err := in.end(); err != nil {
			return err
		}
		e, err := p.srv.lookup(name)
		if err != nil {
			return err
		}
		w.object(e.id)
		w.text(e.name)
		return nil
	case opClaim:
		var t token
		copy(t[:], in.bytes())
		if err := in.end(); err != nil {
			return err
		}
		id, err := p.srv.claim(t)
		if err != nil {
			return err
		}
		w.object(id)
		return nil
	case opTicket:
		return p.ticket(in, w)
	case opHold:
		refs := in.refs()
		if err := in.end(); err != nil {
			return err
		}
		if !p.methods {
			return errBadRequest
		}
		w.names(datum{refs: refs})
		return nil
	case opStat:
		n := p.srv.stat()
		for _, x := range []int{n.objects, n.counts, n.names, n.guests, n.tokens, n.running} {
			w.int(x)
		}
		return in.end()
	}
	return errBadRequest
}

// object writes an object that is counted once for the client.
func (w *writer) object(id uint64) {
	w.refs = append(w.refs, id)
	w.uint(id)
}

// makeThing makes an object of a kind of this package's.
func (p *guest) makeThing(kind uint64, in *reader, w *writer) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &executor.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	name := in.text()
	if in.err != nil || kind >= 256 {
		return errBadRequest
	}
	t, err := newThing(uint8(kind), in, p.srv, func(id uint64) (thing, bool) {
		if in.hold([]uint64{id}); in.err != nil {
			return nil, false
		}
		return p.srv.find(id)
	})
	if in.err != nil {
		return in.err
	}
	if err != nil {
		return err
	}
	w.object(p.srv.add(t, name))
	return nil
}

// ticket makes a ticket for a proxy that travels without a socket.
func (p *guest) ticket(in *reader, w *writer) error {
	id := in.uint()
	if err := in.end(); err != nil {
		return err
	}
	in.hold([]uint64{id})
	defer in.done()
	if in.err != nil {
		return in.err
	}
	if p.srv.gate == nil {
		return ipc.ErrClosed
	}
	t, err := p.srv.departTimed(id)
	if err != nil {
		return err
	}
	w.bytes(t[:])
	w.bytes(p.srv.gate.ticket())
	w.bytes(p.srv.gate.fingerprint())
	return nil
}
