package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
	"example.com/futures/ipc"
)

// A conn is a client's half of a connection: of a Manager, or of a process that got one with a
// proxy. Its calls go out by its outbox. While calls wait, one goroutine reads the answers and
// hands each to who waits for it: that of a call which found no other under way, since to wake it
// costs more than the call does, or else one that is there for it.
//
// While the server cannot write it does not read either, so that a write of this side may have to
// wait until an answer has been read. That always comes to pass, since
//   - nobody writes, or waits for a turn to, who has the role of the reader: a call takes it when
//     its request is out, or left to another who writes;
//   - whoever finds another call under way, and the role free, starts the reader before it writes.
//     So, with two calls or more somebody reads;
//   - a call that is the only one may write while nobody reads. Its request is then the last in
//     what it writes, and until all of that has been written there is nothing to answer, so that
//     the server reads.
//
// The role goes from hand to hand:
//
//	nobody ── a call, alone ──▶ caller ── it has its answer, others wait ──▶ reader
//	   ▲ ▲                        │                                          │
//	   │ └── nobody else waits ───┘                                          │
//	   └──── for a while no two calls were under way at a time ──────────────┘
type conn struct {
	raw   io.ReadWriteCloser
	in    *wire.Reader
	out   *outbox
	id    managerID
	limit int64          // of an argument
	wg    sync.WaitGroup // of the reader
	owned bool           // by a Manager: it ends with that, else with the last proxy
	serve *server        // of this process, if that is the other side
	how   *dialled       // nil: there is no address
	signs atomic.Uint64  // of life: grows with what is read, and with what the other side must have taken
	quiet time.Duration  // patience, but in tests

	mu     sync.Mutex // guards the fields below
	seq    uint64
	calls  map[uint64]*waiting
	reads  role
	steady bool          // there is always a reader
	lone   int           // how many calls in a row were alone, while there was a reader
	idle   chan struct{} // closed when there are no calls; nil: nobody asks. No new ones then
	err    error         // why it is over

	objects map[uint64]*local // atlas.mu guards it
	pins    int               // likewise: that keep it from ending with its last proxy
}

// A role is who reads.
type role uint8

const (
	nobody role = iota
	caller
	reading
)

// mostLone is after how many calls alone the reader stops.
const mostLone = 16

// dialled is how a connection was made.
type dialled struct{ network, addr string }

// A waiting is a call that waits for its answer.
type waiting struct {
	ready chan struct{} // gets one token
	over  chan struct{} // closed when it was answered, if somebody watches; nil: to be made
	leads bool          // it reads itself. conn.mu guards it until there is an answer
	f     wire.Frame
	err   error
}

var waitings = sync.Pool{New: func() any { return &waiting{ready: make(chan struct{}, 1)} }}

// vanishTime is how long a TCP peer may be silent that does not even acknowledge.
const vanishTime = 15 * time.Second

// keepAlive sees to it that a TCP peer whose machine or network is gone is noticed, in about
// vanishTime.
func keepAlive(raw io.ReadWriteCloser) {
	s, ok := raw.(*session)
	if !ok {
		return
	}
	if c, ok := s.raw.(*net.TCPConn); ok {
		// An error leaves it as the system has it.
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: vanishTime / 3, Interval: vanishTime / 3, Count: 2})
		limitSilence(c)
	}
}

// newConn greets the server at the other end of raw, which the conn owns, error or not.
func newConn(ctx context.Context, raw io.ReadWriteCloser, limit int64) (*conn, error) {
	c := &conn{
		raw: raw, quiet: patience,
		calls: map[uint64]*waiting{}, objects: map[uint64]*local{},
	}
	c.in, c.out = newReaderFrom((*pulse)(c), raw, greetingMost), newOutbox((*pulse)(c))
	unwatch := context.AfterFunc(ctx, func() { _ = raw.Close() })
	err := c.greet(limit)
	if !unwatch() {
		err = remote.Ended(ctx)
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	if _, ok := raw.(piped); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.steady = true
		c.startReader()
	}
	return c, nil
}

// A pulse is a conn's raw connection, and notes the signs of life.
type pulse conn

// Read is io.Reader's.
func (p *pulse) Read(b []byte) (int, error) {
	n, err := p.raw.Read(b)
	p.signs.Add(uint64(n))
	return n, err
}

// pulsePart is how much is written at a time, to see that it goes on. Less than that is no sign:
// the system takes it, whether the other side does or not.
const pulsePart = 128 << 10

// Write is io.Writer's.
func (p *pulse) Write(b []byte) (written int, err error) {
	for len(b) > pulsePart {
		n, err := p.raw.Write(b[:pulsePart])
		written += n
		if err != nil {
			return written, err
		}
		p.signs.Add(uint64(n))
		b = b[n:]
	}
	n, err := p.raw.Write(b)
	return written + n, err
}

// A piped is an end of a net.Pipe, into which nobody can write while nobody reads.
type piped struct{ net.Conn }

func (c *conn) greet(limit int64) error {
	mine := greeting{pid: os.Getpid(), limit: limit}
	if err := c.out.frame(mine.header(wire.KindSetup), mine.append(nil), now); err != nil {
		return err
	}
	f, err := c.in.Next()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLost, noEOF(err))
	}
	theirs, err := parseGreeting(f, wire.KindHello)
	if err != nil {
		return err
	}
	c.id, c.limit = theirs.id, min(limit, theirs.limit)
	c.in.SetLimit(limit + wire.ErrorAllowance)
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// read is the reader. It ends when it is not needed, or with the connection.
func (c *conn) read() {
	defer c.wg.Done()
	for c.next() && !c.unneeded() {
	}
}

// unneeded reports whether the reader is to end.
func (c *conn) unneeded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) > 0 || c.lone < mostLone || c.steady {
		return false
	}
	c.reads = nobody
	return true
}

// lead reads until me has its answer, and sees to it that somebody reads then who is to.
func (c *conn) lead(me *waiting) {
	for len(me.ready) == 0 && c.next() {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads = nobody
	if len(c.calls) > 0 {
		c.startReader()
	}
}

// startReader starts the reader. mu is held.
func (c *conn) startReader() {
	c.reads, c.lone = reading, 0
	c.wg.Add(1)
	go c.read()
}

// next reads a frame, and reports false if the connection is over. It is for who has the role.
func (c *conn) next() bool {
	f, err := c.in.Next()
	if err != nil {
		c.fail(c.lost(err))
		if s, ok := c.raw.(*carry.Socket); ok {
			s.Drop()
		}
		return false
	}
	f.Along.Close() // there are none for a client
	switch f.Kind {
	case wire.KindAnswer, wire.KindError, wire.KindSkipped:
		c.mu.Lock()
		w := c.calls[f.Seq]
		delete(c.calls, f.Seq)
		c.settled()
		mine := w != nil && w.leads
		c.mu.Unlock()
		if w != nil {
			w.f = f
			w.ready <- struct{}{} // w is another's from here on
			if !mine && !c.in.Ready() {
				runtime.Gosched() // those who wait go first, before a read that finds nothing
			}
		}
	case wire.KindPong:
	default:
		c.fail(c.lost(fmt.Errorf("it sent a frame of kind %d", f.Kind)))
	}
	return true
}

// settled tells who waits for the end of all calls. mu is held.
func (c *conn) settled() {
	if c.idle != nil && len(c.calls) == 0 {
		select {
		case <-c.idle:
		default:
			close(c.idle)
		}
	}
}

// lost returns why calls fail after err.
func (c *conn) lost(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return ErrLost
	default:
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
}

// fail ends the connection: all calls fail with err, and later ones too.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	err = c.err
	calls := c.calls
	c.calls = nil
	c.settled()
	c.mu.Unlock()
	_ = c.raw.Close()
	for _, w := range calls {
		w.err = err
		w.ready <- struct{}{}
	}
}

// close ends the connection, and the proxies of it, and waits until nobody reads.
func (c *conn) close() {
	c.fail(ipc.ErrClosed)
	c.wg.Wait()
	atlas.remove(c)
}

// drain waits until no call is under way. New ones are answered ipc.ErrClosed.
func (c *conn) drain(ctx context.Context) error {
	c.mu.Lock()
	if c.idle == nil {
		c.idle = make(chan struct{})
		c.settled()
	}
	idle := c.idle
	c.mu.Unlock()
	return await(ctx, idle)
}

// await waits for the end of what ends idle. If it has come, ctx does not matter.
func await(ctx context.Context, idle <-chan struct{}) error {
	select {
	case <-idle:
		return nil
	default:
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return remote.Ended(ctx)
	}
}

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
