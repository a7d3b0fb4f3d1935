package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What is known of a process's memory. The parent looks at the resident size of a
// worker when it has a reason: a limit is watched, the worker is about to be killed,
// it writes to standard error, as a crash does, or it has just got ready. When a
// process is reaped its own memory is gone, and what is left is its peak. That peak
// begins with the one of the process that started it, whose memory a child shares
// until it executes its program; so it says something only where it is higher.
type memory struct {
	statm *os.File // open while a limit is watched
	size  int64    // bytes at the last look
	at    time.Time
	floor int64 // bytes that the system's peak has from before
	peak  int64 // bytes; 0: not known
}

// fresh is how old a look may be to say more than the peak.
const fresh = time.Second

// Resident looks at how many bytes of the process are resident. It keeps a descriptor
// for the next look. It is 0 if that cannot be seen, as when the process has ended.
func (p *Process) Resident() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return 0
	}
	if p.mem.statm == nil {
		f, err := os.Open(p.statm())
		if err != nil {
			return 0
		}
		p.mem.statm = f
	}
	var buf [128]byte
	n, _ := p.mem.statm.ReadAt(buf[:], 0) // all there is, and io.EOF
	return p.saw(buf[:n])
}

// glance is Resident for one look, unless there was one a moment ago. mu is held.
func (p *Process) glance() {
	if p.reaped || time.Since(p.mem.at) < 10*time.Millisecond {
		return
	}
	if b, err := p.readStatm(); err == nil {
		p.saw(b)
	}
}

// alive looks, and reports whether the process has memory: one that is about to be a
// zombie has none any more, and its socket may be closed already. mu is held.
func (p *Process) alive() bool {
	b, err := p.readStatm()
	return err != nil || p.saw(b) > 0
}

// look is glance for who does not hold mu.
func (p *Process) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.glance()
}

// readStatm is os.ReadFile without what that does for files that can be waited for.
func (p *Process) readStatm() ([]byte, error) {
	fd, err := unix.Open(p.statm(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var buf [128]byte
	n, err := unix.Read(fd, buf[:])
	return buf[:max(n, 0)], err
}

func (p *Process) statm() string { return "/proc/" + strconv.Itoa(p.PID) + "/statm" }

// saw notes what statm says: sizes in pages, the second one of what is resident. Of a
// zombie they are 0. mu is held.
func (p *Process) saw(statm []byte) int64 {
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil || pages == 0 {
		return 0
	}
	p.mem.size, p.mem.at = pages*int64(os.Getpagesize()), time.Now()
	return p.mem.size
}

// ended notes the peak of a process that was reaped. mu is held.
func (m *memory) ended(state *os.ProcessState) {
	if state == nil {
		return
	}
	if ru, ok := state.SysUsage().(*syscall.Rusage); ok {
		if peak := int64(ru.Maxrss) << 10; peak > m.floor {
			m.peak = peak
		}
	}
	if m.statm != nil {
		m.statm.Close()
		m.statm = nil
	}
}

// RSS returns the resident bytes that were seen last before the process ended: those
// of a look in its last second, else its peak, where the system knows it, else those
// of an older look. 0: nothing is known. Ended is closed.
func (p *Process) RSS() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.mem
	if m.size == 0 || m.peak > 0 && p.endedAt.Sub(m.at) > fresh {
		return m.peak
	}
	return m.size
}

// ownPeak returns the highest resident size that this process has had, in bytes.
func ownPeak() int64 {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 1<<63 - 1 // then no child's peak says anything
	}
	return int64(ru.Maxrss) << 10
}

// KillOver kills the process, with its group, for having size resident bytes where
// limit are allowed. How it ended says so.
func (p *Process) KillOver(size, limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped && p.reason == "" {
		p.reason = overLimit(size, limit)
	}
	p.kill()
}

func overLimit(size, limit int64) string {
	return fmt.Sprintf("killed: its resident size, %d bytes, passed the memory limit of %d bytes", size, limit)
}
