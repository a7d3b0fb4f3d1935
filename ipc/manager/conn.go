package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

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
