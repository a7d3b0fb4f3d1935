package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"weak"

	"golang.org/x/sys/unix"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/segment"
)

// A lifeline is a descriptor of a socket that belongs to one end of a pipe. Each Conn has one
// of its end's, and one goes along with each that travels; when the last is gone, however its
// process went, the system hangs the other end up. So a lifeline tells when nobody is left
// over there. Descriptors that belong to messages go over it, too.
//
// It does not keep the handle that it belongs to.
type lifeline struct {
	file   *os.File
	conn   syscall.RawConn
	look   func(fd uintptr)
	gone   atomic.Bool // nobody is left over there; for ever
	litter atomic.Bool // there is something to be read, as it was last seen
	once   sync.Once   // guards the beginning of run
	owner  weak.Pointer[segment.Handle]
}

// newLifelines returns a connected pair.
func newLifelines() ([2]*lifeline, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return [2]*lifeline{}, fmt.Errorf("socketpair: %w", err)
	}
	a, err := openLifeline(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return [2]*lifeline{}, err
	}
	b, err := openLifeline(fds[1])
	if err != nil {
		a.close()
	}
	return [2]*lifeline{a, b}, err
}

// openLifeline returns the lifeline of fd, which it owns, error or not.
func openLifeline(fd int) (*lifeline, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	kind, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err = errors.Join(err, err2); err == nil && (domain != unix.AF_UNIX || kind != unix.SOCK_SEQPACKET) {
		err = fmt.Errorf("it has a socket of domain %d and type %d", domain, kind)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	l := &lifeline{file: os.NewFile(uintptr(fd), "pipe")}
	if l.conn, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, err
	}
	l.look = l.lookAt // made once: it is needed with every message
	return l, nil
}

func (l *lifeline) close() {
	if l != nil {
		l.file.Close()
	}
}

func (l *lifeline) belongsTo(h *segment.Handle) { l.owner = weak.Make(h) }

func (l *lifeline) lookAt(fd uintptr) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); err != nil || n < 0 {
		return
	}
	if p[0].Revents&(unix.POLLHUP|unix.POLLNVAL) != 0 {
		l.gone.Store(true)
	}
	if litter := p[0].Revents&(unix.POLLIN|unix.POLLHUP) == unix.POLLIN; litter != l.litter.Load() {
		l.litter.Store(litter)
	}
}

// hungUp reports whether nobody has the other end any more.
func (l *lifeline) hungUp() bool {
	if !l.gone.Load() {
		_ = l.conn.Control(l.look) // once it is closed, so is the handle
	}
	return l.gone.Load()
}

// littered reports whether there were descriptors at the last look.
func (l *lifeline) littered() bool { return l.litter.Load() }

// watch has those who wait look again when nobody is left over there.
func (l *lifeline) watch() {
	l.once.Do(func() { go l.run() })
}

// run ends when the other end hangs up, or l is closed.
func (l *lifeline) run() {
	err := l.conn.Read(func(fd uintptr) bool {
		l.lookAt(fd)
		return l.gone.Load()
	})
	h := l.owner.Value()
	if err != nil || h == nil || !h.Use() {
		return
	}
	for _, k := range []segment.Bell{bellHere, bellRoomHere, bellThere, bellRoomThere} {
		h.RingOne(h.Me, k)
	}
	h.Release()
}

// export returns another descriptor of the same end.
func (l *lifeline) export() (fd int, err error) {
	err = errors.Join(l.conn.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	}), err)
	return fd, err
}

// The descriptors of a message go over the socket in a packet:
//
//	number of the message, tag        8 bytes each, the lowest first
//	for each handle                   its ID, and how many descriptors it has
const (
	packetHead = 16
	packetItem = 16 + 1
)

// send sends the descriptors of message t, and reports false if there is no room. The caller
// has the lock of those who put.
func (l *lifeline) send(t, tag uint64, load *carry.Load) (sent bool, err error) {
	b := binary.LittleEndian.AppendUint64(nil, t)
	b = binary.LittleEndian.AppendUint64(b, tag)
	for _, it := range load.Items {
		b = append(append(b, it.ID[:]...), byte(len(it.FDs)))
	}
	rights := unix.UnixRights(load.Files()...)
	cerr := l.conn.Control(func(fd uintptr) {
		for {
			err = unix.Sendmsg(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	switch {
	case cerr != nil:
		return false, ErrClosed
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return false, io.ErrClosedPipe
	case err != nil:
		return false, fmt.Errorf("sending descriptors: %w", err)
	}
	return true, nil
}

// mostLitter is more packets than there can be: an empty one looks like the end.
const mostLitter = 4096

var errNoFiles = errors.New("its descriptors did not come along")

// receive returns the descriptors of message t. What is before them in the socket was left by
// who died over it. sent is how many messages there have been. The caller has the lock of
// those who take.
func (l *lifeline) receive(t, tag, sent uint64) (load *carry.Load, err error) {
	cerr := l.conn.Control(func(s uintptr) {
		fd := int(s)
		for i := 0; load == nil && err == nil; i++ {
			var head [packetHead]byte
			n, e := retry(func() (int, error) {
				n, _, e := unix.Recvfrom(fd, head[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
				return n, e
			})
			if e != nil || i == mostLitter {
				err = errNoFiles
				return
			}
			number := binary.LittleEndian.Uint64(head[:])
			if n == packetHead && number > t && number < sent {
				err = errNoFiles // they are of a later one
				return
			}
			got, e := packet(fd)
			if n != packetHead || number != t || binary.LittleEndian.Uint64(head[8:]) != tag {
				got.Close()
				continue
			}
			load, err = got, e
		}
	})
	if cerr != nil {
		return nil, ErrClosed
	}
	return load, err
}

// clear throws all away that there is.
func (l *lifeline) clear() {
	_ = l.conn.Control(func(s uintptr) {
		var none [1]byte
		for range mostLitter {
			if _, err := retry(func() (int, error) {
				n, _, err := unix.Recvfrom(int(s), none[:], unix.MSG_DONTWAIT) // descriptors nobody asks for are closed
				return n, err
			}); err != nil {
				break
			}
		}
		l.lookAt(s)
	})
}

// packet reads a packet.
func packet(fd int) (*carry.Load, error) {
	b := make([]byte, packetHead+maxFiles*packetItem)
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	var oobn, flags int
	n, err := retry(func() (n int, err error) {
		n, oobn, flags, _, err = unix.Recvmsg(fd, b, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("receiving descriptors: %w", err)
	}
	fds, err := rights(oob[:oobn])
	load := new(carry.Load)
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0:
		err = errors.New("this process cannot have more descriptors")
	case flags&unix.MSG_TRUNC != 0 || n < packetHead || (n-packetHead)%packetItem != 0:
		err = errDamaged
	default:
		load.Items, err = items(b[packetHead:n], fds)
	}
	if err != nil {
		carry.CloseAll(fds)
		return nil, fmt.Errorf("receiving descriptors: %w", err)
	}
	return load, nil
}

// items gives to each handle in b its descriptors.
func items(b []byte, fds []int) (all []carry.Item, err error) {
	for ; len(b) > 0; b = b[packetItem:] {
		n := int(b[16])
		if n == 0 || n > len(fds) {
			return nil, errDamaged
		}
		all = append(all, carry.Item{ID: carry.ID(b[:16]), FDs: fds[:n:n]})
		fds = fds[n:]
	}
	if len(fds) > 0 {
		return nil, errDamaged
	}
	return all, nil
}

// rights returns the descriptors that came with a packet.
func rights(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	for i := range messages {
		got, e := unix.ParseUnixRights(&messages[i])
		fds = append(fds, got...)
		err = errors.Join(err, e)
	}
	return fds, err
}

// retry calls fn until it was not interrupted. A socket says once that its other end went
// with something unread.
func retry(fn func() (int, error)) (int, error) {
	for {
		n, err := fn()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNRESET) {
			return n, err
		}
	}
}
