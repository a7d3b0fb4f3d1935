package proc

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// marker is the variable that makes a process a worker. Its value is the depth:
	// 1 for a worker of the program, 2 for a worker of that one's, and so on.
	marker = "FUTURES_WORKER_DEPTH"

	// The descriptors that a worker is born with, beside the standard three.
	socketFD = 3
	pageFD   = 4
)

// depth is how many workers are above this process: 0 in the program itself.
// inherited says that its descriptors are a worker's.
var depth, inherited = role()

// role finds out what this process is. It runs before main and before the init of
// packages that import this one, and takes the marker out of the environment, so
// that what this process starts is not taken for a worker. The marker alone does not
// make one: it may have reached another process in a copy of the environment.
func role() (int, bool) {
	value, ok := os.LookupEnv(marker)
	if !ok {
		return 0, false
	}
	_ = os.Unsetenv(marker) // a name without = or NUL
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || !isSocket(socketFD) || !isPage(pageFD) {
		return 0, false
	}
	closeStrangers()
	unix.CloseOnExec(socketFD)
	unix.CloseOnExec(pageFD)
	return n, true
}

// closeStrangers closes the descriptors that came here by accident: those of the
// program that are open across exec, since it got them so from whoever started it, or
// made them so in C. What the runtime has opened by now is close-on-exec; what came
// through an exec is not.
func closeStrangers() {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= pageFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

func isSocket(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_STREAM
}

func isPage(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == pageLen
}

// Inherited returns the socket and the page of a worker process, and false in any
// other process. It is called once.
func Inherited() (*os.File, *Page, bool) {
	if !inherited {
		return nil, nil, false
	}
	page, err := mapPage(pageFD)
	unix.Close(pageFD)
	if err != nil {
		return nil, nil, false
	}
	return os.NewFile(socketFD, "parent"), page, true
}

// Die ends this process and its group at once. It is how a worker answers the death
// of its parent.
func Die() {
	if pid := unix.Getpid(); unix.Getpgrp() == pid {
		_ = unix.Kill(-pid, unix.SIGKILL)
	}
	os.Exit(1)
}

// Monotonic returns nanoseconds on a clock that all processes of the machine share
// and that nobody sets.
func Monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
