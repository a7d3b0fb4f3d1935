//go:build unix

package manager

import (
	"io/fs"
	"net"
	"os"
	"syscall"
)

// privateFiles says that the mode of a socket keeps others from connecting.
const privateFiles = true

// listenFile makes a socket at path that only its user may connect to.
//
// The mode of a new socket is its descriptor's on Linux, less the umask: so that is set first. The
// umask itself is the whole process's, and would change what other goroutines make. Elsewhere the
// mode is set before the socket listens: until then, nobody can connect.
func listenFile(path string) (_ net.Listener, _ fs.FileInfo, err error) {
	fail := func(call string, err error) error {
		return &net.OpError{Op: "listen", Net: "unix", Addr: &net.UnixAddr{Name: path, Net: "unix"}, Err: os.NewSyscallError(call, err)}
	}
	syscall.ForkLock.RLock() // see there: between socket and CloseOnExec nothing is started
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fail("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // the listener has a copy

	_ = syscall.Fchmod(fd, 0o600) // elsewhere it may fail
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return nil, nil, fail("bind", err)
	}
	info, err := os.Lstat(path)
	defer func() {
		if now, err2 := os.Lstat(path); err != nil && err2 == nil && os.SameFile(now, info) {
			_ = os.Remove(path)
		}
	}()
	if err == nil && info.Mode().Perm()&0o177 != 0 {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.Listen(fd, backlog); err != nil {
		return nil, nil, fail("listen", err)
	}
	ln, err := net.FileListener(f)
	return ln, info, err
}

const backlog = 4096 // less, where the system has a lower bound
