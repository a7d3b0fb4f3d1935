package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"example.com/futures/internal/wire"
)

// helloLimit bounds what a process may say before it is known to be a worker.
const helloLimit = 16 << 20

// A MismatchError reports a worker that is not of this program, or not of one that
// fits it. Starting another would give the same.
type MismatchError struct{ reason string }

func (e *MismatchError) Error() string { return e.reason }

// Greet tells the worker what it is to be and waits for it to introduce itself. It
// answers with the tasks that the worker has, by name.
//
// Errors: a *MismatchError for a worker of another protocol, or with a task of the
// same name as one of ours and another signature; the end of the process; a worker
// that took longer than timeout. The process may still run then.
func (p *Process) Greet(setup wire.Setup, timeout time.Duration, ours []wire.TaskInfo) (map[string]string, error) {
	if err := p.socket.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	// The worker is told first, and need not wait for it when it comes to read that. One that
	// is of another protocol, or lacks what it should have, learns nothing more.
	told := p.tell(setup)
	f, err := p.In.Next()
	if p.greeted != nil {
		p.greeted()
	}
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
	if told != nil {
		return nil, p.greetError(told, timeout)
	}
	p.In.SetLimit(setup.MaxMessage + wire.ErrorAllowance)
	p.look()
	return theirs, p.socket.SetDeadline(time.Time{})
}

// tell tells the worker what it is to be.
func (p *Process) tell(setup wire.Setup) error {
	if err := p.Add(wire.Header{Kind: wire.KindSetup, Seq: wire.Magic, Item: wire.Version}, setup.Append(nil)); err != nil {
		return err
	}
	return p.Flush()
}

func (p *Process) hello(f wire.Frame) (hello wire.Hello, err error) {
	if f.Kind != wire.KindHello || f.Seq != wire.Magic {
		return hello, &MismatchError{"the process does not speak the protocol of a worker"}
	}
	if f.Item != wire.Version {
		return hello, &MismatchError{fmt.Sprintf("the worker speaks version %d of the protocol, this program version %d", f.Item, wire.Version)}
	}
	if hello, err = wire.ParseHello(f.Payload); err != nil {
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
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return errEnded
	}
	return err
}

var errEnded = errors.New("the process ended before it introduced itself as a worker")
