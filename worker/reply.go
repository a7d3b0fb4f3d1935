package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// wallDeadline returns the deadline of the caller's context on this process's clock.
func (j *job) wallDeadline() time.Time {
	if j.head.Deadline == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(j.head.Deadline - proc.Monotonic()))
}

// reply answers the item that runs with what came of it.
func (s *server) reply(result any, err error) {
	j, arg := s.job, s.arg
	if err != nil {
		s.fail(arg, executor.JoinCause(err, context.Cause(s.ctx)))
		return
	}
	h := wire.Header{Kind: wire.KindResult, Seq: arg.Seq, Item: arg.Item}
	if j.head.Discard {
		s.answer(h, nil)
		return
	}
	if b, ok := wire.Result(s.result[:], result); ok && int64(len(b)) <= s.limit {
		h.Flags = wire.FlagPlain
		s.answer(h, b)
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
	h.Flags = flags
	if err == nil && flags&wire.FlagCarry != 0 {
		if err = s.answerLoad(h, payload.Bytes(), s.enc.Load()); err == nil {
			return
		}
		s.enc.Drop() // what it has described was not sent
	}
	if err != nil {
		s.fail(arg, fmt.Errorf("executor: task %q: encoding the result: %w", j.head.Task, err))
		return
	}
	if b, whole := payload.Whole(); whole {
		s.answer(h, b)
	} else {
		s.answerPieces(h, payload)
	}
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

// answer says what became of an item, at once: by a frame, or by a record in shared
// memory and, if the parent sleeps, a frame that wakes it.
func (s *server) answer(h wire.Header, payload []byte) {
	if s.job.sock {
		s.write(h, payload)
	} else {
		s.post(h, payload)
	}
	s.owes = false
}

// answerLoad is answer for a value that descriptors go along with: through the socket, whole.
// If it fails, because of them, there was no answer.
func (s *server) answerLoad(h wire.Header, payload []byte, load *carry.Load) error {
	err := s.out.AddLoad(h, payload, load)
	if errors.As(err, new(*carry.UnsentError)) {
		return err
	}
	s.written(err)
	if !s.job.sock {
		h.Flags |= wire.FlagSocket
		s.post(h, nil)
	}
	s.owes = false
	return nil
}

// write writes a frame.
func (s *server) write(h wire.Header, payload []byte) {
	err := s.out.Add(h, payload)
	if err == nil {
		err = s.out.Flush()
	}
	s.written(err)
}

// written ends this process if it could not write: a parent that does not read any more is
// dead.
func (s *server) written(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "worker: answering: %v\n", err)
		proc.Die()
	}
}

// post publishes a record. A payload that is large is put beside the ring, and one that
// is larger than all room there goes through the socket.
func (s *server) post(h wire.Header, payload []byte) {
	if len(payload) > wire.MostInline {
		h.Flags, payload = s.store(h, payload)
	}
	if !s.mem.Answers.Add(uint8(h.Kind), h.Flags, uint16(h.Seq), payload) {
		s.await(time.Now(), func() bool { return s.mem.Answers.Add(uint8(h.Kind), h.Flags, uint16(h.Seq), payload) })
	}
	s.mem.Answers.Publish()
	if s.mem.WantsBell() {
		s.write(wire.Header{Kind: wire.KindBell}, nil)
	}
}

// store puts a large payload where there is room for it, and returns what its record is to
// say of that.
func (s *server) store(h wire.Header, payload []byte) (flags uint8, where []byte) {
	n := len(payload)
	if n > ring.ArenaLen/2 {
		s.write(h, payload)
		return h.Flags | wire.FlagSocket, nil
	}
	ref, room := s.alloc(n)
	copy(room, payload)
	return h.Flags | wire.FlagLarge, ref.Append(s.scratch[:0])
}

// alloc waits for room for n bytes, which there is at some time.
func (s *server) alloc(n int) (ref ring.Ref, room []byte) {
	ref, room, ok := s.mem.Alloc(n)
	if !ok {
		s.await(time.Now(), func() bool {
			ref, room, ok = s.mem.Alloc(n)
			return ok
		})
	}
	return ref, room
}

// answerPieces is answer for a payload in several pieces: each is copied once, to where the
// parent reads it.
func (s *server) answerPieces(h wire.Header, p wire.Payload) {
	n := p.Len()
	if s.job.sock || n <= wire.MostInline || n > ring.ArenaLen/2 {
		s.answer(h, p.Bytes())
		return
	}
	ref, room := s.alloc(n)
	p.CopyTo(room)
	h.Flags |= wire.FlagLarge
	s.answer(h, ref.Append(s.scratch[:0]))
}
