//go:build linux

package processpool_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/processpool"
)

// A scripted value runs onEncode and onDecode in the process that encodes or decodes it.
type scripted struct{ N int64 }

var onEncode, onDecode func(n int64)

func (s scripted) GobEncode() ([]byte, error) {
	if onEncode != nil {
		onEncode(s.N)
	}
	return binary.AppendVarint(nil, s.N), nil
}

func (s *scripted) GobDecode(b []byte) error {
	s.N, _ = binary.Varint(b)
	if onDecode != nil {
		onDecode(s.N)
	}
	return nil
}

var (
	readScripted = executor.NewTask("readScripted", func(_ context.Context, s scripted) (int, error) { return int(s.N), nil })
	dieOnce      = executor.NewTask("dieOnce", func(ctx context.Context, path string) (struct{}, error) {
		if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			f.Close()
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		<-ctx.Done()
		return struct{}{}, ctx.Err()
	})
	makeScripted = executor.NewTask("makeScripted", func(_ context.Context, n int) (scripted, error) { return scripted{int64(n)}, nil })
)

// warm has both workers of p started, and p believe that calls are short.
func warm(t *testing.T, p *processpool.Pool) {
	t.Helper()
	_, err := executor.Apply(within(t), p, double, 1)
	require.NoError(t, err)
	processpool.Quicken(p)
}

// An encoder may wait for another call: that runs, and does not lie behind its own.
func TestEncoderWaitsForAnotherCall(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 2})
	warm(t, p)
	second := make(chan (<-chan struct{}), 1)
	onEncode = func(n int64) {
		if n == 1 {
			done := <-second
			second <- done // should it be encoded once more
			<-done
		}
	}
	t.Cleanup(func() { onEncode = nil })
	args := make([]scripted, 40)
	for i := range args {
		args[i].N = int64(i + 1)
	}
	fs := executor.SubmitAll(ctx, p, readScripted, args)
	second <- fs[1].Done()
	for i, f := range fs {
		got, err := f.Result(ctx)
		require.NoError(t, err)
		require.Equal(t, i+1, got)
	}
}

// A decoder may use the pool whose result it decodes: it keeps its own worker, and no other.
func TestDecoderUsesThePool(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 2})
	warm(t, p)
	inner := make(chan error, 20)
	onDecode = func(n int64) {
		_, err := executor.Apply(ctx, p, double, int(n))
		inner <- err
	}
	t.Cleanup(func() { onDecode = nil })
	for n := range 20 {
		_, err := executor.Apply(ctx, p, makeScripted, n+1) // gob leaves zeros out
		require.NoError(t, err)
		require.NoError(t, <-inner)
	}
}

// What is left of a chunk when its worker had its fill goes to another only when what was
// answered is completed: the race detector sees that.
func TestChunkCutByRecycling(t *testing.T) {
	p := open(t, processpool.Config{Workers: 2, MaxTasksPerChild: 7})
	want := 0
	for got, err := range executor.Map(within(t), p, double, slices.Values(make([]int, 300)), executor.WithChunk(10)) {
		require.NoError(t, err)
		require.Zero(t, got)
		want++
	}
	require.Equal(t, 300, want)
}

// An interrupter calls a function when a call is to be retried.
type interrupter struct{ interrupt chan func() bool }

func (i interrupter) Observe(e executor.Event) {
	if e.Kind == executor.EventRetry {
		(<-i.interrupt)()
	}
}

// A call that is interrupted between the death of its worker and its retry does not run
// again.
func TestInterruptBeforeRetry(t *testing.T) {
	ctx := within(t)
	i := interrupter{make(chan func() bool, 1)}
	p := open(t, processpool.Config{Workers: 1, Worker: hushed, Observer: i})
	f := executor.Submit(ctx, p, dieOnce, filepath.Join(t.TempDir(), "died"), executor.WithRetries(1))
	i.interrupt <- func() bool { return f.Interrupt(context.Canceled) }
	require.ErrorIs(t, f.Exception(ctx), context.Canceled)
}
