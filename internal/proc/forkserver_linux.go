package proc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Server starts workers by a small clean process, its helper, and keeps some ready
// that anybody can have who wants nothing special. Programs that name the same command
// share one. It lasts from the first OpenServer to the last Release.
//
// The helper is started when it is needed, and again when it has died. Workers do not
// depend on it: they are this program's children, as if it had started them itself. So
// all that a helper can take along is one request, which is made again.
//
//	program ──── request, descriptors ────▶ helper
//	   │  ◀──────── process ID ───────────────┤
//	   │                                      └─ clone(CLONE_PARENT), exec
//	   └── child: worker, in the helper's group until it is greeted
type Server struct {
	command []string
	env     []string // as they were when it was opened
	dir     string
	procs   int           // Spec.GOMAXPROCS of who opened it: others may have it changed
	timeout time.Duration // for a helper to introduce itself

	refs int           // guarded by servers
	over chan struct{} // closed by the last Release
	side sync.WaitGroup

	// turn is held by who talks to the helper; it guards the fields below it.
	turn   chan struct{}
	helper *helper

	mu    sync.Mutex          // guards the fields below
	asked *helper             // the last one that was started
	spare map[bool][]*Process // by whether their standard output is a pipe
	fills map[bool]bool       // somebody makes more of them
	known map[int]bool        // children that have an owner who reaps them
}

// spares is how many workers are kept ready. One answers the next call; the other is
// there while that one is replaced.
const spares = 2

// servers are those that are open.
var servers struct {
	sync.Mutex
	open map[string]*Server
}

// OpenServer returns the fork server of spec.Command, nil being this program. Its
// workers have, unless they are to have others, the environment and the directory that
// the program had when it was opened first. Some that fit spec are made ready. Whoever
// called it calls Release.
func OpenServer(spec Spec) *Server {
	key := strings.Join(spec.Command, "\x00")
	servers.Lock()
	s := servers.open[key]
	if s == nil {
		s = &Server{
			command: slices.Clone(spec.Command), env: os.Environ(), procs: spec.GOMAXPROCS, timeout: spec.Patience,
			over: make(chan struct{}), turn: make(chan struct{}, 1),
			spare: map[bool][]*Process{}, fills: map[bool]bool{}, known: map[int]bool{},
		}
		s.dir, _ = os.Getwd() // without one, the helper's start says so
		if servers.open == nil {
			servers.open = map[string]*Server{}
		}
		servers.open[key] = s
	}
	s.refs++
	servers.Unlock()
	if spec.plain() {
		s.fill(spec.Output != nil, 0)
	}
	return s
}

// plain reports whether a worker that was made ready fits.
func (s *Spec) plain() bool { return s.Env == nil && s.Dir == "" && s.SysProcAttr == nil }

// Release gives up what OpenServer returned. The last one ends the helper, whatever that
// is at, and the workers that nobody took, and waits until nothing of them is left.
func (s *Server) Release() {
	servers.Lock()
	s.refs--
	if s.refs > 0 {
		servers.Unlock()
		return
	}
	delete(servers.open, strings.Join(s.command, "\x00"))
	servers.Unlock()
	close(s.over)
	s.mu.Lock()
	if s.asked != nil {
		_ = s.asked.os.Kill() // if it fails, it has ended
	}
	s.mu.Unlock()
	s.side.Wait()
	for _, all := range s.spare {
		for _, p := range all {
			p.discard()
		}
	}
	s.turn <- struct{}{}
	if s.helper != nil {
		s.lose()
	}
}

// start starts a worker, or takes one that is ready.
func (s *Server) start(spec Spec) (*Process, error) {
	piped := spec.Output != nil
	if spec.plain() {
		p := s.take(piped)
		s.fill(piped, fillTime)
		if p != nil {
			p.adopt(spec.Output)
			return p, nil
		}
	}
	done, err := takeTurn(spec.Quit)
	if err != nil {
		return nil, err
	}
	begin := func() (*Process, error) {
		p, err := s.begin(spec, outputs{piped: piped, fn: spec.Output})
		if err != nil {
			done()
			return nil, err
		}
		p.greeted = done
		return p, nil
	}
	if spec.Quit == nil {
		return begin()
	}
	return s.unlessQuit(spec.Quit, begin)
}

// unlessQuit is begin, but waits for it no longer than until quit. What is begun later
// is ended.
func (s *Server) unlessQuit(quit <-chan struct{}, begin func() (*Process, error)) (*Process, error) {
	type outcome struct {
		p   *Process
		err error
	}
	came := make(chan outcome)
	s.side.Go(func() { // ends when begin does, which the last Release sees to
		p, err := begin()
		select {
		case came <- outcome{p, err}:
		case <-quit:
			if p != nil {
				p.greeted()
				p.discard()
			}
		}
	})
	select {
	case o := <-came:
		return o.p, o.err
	case <-quit:
		return nil, ErrQuit
	}
}

// begin has the helper start a worker. Where the helper dies before it has answered,
// nobody can say whether there is a worker. If there is one it is swept up. Another helper
// is asked.
func (s *Server) begin(spec Spec, o outputs) (*Process, error) {
	for tries := 1; ; tries++ {
		p, err := begin(o, func(files []*os.File) (born, error) { return s.launch(spec, files) })
		if err == nil {
			return p, nil
		}
		var lost *helperLostError
		if tries == 3 || !errors.As(err, &lost) || s.isOver() {
			return nil, err
		}
	}
}

// A helperLostError reports that the helper died, or broke the conversation off.
type helperLostError struct{ cause error }

func (e *helperLostError) Error() string { return "the fork server was lost: " + e.cause.Error() }
func (e *helperLostError) Unwrap() error { return e.cause }

// launch asks the helper for a process with these descriptors.
func (s *Server) launch(spec Spec, files []*os.File) (born, error) {
	r := startRequest{HasEnv: spec.Env != nil, Env: spec.Env, Dir: spec.Dir, Procs: spec.GOMAXPROCS}
	group := -1
	if spec.SysProcAttr != nil {
		sys := *spec.SysProcAttr
		if sys.UseCgroupFD {
			group = sys.CgroupFD
		}
		sys.UseCgroupFD, sys.CgroupFD, sys.PidFD = false, 0, nil
		r.Sys = &sys
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.isOver() {
		return born{}, ErrQuit
	}
	if s.helper == nil {
		h, err := s.newHelper()
		if err != nil {
			return born{}, err
		}
		s.helper = h
	}
	var reply startReply
	if err := s.helper.ask(r, files, &reply); err != nil {
		s.lose()
		return born{}, &helperLostError{err}
	}
	if reply.Error != "" {
		s.sweep(s.helper.PID) // it may have got as far as to be a process
		if reply.Errno != 0 {
			return born{}, &os.PathError{Op: "fork/exec", Path: s.path(), Err: syscall.Errno(reply.Errno)}
		}
		return born{}, errors.New("the fork server: " + reply.Error)
	}
	if group >= 0 {
		if err := join(group, reply.PID); err != nil {
			s.sweep(s.helper.PID)
			return born{}, err
		}
	}
	b, err := claim(reply)
	if err != nil {
		s.sweep(s.helper.PID)
		return born{}, err
	}
	s.mu.Lock()
	s.known[reply.PID] = true
	s.mu.Unlock()
	b.reaped = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.known, reply.PID)
	}
	return b, nil
}

// path is what a failed start is told to have been of.
func (s *Server) path() string {
	if len(s.command) == 0 {
		return "/proc/self/exe"
	}
	return s.command[0]
}

// claim makes a process that the helper has started one of ours. It cannot have been
// replaced by another of its number: it is our child, and nobody else reaps it.
func claim(reply startReply) (b born, err error) {
	for {
		err = unix.Waitid(unix.P_PID, reply.PID, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil || reply.PID <= 1 { // ECHILD: it would be watched, and its group killed, in vain
		return b, fmt.Errorf("the fork server started process %d, which is no child of this program: %w", reply.PID, err)
	}
	if b.os, err = os.FindProcess(reply.PID); err != nil {
		return b, err
	}
	b.peak = reply.Peak
	if b.pidfd, err = unix.PidfdOpen(reply.PID, 0); err != nil {
		b.pidfd = -1 // an old kernel: it is waited for by its number
	}
	return b, nil
}

// join moves a process to a control group, of which dir is the directory. A child of
// another parent than its maker cannot be born there.
func join(dir, pid int) error {
	fd, err := unix.Openat(dir, "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, fmt.Append(nil, pid))
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("joining the control group: %w", err)
	}
	return nil
}

// take returns a worker that is ready, or nil.
func (s *Server) take(piped bool) *Process {
	for {
		s.mu.Lock()
		all := s.spare[piped]
		if len(all) == 0 {
			s.mu.Unlock()
			return nil
		}
		p := all[0]
		s.spare[piped] = all[1:]
		s.mu.Unlock()
		if !p.hasHungUp() && (piped || p.stdoutOf == os.Stdout) {
			return p
		}
		p.discard() // somebody has killed it meanwhile, or the program has another standard output now
	}
}

// hasHungUp reports whether the process has closed its socket, as its end does before that
// is known here.
func (p *Process) hasHungUp() bool {
	gone := true
	if conn, err := p.socket.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			n, err := unix.Poll(fds, 0)
			gone = n > 0 && err == nil
		})
	}
	return gone
}

// fillTime is how long a worker that was made ready is missed before another is begun: who
// took it has the processors for the first call.
const fillTime = 3 * time.Millisecond

// fill has workers made ready in a while, unless somebody is at it. One that cannot be made
// is not tried again here: who needs one will learn why.
func (s *Server) fill(piped bool, in time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fills[piped] || len(s.spare[piped]) >= spares {
		return
	}
	s.fills[piped] = true
	own := currentStdout() // the program may change and close it as soon as this returns
	s.side.Go(func() {     // ends when there are enough
		defer own.close()
		select {
		case <-time.After(in):
		case <-s.over:
		}
		for {
			p, err := s.begin(Spec{GOMAXPROCS: s.procs}, outputs{piped: piped, held: true, stdout: own})
			s.mu.Lock()
			if err == nil {
				s.spare[piped] = append(s.spare[piped], p)
			}
			if err != nil || len(s.spare[piped]) >= spares || s.isOver() {
				s.fills[piped] = false
				s.mu.Unlock()
				return
			}
			s.mu.Unlock()
		}
	})
}

// Spares returns how many workers are ready to be taken.
func (s *Server) Spares(piped bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spare[piped])
}

func (s *Server) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// adopt gives a worker that was made ready its output.
func (p *Process) adopt(output func(int, string, []byte)) {
	p.stderr.release(output)
	if p.stdout != nil {
		p.stdout.release(output)
	}
}

// discard ends a worker that nobody has taken, and waits until it is gone. What it wrote
// is nobody's.
func (p *Process) discard() {
	p.adopt(func(int, string, []byte) {})
	p.Kill()
	<-p.ended
	p.Release()
}
