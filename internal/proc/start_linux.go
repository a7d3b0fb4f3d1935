package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// A Process is a worker process that was started, as its parent sees it. It is safe
// for concurrent use, but for In, which is for one goroutine.
type Process struct {
	PID  int
	Ring *ring.Parent
	In   *wire.Reader // its frames; ends with io.EOF after all that it wrote before it died

	socket   *carry.Socket
	stderr   *relay
	stdout   *relay   // nil: the worker has the parent's own
	stdoutOf *os.File // the file that was os.Stdout when it was started
	server   *Server  // nil: the process was started without one
	ended    chan struct{}
	exit     Exit // valid once ended is closed

	greeted func() // to be called when it has, or somebody gives that up; nil: nobody waits

	writing sync.Mutex // guards out
	out     *wire.Writer

	// mu guards the fields below, and so that no signal goes to a process that took
	// over the number. It is not held while anything waits.
	mu      sync.Mutex
	reaped  bool
	killed  bool   // by us
	reason  string // why, where the signal does not tell
	endedAt time.Time
	mem     memory
	ooms    int64 // out-of-memory kills before it was started
	os      *os.Process
}

// Start starts a worker. Whoever called it reads In to its end, waits for Ended and
// calls Release.
//
// Errors: what the system said, and ErrQuit. Nothing is left of what was begun then.
func Start(s Spec) (*Process, error) {
	if s.ForkServer {
		server := OpenServer(s)
		p, err := server.start(s)
		if err != nil {
			server.Release()
			return nil, err
		}
		p.server = server
		return p, nil
	}
	path, argv, err := s.command()
	if err != nil {
		return nil, err
	}
	done, err := takeTurn(s.Quit)
	if err != nil {
		return nil, err
	}
	p, err := begin(outputs{piped: s.Output != nil, fn: s.Output}, func(files []*os.File) (born, error) {
		b := born{pidfd: -1}
		var err error
		b.os, err = os.StartProcess(path, argv, &os.ProcAttr{
			Dir:   s.Dir,
			Env:   s.environment(),
			Files: files,
			Sys:   s.attributes(&b.pidfd),
		})
		b.peak = ownPeak()
		return b, err
	})
	if err != nil {
		done()
		return nil, err
	}
	p.greeted = done
	return p, nil
}

// outputs says what becomes of what a process writes.
type outputs struct {
	stdout stdout // the program's own; zero: as it is now
	piped  bool   // its standard output is a pipe, not the program's own
	held   bool   // it is kept until somebody adopts the process
	fn     func(pid int, stream string, line []byte)
}

// A born process has been started by whatever means.
type born struct {
	os    *os.Process
	pidfd int   // -1: none
	peak  int64 // the resident size, at most, of the process that it was until it executed its program

	reaped func() // to be called when it was; nil: nobody wants to know
}

// begin prepares what a process has to do with its parent, has launch start it with the
// descriptors 0 and up, and begins to watch it.
func begin(o outputs, launch func(files []*os.File) (born, error)) (_ *Process, err error) {
	var undo cleanup
	defer func() {
		if err != nil {
			undo.run()
		}
	}()
	memory, memoryFile, err := ring.Create()
	if err != nil {
		return nil, err
	}
	defer memoryFile.Close()
	undo.add(memory.Unmap)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "worker's end")
	defer theirs.Close()
	ours, err := aboveStandard(fds[0])
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	if err := unix.SetNonblock(ours, true); err != nil { // for the runtime's poller
		unix.Close(ours)
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	p := &Process{Ring: memory.Parent(), ended: make(chan struct{})}
	file := os.NewFile(uintptr(ours), "worker")
	undo.add(func() { file.Close() })
	if p.socket, err = carry.NewSocket(file); err != nil {
		return nil, err
	}
	p.In = wire.NewSocketReader(stream{p.socket}, p.socket, helloLimit, true)
	p.out = wire.NewWriter(p.socket)

	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	own := o.stdout
	if own.of == nil {
		own = currentStdout()
		defer own.close()
	}
	stdout := null
	if o.piped {
		relay, w, err := newRelay("stdout", nil, o.fn)
		if err != nil {
			return nil, err
		}
		defer w.Close()
		undo.add(relay.abandon)
		p.stdout, stdout = relay, w
	} else if own.dup != nil {
		stdout = own.dup
	}
	p.stdoutOf = own.of
	stderr, w, err := newRelay("stderr", new(excerpt), o.fn)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	undo.add(stderr.abandon)
	p.stderr = stderr

	p.ooms, _ = oomKills()()
	b, err := launch([]*os.File{null, stdout, w, theirs, memoryFile})
	if err != nil {
		return nil, err
	}
	p.os, p.PID = b.os, b.os.Pid
	p.mem.floor = b.peak
	p.stderr.held = o.held
	p.stderr.start(p.PID, p.look)
	if p.stdout != nil {
		p.stdout.held = o.held
		p.stdout.start(p.PID, nil)
	}
	go p.watch(b)
	return p, nil
}

// aboveStandard returns the descriptor fd, or another one for the same file in its stead
// where it has the number of a standard stream, as in a program that has closed those: a
// write to number 1 or 2 whose reader is gone ends a Go program.
func aboveStandard(fd int) (int, error) {
	if fd > 2 {
		return fd, nil
	}
	defer unix.Close(fd)
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
}

// A stream is a socket whose end is io.EOF also where the worker died with frames
// unread: Linux reports that as a reset, behind all that the worker wrote.
type stream struct{ *carry.Socket }

func (s stream) Read(b []byte) (int, error) {
	n, err := s.Socket.Read(b)
	if errors.Is(err, unix.ECONNRESET) {
		err = io.EOF
	}
	return n, err
}

// cleanup undoes what was done, the last first.
type cleanup []func()

func (c *cleanup) add(fn func()) { *c = append(*c, fn) }

func (c *cleanup) run() {
	for _, fn := range slices.Backward(*c) {
		fn()
	}
}

// command returns what to execute. The program itself is found through the kernel,
// so that it does not matter what became of its file.
func (s *Spec) command() (path string, argv []string, err error) {
	if len(s.Command) == 0 {
		return "/proc/self/exe", os.Args[:min(1, len(os.Args))], nil
	}
	path, err = exec.LookPath(s.Command[0])
	return path, s.Command, err
}

// environment returns the worker's.
func (s *Spec) environment() []string {
	env := s.Env
	if env == nil {
		env = os.Environ()
	}
	return marked(env, "", s.GOMAXPROCS)
}

// attributes returns the caller's, with what the library needs added: a process
// group of its own, so that Ctrl-C does not reach the worker and a kill reaches what
// it started, and a descriptor of the process.
//
// A parent-death signal is not used, tempting as it is for workers that are frozen:
// it kills the worker before that can kill its group, which would live on. It also
// follows the thread that started the worker, not the program.
func (s *Spec) attributes(pidfd *int) *syscall.SysProcAttr {
	var sys syscall.SysProcAttr
	if s.SysProcAttr != nil {
		sys = *s.SysProcAttr
	}
	sys.Setpgid = !sys.Setsid // a session of its own is a group of its own, too
	sys.Pgid = 0
	sys.PidFD = pidfd
	return &sys
}

// CheckSysProcAttr reports what a worker cannot be started with.
func CheckSysProcAttr(sys *syscall.SysProcAttr) error {
	switch {
	case sys == nil:
		return nil
	case sys.Pgid != 0:
		return errors.New("Pgid is set, but a worker leads a process group of its own")
	case sys.Foreground, sys.Setctty:
		return errors.New("Foreground or Setctty is set, but a worker has no terminal")
	case sys.Pdeathsig != 0:
		return errors.New("Pdeathsig is set, but that would follow a thread of this program; a worker ends with the program anyway")
	case sys.Ptrace:
		return errors.New("Ptrace is set, but nobody here would trace the worker")
	}
	return nil
}

// A stdout is the program's standard output as it once was, in a descriptor of its own:
// the program may set os.Stdout to another file, and close this one.
type stdout struct {
	of  *os.File
	dup *os.File // nil: it was not open
}

// currentStdout returns what the standard output is now. The caller closes it.
func currentStdout() stdout {
	s := stdout{of: os.Stdout}
	conn, err := s.of.SyscallConn()
	if err != nil {
		return s
	}
	_ = conn.Control(func(fd uintptr) { // if it fails, the file is closed
		if n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3); err == nil {
			s.dup = os.NewFile(uintptr(n), s.of.Name())
		}
	})
	return s
}

func (s stdout) close() {
	if s.dup != nil {
		s.dup.Close()
	}
}

// watch waits for the process to end and takes care of what it leaves.
func (p *Process) watch(b born) {
	awaitExit(p.PID, b.pidfd)
	// The process is a zombie: nobody else can have its number, or its group's.
	_ = unix.Kill(-p.PID, unix.SIGKILL)
	p.mu.Lock()
	state, err := p.os.Wait() // does not block
	p.reaped, p.endedAt = true, time.Now()
	p.mem.ended(state)
	killed, reason := p.killed, p.reason
	p.mu.Unlock()
	if b.reaped != nil {
		b.reaped()
	}
	p.exit = exitOf(state, err)
	if p.exit.Signal == syscall.SIGKILL {
		if !killed {
			reason = oom(p.PID, p.ooms)
		}
		p.exit.Reason = reason
	}
	p.Hangup()
	p.stderr.finish()
	if p.stdout != nil {
		p.stdout.finish()
	}
	close(p.ended)
}

// awaitExit returns when the process is a zombie. By its descriptor, that costs no
// thread.
func awaitExit(pid, pidfd int) {
	if pidfd >= 0 && unix.SetNonblock(pidfd, true) == nil {
		f := os.NewFile(uintptr(pidfd), "pidfd")
		defer f.Close()
		if conn, err := f.SyscallConn(); err == nil {
			var info unix.Siginfo
			if conn.Read(func(fd uintptr) bool {
				info = unix.Siginfo{}
				err := unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
				return err != nil && !errors.Is(err, unix.EINTR) || info.Signo != 0
			}) == nil && info.Signo != 0 {
				return
			}
		}
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func exitOf(state *os.ProcessState, err error) Exit {
	if err != nil {
		return Exit{Code: -1} // somebody else has reaped it
	}
	e := Exit{Code: state.ExitCode()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}

// Ended returns a channel that is closed when the process has ended and was reaped.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Exit says how it ended. Ended is closed.
func (p *Process) Exit() Exit { return p.exit }

// Stderr returns the beginning and the end of what the process wrote to its standard
// error. It is all there once Ended is closed.
func (p *Process) Stderr() string { return p.stderr.kept.text() }

// Signal sends a signal to the process, if it has not ended.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	return p.os.Signal(sig)
}

// Kill sends SIGKILL to the process and to all of its group.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kill()
}

// kill is Kill for who holds mu.
func (p *Process) kill() {
	if !p.reaped {
		p.killed = p.killed || p.alive()
		_ = unix.Kill(-p.PID, unix.SIGKILL)
		_ = p.os.Kill() // it may have left its group
	}
}

// Hangup shuts the socket in both directions: who writes to it fails, who reads
// gets what has arrived, and then EOF.
func (p *Process) Hangup() {
	if conn, err := p.socket.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
}

// Add adds a frame to what Flush writes. It fails once the process has ended.
func (p *Process) Add(h wire.Header, payload []byte) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.out.Add(h, payload)
}

// AddLoad is wire.Writer's: it writes a frame with descriptors, which are closed. It fails
// once the process has ended, and, with a *carry.UnsentError, where they cannot be sent.
func (p *Process) AddLoad(h wire.Header, payload []byte, l *carry.Load) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.out.AddLoad(h, payload, l)
}

// Flush writes the frames that were added. It fails once the process has ended.
func (p *Process) Flush() error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.out.Flush()
}

// flushTime is how long Release waits for what the worker wrote to be passed on: to
// an output that takes it, that is no time at all.
const flushTime = time.Second

// Release closes what the parent has of the process, and waits a moment for its
// output to be passed on. Ended is closed, and nobody reads or writes any more.
func (p *Process) Release() {
	p.socket.Drop()
	p.socket.Close()
	p.Ring.Unmap()
	patience := time.NewTimer(flushTime)
	defer patience.Stop()
	p.stderr.flushed(patience.C)
	if p.stdout != nil {
		p.stdout.flushed(patience.C)
	}
	if p.server != nil {
		p.server.Release()
	}
}

// CheckSystem returns nil where worker processes can be had.
func CheckSystem() error { return nil }
