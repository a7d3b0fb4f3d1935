package proc

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/ring"
)

const (
	// marker is the variable that makes a process a worker. Its value is the depth, 1
	// for a worker of the program, 2 for a worker of that one's, and so on, and perhaps
	// some of the words below, in their order.
	marker = "FUTURES_WORKER_DEPTH"

	serverMark  = "server"  // a fork server, for workers of that depth
	sessionMark = "session" // a worker that is to have a session of its own
	procsMark   = "procs"   // a worker whose GOMAXPROCS was put into its environment: in place of what follows an =

	procsVariable = "GOMAXPROCS"

	// The descriptors that a worker is born with, beside the standard three.
	socketFD = 3
	memoryFD = 4
)

// depth is how many workers are above this process: 0 in the program itself and in its
// fork server.
var depth int

// What this process is, if it is not a program: a worker, whose descriptors are a
// worker's and which perhaps wants a session, or a fork server.
var inherited, wantsSession, isServer = role()

// role finds out what this process is. It runs before main and before the init of
// packages that import this one, and takes the marker out of the environment, so
// that what this process starts is not taken for a worker. The marker alone does not
// make one: it may have reached another process in a copy of the environment.
func role() (worker, session, server bool) {
	value, ok := os.LookupEnv(marker)
	if !ok {
		return
	}
	_ = os.Unsetenv(marker) // a name without = or NUL
	number, word, _ := strings.Cut(value, " ")
	word = restoreProcs(word)
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || !isSocket(socketFD) {
		return
	}
	switch {
	case word == serverMark:
		depth, server = n-1, true
		closeStrangers(socketFD)
	case isMemory(memoryFD):
		depth, worker, session = n, true, word == sessionMark
		closeStrangers(memoryFD)
		unix.CloseOnExec(memoryFD)
	default:
		return
	}
	unix.CloseOnExec(socketFD)
	watchParent()
	return
}

// restoreProcs makes the environment what it would be if the runtime had not been told by
// it, and returns the words before that of it.
func restoreProcs(words string) string {
	before, after, ok := strings.Cut(words, procsMark)
	if !ok {
		return words
	}
	// As in marked: a name without = or NUL, and a value that was one before.
	if value, ok := strings.CutPrefix(after, "="); ok {
		_ = os.Setenv(procsVariable, value)
	} else {
		_ = os.Unsetenv(procsVariable)
	}
	return strings.TrimSpace(before)
}

// watchTime is how often a process looks for its parent that has not come to serve yet.
const watchTime = 100 * time.Millisecond

// watch is when it looks next. A goroutine that waited for the parent would have the
// runtime make a thread for it, and most processes come too soon to need it.
var watch struct {
	sync.Mutex // guards the fields
	timer      *time.Timer
	arrived    bool // this process has come to serve, and reads the socket itself
}

// watchParent ends this process when its parent dies before it has come to serve: the
// init functions of a program may take their time, or never return.
func watchParent() {
	fds := []unix.PollFd{{Fd: socketFD, Events: unix.POLLRDHUP}}
	watch.Lock()
	defer watch.Unlock()
	if watch.arrived {
		return
	}
	if _, err := unix.Poll(fds, 0); err == nil && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0 {
		Die()
	}
	watch.timer = time.AfterFunc(watchTime, watchParent)
}

// arrive ends the watch.
func arrive() {
	watch.Lock()
	defer watch.Unlock()
	watch.arrived = true
	watch.timer.Stop()
}

// mark returns the marker for a process that this one starts.
func mark(word string) string {
	return marker + "=" + strings.TrimSpace(strconv.Itoa(depth+1)+" "+word)
}

// closeStrangers closes the descriptors above last that came here by accident: those of the
// program that are open across exec, since it got them so from whoever started it, or
// made them so in C. What the runtime has opened by now is close-on-exec; what came
// through an exec is not.
func closeStrangers(last int) {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) // os.Open would begin with the runtime's poller
	if err != nil {
		return
	}
	defer unix.Close(dir)
	var names []string
	for buf := make([]byte, 4<<10); ; {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil || n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= last {
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

func isMemory(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == ring.Size
}

// Inherited returns the socket and the shared memory of a worker process, and false in
// any other process. It is called once.
func Inherited() (*carry.Socket, *ring.Worker, bool) {
	if !inherited {
		return nil, nil, false
	}
	arrive()
	memory, err := ring.Open(memoryFD)
	unix.Close(memoryFD)
	if err != nil {
		return nil, nil, false
	}
	socket, err := carry.NewSocket(os.NewFile(socketFD, "parent"))
	if err != nil {
		return nil, nil, false
	}
	return socket, memory.Worker(), true
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
