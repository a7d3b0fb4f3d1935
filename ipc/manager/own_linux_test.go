package manager

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
)

// A counter is an object of a user's.
type counter struct {
	mu sync.Mutex
	n  int
}

var errNegative = errors.New("a counter cannot be negative")

// closedCounters counts those that were closed in this process.
var closedCounters atomic.Int64

func newCounter(_ context.Context, start int) (*counter, error) {
	if start < 0 {
		return nil, errNegative
	}
	return &counter{n: start}, nil
}

func (c *counter) Add(_ context.Context, n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n+n < 0 {
		return 0, errNegative
	}
	c.n += n
	return c.n, nil
}

func (c *counter) Close() error {
	closedCounters.Add(1)
	return nil
}

var (
	counters   = NewType("counter", newCounter)
	counterAdd = NewMethod(counters, "Add", (*counter).Add)

	counterWait = NewMethod(counters, "Wait", func(_ *counter, ctx context.Context, _ struct{}) (struct{}, error) {
		<-ctx.Done()
		return struct{}{}, context.Cause(ctx)
	})
	counterPanic = NewMethod(counters, "Panic", func(*counter, context.Context, string) (int, error) { panic("a panic in a method") })
	counterSleep = NewMethod(counters, "Sleep", func(_ *counter, ctx context.Context, d time.Duration) (int, error) {
		time.Sleep(d) // that is what it is for
		return 1, nil
	})
	counterClosed = NewMethod(counters, "Closed", func(*counter, context.Context, struct{}) (int64, error) { return closedCounters.Load(), nil })
	counterPID    = NewMethod(counters, "PID", func(*counter, context.Context, struct{}) (int, error) { return pid(), nil })
	counterSelf   = NewMethod(counters, "Self", func(_ *counter, _ context.Context, o *Object[*counter]) (*Object[*counter], error) { return o, nil })
)

func init() { executor.RegisterError("manager_test.errNegative", errNegative) }

func started(tb testing.TB) *Manager {
	tb.Helper()
	m, err := Start(tb.Context(), Config{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, m.Close()) })
	return m
}

// served returns a Manager that serves, and one that is connected to it.
func served(tb testing.TB) (server, client *Manager) {
	tb.Helper()
	network, addr := "unix", tb.TempDir()+"/s"
	server, err := Serve(tb.Context(), network, addr, Config{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, server.Close()) })
	client, err = Connect(tb.Context(), network, addr, Config{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return server, client
}

// stat asks the server of m what it has.
func stat(tb testing.TB, m *Manager) (n numbers) {
	tb.Helper()
	require.NoError(tb, m.conn.call(context.Background(), 0, opStat, nil, func(r *reader) error {
		n = numbers{r.int(), r.int(), r.int(), r.int(), r.int(), r.int()}
		return r.end()
	}))
	return n
}

// empty waits until the server of m has no objects.
func empty(tb testing.TB, m *Manager) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		n := stat(tb, m)
		return n.objects == 0 && n.names == 0 && n.tokens == 0
	}, 10*time.Second, time.Millisecond, "the server has objects that nobody has a proxy of")
}

func testOwn(t *testing.T, m *Manager) {
	ctx := t.Context()
	c, err := counters.New(ctx, m, 10)
	require.NoError(t, err)
	n, err := counterAdd.Call(ctx, c, 5)
	require.NoError(t, err)
	require.Equal(t, 15, n)
	_, err = counterAdd.Call(ctx, c, -100)
	require.ErrorIs(t, err, errNegative)
	_, err = counters.New(ctx, m, -1)
	require.ErrorIs(t, err, errNegative)

	_, err = counterPanic.Call(ctx, c, "")
	var p *executor.PanicError
	require.ErrorAs(t, err, &p)
	require.Contains(t, string(p.Stack), "own_linux_test.go")

	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err = counterWait.Call(short, c, struct{}{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = counterWait.Call(short, c, struct{}{})
	require.ErrorIs(t, err, context.DeadlineExceeded)

	same, err := counterSelf.Call(ctx, c, c)
	require.NoError(t, err)
	n, err = counterAdd.Call(ctx, same, 1)
	require.NoError(t, err)
	require.Equal(t, 16, n)
	require.NoError(t, same.Close())
	n, err = counterAdd.Call(ctx, c, 1)
	require.NoError(t, err)
	require.Equal(t, 17, n)
	require.NoError(t, c.Close())
	_, err = counterAdd.Call(ctx, c, 1)
	require.ErrorContains(t, err, "closed")
}

func TestOwnStart(t *testing.T) {
	m := started(t)
	testOwn(t, m)
}

func TestOwnServe(t *testing.T) {
	s, c := served(t)
	t.Run("server", func(t *testing.T) { testOwn(t, s) })
	t.Run("client", func(t *testing.T) { testOwn(t, c) })
}

var (
	counterGoexit = NewMethod(counters, "Goexit", func(*counter, context.Context, struct{}) (int, error) {
		runtime.Goexit()
		return 0, nil
	})
	counterFail = NewMethod(counters, "Fail", func(*counter, context.Context, struct{}) (int, error) {
		return 0, errors.Join(fs.ErrPermission, executor.ErrShutdown)
	})
)
