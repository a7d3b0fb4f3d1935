package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/segment"
)

// A Conn is one end of a pipe, over which values go to the other end: see [Pipe].
//
// A message is there as a whole or not at all, whoever sends and receives at the same time
// and whoever is killed over it. Several goroutines and processes may have the same end: each
// message goes to one of them.
//
// Values travel as those of a task's argument do. A handle in one, such as a [Queue] or
// another Conn, goes along, and is the receiver's.
//
// A Conn is safe for concurrent use, in and between processes. It is a handle: see the
// package on how it travels and who closes it. An end is closed everywhere when each process
// that had it has closed it, dropped it or died, and it is not on its way to one.
//
// Reference: multiprocessing.connection.Connection (Python 3.14), over which two senders, or
// one that is killed half-way, mix up messages.
type Conn[T any] struct {
	object
	codec   codec[T]
	line    *lifeline
	in, out *ring // nil: it does not go this way
	side    uint8
}

// The bells of a pipe: two for each direction.
const (
	bellHere segment.Bell = iota // for an item of the ring to side 0
	bellRoomHere
	bellThere // to side 1
	bellRoomThere
)

// pipeSlots is how many small messages a pipe buffers in each direction.
const pipeSlots = 4096

// Pipe returns the two ends of a new pipe. If it is duplex, both send and receive; otherwise
// a receives what b sends.
//
// It buffers 4,096 messages of up to 4 KiB in each direction; among them 16 larger ones, of up
// to 1 GiB, with up to 4 MiB together, or two that have more.
//
// Errors: a T that cannot be sent, whose field at fault the error names; what the system
// answers when there is no memory or no descriptor left.
//
// Reference: multiprocessing.Pipe (Python 3.14).
func Pipe[T any](duplex bool) (a, b *Conn[T], err error) {
	c, err := newCodec[T](true)
	if err != nil {
		return nil, nil, fmt.Errorf("ipc: new pipe: %w", err)
	}
	params := [segment.Params]uint64{pipeSlots, 1}
	if duplex {
		params[1] = 2
	}
	spec, err := pipeSpec(params)
	if err != nil {
		return nil, nil, fmt.Errorf("ipc: new pipe: %w", err)
	}
	spec.Sig = c.sig
	lines, err := newLifelines()
	if err != nil {
		return nil, nil, fmt.Errorf("ipc: new pipe: %w", err)
	}
	defer func() {
		if err != nil {
			lines[0].close()
			lines[1].close()
		}
	}()
	a, b = &Conn[T]{codec: c}, &Conn[T]{codec: c}
	if err := a.create("pipe", spec, nil); err != nil {
		return nil, nil, err
	}
	if b.h, err = second(a.h, spec); err != nil {
		a.h.Close()
		return nil, nil, fmt.Errorf("ipc: new pipe: %w", err)
	}
	a.bind(lines[0], 0, params)
	b.bind(lines[1], 1, params)
	return a, b, nil
}

// second returns another handle of the object of h.
func second(h *segment.Handle, spec segment.Spec) (*segment.Handle, error) {
	fds, err := h.Export()
	if err != nil {
		return nil, err
	}
	h.Exported()
	return segment.Open(fds[0], spec.Kind, spec.Sig, pipeSpec)
}

// pipeSpec returns what a pipe is made of. params are how many slots a ring has, and how many
// rings there are: the first goes from side 1 to side 0, the second the other way.
func pipeSpec(params [segment.Params]uint64) (segment.Spec, error) {
	if params[0] != pipeSlots || params[1] < 1 || params[1] > 2 {
		return segment.Spec{}, fmt.Errorf("a pipe with %d rings of %d", params[1], params[0])
	}
	body, beyond, err := ringLen(params[0])
	n := params[1]
	return segment.Spec{Kind: kindPipe, Params: params, Body: int(n) * body, Beyond: int64(n) * beyond, Bury: buryPipe}, err
}

func buryPipe(s *segment.Segment, i int) {
	body, _, _ := ringLen(pipeSlots)
	for base := 0; base < len(s.Body); base += body {
		buryRing(s, i, base)
	}
}

// bind makes c, which has its object, the end of a side.
func (c *Conn[T]) bind(line *lifeline, side uint8, params [segment.Params]uint64) {
	body, beyond, _ := ringLen(params[0])
	c.line, c.side = line, side
	rings := [2]*ring{}
	for i := range int(params[1]) {
		r := newRing(c.h, params[0], i*body, c.h.Beyond()+int64(i)*beyond)
		r.pipe, r.line = true, line
		r.getters, r.putters = bellHere, bellRoomHere
		if i == 1 {
			r.getters, r.putters = bellThere, bellRoomThere
		}
		rings[i] = &r
	}
	c.in, c.out = rings[side], rings[1-side]
	line.belongsTo(c.h)
	runtime.AddCleanup(c.h, (*lifeline).close, line)
}

// newTag returns what tells the descriptors of a message from all others.
func newTag() uint64 { return rand.Uint64()>>8 | 1 }

var (
	errReceives = errors.New("ipc: send: this end of a one-way pipe only receives")
	errSends    = errors.New("ipc: receive: this end of a one-way pipe only sends")
)

// Send waits until there is room, and sends v. When it returns, v is there to be received,
// whether or not this process lives on. Handles in v are the sender's own to close.
//
// Errors: what keeps v from being encoded, the panic of its own methods and a closed handle
// among it, or more than 253 descriptors; one that matches ctx.Err() when ctx ends first;
// [io.ErrClosedPipe] once the other end is closed everywhere; [ErrClosed]; an end that only
// receives; no memory left. With an error nothing was sent. Where there is room, v is sent
// also under a ctx that has ended.
func (c *Conn[T]) Send(ctx context.Context, v T) error {
	if !c.use() {
		return ErrClosed
	}
	defer c.h.Release()
	switch {
	case c.out == nil:
		return errReceives
	case c.line.hungUp():
		return io.ErrClosedPipe
	}
	var p parcel
	if err := c.codec.pack(v, &p); err != nil {
		return failed("send", err)
	}
	o, err := c.out.tryPut(&p)
	if o != done && err == nil {
		c.line.watch()
		err = c.out.put(ctx, &p, nil)
	}
	p.load.Close()
	return ended("send", err)
}

// Recv waits for a message and takes it.
//
// Errors: one that matches ctx.Err() when ctx ends first; [io.EOF] once the other end is
// closed everywhere and all that was sent has been received; [ErrClosed]; an end that only
// sends. With those nothing was taken. A message that cannot be decoded is an error, too, and
// gone. Where there is a message, it is taken also under a ctx that has ended.
func (c *Conn[T]) Recv(ctx context.Context) (v T, err error) {
	if !c.use() {
		return v, ErrClosed
	}
	if c.in == nil {
		c.h.Release()
		return v, errSends
	}
	var p parcel
	from := &p
	o, err := c.in.tryGet(&p)
	if o != done && err == nil {
		c.line.watch()
		from, err = c.in.get(ctx, nil)
	}
	c.h.Release()
	if err == nil {
		v, err = c.codec.unpack(from)
	}
	return v, ended("receive", err)
}

// Poll waits until [Conn.Recv] would not wait, because there is a message or there will never
// be one, and returns true; if ctx ends first, false and no error. It takes nothing: somebody
// else may take the message before who was told of it.
//
// Errors: [ErrClosed]; an end that only sends.
func (c *Conn[T]) Poll(ctx context.Context) (bool, error) {
	if !c.use() {
		return false, ErrClosed
	}
	defer c.h.Release()
	if c.in == nil {
		return false, errSends
	}
	if ready, err := c.ready(); ready || err != nil {
		return ready, err
	}
	if ctx.Err() != nil {
		return false, nil
	}
	c.line.watch()
	err := c.h.Await(ctx, segment.Wait{
		Bell:   c.in.getters,
		Try:    c.ready,
		Glance: c.in.filled,
		More:   c.in.filled,
	})
	if err != nil && !errors.Is(err, ErrClosed) && ctx.Err() != nil {
		return false, nil
	}
	return err == nil, ended("poll", err)
}

// ready reports whether Recv would not wait.
func (c *Conn[T]) ready() (bool, error) {
	if !c.in.empty() {
		return true, nil
	}
	o, err := c.in.ended()
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return o == busy, err
}

// Close lets go of this process's handle and wakes who waits on it. The other end hears of it
// when nobody else has this one. What was sent is there to be received. Close may be called
// again.
func (c *Conn[T]) Close() error {
	if c.h != nil {
		c.h.Close()
		c.line.close()
	}
	return nil
}

// Export is for the encoders of this module.
func (c *Conn[T]) Export() ([]int, error) {
	fds, err := c.object.Export()
	if err != nil {
		return nil, err
	}
	fd, err := c.line.export()
	if err != nil {
		c.Exported()
		carry.CloseAll(fds)
		return nil, failed("a Conn cannot be sent", err)
	}
	return append(fds, fd), nil
}

// GobEncode is for the encoders of this module.
func (c *Conn[T]) GobEncode() ([]byte, error) {
	if c == nil {
		return nil, errNil("Conn")
	}
	b, err := c.encode("Conn")
	return append(b, c.side), err
}

// GobDecode is for the decoders of this module.
func (c *Conn[T]) GobDecode(b []byte) (err error) {
	defer func() { err = failed("a Conn that came from another process", err) }()
	fds, rest, err := claim("Conn", b, 2)
	if err != nil {
		return err
	}
	line, err := openLifeline(fds[1])
	if err != nil {
		carry.CloseAll(fds[:1])
		return err
	}
	var got Conn[T]
	if got.codec, err = newCodec[T](true); err == nil && (len(rest) != 1 || rest[0] > 1) {
		err = fmt.Errorf("it has a side of %x", rest)
	}
	if err != nil {
		carry.CloseAll(fds[:1])
		line.close()
		return err
	}
	var params [segment.Params]uint64
	got.h, err = segment.Open(fds[0], kindPipe, got.codec.sig, func(p [segment.Params]uint64) (segment.Spec, error) {
		params = p
		return pipeSpec(p)
	})
	if err != nil {
		line.close()
		return err
	}
	*c = got
	c.bind(line, rest[0], params)
	return nil
}
