package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/wire"
	"example.com/futures/ipc"
)

// A guest is a server's half of a connection. One goroutine reads the requests. What can be
// done at once it does itself, and the answers go out together when no more requests have
// been read; a call that waits, or runs a user's method, has a goroutine of its own.
type guest struct {
	client
	srv     *server
	raw     io.ReadWriteCloser
	in      *wire.Reader
	out     *outbox
	limit   int64             // of a result
	methods bool              // it is the server's own, of methods that use proxies
	held    map[uint64]uint64 // holds by object; srv.mu guards it. nil: it has gone

	ctx    context.Context // of its calls
	cancel context.CancelCauseFunc

	mu    sync.Mutex // guards calls
	calls map[uint64]*callCtx
}

// mostCalls is how many calls of one client can wait at a time.
const mostCalls = 100_000

var errMany = fmt.Errorf("manager: %d calls of this client are under way, and there can be no more", mostCalls)

// errLeft is why the context of a method ends whose caller has gone.
var errLeft = errors.New("manager: the caller is gone")

func newGuest(s *server, raw io.ReadWriteCloser) *guest {
	p := &guest{
		srv: s, raw: raw, in: newReader(raw, greetingMost), out: newOutbox(raw), limit: s.limit,
		held: map[uint64]uint64{}, calls: map[uint64]*callCtx{},
	}
	keepAlive(raw)
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// serve serves the client until it has gone.
func (p *guest) serve() {
	err := p.follow()
	if !errors.Is(err, io.EOF) && p.srv.log != nil {
		p.srv.log.Debug("manager: a client was lost", "pid", p.pid, "err", err)
	}
	_ = p.raw.Close()
	p.srv.leave(p)
	p.cancel(errLeft)
	if s, ok := p.raw.(*carry.Socket); ok {
		s.Drop()
	}
}

// follow does what the client asks for, until an error. A panic ends this client alone.
func (p *guest) follow() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &executor.PanicError{Value: v, Stack: debug.Stack()}
			if p.srv.log != nil {
				p.srv.log.Error("manager: serving a client panicked", "pid", p.pid, "err", err)
			}
		}
	}()
	err = p.greet()
	for err == nil {
		err = p.next()
	}
	return err
}

func (p *guest) greet() error {
	mine := greeting{id: p.srv.id, limit: p.srv.limit}
	if err := p.out.frame(mine.header(wire.KindHello), mine.append(nil), behind); err != nil {
		return err
	}
	f, err := p.in.Next()
	if err != nil {
		return err
	}
	defer f.Along.Close()
	theirs, err := parseGreeting(f, wire.KindSetup)
	if err != nil {
		return err
	}
	p.limit = min(p.limit, theirs.limit)
	p.srv.mu.Lock()
	p.pid, p.most = theirs.pid, p.limit
	p.srv.mu.Unlock()
	p.in.SetLimit(p.srv.limit + wire.ErrorAllowance) // for a cause, however small values are
	return nil
}

// next takes one frame.
func (p *guest) next() error {
	if !p.in.Ready() {
		if err := p.out.flush(); err != nil {
			return err
		}
	}
	f, err := p.in.Next()
	if err != nil {
		return err
	}
	if f.Along != nil && f.Kind != wire.KindAdopt {
		f.Along.Close()
		return errBadRequest
	}
	switch f.Kind {
	case wire.KindRequest:
		return p.request(f)
	case wire.KindInterrupt:
		i, err := wire.ParseInterruption(f.Payload)
		if err != nil {
			return err
		}
		p.mu.Lock()
		ctx := p.calls[f.Seq]
		p.mu.Unlock()
		if ctx != nil {
			ctx.end(i.Deadline, executor.DecodeError(i.Cause))
		}
		return nil
	case wire.KindRelease:
		r := reader{b: f.Payload}
		id, n := r.uint(), r.uint()
		if err := r.end(); err != nil {
			return err
		}
		return p.srv.takeBack(p, id, n)
	case wire.KindAdopt:
		return p.adopt(f)
	case wire.KindPing:
		return p.out.frame(wire.Header{Kind: wire.KindPong}, nil, later)
	}
	return fmt.Errorf("%w: a frame of kind %d", errBadRequest, f.Kind)
}

// request begins a call. An error ends the connection.
func (p *guest) request(f wire.Frame) error {
	if f.Item > 0xff || int64(len(f.Payload)) > p.srv.limit+2*beside {
		return errBadRequest
	}
	in := reader{b: f.Payload, by: p}
	id, op := in.uint(), uint8(f.Item)
	if in.err != nil {
		return in.err
	}
	w := newWriter()
	w.to, w.split = p.srv, true
	if id == 0 {
		return p.manage(f, op, in, w)
	}
	e, err := p.srv.use(p, id, op)
	if err != nil {
		return p.answer(f.Seq, w, err, later)
	}
	if f.Flags&flagPoll == 0 {
		again := in
		err = p.carryOut(firstCtx, e, op, &again, w)
		again.done()
		if !errors.Is(err, context.Canceled) {
			err = p.answer(f.Seq, w, err, later)
			p.srv.done(e)
			return err
		}
		w.reset()
	}
	return p.start(f, w, e, func(ctx context.Context) error {
		defer in.done()
		err := p.carryOut(ctx, e, op, &in, w)
		p.srv.sweep(p, e)
		return err
	}, func() { p.srv.done(e) })
}

// start runs a call in a goroutine of its own, and answers. e is the object, nil if there is none.
func (p *guest) start(f wire.Frame, w *writer, e *entry, call func(context.Context) error, done func()) error {
	ctx := p.newCallCtx()
	ctx.of = e
	p.mu.Lock()
	switch {
	case len(p.calls) >= mostCalls:
		p.mu.Unlock()
		defer done()
		return p.answer(f.Seq, w, errMany, later)
	case p.calls[f.Seq] != nil:
		p.mu.Unlock()
		done()
		return errBadRequest
	}
	p.calls[f.Seq] = ctx
	p.mu.Unlock()
	if f.Flags&flagPoll != 0 {
		ctx.end(false, context.Canceled)
	}
	p.srv.wg.Go(func() { // ends with the call, whose ctx ends with the client
		defer done()
		err := errGoexit
		defer func() { p.end(ctx, f.Seq, w, err) }()
		err = call(ctx)
	})
	return nil
}

// end ends what start has begun.
func (p *guest) end(ctx *callCtx, seq uint64, w *writer, err error) {
	p.mu.Lock()
	delete(p.calls, seq)
	p.mu.Unlock()
	if err != nil && ctx.Err() != nil {
		switch {
		case noProxy(ctx) && errors.Is(err, ctx.Err()):
			err = ipc.ErrClosed
		case err == ctx.Err() || err == context.Cause(ctx): //nolint:errorlint // nothing is to be lost
			err = errSkipped
		}
	}
	if errors.Is(p.answer(seq, w, err, now), errNever) {
		_ = p.raw.Close()
	}
	ctx.end(false, context.Canceled)
}

// errSkipped says that nothing was done, since the caller's context has ended.
var errSkipped = errors.New("manager: nothing was done")

// errNoProxy is why the ctx of a call ends whose client has closed its last proxy of the object.
var errNoProxy = errors.New("manager: the proxy was closed")

// noProxy reports whether ctx has ended by that.
func noProxy(ctx context.Context) bool {
	return context.Cause(ctx) == errNoProxy //nolint:errorlint // the very same value
}

// closed ends the calls of an object of which the client has no proxy any more. Methods of a
// user's type go on.
func (p *guest) closed(t thing) {
	t.gone(&p.client)
	if _, own := t.(*ownThing); own {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ctx := range p.calls {
		if ctx.of != nil && ctx.of.thing == t {
			ctx.end(false, errNoProxy)
		}
	}
}

// carryOut has a thing carry out an operation.
func (p *guest) carryOut(ctx context.Context, e *entry, op uint8, in *reader, w *writer) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &executor.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return e.thing.do(ctx, &p.client, op, in, w)
}

// answer sends what came of a call, and frees w. An error is that of the connection.
func (p *guest) answer(seq uint64, w *writer, err error, when push) error {
	defer w.free()
	if err == nil {
		err = w.err
	}
	if n := w.len(); err == nil && (int64(n) > p.limit+beside || int64(w.data) > p.limit) {
		err = errTooLarge("a result", n, p.limit)
	}
	switch {
	case errors.Is(err, errNever):
		p.srv.releaseRefs(w.refs)
		return errNever
	case err == errSkipped: //nolint:errorlint // it is never wrapped
		p.srv.releaseRefs(w.refs)
		return p.out.frame(wire.Header{Kind: wire.KindSkipped, Seq: seq}, nil, when)
	case err != nil:
		p.srv.releaseRefs(w.refs)
		out := newWriter()
		defer out.free()
		out.b = append(out.b, executor.EncodeError(err)...)
		return p.out.add(wire.Header{Kind: wire.KindError, Seq: seq}, out, when)
	}
	h := wire.Header{Kind: wire.KindAnswer, Seq: seq}
	if len(w.refs) > 0 {
		given := p.srv.give(p, w.refs)
		h.Flags = flagRefs
		out := newWriter()
		defer out.free()
		out.uint(uint64(len(given)))
		for _, id := range given {
			out.uint(id)
		}
		n := len(out.b)
		out.b = append(out.b, w.b...)
		for _, c := range w.cuts {
			out.cuts = append(out.cuts, cut{n + c.at, c.bytes})
		}
		return p.out.add(h, out, when)
	}
	return p.out.add(h, w, when)
}

func (w *writer) reset() {
	w.b, w.refs, w.cuts = w.b[:0], w.refs[:0], w.cuts[:0]
	w.data, w.err = 0, nil
}

// A callCtx is the context of a call. It ends with the caller's, as that did, or with the
// caller.
type callCtx struct {
	context.Context
	of     *entry // nil: it is a call of the manager itself
	cancel context.CancelCauseFunc
	how    atomic.Int32 // it has ended; the first counts
}

const (
	byCancel int32 = iota + 1
	byDeadline
)

func (p *guest) newCallCtx() *callCtx {
	c := new(callCtx)
	c.Context, c.cancel = context.WithCancelCause(p.ctx)
	return c
}

func (c *callCtx) end(deadline bool, cause error) {
	how := byCancel
	if deadline && c.Context.Err() == nil {
		how = byDeadline
	}
	c.how.CompareAndSwap(0, how)
	c.cancel(cause)
}

// Err is context.Context's.
func (c *callCtx) Err() error {
	err := c.Context.Err()
	if err == nil {
		return nil
	}
	c.how.CompareAndSwap(0, byCancel)
	if c.how.Load() == byDeadline {
		return context.DeadlineExceeded
	}
	return err
}
