package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	excerptLen = 4 << 10 // bytes that are kept of the beginning, and of the end, of stderr
	relayLen   = 1 << 20 // bytes read from a worker and not yet passed on
	lineLen    = 64 << 10
)

// A relay passes on what a worker writes: by lines to a function, or as it comes to
// this program's standard error. One goroutine reads and one passes on, so that a
// worker's death is seen whatever becomes of its output.
//
// This program's own output slows a worker down as if the worker wrote to it itself.
// A function does not: lines that it is too slow for are counted and dropped.
type relay struct {
	r      *os.File
	stream string
	kept   *excerpt // nil: nothing is kept
	pid    int
	wrote  func()

	mu      sync.Mutex // guards the fields below
	change  sync.Cond
	output  func(pid int, stream string, line []byte) // nil: to standard error
	held    bool                                      // until release
	buf     []byte
	closed  bool // nothing more will come
	ended   bool // the process has ended: read on, however much there is
	dropped int  // bytes

	allRead chan struct{} // closed when the reader is done
	allSent chan struct{} // closed when everything was passed on
}

// newRelay returns a relay and the end of its pipe that is the worker's.
func newRelay(stream string, kept *excerpt, output func(int, string, []byte)) (*relay, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	l := &relay{r: r, stream: stream, output: output, kept: kept, allRead: make(chan struct{}), allSent: make(chan struct{})}
	l.change.L = &l.mu
	return l, w, nil
}

// abandon is for a relay whose process never was.
func (l *relay) abandon() { l.r.Close() }

// start begins. wrote is called after something was read, and may be nil.
func (l *relay) start(pid int, wrote func()) {
	l.pid, l.wrote = pid, wrote
	go l.read() // ends with the pipe, or after finish
	go l.pass() // ends when all that was read has been passed on
}

// release lets what was held back go, to output.
func (l *relay) release(output func(int, string, []byte)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.output, l.held = output, false
	l.change.Broadcast()
}

func (l *relay) read() {
	defer close(l.allRead)
	defer l.r.Close()
	buf := make([]byte, 4<<10)
	for {
		n, err := l.r.Read(buf)
		if n > 0 && l.wrote != nil {
			l.wrote()
		}
		l.add(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			l.rest(buf)
			err = os.ErrClosed
		}
		if err != nil {
			l.mu.Lock()
			l.closed = true
			l.change.Broadcast()
			l.mu.Unlock()
			return
		}
	}
}

// rest reads what is in the pipe without waiting for more: somebody who outlives the
// worker may hold it open.
func (l *relay) rest(buf []byte) {
	conn, err := l.r.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for range relayLen / len(buf) { // more than a pipe holds
			n, err := unix.Read(int(fd), buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n <= 0 {
				return
			}
			l.add(buf[:n])
		}
	})
}

func (l *relay) add(b []byte) {
	if len(b) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept != nil {
		l.kept.add(b)
	}
	for l.output == nil && len(l.buf) > relayLen && !l.ended {
		l.change.Wait()
	}
	if l.output != nil && len(l.buf)+len(b) > relayLen {
		l.dropped += len(b)
		return
	}
	l.buf = append(l.buf, b...)
	l.change.Broadcast()
}

// finish is called when the process has ended, and returns when all that it wrote
// was read.
func (l *relay) finish() {
	l.mu.Lock()
	l.ended = true
	l.change.Broadcast()
	l.mu.Unlock()
	_ = l.r.SetReadDeadline(time.Unix(1, 0))
	<-l.allRead
}

// flushed waits until everything was passed on, or for patience.
func (l *relay) flushed(patience <-chan time.Time) {
	select {
	case <-l.allSent:
	case <-patience:
	}
}

// pass passes on what was read.
func (l *relay) pass() {
	defer close(l.allSent)
	var line []byte
	for {
		l.mu.Lock()
		for l.held || len(l.buf) == 0 && !l.closed {
			l.change.Wait()
		}
		b, dropped, closed, output := l.buf, l.dropped, l.closed, l.output
		l.buf, l.dropped = nil, 0
		l.change.Broadcast()
		l.mu.Unlock()
		if output == nil {
			_ = writeStderr(b) // who closed it does not want it
		} else {
			line = l.lines(output, append(line, b...), closed)
			if dropped > 0 {
				output(l.pid, l.stream, fmt.Appendf(nil, "[%d bytes of output dropped: Output is too slow]", dropped))
			}
		}
		if closed {
			return
		}
	}
}

// writeStderr writes to this program's standard error. os.Stderr.Write would end the
// program where nobody reads that any more: right for what a program writes itself, but
// not for what a worker wrote.
func writeStderr(b []byte) error {
	conn, err := os.Stderr.SyscallConn()
	for err == nil && len(b) > 0 {
		var failed error
		err = conn.Write(func(fd uintptr) bool {
			var n int
			if n, failed = unix.Write(int(fd), b); n > 0 {
				b = b[n:]
			}
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err == nil && !errors.Is(failed, unix.EINTR) {
			err = failed
		}
	}
	return err
}

// lines passes on the lines of b, without their ends, and returns the beginning of
// one that is not complete. The last one of all may lack its end.
func (l *relay) lines(output func(int, string, []byte), b []byte, last bool) []byte {
	for {
		line, rest, found := bytes.Cut(b, []byte{'\n'})
		if !found {
			break
		}
		output(l.pid, l.stream, bytes.Clone(bytes.TrimSuffix(line, []byte{'\r'})))
		b = rest
	}
	if len(b) > 0 && (last || len(b) >= lineLen) {
		output(l.pid, l.stream, bytes.Clone(b))
		b = nil
	}
	return b
}

// An excerpt keeps the beginning and the end of a text: a crash says first why, and
// last where. It is guarded by its relay.
type excerpt struct {
	head, tail []byte
	cut        int // bytes between them
}

func (e *excerpt) add(b []byte) {
	if n := min(len(b), excerptLen-len(e.head)); n > 0 {
		e.head = append(e.head, b[:n]...)
		b = b[n:]
	}
	e.tail = append(e.tail, b...)
	if n := len(e.tail) - excerptLen; n > 0 {
		e.cut += n
		e.tail = append(e.tail[:0], e.tail[n:]...)
	}
}

func (e *excerpt) text() string {
	if e.cut == 0 {
		return string(e.head) + string(e.tail)
	}
	return fmt.Sprintf("%s\n[… %d bytes …]\n%s", e.head, e.cut, e.tail)
}
