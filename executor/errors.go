package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"example.com/futures/future"
)

// What a caller may ask for with errors.Is.
var (
	// ErrShutdown reports that the executor takes no more calls, or, as the cause of
	// a cancellation, that it was closed.
	ErrShutdown = errors.New("executor: shut down")

	// ErrQueueFull reports that a bounded queue had no room and the executor is set
	// to refuse calls then.
	ErrQueueFull = errors.New("executor: queue full")

	// ErrNotPortable reports that a call cannot leave this process.
	ErrNotPortable = errors.New("executor: not portable")

	// ErrTimeout reports that a call ran for longer than [WithTimeout] allows. It
	// matches context.DeadlineExceeded too.
	ErrTimeout error = timeoutError{}
)

type timeoutError struct{}

func (timeoutError) Error() string        { return "executor: the call ran longer than its time limit" }
func (timeoutError) Timeout() bool        { return true }
func (timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// A PanicError reports that a task panicked, here or in a worker.
type PanicError = future.PanicError

// errGoexit is what becomes of a call that ends its goroutine.
var errGoexit = errors.New("executor: the task called runtime.Goexit")

// A WorkerLostError reports that the process of a running call ended. The call may
// have run in part; run it again only if that is harmless, as [WithRetries] does.
// A call whose worker was killed because of its own time limit, interrupt or ended
// context has an error that matches that reason as well.
type WorkerLostError struct {
	PID      int       // of the process that ended
	Task     string    // the name of the task that it ran
	ExitCode int       // as os.ProcessState has it; -1 if a signal ended it
	Signal   os.Signal // the signal that ended it, or nil
	RSS      int64     // bytes resident when last looked at; 0: not known
	Stderr   string    // the beginning and the end of what it wrote to standard error
	Cause    error     // why, in words; never nil
}

// Error says which process ended, how, and what it last wrote.
func (e *WorkerLostError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "executor: worker process %d was lost", e.PID)
	if e.Task != "" {
		fmt.Fprintf(&b, " while it ran task %q", e.Task)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if s := strings.TrimSpace(e.Stderr); s != "" {
		fmt.Fprintf(&b, "; its standard error: %s", s)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *WorkerLostError) Unwrap() error { return e.Cause }

// A BrokenError reports that an executor cannot work any more: an initializer
// failed, or no worker can be started. Calls that were queued fail with it, each
// with one of its own.
type BrokenError struct{ Cause error }

// Error says why the executor is broken.
func (e *BrokenError) Error() string { return fmt.Sprintf("executor: broken: %v", e.Cause) }

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Cause }

// decodeError says that a result came back and could not be read.
func decodeError(task string, err error) error {
	return fmt.Errorf("executor: task %q: decoding the result: %w", task, err)
}
