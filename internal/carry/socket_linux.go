package carry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// A Socket is a stream socket over which descriptors go along with frames. Reads are for
// one goroutine at a time, and so are writes.
//
// The kernel hands descriptors over with the first byte of what they were sent with, and
// no read goes on beyond that. So whoever has read the header of a frame has all that came
// with it, in order; what is there and was announced by no frame is nobody's.
//
//	frame    = header, payload         a header says how many descriptors come along
//	sendmsg    1 byte + 253 descriptors, 1 byte + 253 …, the rest of the frame + the rest of them
type Socket struct {
	*os.File
	conn syscall.RawConn

	// Of who reads.
	receive func(fd uintptr) bool
	to      []byte
	n       int
	err     error
	oob     [64 + 4*perPart]byte // for the descriptors of a part, and the header before them
	arrived []Files              // by part, oldest first
}

// NewSocket returns the Socket of f, which keeps its other methods.
func NewSocket(f *os.File) (*Socket, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{File: f, conn: conn}
	s.receive = s.recvmsg
	return s, nil
}

// errStray reports descriptors that nobody has asked for.
var errStray = errors.New("descriptors that come with nothing")

// Read reads bytes, and keeps the descriptors that come with them for Take.
func (s *Socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.to, s.n, s.err = b, 0, nil
	err := s.conn.Read(s.receive)
	s.to = nil
	if err == nil {
		err = s.err
	}
	switch {
	case err != nil:
		return max(s.n, 0), err
	case s.n == 0:
		return 0, io.EOF
	case len(s.arrived) > parts:
		return s.n, errStray // before they fill up this process
	}
	return s.n, nil
}

func (s *Socket) recvmsg(fd uintptr) bool {
	var extra, flags int
	for {
		s.n, extra, flags, _, s.err = syscall.Recvmsg(int(fd), s.to, s.oob[:], syscall.MSG_CMSG_CLOEXEC)
		if !errors.Is(s.err, syscall.EINTR) {
			break
		}
	}
	switch {
	case s.err == nil:
	case errors.Is(s.err, syscall.EAGAIN):
		return false
	default:
		s.err = os.NewSyscallError("recvmsg", s.err)
		return true
	}
	if extra > 0 || flags&syscall.MSG_CTRUNC != 0 {
		s.keep(s.oob[:extra], flags&syscall.MSG_CTRUNC != 0)
	}
	return true
}

// Await waits until there is something to read, or the end, and takes nothing of it. It may
// be called while somebody reads. The socket is a blocking one.
func (s *Socket) Await() error { _, err := s.poll(nil); return err }

// Ready reports whether there is something to read, or the end.
func (s *Socket) Ready() (bool, error) { return s.poll(new(syscall.Timespec)) }

// A pollFD is struct pollfd. This package does with the standard library, and so has it itself.
type pollFD struct {
	fd              int32
	events, revents int16
}

const pollIn = 1 // POLLIN; an end is told in any case

// poll is ppoll(2). Without a timeout it waits.
func (s *Socket) poll(timeout *syscall.Timespec) (ready bool, err error) {
	var errno syscall.Errno
	err = s.conn.Control(func(fd uintptr) {
		p := pollFD{fd: int32(fd), events: pollIn}
		for {
			var n uintptr
			n, _, errno = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
			if ready = errno == 0 && n > 0; errno != syscall.EINTR {
				return
			}
		}
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("ppoll", errno)
	}
	return ready, err
}

// keep notes the descriptors of a part. Where there was no room for any of them, that is
// noted too, so that those behind it find theirs.
func (s *Socket) keep(oob []byte, lost bool) {
	part := Files{Lost: lost}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		part.Lost = true
	}
	for i := range msgs {
		if fds, err := syscall.ParseUnixRights(&msgs[i]); err == nil {
			part.FDs = append(part.FDs, fds...)
		}
	}
	s.arrived = append(s.arrived, part)
}

// Waiting returns how many parts with descriptors have arrived and were not taken.
func (s *Socket) Waiting() int { return len(s.arrived) }

// Take returns the n descriptors that came with the frame whose header was just read. Fewer,
// or others, than were announced are an error.
func (s *Socket) Take(n int) (*Files, error) {
	k := (n + perPart - 1) / perPart
	if n == 0 || k > len(s.arrived) {
		return nil, errStray
	}
	f := new(Files)
	for i := range k {
		part := &s.arrived[i]
		f.Lost = f.Lost || part.Lost
		f.FDs = append(f.FDs, part.FDs...)
	}
	s.arrived = append(s.arrived[:0], s.arrived[k:]...)
	if len(f.FDs) != n && !f.Lost {
		f.Close()
		return nil, errStray
	}
	return f, nil
}

// Drop closes what has arrived and was not taken. Nobody reads any more.
func (s *Socket) Drop() {
	for i := range s.arrived {
		s.arrived[i].Close()
	}
	s.arrived = nil
}

// Send writes a frame, of which b is the beginning and has the whole header, with its
// descriptors, which stay the caller's. If nothing of b was written, but for the end of the
// other side, the error is an *UnsentError. After any other error the connection is over.
func (s *Socket) Send(b []byte, fds []int) error {
	if len(fds) > MostFiles {
		return tooMany(len(fds))
	}
	for first := true; len(fds) > 0; first = false {
		part, now := fds, b
		if len(fds) > perPart {
			part, now = fds[:perPart], b[:1]
		}
		n, err := s.sendmsg(now, part)
		if err != nil {
			if first && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				return &UnsentError{err}
			}
			// Half a header is out, of which neither side would hear any more.
			_ = s.conn.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
			return err
		}
		b, fds = b[n:], fds[len(part):]
	}
	if len(b) == 0 {
		return nil // what descriptors go along with goes mostly as a whole
	}
	_, err := s.File.Write(b)
	return err
}

func (s *Socket) sendmsg(b []byte, fds []int) (n int, err error) {
	rights := syscall.UnixRights(fds...)
	var failed error
	err = s.conn.Write(func(fd uintptr) bool {
		for {
			n, failed = syscall.SendmsgN(int(fd), b, rights, nil, 0)
			if !errors.Is(failed, syscall.EINTR) {
				return !errors.Is(failed, syscall.EAGAIN)
			}
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return 0, fmt.Errorf("sendmsg: %w", err)
	}
	return n, nil
}
