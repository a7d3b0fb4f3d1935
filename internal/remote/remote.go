// Package remote is what a parent says to a worker process about a call, and how it
// judges the end of one. It is what a worker of a pool and a process that runs one
// call have in common, as their parent sees them.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"syscall"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/wire"
)

// ByeTime is how long a worker may take to end when it has nothing more to do. It runs
// the hooks of its exit, but no call.
const ByeTime = 5 * time.Second

// ErrGoexit is why a value could not be encoded or decoded.
var ErrGoexit = errors.New("runtime.Goexit was called")

// Tasks returns what the other side is told of this program's tasks.
func Tasks() []wire.TaskInfo {
	fns := executor.Functions()
	infos := make([]wire.TaskInfo, len(fns))
	for i, fn := range fns {
		infos[i] = wire.TaskInfo{Name: fn.Name(), Signature: fn.Signature()}
	}
	return infos
}

// Head returns what a worker that has the tasks theirs is told of c.
func Head(c executor.Call, theirs map[string]string) wire.CallHead {
	h := wire.CallHead{Task: c.Task(), Timeout: c.Timeout(), Deadline: deadline(c.Context())}
	if _, ok := theirs[h.Task]; !ok {
		if fn, ok := executor.Lookup(h.Task); ok {
			h.Signature = fn.Signature()
		}
	}
	return h
}

// deadline returns that of a call's context as a worker is told it.
func deadline(ctx context.Context) int64 {
	d, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return proc.Monotonic() + int64(time.Until(d))
}

// Interrupt has the worker end the context of c, which is its call seq, with cause. It
// waits while the socket is full. If it fails, the process has ended.
func Interrupt(p *proc.Process, seq uint64, deadline bool, cause error) {
	i := wire.Interruption{Deadline: deadline, Cause: executor.EncodeError(cause)}
	_ = p.Add(wire.Header{Kind: wire.KindInterrupt, Seq: seq}, i.Append(nil))
	_ = p.Flush()
}

// ByDeadline reports whether ctx has ended by its deadline.
func ByDeadline(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }

// Patience returns the time after which a process is killed whose call has a limit and
// then a grace, both of which may be as long as a Duration can say.
func Patience(limit, grace time.Duration) time.Duration {
	all := limit + grace
	if all < limit {
		all = math.MaxInt64
	}
	return max(all, time.Millisecond)
}

// EncodeError says that the argument of c could not be encoded.
func EncodeError(c executor.Call, err error) error {
	return fmt.Errorf("executor: task %q: encoding the argument: %w", c.Task(), err)
}

// DecodeError says that the result of c could not be decoded.
func DecodeError(c executor.Call, err error) error {
	return fmt.Errorf("executor: task %q: decoding the result: %w", c.Task(), err)
}

// Wrong says what is wrong with a worker of which reading a frame ended with err: nil
// if it has simply ended.
func Wrong(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ended while it wrote an answer")
	case errors.Is(err, io.EOF):
		return nil
	}
	return fmt.Errorf("it was killed for breaking the protocol: %w", err)
}

// Lost says how the process, which has ended, was lost while it ran a call of task.
// wrong is why it was not listened to any more, reason why its call was to end, and
// both may be nil.
func Lost(p *proc.Process, task string, wrong, reason error) *executor.WorkerLostError {
	exit := p.Exit()
	cause := errors.New(exit.String())
	switch {
	case exit.Reason != "":
	case wrong != nil && exit.Signal == syscall.SIGKILL:
		cause = fmt.Errorf("%w: %w", cause, wrong)
	case reason != nil && exit.Signal == syscall.SIGKILL:
		cause = errors.New("killed, since the call went on after it was to end")
	}
	return &executor.WorkerLostError{PID: p.PID, Task: task, ExitCode: exit.Code, Signal: exit.Signal, RSS: p.RSS(), Stderr: p.Stderr(), Cause: cause}
}

// NotReady adds to err, for which a process that has ended did not get ready, what is
// known of its end.
func NotReady(p *proc.Process, err error) error {
	return fmt.Errorf("a worker process did not get ready: %w (%w)", err, Lost(p, "", nil, nil))
}

// Ended returns an error that matches what a ctx that has ended says, and its cause.
func Ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return context.Cause(ctx)
}
