package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/wire"
)

// A proxy travels to another process of this machine with one descriptor. Where the sender has
// a socket to its server, or is the server, that is one end of a pair of sockets, whose other
// end the server has:
//
//	sender     makes the pair, writes a token into the server's end, where it stays, and has
//	           the server adopt that end: the object is counted under the token until nobody
//	           has the other end any more
//	receiver   looks at the token, and claims the object by the connection that it has to the
//	           manager already; if it has none, it makes another pair, and sends one end of that
//	           to the server, through the one that came
//
// All that come with copies of one proxy may use one descriptor, at the same time.
//
// Where the server is somewhere else, the descriptor is memory that tells where, with a ticket
// that is good for a minute.

// pair returns two sockets that are connected.
func pair() (a, b int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, -1, os.NewSyscallError("socketpair", err)
	}
	return fds[0], fds[1], nil
}

// socketOf returns the socket behind fd, which it owns, error or not.
func socketOf(fd int) (*carry.Socket, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "manager")
	s, err := carry.NewSocket(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

// local returns a client's end of a new connection to s, in this process.
func (s *server) local(methods bool) (io.ReadWriteCloser, error) {
	a, b, err := pair()
	if err != nil {
		return nil, err
	}
	server, err := socketOf(a)
	if err != nil {
		_ = unix.Close(b)
		return nil, err
	}
	client, err := socketOf(b)
	if err != nil {
		_ = server.Close()
		return nil, err
	}
	p := newGuest(s, server)
	p.methods = methods
	s.welcome(p, nil)
	return client, nil
}

// travelTime is how long a server may take to adopt a socket, or let claim what it is for.
const travelTime = 30 * time.Second

func (h *handle) export() ([]int, error) {
	c := h.conn
	h.marks.Add(1)
	fd, err := c.export(h.id)
	if err != nil {
		h.marks.Add(-1)
		return nil, err
	}
	return []int{fd}, nil
}

func (c *conn) export(id uint64) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), travelTime)
	defer cancel()
	s, ok := c.raw.(*carry.Socket)
	if !ok && c.serve == nil {
		return c.exportTicket(ctx, id)
	}
	a, b, err := pair()
	if err != nil {
		return -1, err
	}
	t := newToken()
	_, err = unix.Write(a, t[:])
	switch {
	case err != nil:
		_ = unix.Close(a)
	case c.serve != nil:
		err = c.serve.adopted(a, t, id)
	default:
		w := newWriter()
		w.uint(id)
		w.bytes(t[:])
		err = c.roundTrip(ctx, wire.Header{Kind: wire.KindAdopt, Flags: wire.FlagCarry}, w, func(h wire.Header, w *writer) error {
			return c.out.handOver(s, h, w, a)
		}, nil)
		_ = unix.Close(a)
	}
	if err != nil {
		_ = unix.Close(b)
		return -1, err
	}
	return b, nil
}

// handOver sends a frame with a descriptor.
func (o *outbox) handOver(s *carry.Socket, h wire.Header, w *writer, fd int) error {
	var unsent error
	err := o.alone(func(before []byte) error {
		if len(before) > 0 {
			if _, err := o.w.Write(before); err != nil {
				return err
			}
		}
		h.Files = 1
		err := s.Send(wire.Append(nil, h, w.b), []int{fd})
		if errors.As(err, new(*carry.UnsentError)) {
			unsent, err = err, nil
		}
		return err
	})
	if err == nil {
		err = unsent
	}
	return err
}

// adopt takes a socket for a proxy that travels.
func (p *guest) adopt(f wire.Frame) error {
	defer f.Along.Close() // what is left
	r := reader{b: f.Payload, by: p}
	id := r.uint()
	var t token
	copy(t[:], r.bytes())
	if err := r.end(); err != nil {
		return err
	}
	r.hold([]uint64{id})
	defer r.done()
	w := newWriter()
	err := r.err
	switch {
	case err != nil:
	case f.Along == nil:
		w.free()
		return errBadRequest
	case f.Along.Lost || len(f.Along.FDs) != 1:
		err = carry.ErrLost
	default:
		fd := f.Along.FDs[0]
		f.Along.FDs = nil
		err = p.srv.adopted(fd, t, id)
	}
	return p.answer(f.Seq, w, err, later)
}

// adopted waits at fd, which the server owns, error or not, for those who want a connection,
// and for the end.
func (s *server) adopted(fd int, t token, id uint64) error {
	socket, err := socketOf(fd)
	if err != nil {
		return err
	}
	if err := s.depart(t, id, func() { _ = socket.Close() }); err != nil {
		_ = socket.Close()
		return err
	}
	s.wg.Go(func() { // ends when nobody has the other end, or with the server
		defer func() {
			_ = socket.Close()
			socket.Drop()
			s.arrive(t)
		}()
		in := newReader(socket, 0)
		for {
			f, err := in.Next()
			if err != nil || f.Kind != wire.KindAdopt || f.Along == nil {
				f.Along.Close()
				return
			}
			for _, fd := range f.Along.FDs {
				if c, err := socketOf(fd); err == nil {
					s.admit(c, nil)
				}
			}
		}
	})
	return nil
}

// imported returns a handle of what came with fds, which it owns.
func imported(at place, name string, fds []int) (*handle, error) {
	if len(fds) != 1 {
		carry.CloseAll(fds)
		return nil, fmt.Errorf("%d descriptors came along, not 1", len(fds))
	}
	fd := fds[0]
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	var t token
	dial := func(ctx context.Context) (*conn, error) { return dialThrough(ctx, fd) }
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		k, err := readTicket(fd, st.Size)
		if err != nil {
			return nil, err
		}
		t, dial = k.token, k.dial
	} else if n, _, err := unix.Recvfrom(fd, t[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); err != nil || n != len(t) {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), travelTime)
	defer cancel()
	for again := true; ; again = false {
		c, err := reach(ctx, at.id, dial)
		if err != nil {
			return nil, err
		}
		h, err := c.claim(ctx, at.object, t, name)
		dead := err != nil && !c.alive()
		c.unpinned()
		if dead && again { // nobody had noticed
			continue
		}
		return h, err
	}
}

// dialling is held by who makes a connection for a proxy that has come.
var dialling sync.Mutex

// find returns a connection to a manager that works, which does not end before unpinned; nil
// if there is none.
func (a *atlasOf) find(id managerID) *conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.conns[id] {
		if c.alive() {
			c.pins++
			return c
		}
	}
	return nil
}

// alive reports whether the connection works.
func (c *conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil
}

// unpinned takes back what find has done.
func (c *conn) unpinned() {
	atlas.mu.Lock()
	c.pins--
	ends := c.spent()
	atlas.mu.Unlock()
	if ends {
		c.fail(errSpent)
	}
}

// reach returns a connection to a manager, for one use, which ends with unpinned.
func reach(ctx context.Context, id managerID, dial func(context.Context) (*conn, error)) (*conn, error) {
	if c := atlas.find(id); c != nil {
		return c, nil
	}
	dialling.Lock()
	defer dialling.Unlock()
	if c := atlas.find(id); c != nil {
		return c, nil
	}
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	if c.id != id {
		c.fail(errOther)
		return nil, errOther
	}
	atlas.mu.Lock()
	c.pins++
	atlas.mu.Unlock()
	atlas.add(c)
	return c, nil
}

// claim returns a handle of an object that travels.
func (c *conn) claim(ctx context.Context, object uint64, t token, name string) (h *handle, err error) {
	err = c.call(ctx, 0, opClaim, func(w *writer) { w.bytes(t[:]) }, func(r *reader) error {
		id := r.uint()
		if err := r.end(); err != nil {
			return err
		}
		if id != object {
			return fmt.Errorf("%w: another object came", errBadRequest)
		}
		h = c.handle(id, name)
		return nil
	})
	return h, err
}

// dialThrough makes a connection through a socket that came with a proxy.
func dialThrough(ctx context.Context, fd int) (*conn, error) {
	a, b, err := pair()
	if err != nil {
		return nil, err
	}
	client, err := socketOf(b)
	if err != nil {
		_ = unix.Close(a)
		return nil, err
	}
	h := wire.Header{Kind: wire.KindAdopt, Flags: wire.FlagCarry, Files: 1}
	err = unix.Sendmsg(fd, wire.Append(nil, h, nil), unix.UnixRights(a), nil, unix.MSG_NOSIGNAL)
	_ = unix.Close(a)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("%w: %w", ErrLost, os.NewSyscallError("sendmsg", err))
	}
	return newConn(ctx, client, mostMessage) // its server says what can be sent
}
