package executor_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/executor/executortest"
	"example.com/futures/future"
)

var zeroConfig executortest.Config

func identity(_ context.Context, n int) (int, error) { return n, nil }

var identityTask = executor.NewTask("executor_test.identity", identity)

var errRefused = errors.New("refused")

// A refuser shows each call to a function, and refuses it.
type refuser func(executor.Call)

func (r refuser) Execute(c executor.Call) error {
	r(c)
	return errRefused
}

func (refuser) Shutdown(context.Context, ...executor.ShutdownOption) error { return nil }
func (refuser) Close() error                                               { return nil }
func (refuser) Stats() executor.Stats                                      { return executor.Stats{} }

// A call that its executor refuses is a future with the reason.
func TestRefusedCall(t *testing.T) {
	ex := refuser(func(executor.Call) {})
	f := executor.Submit(t.Context(), ex, identityTask, 1)
	_, err := f.Result(t.Context())
	require.Equal(t, errRefused, err)
	require.Equal(t, future.Finished, f.State())
	for _, f := range executor.SubmitAll(t.Context(), ex, identityTask, []int{1, 2}) {
		require.Equal(t, errRefused, f.Exception(t.Context()))
	}
	var errs []error
	for _, err := range executor.Map(t.Context(), ex, identityTask, slices.Values([]int{1, 2, 3})) {
		errs = append(errs, err)
	}
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], errRefused)
}

// A name is for one task in a program, as in gob.Register.
func TestNewTaskNameTwice(t *testing.T) {
	defer func() {
		text := fmt.Sprint(recover())
		require.Contains(t, text, "executor_test.identity")
		require.Contains(t, text, "func(string)", "the panic tells which tasks they are")
	}()
	executor.NewTask("executor_test.identity", func(context.Context, string) (string, error) { return "", nil })
}

// Lookup finds what NewTask made, and nothing else.
func TestLookup(t *testing.T) {
	f, ok := executor.Lookup("executor_test.identity")
	require.True(t, ok)
	require.Equal(t, "executor_test.identity", f.Name())
	require.NotEmpty(t, f.Signature())
	_, ok = executor.Lookup("executor_test.nobody")
	require.False(t, ok)
	_, ok = executor.Lookup("")
	require.False(t, ok, "local tasks have no name to be found by")

	names := []string{}
	for _, f := range executor.Functions() {
		names = append(names, f.Name())
	}
	require.True(t, slices.IsSorted(names))
	require.Contains(t, names, "executor_test.identity")
}

// Tasks have one signature if and only if their types are the same.
func TestSignature(t *testing.T) {
	signature := func(name string) string {
		f, ok := executor.Lookup(name)
		require.True(t, ok, name)
		return f.Signature()
	}
	require.Equal(t, signature("executortest.double"), signature("executor_test.identity"))
	require.NotEqual(t, signature("executortest.pid"), signature("executor_test.identity"))
	require.NotEqual(t, signature("executortest.echo.any"), signature("executor_test.identity"))
}

var (
	servePanicTask  = executor.NewTask("executor_test.panic", func(context.Context, int) (int, error) { panic("served") })
	serveGoexitTask = executor.NewTask("executor_test.goexit", func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil })
)

// Serve answers exactly once, however the task ends.
func TestServe(t *testing.T) {
	serve := func(name string, request []byte) (replies int, result any, err error) {
		f, ok := executor.Lookup(name)
		require.True(t, ok)
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Serve(t.Context(), gob.NewDecoder(bytes.NewReader(request)), func(v any, e error) {
				replies++
				result, err = v, e
			})
		}()
		<-done
		return replies, result, err
	}
	var seven bytes.Buffer
	executor.Submit(t.Context(), refuser(func(c executor.Call) {
		require.NoError(t, c.Encode(0, gob.NewEncoder(&seven)))
	}), identityTask, 7)

	n, v, err := serve("executor_test.identity", seven.Bytes())
	require.Equal(t, 1, n)
	require.NoError(t, err)
	require.NotNil(t, v)

	n, _, err = serve(servePanicTask.Name(), seven.Bytes())
	require.Equal(t, 1, n)
	var pe *executor.PanicError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, "served", pe.Value)

	n, _, err = serve(serveGoexitTask.Name(), seven.Bytes())
	require.Equal(t, 1, n)
	require.ErrorContains(t, err, "Goexit")

	n, _, err = serve("executor_test.identity", []byte("no gob at all"))
	require.Equal(t, 1, n)
	require.ErrorContains(t, err, "executor_test.identity", "the error says which task's argument it was")
}

// A Bound is a task with its argument, and knows whether it can travel.
func TestBound(t *testing.T) {
	var none executor.Bound
	require.True(t, none.IsZero())
	require.Empty(t, none.Name())
	require.NoError(t, none.Portable())
	require.NoError(t, none.Run(t.Context()))
	require.Error(t, none.Encode(gob.NewEncoder(new(bytes.Buffer))))

	named := executor.Bind(identityTask, 3)
	require.False(t, named.IsZero())
	require.Equal(t, "executor_test.identity", named.Name())
	require.NoError(t, named.Portable())
	require.NoError(t, named.Run(t.Context()))

	got := 0
	closure := executor.Bind(executor.LocalTask(func(_ context.Context, n int) (int, error) {
		got = n
		return 0, errRefused
	}), 5)
	require.ErrorIs(t, closure.Portable(), executor.ErrNotPortable)
	require.Equal(t, errRefused, closure.Run(t.Context()))
	require.Equal(t, 5, got)

	err := executor.Bind(servePanicTask, 1).Run(t.Context())
	var pe *executor.PanicError
	require.ErrorAs(t, err, &pe)
}

// The context of a task ends when the task returns, so that what it leaves behind
// under it is told to stop.
func TestTaskContextEndsWithTheTask(t *testing.T) {
	p, err := newPool(zeroConfig, false)
	require.NoError(t, err)
	defer p.Close()
	inner := make(chan context.Context, 1)
	f := executor.SubmitFunc(t.Context(), p, func(ctx context.Context) (error, error) { //nolint:revive // the first is the value
		inner <- ctx
		return ctx.Err(), nil
	})
	during, err := f.Result(t.Context())
	require.NoError(t, err)
	require.NoError(t, during)
	ctx := <-inner
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.NoError(t, t.Context().Err())
	require.False(t, executor.InTask(ctx, p), "no task runs under it any more")
}

// InTask tells the tasks of one executor from those of another, and from nobody's.
func TestInTask(t *testing.T) {
	p, err := newPool(zeroConfig, false)
	require.NoError(t, err)
	defer p.Close()
	q, err := newPool(zeroConfig, false)
	require.NoError(t, err)
	defer q.Close()
	type key struct{}
	asks := func(ctx context.Context) ([]bool, error) {
		derived, cancel := context.WithCancel(context.WithValue(ctx, key{}, 1))
		defer cancel()
		return []bool{executor.InTask(ctx, p), executor.InTask(derived, p), executor.InTask(ctx, q)}, nil
	}
	got, err := executor.SubmitFunc(t.Context(), p, asks).Result(t.Context())
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, false}, got)
	got, err = asks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []bool{false, false, false}, got)

	// A task of q that was called by one of p is in both.
	got, err = executor.SubmitFunc(t.Context(), p, func(ctx context.Context) ([]bool, error) {
		return executor.SubmitFunc(ctx, q, asks).Result(ctx)
	}).Result(t.Context())
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, true}, got)
}

// JoinCause adds the cause where it says something new.
func TestJoinCause(t *testing.T) {
	require.NoError(t, executor.JoinCause(nil, errRefused))
	require.Equal(t, errRefused, executor.JoinCause(errRefused, nil))
	wrapped := fmt.Errorf("wrapped: %w", errRefused)
	require.Equal(t, wrapped, executor.JoinCause(wrapped, errRefused))
	both := executor.JoinCause(context.Canceled, executor.ErrTimeout)
	require.ErrorIs(t, both, context.Canceled)
	require.ErrorIs(t, both, executor.ErrTimeout)
}

// ErrTimeout is one of the errors that say: the time is over.
func TestErrTimeout(t *testing.T) {
	require.ErrorIs(t, executor.ErrTimeout, context.DeadlineExceeded)
	require.NotErrorIs(t, context.DeadlineExceeded, executor.ErrTimeout)
	var timeout interface{ Timeout() bool }
	require.ErrorAs(t, executor.ErrTimeout, &timeout)
	require.True(t, timeout.Timeout())
}

// The errors that tell of workers say what happened, in words.
func TestErrorTexts(t *testing.T) {
	lost := &executor.WorkerLostError{PID: 123, Task: "shop.pack", ExitCode: 99, Stderr: "\nout of tape\n", Cause: errors.New("exit status 99")}
	for _, part := range []string{"123", "shop.pack", "exit status 99", "out of tape"} {
		require.ErrorContains(t, lost, part)
	}
	require.False(t, strings.HasSuffix(lost.Error(), "\n"))
	require.NotEmpty(t, (&executor.WorkerLostError{}).Error())
	broken := &executor.BrokenError{Cause: errRefused}
	require.ErrorIs(t, broken, errRefused)
	require.ErrorContains(t, broken, "refused")
}

// Every kind of event has a name, and what is none says so.
func TestEventKindString(t *testing.T) {
	seen := map[string]bool{}
	for k := executor.EventSubmit; k <= executor.EventWorkerLost; k++ {
		require.NotContains(t, k.String(), "EventKind")
		require.False(t, seen[k.String()])
		seen[k.String()] = true
	}
	require.Equal(t, "EventKind(0)", executor.EventKind(0).String())
	require.Equal(t, "EventKind(99)", executor.EventKind(99).String())
}
