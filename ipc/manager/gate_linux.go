package manager

import (
	"net"
	"syscall"
)

// isAbstract reports whether addr is a name that is not in the file system.
func isAbstract(addr string) bool { return addr[0] == '@' || addr[0] == 0 }

// peerOf returns who is at the other end of a unix socket.
func peerOf(conn net.Conn) (peer, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return peer{}, errNoPeer
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *syscall.Ucred
	var err2 error
	err = raw.Control(func(fd uintptr) {
		cred, err2 = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err == nil {
		err = err2
	}
	if err != nil {
		return peer{}, err
	}
	return peer{pid: int(cred.Pid), uid: int(cred.Uid)}, nil
}
