//go:build !linux

package proc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// Worker processes need Linux: /proc/self/exe, memfd and process descriptors. What
// follows lets programs that use them on Linux build everywhere.

var depth int

// ErrSystem is what Start answers.
var ErrSystem = fmt.Errorf("worker processes need Linux, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)

// CheckSystem returns nil where worker processes can be had.
func CheckSystem() error { return ErrSystem }

// A MismatchError is described for Linux.
type MismatchError struct{ reason string }

func (e *MismatchError) Error() string { return e.reason }

// A Process cannot be had.
type Process struct {
	PID  int
	Ring *ring.Parent
	In   *wire.Reader
}

// Start answers ErrSystem.
func Start(Spec) (*Process, error) { return nil, ErrSystem }

// CheckSysProcAttr has nothing to check.
func CheckSysProcAttr(*syscall.SysProcAttr) error { return nil }

func (p *Process) Greet(wire.Setup, time.Duration, []wire.TaskInfo) (map[string]string, error) {
	return nil, ErrSystem
}
func (p *Process) Ended() <-chan struct{}        { return nil }
func (p *Process) Exit() Exit                    { return Exit{} }
func (p *Process) Stderr() string                { return "" }
func (p *Process) Signal(syscall.Signal) error   { return ErrSystem }
func (p *Process) Resident() int64               { return 0 }
func (p *Process) RSS() int64                    { return 0 }
func (p *Process) KillOver(int64, int64)         {}
func (p *Process) Kill()                         {}
func (p *Process) Hangup()                       {}
func (p *Process) Add(wire.Header, []byte) error { return ErrSystem }
func (p *Process) Flush() error                  { return ErrSystem }
func (p *Process) AddLoad(_ wire.Header, _ []byte, l *carry.Load) error {
	l.Close()
	return ErrSystem
}
func (p *Process) Release() {}

// Inherited answers false: no process is a worker.
func Inherited() (*carry.Socket, *ring.Worker, bool) { return nil, nil, false }

// Die ends the process.
func Die() { os.Exit(1) }

// Quota is not used here.
func Quota() bool { return false }

// Monotonic is not used here.
func Monotonic() int64 { return 0 }

// A Server cannot be had.
type Server struct{}

// OpenServer is for Linux.
func OpenServer(Spec) *Server { return nil }

// Release has nothing to release.
func (*Server) Release() {}

// ServeForks returns: no process is a fork server.
func ServeForks() {}

// Settle has nothing to do.
func Settle() {}
