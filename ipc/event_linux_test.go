package ipc_test

import (
	"context"
	"sync"
	"testing"

	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"

	"github.com/stretchr/testify/require"
)

func newEvent(tb testing.TB) *ipc.Event {
	e, err := ipc.NewEvent()
	require.NoError(tb, err)
	tb.Cleanup(func() { e.Close() })
	return e
}

func TestEvent(t *testing.T) { // EVT-01, EVT-02, EVT-04
	e := newEvent(t)
	require.False(t, e.IsSet())
	require.Equal(t, "ipc.Event(unset)", e.String())
	require.ErrorIs(t, e.Wait(ended()), context.Canceled)
	require.ErrorIs(t, e.Wait(soon(t)), context.DeadlineExceeded)
	require.NoError(t, e.Set())
	require.NoError(t, e.Set())
	require.True(t, e.IsSet())
	require.Equal(t, "ipc.Event(set)", e.String())
	require.NoError(t, e.Wait(ended()))
	require.NoError(t, e.Wait(t.Context()))
	require.NoError(t, e.Clear())
	require.False(t, e.IsSet())
	require.ErrorIs(t, e.Wait(soon(t)), context.DeadlineExceeded)
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.Set(), ipc.ErrClosed)
	require.ErrorIs(t, e.Clear(), ipc.ErrClosed)
	require.ErrorIs(t, e.Wait(t.Context()), ipc.ErrClosed)
	require.PanicsWithValue(t, ipc.ErrClosed, func() { e.IsSet() })
}

func init() {
	role("set", func(c cast, _ []string) {
		say("ready")
		heard("set")
		must(c.Event.Set())
		must(c.Event.Clear())
	})
}

// TestEventPulse has another process set the event, and clear it at once: all who wait go on.
func TestEventPulse(t *testing.T) { // EVT-03
	e := newEvent(t)
	p := start(t, "set", cast{Event: e}, "")
	p.hear("ready")
	var waiting sync.WaitGroup
	var began sync.WaitGroup
	for range 1000 {
		began.Add(1)
		waiting.Go(func() {
			began.Done()
			if err := e.Wait(proctest.Within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	began.Wait()
	for _, ctx := range []context.Context{soon(t), soon(t)} {
		require.Error(t, e.Wait(ctx)) // the others have begun to wait by now, but for a few
	}
	require.Less(t, threads(t), 100)
	p.tell("set")
	p.ends()
	require.NoError(t, e.Set()) // for those few
	waiting.Wait()
}
