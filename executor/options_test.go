package executor_test

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
)

// Misuse that can be seen in the source panics where it is written. // MAP-05, MAP-14, EXE-02
func TestMisusePanics(t *testing.T) {
	ctx := t.Context()
	p, err := newPool(zeroConfig, false)
	require.NoError(t, err)
	defer p.Close()
	var zero executor.Task[int, int]
	var noFunc func(context.Context) (int, error)
	var noTask func(context.Context, int) (int, error)
	var noArgs iter.Seq[int]
	for name, misuse := range map[string]func(){
		"a negative time limit":        func() { executor.WithTimeout(-time.Nanosecond) },
		"negative retries":             func() { executor.WithRetries(-1) },
		"a buffer of 0":                func() { executor.WithBuffer(0) },
		"a negative buffer":            func() { executor.WithBuffer(-1) },
		"a negative chunk":             func() { executor.WithChunk(-1) },
		"SubmitFunc of nil":            func() { executor.SubmitFunc(ctx, p, noFunc) },
		"NewTask of nil":               func() { executor.NewTask("executor_test.nil", noTask) },
		"NewTask without a name":       func() { executor.NewTask("", identity) },
		"LocalTask of nil":             func() { executor.LocalTask(noTask) },
		"Submit of the zero Task":      func() { executor.Submit(ctx, p, zero, 1) },
		"SubmitAll of the zero Task":   func() { executor.SubmitAll(ctx, p, zero, nil) },
		"Apply of the zero Task":       func() { _, _ = executor.Apply(ctx, p, zero, 1) },
		"Bind of the zero Task":        func() { executor.Bind(zero, 1) },
		"Name of the zero Task":        func() { _ = zero.Name() },
		"Map of the zero Task":         func() { executor.Map(ctx, p, zero, noArgs) },
		"Map of nil":                   func() { executor.Map(ctx, p, identityTask, noArgs) },
		"MapUnordered of nil":          func() { executor.MapUnordered(ctx, p, identityTask, noArgs) },
		"MapUnordered of no Task":      func() { executor.MapUnordered(ctx, p, zero, noArgs) },
		"RegisterError without a name": func() { executor.RegisterError("", context.Canceled) },
		"RegisterError of nil":         func() { executor.RegisterError("executor_test.nil", nil) },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, misuse) })
	}
	require.Zero(t, p.Stats().Submitted, "nothing of that became a call")
}

// The least values that are allowed are allowed.
func TestOptionsAtTheirBounds(t *testing.T) {
	p, err := newPool(zeroConfig, false)
	require.NoError(t, err)
	defer p.Close()
	v, err := executor.Apply(t.Context(), p, identityTask, 7,
		executor.WithTimeout(0), executor.WithRetries(0), executor.WithBuffer(1), executor.WithChunk(0), executor.WithPriority(-1<<31), nil)
	require.NoError(t, err)
	require.Equal(t, 7, v)
}

// A call says what its options are: those of Submit before those of the task.
func TestCallOptions(t *testing.T) {
	task := executor.LocalTask(identity, executor.WithTimeout(time.Second), executor.WithRetries(2), executor.WithPriority(3))
	var seen []executor.Call
	ex := refuser(func(c executor.Call) { seen = append(seen, c) })
	executor.Submit(t.Context(), ex, task, 1)
	executor.Submit(t.Context(), ex, task, 1, executor.WithPriority(-1), executor.WithRetries(0))
	executor.Submit(t.Context(), ex, identityTask, 1)
	for range executor.Map(t.Context(), ex, task, func(yield func(int) bool) { yield(1) }, executor.WithTimeout(0)) { //nolint:revive // the call is what matters
	}

	type options struct {
		timeout           time.Duration
		retries, priority int
		waits             bool
	}
	var got []options
	for _, c := range seen {
		got = append(got, options{c.Timeout(), c.Retries(), c.Priority(), c.WaitsForRoom()})
		require.Equal(t, t.Context(), c.Context())
		require.Equal(t, 1, c.Len())
	}
	require.Equal(t, []options{{time.Second, 2, 3, false}, {time.Second, 0, -1, false}, {}, {0, 2, 3, true}}, got)
	require.Equal(t, []string{"", "", "executor_test.identity", ""}, []string{seen[0].Task(), seen[1].Task(), seen[2].Task(), seen[3].Task()})
	ids := map[uint64]bool{0: true}
	for _, c := range seen {
		require.False(t, ids[c.ID()], "an ID is 0 or used twice")
		ids[c.ID()] = true
		require.Equal(t, c.ID(), c.ID())
	}
}
