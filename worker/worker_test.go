package worker_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/worker"
)

// key is of a value in a context.
type key struct{}

var errReason = errors.New("the reason")

// Outside of a worker Main returns at once, and there is no place in a pool.
func TestMainOutsideOfAWorker(t *testing.T) {
	worker.Main()
	require.False(t, worker.InWorker())
	require.Equal(t, -1, worker.Index())
}

func TestStartMethodString(t *testing.T) {
	for m, want := range map[worker.StartMethod]string{
		worker.Spawn: "Spawn", worker.ForkServer: "ForkServer", worker.Fork: "Fork", 7: "StartMethod(7)",
	} {
		require.Equal(t, want, m.String())
	}
}

// The context of a call, and every context that derives from it, before or after,
// answers as the caller's would.
func TestCallContext(t *testing.T) {
	for name, tt := range map[string]struct {
		deadline  bool
		cause     error
		err, want error
	}{
		"cancelled":             {false, errReason, context.Canceled, errReason},
		"without a cause":       {false, nil, context.Canceled, context.Canceled},
		"deadline":              {true, nil, context.DeadlineExceeded, context.DeadlineExceeded},
		"deadline with a cause": {true, errReason, context.DeadlineExceeded, errReason},
	} {
		t.Run(name, func(t *testing.T) {
			deadline := time.Now().Add(time.Hour)
			ctx, finish := worker.NewCallContext(deadline)
			child, cancel := context.WithCancel(context.WithValue(ctx, key{}, "value"))
			defer cancel()
			require.NoError(t, ctx.Err())
			require.NoError(t, context.Cause(child))
			require.Nil(t, ctx.Value(key{}))
			got, ok := child.Deadline()
			require.True(t, ok)
			require.Equal(t, deadline, got)

			finish(tt.deadline, tt.cause)
			finish(false, errors.New("too late"))
			later, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			for _, c := range []context.Context{ctx, child, later} {
				<-c.Done()
				require.Equal(t, tt.err, c.Err())
				require.Equal(t, tt.want, context.Cause(c))
			}
			require.Equal(t, "value", child.Value(key{}))
		})
	}
}

// AfterFunc's function runs once when the context ends, at once where it has, and not
// at all where it was stopped.
func TestCallContextAfterFunc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, finish := worker.NewCallContext(time.Time{})
		_, ok := ctx.Deadline()
		require.False(t, ok)
		ran := make(chan string, 4)
		context.AfterFunc(ctx, func() { ran <- "first" })
		stop := context.AfterFunc(ctx, func() { ran <- "stopped" })
		require.True(t, stop())
		require.False(t, stop())
		finish(false, nil)
		synctest.Wait()
		context.AfterFunc(ctx, func() { ran <- "late" })
		synctest.Wait()
		close(ran)
		var all []string
		for s := range ran {
			all = append(all, s)
		}
		require.Equal(t, []string{"first", "late"}, all)
	})
}

// Whoever asks for a context's end while it ends hears of it, once, however the steps of
// the two meet; and so does every context that derives from it.
func TestCallContextEndsUnderWay(t *testing.T) {
	contexts := worker.Contexts()
	for range 2000 {
		ctx, finish := contexts()
		var all sync.WaitGroup
		var ran atomic.Int32
		all.Go(func() { finish(false, errReason) })
		all.Go(func() { finish(false, errReason) })
		for range 2 {
			all.Go(func() {
				<-ctx.Done()
				if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(context.Cause(ctx), errReason) {
					t.Errorf("done with %v because of %v", ctx.Err(), context.Cause(ctx))
				}
			})
			all.Go(func() {
				child, cancel := context.WithCancel(ctx)
				defer cancel()
				<-child.Done()
				if !errors.Is(context.Cause(child), errReason) {
					t.Errorf("the child is done because of %v", context.Cause(child))
				}
			})
		}
		all.Add(1)
		stop := context.AfterFunc(ctx, func() {
			if ran.Add(1) == 1 {
				all.Done()
			}
		})
		all.Wait()
		if stop() || ran.Load() != 1 {
			t.Fatalf("ran %d times", ran.Load())
		}
	}
}

// Contexts that were made together end each by itself.
func TestCallContextsAreApart(t *testing.T) {
	contexts := worker.Contexts()
	var kept []context.Context
	for i := range 100 {
		ctx, finish := contexts()
		if i%2 == 0 {
			finish(false, nil)
		}
		kept = append(kept, ctx)
	}
	for i, ctx := range kept {
		require.Equal(t, i%2 == 0, ctx.Err() != nil)
		select {
		case <-ctx.Done():
			require.Zero(t, i%2)
		default:
			require.NotZero(t, i%2)
		}
	}
}
