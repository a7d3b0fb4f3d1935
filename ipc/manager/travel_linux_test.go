package manager

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/processpool"
	"example.com/futures/threadpool"
	"example.com/futures/worker"
)

type parcel struct {
	C     *Object[*counter]
	Again *Object[*counter]
	All   []*Object[*counter]
	Any   any
}

func init() {
	gobRegister(new(Object[*counter]))
	gobRegister(new(rawDict[*rawDict[int]]))
	gobRegister(new(rawDict[any]))
}

var (
	addTask = executor.NewTask("manager_test.add", func(ctx context.Context, c *Object[*counter]) (int, error) {
		return counterAdd.Call(ctx, c, 1)
	})
	addAllTask = executor.NewTask("manager_test.addAll", func(ctx context.Context, p parcel) (int, error) {
		n := 0
		for _, c := range append(p.All, p.C, p.Again, p.Any.(*Object[*counter])) {
			var err error
			if n, err = counterAdd.Call(ctx, c, 1); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	backTask = executor.NewTask("manager_test.back", func(_ context.Context, c *Object[*counter]) (*Object[*counter], error) {
		return c, nil
	})
	nestedTask = executor.NewTask("manager_test.nested", func(ctx context.Context, d *rawDict[*rawDict[int]]) (*rawDict[int], error) {
		in, ok, err := d.Get(ctx, "in")
		if err != nil || !ok {
			return nil, fmt.Errorf("Get: %v, %w", ok, err)
		}
		return in, in.Set(ctx, "by", pid())
	})
	holdTask = executor.NewTask("manager_test.hold", func(ctx context.Context, l *rawLock) (struct{}, error) {
		if err := l.Lock(ctx); err != nil {
			return struct{}{}, err
		}
		<-ctx.Done()
		return struct{}{}, nil
	})
	leftTask = executor.NewTask("manager_test.left", func(context.Context, *Object[*counter]) (int, error) {
		return runtime.NumGoroutine(), nil
	})
)

// A rawLock is the least that a Lock can be.
type rawLock struct{ object }

func newRawLock(ctx context.Context, m *Manager) (*rawLock, error) {
	l := new(rawLock)
	return l, create(ctx, m, kindLock, l, nil)
}

func (*rawLock) describe() string                   { return "rawLock" }
func (l *rawLock) Lock(ctx context.Context) error   { return l.call(ctx, opLock, nil, nil) }
func (l *rawLock) Unlock(ctx context.Context) error { return l.call(ctx, opUnlock, nil, nil) }
func (l *rawLock) GobEncode() ([]byte, error)       { return encode(l) }
func (l *rawLock) GobDecode(b []byte) error         { return l.decode(l, b) }

// ways are the Managers that proxies are to travel from.
func ways(t *testing.T, fn func(t *testing.T, m *Manager)) {
	t.Run("start", func(t *testing.T) { fn(t, started(t)) })
	t.Run("serve", func(t *testing.T) {
		m, _ := served(t)
		fn(t, m)
	})
	t.Run("connect", func(t *testing.T) {
		_, m := served(t)
		fn(t, m)
	})
	t.Run("tcp", func(t *testing.T) {
		_, m := servedTCP(t)
		fn(t, m)
	})
	t.Run("certificates", func(t *testing.T) {
		_, m := servedCertificates(t)
		fn(t, m)
	})
}

func TestArgumentOnBothPools(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		procs, err := processpool.New(processpool.Config{Workers: 2})
		require.NoError(t, err)
		defer procs.Close()
		threads, err := threadpool.New(threadpool.Config{Workers: 2})
		require.NoError(t, err)
		defer threads.Close()
		c, err := counters.New(ctx, m, 0)
		require.NoError(t, err)
		for i, ex := range []executor.Executor{procs, threads, procs} {
			n, err := executor.Submit(ctx, ex, addTask, c).Result(ctx)
			require.NoError(t, err)
			require.Equal(t, 7*i+1, n)
			n, err = executor.Submit(ctx, ex, addAllTask, parcel{c, c, []*Object[*counter]{c, nil, c}[:1], c}).Result(ctx)
			require.NoError(t, err)
			require.Equal(t, 7*i+5, n)
			back, err := executor.Submit(ctx, ex, backTask, c).Result(ctx)
			require.NoError(t, err)
			n, err = counterAdd.Call(ctx, back, 2)
			require.NoError(t, err)
			require.Equal(t, 7*i+7, n)
			if back != c {
				require.NoError(t, back.Close())
			}
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					if _, err := executor.Submit(ctx, procs, addTask, c).Result(ctx); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		n, err := counterAdd.Call(ctx, c, 0)
		require.NoError(t, err)
		require.Equal(t, 3*7+160, n)

		p, err := worker.Start(ctx, addTask, c, worker.Config{})
		require.NoError(t, err)
		n, err = p.Future().Result(ctx)
		require.NoError(t, err)
		require.Equal(t, 182, n)
		require.NoError(t, p.Join(ctx))

		// A queue of arguments holds the object, whatever becomes of the proxy.
		require.NoError(t, c.Close())
		_, err = executor.Submit(ctx, procs, addTask, c).Result(ctx)
		require.ErrorIs(t, err, ipc.ErrClosed)
		empties(t, m)
	})
}

// empties is empty where proxies may have travelled with tickets, which last.
func empties(t *testing.T, m *Manager) {
	t.Helper()
	if m.proc != nil || m.server != nil {
		empty(t, m)
	}
}

func TestNested(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		procs, err := processpool.New(processpool.Config{Workers: 1})
		require.NoError(t, err)
		defer procs.Close()
		out, err := newRawDict[*rawDict[int]](ctx, m)
		require.NoError(t, err)
		in, err := newRawDict[int](ctx, m)
		require.NoError(t, err)
		require.NoError(t, out.Set(ctx, "in", in))
		require.NoError(t, in.Set(ctx, "x", 1))
		require.NoError(t, in.Close()) // it lives on where it is held
		again, ok, err := out.Get(ctx, "in")
		require.NoError(t, err)
		require.True(t, ok)
		x, _, err := again.Get(ctx, "x")
		require.NoError(t, err)
		require.Equal(t, 1, x)
		require.NoError(t, again.Close())

		theirs, err := executor.Submit(ctx, procs, nestedTask, out).Result(ctx)
		require.NoError(t, err)
		by, ok, err := theirs.Get(ctx, "by")
		require.NoError(t, err)
		require.True(t, ok)
		require.NotEqual(t, pid(), by)
		require.NoError(t, out.Close())
		_, _, err = theirs.Get(ctx, "by")
		require.NoError(t, err)
		require.NoError(t, theirs.Close())
		procs.Close()
		empties(t, m)
	})
}

// MGR-13: one that contains itself goes with its manager, at the latest.
func TestContainsItself(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	d, err := newRawDict[any](ctx, m)
	require.NoError(t, err)
	require.NoError(t, d.Set(ctx, "me", d))
	me, ok, err := d.Get(ctx, "me")
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, me.(Proxy).Close())
	require.NoError(t, d.Delete(ctx, "me"))
	require.NoError(t, d.Close())
	empty(t, m)

	d, err = newRawDict[any](ctx, m)
	require.NoError(t, err)
	require.NoError(t, d.Set(ctx, "me", d))
	require.NoError(t, d.Close())
	e, err := newRawDict[any](ctx, m)
	require.NoError(t, err)
	require.NoError(t, e.Set(ctx, "x", 1))
	require.NoError(t, e.Close())
	require.Eventually(t, func() bool { return stat(t, m).objects == 1 }, 10*time.Second, time.Millisecond)
}

func TestDeeplyNestedIsDropped(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	top, err := newRawDict[any](ctx, m)
	require.NoError(t, err)
	for range 2000 {
		d, err := newRawDict[any](ctx, m)
		require.NoError(t, err)
		require.NoError(t, d.Set(ctx, "in", top))
		require.NoError(t, top.Close())
		top = d
	}
	require.Equal(t, 2001, stat(t, m).objects)
	require.NoError(t, top.Close())
	empty(t, m)
}

func TestForeignProxiesAndHandles(t *testing.T) {
	ctx := t.Context()
	m, other := started(t), started(t)
	d, err := newRawDict[any](ctx, m)
	require.NoError(t, err)
	alien, err := newRawDict[any](ctx, other)
	require.NoError(t, err)
	require.ErrorIs(t, d.Set(ctx, "k", alien), executor.ErrNotPortable)
	require.ErrorIs(t, d.Set(ctx, "k", []any{d, alien}), executor.ErrNotPortable)
	require.ErrorIs(t, Publish(ctx, other, "n", d), executor.ErrNotPortable)
	l, err := ipc.NewLock()
	require.NoError(t, err)
	defer l.Close()
	require.ErrorIs(t, d.Set(ctx, "k", l), executor.ErrNotPortable)
	require.NoError(t, alien.Close())
	require.ErrorIs(t, other.conn.call(ctx, 99, 1, nil, nil), ipc.ErrClosed)
	_, err = d.GobEncode()
	require.ErrorIs(t, err, executor.ErrNotPortable)
	empty(t, other)
}

// A proxy that is dropped without Close is collected.
func TestProxyIsCollected(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	_, err := newRawDict[int](ctx, m)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		runtime.GC()
		return stat(t, m).objects == 0
	}, 10*time.Second, 10*time.Millisecond)
}

// The locks of a client that dies go to the next.
func TestLockOfWorkerThatDied(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		l, err := newRawLock(ctx, m)
		require.NoError(t, err)
		p, err := worker.Start(ctx, holdTask, l, worker.Config{})
		require.NoError(t, err)
		waitHeld(t, l)
		got := make(chan error, 1)
		go func() { got <- l.Lock(ctx) }()
		require.NoError(t, p.Kill())
		require.ErrorIs(t, <-got, ipc.ErrOwnerDied)
		require.NoError(t, p.Join(ctx))
	})
}

func waitHeld(t *testing.T, l *rawLock) {
	t.Helper()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := l.Lock(ctx) // a poll
		if err == nil {
			require.NoError(t, l.Unlock(ctx))
		}
		return errors.Is(err, context.Canceled)
	}, 10*time.Second, time.Millisecond)
}

// A worker's connection ends with its last proxy.
func TestWorkerLetsGo(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	procs, err := processpool.New(processpool.Config{Workers: 1})
	require.NoError(t, err)
	defer procs.Close()
	c, err := counters.New(ctx, m, 0)
	require.NoError(t, err)
	for range 20 {
		n, err := executor.Submit(ctx, procs, leftTask, c).Result(ctx)
		require.NoError(t, err)
		require.Less(t, n, 20)
	}
	require.Eventually(t, func() bool {
		n := stat(t, m)
		return n.guests == 1 && n.tokens == 0
	}, 10*time.Second, time.Millisecond)
}
