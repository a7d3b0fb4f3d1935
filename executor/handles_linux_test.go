package executor_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/proctest"
	"example.com/futures/internal/wire"
)

var giveSlate = executor.NewTask("giveSlate", func(context.Context, int) (*proctest.Slate, error) { return nil, nil })

// A late worker's calls have failed by the time that their results come.
type late struct {
	executor.Executor
	frame  func() wire.Frame
	closed []bool
}

var errLate = errors.New("too late")

func (l *late) Execute(c executor.Call) error {
	c.Accept(l)
	c.Start()
	for i := range c.Len() {
		c.Fail(i, errLate)
		err := new(wire.Decoder).Message(l.frame(), func(v *wire.Value) error {
			err := c.Complete(i, v)
			l.closed = append(l.closed, len(v.Handles()) == 0)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (*late) Withdraw(executor.Call) bool              { return false }
func (*late) Cancelled(executor.Call, error)           {}
func (*late) Interrupt(executor.Call, error)           {}
func (*late) Finished(executor.Call, executor.Outcome) {}

// Handles in a result that nobody gets are closed.
func TestHandlesOfLateResult(t *testing.T) {
	before := proctest.Descriptors()
	s := proctest.NewSlate("")
	enc := wire.NewEncoder(1 << 20)
	enc.Carries()
	l := &late{frame: func() wire.Frame {
		enc.Drop()
		payload, flags, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(&wire.Box[*proctest.Slate]{V: s}) })
		require.NoError(t, err)
		return wire.Frame{
			Header:  wire.Header{Flags: flags},
			Payload: bytes.Clone(payload.Bytes()), Along: &carry.Files{FDs: enc.Load().Files()},
		}
	}}
	_, err := executor.Apply(t.Context(), l, giveSlate, 1)
	require.ErrorIs(t, err, errLate)
	for _, err := range executor.Map(t.Context(), l, giveSlate, slices.Values([]int{1, 2, 3}), executor.WithChunk(3)) {
		require.ErrorIs(t, err, errLate)
	}
	require.Equal(t, []bool{true, true, true, true}, l.closed)
	require.NoError(t, s.Close())
	require.Empty(t, proctest.Opened(before))
}
