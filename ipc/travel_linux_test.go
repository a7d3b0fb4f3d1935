package ipc_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"
	"example.com/futures/processpool"
	"example.com/futures/threadpool"
	"example.com/futures/worker"

	"github.com/stretchr/testify/require"
)

// kit has a handle of each kind.
type kit struct {
	Lock    *ipc.Lock
	RLock   *ipc.RLock
	Sem     *ipc.Semaphore
	Event   *ipc.Event
	Cond    *ipc.Cond
	Barrier *ipc.Barrier
	Value   *ipc.Value[int64]
	Array   *ipc.Array[float64]
	Any     any
	PID     int
}

func newKit(t *testing.T) kit {
	v, err := ipc.NewValue[int64](0)
	require.NoError(t, err)
	t.Cleanup(func() { v.Close() })
	a, err := ipc.NewArray[float64](8)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	c := newCond(t)
	return kit{
		Lock: newLock(t), RLock: newRLock(t), Sem: newSemaphore(t, 1, true), Event: newEvent(t), Cond: c,
		Barrier: newBarrier(t, 2), Value: v, Array: a, Any: newLock(t), PID: os.Getpid(),
	}
}

// use uses every handle of a kit, and returns it.
func use(ctx context.Context, k kit) (kit, error) {
	if k.PID == os.Getpid() {
		return k, errors.New("this is the process that made it")
	}
	err := k.Lock.Lock(ctx)
	_, rerr := k.RLock.Lock(ctx)
	err = errors.Join(err, rerr, k.Sem.Acquire(ctx, 1), k.Event.Set(), k.Cond.L.Lock(ctx), k.Cond.NotifyAll(), k.Any.(*ipc.Lock).Lock(ctx))
	if _, berr := k.Barrier.Wait(ctx); berr != nil {
		return k, berr
	}
	ipc.Add(k.Value, 5)
	k.Array.Set(3, 3.5)
	return k, errors.Join(err, k.Lock.Unlock(), k.RLock.Unlock(), k.Sem.Release(1), k.Cond.L.Unlock(), k.Any.(*ipc.Lock).Unlock())
}

var (
	useKit     = executor.NewTask("ipc_test.use", use)
	useKitDeep = executor.NewTask("ipc_test.use in a child", func(ctx context.Context, k kit) (kit, error) {
		p, err := worker.Start(ctx, useKit, k, worker.Config{})
		if err != nil {
			return k, err
		}
		back, err := p.Future().Result(ctx)
		return back, errors.Join(err, p.Join(ctx))
	})
	usePools = executor.NewTask("ipc_test.count", func(ctx context.Context, c counting) (*ipc.Value[int64], error) {
		for range c.Times {
			if err := c.Lock.Lock(ctx); err != nil {
				return nil, err
			}
			c.Count.Store(c.Count.Load() + 1)
			if err := c.Lock.Unlock(); err != nil {
				return nil, err
			}
		}
		return c.Count, nil
	})
	closedHandle = executor.NewTask("ipc_test.closed", func(_ context.Context, l *ipc.Lock) (struct{}, error) {
		return struct{}{}, l.Unlock()
	})
)

type counting struct {
	Times int
	Lock  *ipc.Lock
	Count *ipc.Value[int64]
}

// TestHandlesTravel sends each kind of handle to a process, and from there back, and to a
// child of it.
func TestHandlesTravel(t *testing.T) {
	for _, task := range []executor.Task[kit, kit]{useKit, useKitDeep} {
		t.Run(task.Name(), func(t *testing.T) {
			k := newKit(t)
			var here sync.WaitGroup
			here.Go(func() {
				if _, err := k.Barrier.Wait(proctest.Within(t)); err != nil {
					t.Error(err)
				}
			})
			p, err := worker.Start(t.Context(), task, k, worker.Config{})
			require.NoError(t, err)
			back, err := p.Future().Result(proctest.Within(t))
			require.NoError(t, err)
			require.NoError(t, p.Join(proctest.Within(t)))
			here.Wait()
			require.True(t, k.Event.IsSet())
			require.EqualValues(t, 5, k.Value.Load())
			require.Equal(t, 3.5, k.Array.At(3))

			require.EqualValues(t, 5, back.Value.Load()) // a handle of its own
			ipc.Add(back.Value, 1)
			require.EqualValues(t, 6, k.Value.Load())
			require.NoError(t, back.Lock.Lock(t.Context()))
			ok, err := k.Lock.TryLock()
			require.NoError(t, err)
			require.False(t, ok)
			require.NoError(t, k.Lock.Unlock()) // held by this process
			for _, h := range []interface{ Close() error }{
				back.Lock, back.RLock, back.Sem, back.Event, back.Cond, back.Barrier, back.Value, back.Array, back.Any.(*ipc.Lock),
			} {
				require.NoError(t, h.Close())
			}
		})
	}
}

func TestHandlesInPools(t *testing.T) {
	threads, err := threadpool.New(threadpool.Config{})
	require.NoError(t, err)
	processes, err := processpool.New(processpool.Config{Workers: 3})
	require.NoError(t, err)
	for name, ex := range map[string]executor.Executor{"threads": threads, "processes": processes} {
		t.Run(name, func(t *testing.T) {
			v, err := ipc.NewValue[int64](0)
			require.NoError(t, err)
			defer v.Close()
			c := counting{100, newLock(t), v}
			args := slices.Repeat([]counting{c}, 20)
			for got, err := range executor.Map(t.Context(), ex, usePools, slices.Values(args), executor.WithChunk(4)) {
				require.NoError(t, err)
				if name == "threads" {
					require.Same(t, v, got) // as it is
				} else {
					require.NoError(t, got.Close())
				}
			}
			for _, f := range executor.SubmitAll(t.Context(), ex, usePools, args) {
				got, err := f.Result(proctest.Within(t))
				require.NoError(t, err)
				if name == "processes" {
					require.NoError(t, got.Close())
				}
			}
			require.EqualValues(t, 2*20*100, v.Load())

			closed := newLock(t)
			closed.Close()
			_, err = executor.Apply(t.Context(), ex, closedHandle, closed)
			require.ErrorIs(t, err, ipc.ErrClosed)
			_, err = executor.Apply(t.Context(), ex, closedHandle, newLock(t))
			require.ErrorIs(t, err, ipc.ErrNotHeld)
		})
		require.NoError(t, ex.Close())
	}
}

// Other encoders than gob wrote {} for a handle, and nobody was told.
func TestNoHandleInJSON(t *testing.T) {
	conn, _ := newPipe[int](t, true)
	for _, h := range []any{
		newLock(t), newRLock(t), newSemaphore(t, 1, true), newEvent(t), newCond(t), newBarrier(t, 1),
		newQueue[int](t, 1), conn, newValue(t, 1), newArray(t, 1, 2),
	} {
		b, err := json.Marshal(h)
		require.ErrorIsf(t, err, executor.ErrNotPortable, "%T", h)
		require.Empty(t, b)
	}
}
