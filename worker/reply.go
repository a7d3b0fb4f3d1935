package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// wallDeadline returns the deadline of the caller's context on this process's clock.
func (j *job) wallDeadline() time.Time {
	if j.head.Deadline == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(j.head.Deadline - proc.Monotonic()))
}

// reply answers an item with what came of it.
func (s *server) reply(j *job, arg wire.Frame, ctx *callContext, result any, err error) {
	if err != nil {
		s.fail(arg, executor.JoinCause(err, context.Cause(ctx)))
		return
	}
	h := wire.Header{Kind: wire.KindResult, Seq: arg.Seq, Item: arg.Item}
	if j.head.Discard {
		s.answer(h, nil)
		return
	}
	returned := false
	defer func() { // a method that encodes may panic, or end the goroutine
		if !returned {
			s.fail(arg, abnormal(j.head.Task, recover()))
		}
	}()
	payload, flags, err := s.enc.Message(func(e *wire.Encoder) error { return e.Encode(result) })
	returned = true
	if err != nil {
		s.fail(arg, fmt.Errorf("executor: task %q: encoding the result: %w", j.head.Task, err))
		return
	}
	h.Flags = flags
	s.answer(h, payload)
}

// abnormal returns the error of a result whose encoding did not return: v is what
// recover said.
func abnormal(task string, v any) error {
	if v != nil {
		return fmt.Errorf("executor: task %q: encoding the result: %w", task, &executor.PanicError{Value: v, Stack: debug.Stack()})
	}
	return fmt.Errorf("executor: task %q: encoding the result: %w", task, remote.ErrGoexit)
}

// fail answers an item with an error.
func (s *server) fail(arg wire.Frame, err error) {
	if s.once {
		s.code = 1
		complain(s.job.head.Task, err)
	}
	b := executor.EncodeError(err)
	if int64(len(b)) > s.limit+wire.ErrorAllowance {
		b = executor.EncodeError(fmt.Errorf("worker: the call failed with an error of type %T that is too large to travel: %d bytes", err, len(b)))
	}
	s.answer(wire.Header{Kind: wire.KindError, Seq: arg.Seq, Item: arg.Item}, b)
}

// complain writes the error of a process's only call to its standard error, as a
// program does that ends with an error.
func complain(task string, err error) {
	fmt.Fprintf(os.Stderr, "worker: task %q: %v\n", task, err)
	if p, ok := errors.AsType[*executor.PanicError](err); ok {
		_, _ = os.Stderr.Write(p.Stack) // who closed it does not want it
	}
}

// answer writes a frame. A parent that does not read any more is dead.
func (s *server) answer(h wire.Header, payload []byte) {
	err := s.out.Add(h, payload)
	if err == nil {
		err = s.out.Flush()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "worker: answering: %v\n", err)
		proc.Die()
	}
	s.owes = false
}
