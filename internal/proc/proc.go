// Package proc starts, watches and ends worker processes, and is what a worker
// process knows of how it was started. It is the parent's half of package worker
// and what package processpool is built on.
//
// A worker is the program's own binary, started afresh, with these descriptors and
// no others:
//
//	0  /dev/null
//	1  the parent's standard output, or a pipe to it
//	2  a pipe to the parent, which keeps the beginning and the end of it
//	3  a stream socket: frames of package wire, and the lifeline
//	4  shared memory: the calls, their answers, and how far the worker has got, see package ring
//
// The life of one, as the parent sees it:
//
//	Start ──▶ Greet ──▶ frames to and fro ──▶ Bye, Kill or its own death
//	                                             │
//	     the process has ended; as a zombie it keeps its number from being reused
//	                                             │
//	     SIGKILL to its process group, so that what it started dies too
//	                                             │
//	     reaped; the socket is shut, what is in it can be read, then EOF
//	                                             │
//	                         Ended is closed ──▶ Release
//
// When the parent dies instead, its end of the socket is closed, and the worker
// ends itself and its group.
package proc

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// maxDepth is how deep workers may have workers of their own. Far above what makes
// sense, it ends what would otherwise fill the machine.
const maxDepth = 16

// ErrNoMain reports a program that could start itself again and again.
var ErrNoMain = errors.New("this program never called worker.Main, so its workers would run the program instead of serving it: " +
	"call worker.Main() first in func main, and in TestMain of a test")

// ErrQuit reports a process that was not wanted any more before it had started.
var ErrQuit = errors.New("the process is not wanted any more")

// mainCalled is set by worker.Main.
var mainCalled atomic.Bool

// SetMainCalled notes that the program has called worker.Main.
func SetMainCalled() { mainCalled.Store(true) }

// MayStart returns nil if this program may start workers, its own binary or another,
// and otherwise an error that says why not.
func MayStart(ownBinary bool) error {
	switch {
	case ownBinary && !mainCalled.Load():
		return ErrNoMain
	case depth >= maxDepth:
		return errors.New("workers of workers, sixteen deep: a worker that starts workers without an end?")
	}
	return nil
}

// A Spec says how to start a worker.
type Spec struct {
	Command     []string // nil: this program
	Env         []string // nil: this program's
	Dir         string
	SysProcAttr *syscall.SysProcAttr
	GOMAXPROCS  int                                       // that it begins with; 0: what its environment says
	Output      func(pid int, stream string, line []byte) // nil: this program's own outputs
	ForkServer  bool                                      // by the fork server of Command; else by this program
	Patience    time.Duration                             // with a fork server: for that to introduce itself
	Quit        <-chan struct{}                           // closed when the process is not wanted any more; nil: never
}

// An Exit says how a process ended.
type Exit struct {
	Code   int       // -1 if a signal ended it
	Signal os.Signal // nil unless a signal ended it
	Reason string    // who sent SIGKILL and why, in words; "": not known
}

// String returns it in words.
func (e Exit) String() string {
	switch {
	case e.Reason != "":
		return e.Reason
	case e.Signal != nil:
		return "killed by signal: " + e.Signal.String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}
