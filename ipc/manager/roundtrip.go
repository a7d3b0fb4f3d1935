package manager

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
	"example.com/futures/ipc"
)

// call carries out an operation of an object, or of the manager if id is 0.
func (c *conn) call(ctx context.Context, id uint64, op uint8, operands func(*writer), results func(*reader) error) error {
	w := newWriter()
	w.at, w.split = c, true
	w.uint(id)
	if operands != nil {
		operands(w)
	}
	if len(w.pins) > 0 {
		defer func(pins []pin) {
			for _, p := range pins {
				p.at.unpin(p.refs)
			}
		}(w.pins)
	}
	h := wire.Header{Kind: wire.KindRequest, Item: uint32(op)}
	if n := w.len(); int64(n) > c.limit+beside {
		w.err = errTooLarge("an argument", n, c.limit)
	}
	if w.err != nil {
		defer w.free()
		return w.err
	}
	return c.roundTrip(ctx, h, w, nil, results)
}

// roundTrip sends a request, which frees w, and waits for its answer. send, if it is not nil,
// is who sends it.
func (c *conn) roundTrip(ctx context.Context, h wire.Header, w *writer, send func(wire.Header, *writer) error, results func(*reader) error) error {
	ended := ctx.Err() != nil
	if ended {
		h.Flags |= flagPoll
	}
	me := waitings.Get().(*waiting)
	c.mu.Lock()
	err := c.err
	if err == nil && c.idle != nil {
		err = ipc.ErrClosed
	}
	if err != nil {
		c.mu.Unlock()
		waitings.Put(me)
		w.free()
		return err
	}
	c.seq++
	h.Seq = c.seq
	c.calls[h.Seq] = me
	alone := len(c.calls) == 1
	if c.lone++; !alone {
		c.lone = 0
	}
	free := c.reads == nobody
	if free && (!alone || send != nil) {
		free = false
		c.startReader()
	}
	c.mu.Unlock()
	answered := me.watched(ctx.Done())
	unwatch := c.watch(ctx, ended, h.Seq, answered)
	switch {
	case send == nil && alone:
		err = c.out.add(h, w, now)
	case send == nil:
		// Those who are about to call, too, may go first: a write costs more than a call.
		if err = c.out.add(h, w, later); err == nil {
			runtime.Gosched()
			err = c.out.flush()
		}
	default:
		err = send(h, w)
	}
	w.free()
	if errors.As(err, new(*carry.UnsentError)) {
		c.mu.Lock()
		mine := c.calls[h.Seq] == me
		delete(c.calls, h.Seq)
		c.settled()
		c.mu.Unlock()
		if !mine { // the connection is over
			<-me.ready
		}
		if !unwatch() {
			close(answered)
		}
		return err // me is not used again: this is rare
	}
	if err != nil {
		c.fail(c.lost(err)) // and with it this call
	}
	if free && c.leads(me) {
		c.lead(me)
	}
	<-me.ready
	if !unwatch() {
		close(answered)
		me.over = nil
	}
	f, err := me.f, me.err
	me.f, me.err, me.leads = wire.Frame{}, nil, false
	waitings.Put(me)
	if err != nil {
		return err
	}
	return c.answer(ctx, f, results)
}

// leads reports whether me has got the role of the reader, which was free when it came.
func (c *conn) leads(me *waiting) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reads != nobody {
		return false
	}
	c.reads, me.leads = caller, true
	return true
}

// patience is how long a server may give no sign of life that is to end a call.
const patience = 5 * time.Second

// watched returns a channel that who watches the call waits for; nil if nobody will.
func (w *waiting) watched(done <-chan struct{}) chan struct{} {
	if w.over == nil && done != nil {
		w.over = make(chan struct{})
	}
	return w.over
}

// watch looks after a call from before its request is written. Once ctx ends, which it may have
// already, the server is to answer, or to be given up. unwatch ends that, and reports false if it
// has come to that; answered is to be closed then.
func (c *conn) watch(ctx context.Context, ended bool, seq uint64, answered <-chan struct{}) (unwatch func() bool) {
	switch {
	case ended: // the request tells
		return time.AfterFunc(c.quiet/5, func() { c.insist(answered) }).Stop
	case ctx.Done() == nil:
		return unwatched
	}
	return context.AfterFunc(ctx, func() {
		c.interrupt(ctx, seq)
		c.insist(answered)
	})
}

func unwatched() bool { return true }

// interrupt has the server end the context of a call.
func (c *conn) interrupt(ctx context.Context, seq uint64) {
	i := wire.Interruption{Deadline: errors.Is(ctx.Err(), context.DeadlineExceeded), Cause: encodedCause(ctx)}
	_ = c.out.frame(wire.Header{Kind: wire.KindInterrupt, Seq: seq}, i.Append(nil), behind)
}

const (
	mostCause = 32 << 10 // what any server takes
	cutCause  = 4 << 10
)

// encodedCause returns why ctx has ended, encoded. Of what is long only the beginning of the text
// is left.
func encodedCause(ctx context.Context) []byte {
	cause := context.Cause(ctx)
	b := executor.EncodeError(cause)
	if len(b) <= mostCause {
		return b
	}
	text := cause.Error()
	text = strings.ToValidUTF8(text[:min(len(text), cutCause)], "")
	return executor.EncodeError(fmt.Errorf("%w: %s …", ctx.Err(), text))
}

// insist waits until answered is closed, and gives up a server that gives no sign of life.
func (c *conn) insist(answered <-chan struct{}) {
	t := time.NewTicker(c.quiet)
	defer t.Stop()
	for {
		before := c.signs.Load()
		_ = c.out.frame(wire.Header{Kind: wire.KindPing}, nil, behind)
		select {
		case <-answered:
			return
		case <-t.C:
		}
		if c.signs.Load() == before {
			c.fail(fmt.Errorf("%w: it has given no sign of life for %v", ErrLost, c.quiet))
			return
		}
	}
}

// answer makes of an answer what the call returns.
func (c *conn) answer(ctx context.Context, f wire.Frame, results func(*reader) error) error {
	switch f.Kind {
	case wire.KindSkipped:
		if ctx.Err() != nil {
			return remote.Ended(ctx)
		}
		return fmt.Errorf("%w: it ends", ErrLost)
	case wire.KindError:
		return executor.DecodeError(f.Payload)
	}
	r := reader{b: f.Payload, at: c}
	if f.Flags&flagRefs != 0 {
		refs := r.refs()
		c.received(refs)
		defer c.unpin(refs)
	}
	if results == nil {
		return r.end()
	}
	err := results(&r)
	if err == nil && r.err != nil {
		err = r.err
	}
	return err
}
