package clustertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Options are the settings of a server, or of each server of a cluster. The zero Options
// work: a server on a free port of the loopback device, open to everyone.
type Options struct {
	// Name is the server's name. "" is "s0". In a cluster they are s0, s1 and so on.
	Name string

	// Dir is where the server keeps its streams, which stays after the test. "" is a
	// directory that is gone after the test. Servers of a cluster have one each in it.
	Dir string

	// Memory says that the test keeps its streams in memory. It changes nothing here,
	// since each stream says so itself.
	Memory bool

	// SyncAlways makes the server write all the way to the disk before it acknowledges.
	SyncAlways bool

	// MaxPayload is the size of the largest message, in bytes. Zero is the server's
	// default, 1 MiB.
	MaxPayload int32

	// User and Password are what URL gives to the clients. Unless Config has users,
	// they are also what the server asks for.
	User, Password string

	// Config is the text of a configuration file: users, permissions, accounts, TLS.
	// The other Options go over it, and so do the names and ports of a cluster. Each
	// account whose clients use streams needs "jetstream: enabled".
	Config string

	// Host is the address to listen at. "" is 127.0.0.1.
	Host string

	// Port is the clients' port. Zero is a free one, which the server keeps when it is
	// started again. It is not for the servers of a cluster.
	Port int

	// NetNS is the name of the network namespace to run in, as "ip netns" knows it.
	// "" is that of the test. Host is then an address there.
	NetNS string
}

// A Server is a NATS server in a process of its own. The process ends with the test, or with
// the test's own process. Its methods are safe for concurrent use.
type Server struct {
	tb   testing.TB
	role role
	dir  string // log, configuration file

	mu   sync.Mutex // guards the fields below; held while the process is started or ended
	proc *process   // the last one
}

// A process is one run of a server.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for

	mu      sync.Mutex // guards the fields below, and is held during a question
	asks    *os.File
	answers *os.File
	rest    []byte // the beginning of an answer
	asked   int
}

// StartServer starts a server and waits until it is ready for JetStream, which takes a few
// dozen milliseconds.
func StartServer(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Name == "" {
		o.Name = "s0"
	}
	if o.Port == 0 {
		o.Port = freePort(t)
	}
	s := newServer(t, role{Options: o})
	s.Restart()
	return s
}

// newServer prepares a server that does not run yet. Its port is chosen.
func newServer(t testing.TB, r role) *Server {
	t.Helper()
	if !mainCalled.Load() {
		t.Fatal("clustertest: TestMain has to call clustertest.Main")
	}
	if r.Options.Host == "" {
		r.Options.Host = "127.0.0.1"
	}
	s := &Server{tb: t, dir: t.TempDir()}
	r.StoreDir = r.Options.Dir
	if r.StoreDir == "" {
		r.StoreDir = filepath.Join(s.dir, "store")
	}
	if r.Options.Config != "" {
		r.ConfigFile = filepath.Join(s.dir, "nats.conf")
		if err := os.WriteFile(r.ConfigFile, []byte(r.Options.Config), 0o600); err != nil {
			t.Fatal(err)
		}
		r.Options.Config = "" // it may be longer than a variable of the environment
	}
	s.role = r
	t.Cleanup(func() { // before the directory is removed
		if t.Failed() {
			t.Logf("the end of the log of server %s:\n%s", s.Name(), s.logged())
		}
		s.Kill()
	})
	return s
}

// Name returns the server's name.
func (s *Server) Name() string { return s.role.Options.Name }

// URL returns where clients connect to, with user and password if the Options have them.
func (s *Server) URL() string {
	o := s.role.Options
	u := url.URL{Scheme: "nats", Host: net.JoinHostPort(o.Host, strconv.Itoa(o.Port))}
	if o.User != "" {
		u.User = url.UserPassword(o.User, o.Password)
	}
	return u.String()
}

// PID returns the ID of the server's process, or of the last one if none runs.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Kill ends the process with SIGKILL and waits for its end. Without a process it does
// nothing.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

// kill needs s.mu.
func (s *Server) kill() {
	if s.proc == nil {
		return
	}
	_ = s.proc.cmd.Process.Kill() // unless it has ended
	<-s.proc.done
	s.proc.close()
}

// Stop freezes the process with SIGSTOP and waits until it stands still. Its connections
// stay open.
func (s *Server) Stop() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.proc.cmd.Process.Signal(syscall.SIGSTOP)
	if err == nil {
		err = unix.EINTR
		for errors.Is(err, unix.EINTR) {
			err = unix.Waitid(unix.P_PID, s.proc.cmd.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		}
	}
	if err != nil {
		s.tb.Fatalf("stop server %s: %v", s.Name(), err)
	}
}

// Cont lets a process that was frozen go on.
func (s *Server) Cont() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.proc.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		s.tb.Fatalf("continue server %s: %v", s.Name(), err)
	}
}

// Restart starts the server, killing it first if it runs, with the same port, the same
// directory and the same Options, and waits as [Server.Await] does. A server of a cluster
// gets ready only while most of the servers run and reach each other; where they do not, use
// [Server.Launch], or [Cluster.Restart] for all of them.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Launch()
	s.Await()
}

// Launch is Restart, but does not wait.
func (s *Server) Launch() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	p, err := s.start()
	if err != nil {
		s.tb.Fatalf("start server %s: %v", s.Name(), err)
	}
	s.proc = p
}

// Await waits until the server is ready: it listens, it has restored its streams, and in a
// cluster it knows the leader and has all that the leader has. It fails the test after 20
// seconds, or if the process ends.
func (s *Server) Await() {
	s.tb.Helper()
	var st state
	s.until(func() (ok bool, why string) {
		var err error
		if st, err = s.ask(); err != nil {
			return false, err.Error()
		}
		return st.Unwell == "", st.Unwell
	})
}

// until waits for a condition.
func (s *Server) until(condition func() (ok bool, why string)) {
	s.tb.Helper()
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	for end := time.Now().Add(readyWithin); ; {
		ok, why := condition()
		if ok {
			return
		}
		select {
		case <-p.done:
			s.tb.Fatalf("server %s has ended: %v; its log:\n%s", s.Name(), p.cmd.ProcessState, s.logged())
		case <-time.After(look):
		}
		if time.Now().After(end) {
			s.tb.Fatalf("server %s is not ready after %v: %s; its log:\n%s", s.Name(), readyWithin, why, s.logged())
		}
	}
}

// logged returns the end of the server's log.
func (s *Server) logged() string {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(string(b), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "")
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "server.log") }

// start starts a process. Its standard error is the log.
func (s *Server) start() (p *process, err error) {
	text, err := json.Marshal(s.role)
	if err != nil {
		return nil, err
	}
	var theirs []*os.File
	p = &process{done: make(chan struct{})}
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			p.close()
		}
	}()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, log)
	stdin, asks, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	theirs, p.asks = append(theirs, stdin), asks
	answers, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	theirs, p.answers = append(theirs, stdout), answers

	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Args[0] = "nats-server-" + s.Name()
	p.cmd.Env = append(os.Environ(), roleName+"="+string(text),
		"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, log
	// Once the test process is gone nobody of the session cares for a group of its own, so
	// the kernel sends a process that is frozen SIGHUP and SIGCONT: it sees no end of input.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := within(s.role.Options.NetNS, p.cmd.Start); err != nil {
		return nil, err
	}
	go func() { // until the process ends, which kill waits for
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// close lets go of the pipes.
func (p *process) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range []*os.File{p.asks, p.answers} {
		if f != nil {
			f.Close()
		}
	}
}

// frozen reports whether the process stands still by SIGSTOP, whoever has sent it.
func (p *process) frozen() bool {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	return bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T"))
}

// ask returns what the server says about itself now.
func (s *Server) ask() (state, error) {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil {
		return state{}, errors.New("it has not been started")
	}
	if p.frozen() {
		return state{}, errors.New("it is frozen")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	deadline := time.Now().Add(5 * time.Second)
	if err := errors.Join(p.asks.SetWriteDeadline(deadline), p.answers.SetReadDeadline(deadline)); err != nil {
		return state{}, err
	}
	if _, err := fmt.Fprintln(p.asks, p.asked); err != nil {
		return state{}, err
	}
	for {
		for {
			line, rest, ok := bytes.Cut(p.rest, []byte("\n"))
			if !ok {
				break
			}
			p.rest = rest
			var st state
			if err := json.Unmarshal(line, &st); err != nil {
				return state{}, err
			}
			if st.Ask == p.asked { // others answer what was asked while the server was frozen
				return st, nil
			}
		}
		b := make([]byte, 4096)
		n, err := p.answers.Read(b)
		p.rest = append(p.rest, b[:n]...)
		if err != nil {
			return state{}, err
		}
	}
}

// freePort returns a port that nobody else takes during the test. It is none of those that
// the kernel gives to whoever asks for any, since one of those may be gone while the server
// is down. A socket without a file is the mark by which other test processes know.
func freePort(t testing.TB) int {
	t.Helper()
	low := 32768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &low)
	}
	const first = 10_000
	for range 1000 {
		port := first + rand.IntN(max(low-first, 1000))
		mark, err := net.Listen("unix", fmt.Sprintf("@futures-clustertest-port-%d", port))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			mark.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { mark.Close() })
		return port
	}
	t.Fatal("clustertest: no port is free")
	return 0
}
