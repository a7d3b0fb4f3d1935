package executor_test

import (
	"context"
	"encoding/gob"
	"slices"
	"testing"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
)

// A menagerie has what gob decodes in different ways.
type menagerie struct {
	N     int8
	S     []string
	M     map[string][]menagerie
	Next  *menagerie
	Any   any
	Anys  []any
	Array [2]bool
}

func init() {
	gob.Register(menagerie{})
	gob.Register([]any{})
	gob.Register(map[string]any{})
}

var menagerieTask = executor.NewTask("executor_test.menagerie", func(_ context.Context, m menagerie) (menagerie, error) { return m, nil })

// FuzzCall has the two sides of a call decode what they like: the worker an argument,
// the parent a result.
func FuzzCall(f *testing.F) {
	m := menagerie{N: 1, S: []string{"a", ""}, M: map[string][]menagerie{"k": {{N: 2}, {}}}, Next: &menagerie{Array: [2]bool{true}}}
	for _, m := range []menagerie{{}, m, {Any: m, Anys: []any{nil, 1, "s", []any{m}, map[string]any{"k": nil}}}} {
		b, flags := encoded(f, m)
		f.Add(b, flags)
		f.Add(b[:len(b)/2], flags)
	}
	serve, ok := executor.Lookup("executor_test.menagerie")
	if !ok {
		f.Fatal("no such task")
	}
	f.Fuzz(func(t *testing.T, b []byte, flags uint8) {
		frame := wire.Frame{Header: wire.Header{Flags: flags | wire.FlagStart}, Payload: b}
		replies := 0
		err := new(wire.Decoder).Message(frame, func(v *wire.Value) error {
			serve.Serve(t.Context(), v, func(any, error) { replies++ })
			return nil
		})
		if (err == nil) != (replies == 1) {
			t.Fatalf("%d replies, %v", replies, err)
		}
		x := &completions{frame: frame}
		got, err := executor.Apply(t.Context(), x, menagerieTask, menagerie{})
		if (err == nil) != (x.err == nil) {
			t.Fatalf("the future has %v, Complete answered %v", err, x.err)
		}
		if err == nil { // what was decoded can be sent on
			encoded(t, got)
		}
	})
}

// encoded returns a frame's payload and flags.
func encoded(tb testing.TB, m menagerie) ([]byte, uint8) {
	b, flags, err := wire.NewEncoder(1 << 30).Message(func(e *wire.Encoder) error { return e.Encode(&wire.Box[menagerie]{V: m}) })
	if err != nil {
		tb.Fatal(err)
	}
	return slices.Clone(b.Bytes()), flags
}

// completions is a backend that completes calls with a frame, as a process pool does.
type completions struct {
	refuser
	frame wire.Frame
	err   error
}

func (x *completions) Execute(c executor.Call) error {
	c.Accept(fuzzHost{})
	c.Start()
	x.err = new(wire.Decoder).Message(x.frame, func(v *wire.Value) error { return c.Complete(0, v) })
	if x.err != nil && !c.IsDone() {
		c.Fail(0, x.err)
	}
	return nil
}

// A fuzzHost hears nothing.
type fuzzHost struct{}

func (fuzzHost) Withdraw(executor.Call) bool              { return true }
func (fuzzHost) Cancelled(executor.Call, error)           {}
func (fuzzHost) Interrupt(executor.Call, error)           {}
func (fuzzHost) Finished(executor.Call, executor.Outcome) {}
