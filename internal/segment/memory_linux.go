package segment

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seals keep every process that has the file from changing its size, on which a mapping
// would fault.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// createFile makes a file of nothing but memory.
func createFile(size int64) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("futures-ipc", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("futures-ipc", flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err = unix.Ftruncate(fd, size); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		closeFile(fd)
		return -1, fmt.Errorf("shared memory of %d bytes: %w", size, err)
	}
	return fd, nil
}

// checkFile returns the length of fd, if that is memory that nobody can cut short.
func checkFile(fd int) (int64, error) {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return 0, fmt.Errorf("seals: %w", err)
	}
	if have&unix.F_SEAL_SHRINK == 0 {
		return 0, errors.New("its size is not sealed")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("fstat: %w", err)
	}
	return st.Size, nil
}

// inode returns a number of the file behind fd.
func inode(fd int) uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0
	}
	return st.Ino
}

// readHead reads the head of fd: a copy, which nobody can change any more.
func readHead(fd int) (*head, error) {
	h := new(head)
	b := unsafe.Slice((*byte)(unsafe.Pointer(h)), unsafe.Sizeof(*h))
	for n := 0; n < len(b); {
		m, err := unix.Pread(fd, b[n:], int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, fmt.Errorf("read: %w", err)
		case m == 0:
			return nil, io.ErrUnexpectedEOF
		}
		n += max(m, 0)
	}
	return h, nil
}

func mapFile(fd, size int) ([]byte, error) {
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	return mem, nil
}

func unmap(mem []byte) { _ = unix.Munmap(mem) }

func closeFile(fd int) { _ = unix.Close(fd) }

// reopen opens the file behind fd once more.
func reopen(fd int) (int, error) {
	for {
		again, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return again, err
		}
	}
}

// slotBytes is where the bytes are whose locks say who lives: far behind the end of the file.
const slotBytes = 1 << 62

func slotRange(i int, kind int16) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: slotBytes + int64(i), Len: 1}
}

// lockSlot locks the byte of slot i for the opening fd, and reports false if another opening
// has it. The system lets go of it when the last descriptor and mapping of the opening is gone.
func lockSlot(fd, i int) (bool, error) {
	for {
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, slotRange(i, unix.F_WRLCK))
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, err
		}
	}
}

func unlockSlot(fd, i int) {
	_ = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, slotRange(i, unix.F_UNLCK))
}

// slotLocked reports whether another opening than fd has locked the byte of slot i.
func slotLocked(fd, i int) bool {
	l := slotRange(i, unix.F_WRLCK)
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, l)
	return err != nil || l.Type != unix.F_UNLCK
}

// here returns what others find this process by: its ID, and the namespace in which that
// counts.
var here = sync.OnceValue(func() uint64 {
	return uint64(uint32(os.Getpid())) | namespace()<<32
})

// namespace returns the lower half of what names this process's namespace of process IDs;
// 0 if that is not known.
var namespace = sync.OnceValue(func() uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0
	}
	return st.Ino & math.MaxUint32
})

// A watch tells when a process ends.
type watch struct {
	file  *os.File // a descriptor of the process
	alive func() bool
	stop  chan struct{}
}

// openWatch begins to watch the process at where. It reports false if there is none. alive
// is asked, from time to time, about one that has another namespace of process IDs, in which
// it cannot be found.
func openWatch(where uint64, alive func() bool) (watch, bool) {
	if ns := where >> 32; ns != 0 && ns == namespace() {
		fd, err := unix.PidfdOpen(int(uint32(where)), unix.PIDFD_NONBLOCK)
		if err == nil {
			return watch{file: os.NewFile(uintptr(fd), "process")}, true
		}
		if errors.Is(err, unix.ESRCH) {
			return watch{}, false
		}
	}
	return pollWatch(alive), true
}

func pollWatch(alive func() bool) watch { return watch{alive: alive, stop: make(chan struct{})} }

// wait waits until the process has ended, or the watch has: then it answers false.
func (w watch) wait() (ended bool) {
	if w.file == nil {
		return pollAlive(w)
	}
	conn, err := w.file.SyscallConn()
	if err != nil {
		return false
	}
	err = conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return n > 0 || err != nil && !errors.Is(err, syscall.EINTR)
	})
	return err == nil
}

func (w watch) close() {
	if w.file != nil {
		w.file.Close()
	} else {
		close(w.stop)
	}
}
