package proc

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A control is one end of the conversation between a program and its fork server: gob
// values behind their length, with descriptors. Both ends are of one socket pair, which
// has no name that anybody could connect to, and the kernel says of every part of a
// message which process wrote it. One that is not of the peer ends the conversation.
type control struct {
	f    *os.File
	peer int // the process whose word counts
}

const (
	controlLimit = 16 << 20 // bytes of one message
	mostFiles    = 16       // that come with one message
)

// controlPair returns both ends. The kernel is told to say who writes before anybody does.
func controlPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	for _, fd := range fds {
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
			unix.Close(fds[0])
			unix.Close(fds[1])
			return nil, nil, fmt.Errorf("SO_PASSCRED: %w", err)
		}
	}
	theirs = os.NewFile(uintptr(fds[1]), "program")
	fd, err := aboveStandard(fds[0])
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), "fork server"), theirs, nil
}

// send writes v and passes files along.
func (c *control) send(v any, files ...*os.File) error {
	var b bytes.Buffer
	b.Write(make([]byte, 4))
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	msg := b.Bytes()
	binary.BigEndian.PutUint32(msg, uint32(len(msg)-4))
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd()) // which has it block, as who gets it expects
		}
		rights = unix.UnixRights(fds...)
	}
	conn, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	n := 0
	var failed error
	err = conn.Write(func(fd uintptr) bool {
		for {
			n, failed = unix.SendmsgN(int(fd), msg, rights, nil, unix.MSG_NOSIGNAL)
			if !errors.Is(failed, unix.EINTR) {
				return !errors.Is(failed, unix.EAGAIN)
			}
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	_, err = c.f.Write(msg[n:])
	return err
}

// receive reads what send wrote into v, and returns the descriptors that came with it.
func (c *control) receive(v any) (fds []int, err error) {
	defer func() {
		if err != nil {
			closeAll(fds)
			fds = nil
		}
	}()
	var length [4]byte
	if err := c.fill(length[:], &fds); err != nil {
		return fds, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > controlLimit {
		return fds, fmt.Errorf("a message of %d bytes", n)
	}
	msg := make([]byte, n)
	if err := c.fill(msg, &fds); err != nil {
		return fds, err
	}
	return fds, gob.NewDecoder(bytes.NewReader(msg)).Decode(v)
}

// fill reads until b is full.
func (c *control) fill(b []byte, fds *[]int) error {
	conn, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	oob := make([]byte, unix.CmsgSpace(mostFiles*4)+unix.CmsgSpace(unix.SizeofUcred))
	for len(b) > 0 {
		var n, extra, flags int
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			for {
				n, extra, flags, _, failed = unix.Recvmsg(int(fd), b, oob, unix.MSG_CMSG_CLOEXEC)
				if !errors.Is(failed, unix.EINTR) {
					return !errors.Is(failed, unix.EAGAIN)
				}
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		if err := c.check(oob[:extra], fds); err != nil && n > 0 {
			return err
		}
		switch {
		case flags&unix.MSG_CTRUNC != 0:
			return errors.New("a message with too many descriptors")
		case n == 0:
			return io.EOF
		}
		b = b[n:]
	}
	return nil
}

// check takes descriptors out of what came beside a part of a message, and sees to it
// that the part is from the peer.
func (c *control) check(oob []byte, fds *[]int) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	from := 0
	for _, m := range msgs {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			*fds = append(*fds, got...)
		}
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			from = int(cred.Pid)
		}
	}
	if from != c.peer {
		return fmt.Errorf("a message from process %d, where process %d has to speak", from, c.peer)
	}
	return nil
}

// setDeadline bounds the conversation from now on. Zero: it is not bounded.
func (c *control) setDeadline(d time.Duration) {
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	_ = c.f.SetDeadline(t) // a socket has deadlines
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
