package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"example.com/futures/internal/wire"
)

// helloLimit bounds what a process may say before it is known to be a worker.
const helloLimit = 16 << 20

// A MismatchError reports a worker that is not of this program, or not of one that
// fits it. Starting another would give the same.
type MismatchError struct{ reason string }

func (e *MismatchError) Error() string { return e.reason }

// Greet waits for the worker to introduce itself and tells it what it is to be. It
// answers with the tasks that the worker has, by name.
//
// Errors: a *MismatchError for a worker of another protocol, or with a task of the
// same name as one of ours and another signature; the end of the process; a worker
// that took longer than timeout. The process may still run then.
func (p *Process) Greet(setup wire.Setup, timeout time.Duration, ours []wire.TaskInfo) (map[string]string, error) {
	if err := p.socket.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	f, err := p.In.Next()
	if err != nil {
		return nil, p.greetError(err, timeout)
	}
	hello, err := p.hello(f)
	if err != nil {
		return nil, err
	}
	theirs := make(map[string]string, len(hello.Tasks))
	for _, t := range hello.Tasks {
		theirs[t.Name] = t.Signature
	}
	for _, t := range ours {
		if sig, ok := theirs[t.Name]; ok && sig != t.Signature {
			return nil, &MismatchError{fmt.Sprintf("task %q is %s here and %s in the worker's program", t.Name, t.Signature, sig)}
		}
	}
	b, err := wire.Marshal(setup)
	if err != nil {
		return nil, err
	}
	if err = p.Add(wire.Header{Kind: wire.KindSetup}, b); err == nil {
		err = p.Flush()
	}
	if err != nil {
		return nil, p.greetError(err, timeout)
	}
	p.In.SetLimit(setup.MaxMessage + wire.ErrorAllowance)
	p.look()
	return theirs, p.socket.SetDeadline(time.Time{})
}

func (p *Process) hello(f wire.Frame) (hello wire.Hello, err error) {
	if f.Kind != wire.KindHello || f.Seq != wire.Magic {
		return hello, &MismatchError{"the process does not speak the protocol of a worker"}
	}
	if f.Item != wire.Version {
		return hello, &MismatchError{fmt.Sprintf("the worker speaks version %d of the protocol, this program version %d", f.Item, wire.Version)}
	}
	if err := wire.Unmarshal(f.Payload, &hello); err != nil {
		return hello, &MismatchError{fmt.Sprintf("the worker's greeting cannot be read: %v", err)}
	}
	return hello, nil
}

// greetError says why the conversation did not begin.
func (p *Process) greetError(err error, timeout time.Duration) error {
	var limit *wire.LimitError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the process did not introduce itself as a worker within %v: does its program call worker.Main first?", timeout)
	case errors.As(err, &limit):
		return &MismatchError{"the process does not speak the protocol of a worker"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errEnded
	}
	return err
}

var errEnded = errors.New("the process ended before it introduced itself as a worker")
