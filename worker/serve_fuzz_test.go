package worker

import (
	"bytes"
	"context"
	"io"
	"testing"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
)

var fuzzed = executor.NewTask("worker.fuzzed", func(_ context.Context, m map[string][]any) (int, error) { return len(m), nil })

// FuzzServer has a worker read what it likes from its parent, and run what calls there
// are. It is inside of the package, for a server needs a process around it to be used
// from outside.
func FuzzServer(f *testing.F) {
	head := (&wire.CallHead{Task: fuzzed.Name(), Timeout: 1, Deadline: 1}).Append(nil)
	arg, err := wire.Marshal(&wire.Box[map[string][]any]{V: map[string][]any{"a": {1, nil, "s"}}})
	if err != nil {
		f.Fatal(err)
	}
	call := wire.Append(nil, wire.Header{Kind: wire.KindCall, Seq: 2, Item: 2}, head)
	call = wire.Append(call, wire.Header{Kind: wire.KindArg, Seq: 2, Flags: wire.FlagAlone}, arg)
	interrupt := (&wire.Interruption{Deadline: true, Cause: executor.EncodeError(context.DeadlineExceeded)}).Append(nil)
	call = wire.Append(call, wire.Header{Kind: wire.KindInterrupt, Seq: 2}, interrupt)
	f.Add(call)
	call = wire.Append(call, wire.Header{Kind: wire.KindArg, Seq: 2, Item: 1, Flags: wire.FlagAbsent}, nil)
	f.Add(call)
	f.Add(wire.Append(call, wire.Header{Kind: wire.KindCall, Seq: 3}, head))
	f.Add(wire.Append(call, wire.Header{Kind: wire.KindArg, Seq: 4}, arg))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &server{in: wire.NewReader(bytes.NewReader(untilBye(b)), 1<<20, false), dec: new(wire.Decoder), large: map[wire.RingArg]wire.Frame{}}
		s.more.L = &s.mu
		for s.readFrame() == nil {
		}
		for _, j := range s.jobs {
			if len(j.args) != j.count {
				t.Fatalf("a call of %d items has %d arguments", j.count, len(j.args))
			}
			fn, err := s.lookup(&j.head)
			if err != nil {
				continue
			}
			for _, arg := range j.args {
				_ = s.dec.Message(arg, func(v *wire.Value) error {
					fn.Serve(t.Context(), v, func(any, error) {})
					return nil
				})
				s.dec.Skip(arg)
			}
		}
	})
}

// untilBye returns the frames of b before the first that has the process end.
func untilBye(b []byte) []byte {
	r := wire.NewReader(bytes.NewReader(b), 1<<20, false)
	for read := 0; ; {
		f, err := r.Next()
		if err != nil && err != io.EOF {
			return b
		}
		if err != nil || f.Kind == wire.KindBye {
			return b[:read]
		}
		read += len(wire.Append(nil, f.Header, f.Payload))
	}
}
