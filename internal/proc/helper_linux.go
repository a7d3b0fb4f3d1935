package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A helper is the process of a fork server, as its program sees it.
type helper struct {
	PID     int
	control *control
	stderr  *relay
	ended   chan struct{} // closed when it was reaped
	exit    Exit          // valid once ended is closed
	os      *os.Process
}

// newHelper starts the process and waits until it has introduced itself. The turn is
// held.
func (s *Server) newHelper() (_ *helper, err error) {
	spec := Spec{Command: s.command}
	path, argv, err := spec.command()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := controlPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer null.Close()
	stderr, w, err := newRelay("stderr", new(excerpt), nil)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer w.Close()
	pidfd := -1
	process, err := os.StartProcess(path, argv, &os.ProcAttr{
		Dir: s.dir, Env: marked(s.env, serverMark, 0),
		Files: []*os.File{null, null, w, theirs},
		Sys:   &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd},
	})
	if err != nil {
		ours.Close()
		stderr.abandon()
		return nil, err
	}
	h := &helper{
		PID: process.Pid, os: process, stderr: stderr,
		control: &control{f: ours, peer: process.Pid}, ended: make(chan struct{}),
	}
	stderr.start(h.PID, nil)
	go h.watch(pidfd) // ends with the process
	theirs.Close()    // so that its end is seen
	s.mu.Lock()
	s.asked = h
	s.mu.Unlock()
	if s.isOver() { // perhaps too late for Release to see it
		_ = h.os.Kill()
	}
	if err := h.greet(s.timeout); err != nil {
		h.end()
		return nil, h.startError(err, s.timeout)
	}
	return h, nil
}

func (h *helper) watch(pidfd int) {
	awaitExit(h.PID, pidfd)
	state, err := h.os.Wait()
	h.exit = exitOf(state, err)
	h.stderr.finish()
	close(h.ended)
}

func (h *helper) greet(timeout time.Duration) error {
	h.control.setDeadline(timeout)
	defer h.control.setDeadline(0)
	var hello serverHello
	fds, err := h.control.receive(&hello)
	closeAll(fds)
	switch {
	case err != nil:
		return err
	case hello.Magic != serverMagic || hello.Version != serverVersion:
		return &MismatchError{fmt.Sprintf("the process speaks version %d of the fork server's protocol, this program version %d", hello.Version, serverVersion)}
	}
	return nil
}

// startError says why a helper, which has ended, did not introduce itself.
func (h *helper) startError(err error, timeout time.Duration) error {
	var mismatch *MismatchError
	killed := false
	switch {
	case errors.As(err, &mismatch):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("it did not introduce itself within %v: does its program call worker.Main first?", timeout)
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		err = errors.New(h.exit.String())
		killed = h.exit.Signal != nil
	default:
		return &MismatchError{fmt.Sprintf("the process does not speak the protocol of a fork server: %v", err)}
	}
	if text := h.stderr.kept.text(); text != "" {
		err = fmt.Errorf("%w; its standard error: %s", err, text)
	}
	err = fmt.Errorf("the fork server did not get ready: %w", err)
	if killed {
		return &helperLostError{err}
	}
	return err
}

// ask makes a request. A helper that is stopped, or the like, is as good as dead.
func (h *helper) ask(r startRequest, files []*os.File, reply *startReply) error {
	h.control.setDeadline(askTime)
	defer h.control.setDeadline(0) // whose timer would wake this program up
	if err := h.control.send(r, files...); err != nil {
		return err
	}
	fds, err := h.control.receive(reply)
	closeAll(fds)
	return err
}

// askTime is how long a helper may take to start a process: that does not wait for
// anything but the machine.
const askTime = 10 * time.Second

// end ends the helper and waits until nothing of it is left.
func (h *helper) end() {
	h.control.f.Close()
	_ = h.os.Kill() // if it fails, it has ended
	<-h.ended
	patience := time.NewTimer(flushTime)
	defer patience.Stop()
	h.stderr.flushed(patience.C)
}

// lose gives the helper up. What it had started and not told of is swept up. The turn
// is held.
func (s *Server) lose() {
	h := s.helper
	s.helper = nil
	h.end()
	s.sweep(h.PID)
}

// sweep kills and reaps the children in a helper's group that nobody knows. There are no
// more of them than it sees: the helper is dead, or waits to be asked. The turn is held,
// so nobody is about to become known.
//
// It looks for them in /proc rather than by waitid with P_PGID, which shows only those
// that have ended, and may show known ones for ever.
func (s *Server) sweep(group int) {
	s.mu.Lock()
	known := maps.Clone(s.known) // before the look: who is reaped meanwhile may be forgotten
	s.mu.Unlock()
	for _, pid := range childrenIn(group) {
		if pid == group || known[pid] {
			continue
		}
		_ = unix.Kill(pid, unix.SIGKILL)
		for {
			if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}

// childrenIn returns the children of this process, dead ones too, that are in a group.
func childrenIn(group int) (all []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has just been reaped
		}
		var state string
		var parent, pgrp int
		if _, err := fmt.Sscan(string(b[bytes.LastIndexByte(b, ')')+1:]), &state, &parent, &pgrp); err == nil && parent == os.Getpid() && pgrp == group {
			all = append(all, pid)
		}
	}
	return all
}
