package ring

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Create makes a Memory and returns it with its file, which is to be closed when the
// worker has it. Nothing but memory backs it, and nobody can change its size, or run
// it as a program where the system can see to that.
func Create() (*Memory, *os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("futures-worker", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("futures-worker", flags)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "shared memory")
	err = unix.Ftruncate(fd, Size)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	var m *Memory
	if err == nil {
		m, err = Open(fd)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("shared memory for a worker: %w", err)
	}
	return m, f, nil
}

// Open maps the memory behind fd, which stays open.
func Open(fd int) (*Memory, error) {
	mem, err := unix.Mmap(fd, 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return &Memory{mem: mem}, nil
}

// Unmap gives the mapping back. Nothing of it may be used any more.
func (m *Memory) Unmap() { _ = unix.Munmap(m.mem) }

// futexWait is an operation of futex(2). The word is shared between processes, so it is not
// private. Package futex has no such wait with a timeout.
const futexWait = 0

// Sleep waits until ready reports true, by way of a futex. It looks again whenever the
// parent has called Rouse. After patience, if that is not 0, it calls late, once.
func (w *Worker) Sleep(ready func() bool, patience time.Duration, late func()) {
	asleep := w.flag(workerAsleep)
	for {
		asleep.Store(1)
		if ready() {
			asleep.Store(0)
			return
		}
		var timeout *unix.Timespec
		if patience > 0 {
			ts := unix.NsecToTimespec(int64(patience))
			timeout = &ts
		}
		_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(asleep)), futexWait, 1, uintptr(unsafe.Pointer(timeout)), 0, 0)
		if errno == syscall.ETIMEDOUT {
			patience = 0
			late()
		}
		if ready() {
			asleep.Store(0)
			return
		}
	}
}

// Yield lets another thread have this processor, if one waits for it. It is for who spins:
// whom he waits for may need it.
func Yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// Nap sleeps for about d, for which it blocks its thread.
func Nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // what cuts it short does no harm
}

// giveBack has the system take back the memory of b, which begins and ends with a page.
func giveBack(b []byte) { _ = unix.Madvise(b, unix.MADV_REMOVE) }
