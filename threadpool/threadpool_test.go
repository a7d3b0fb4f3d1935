package threadpool_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/executor"
	"example.com/futures/threadpool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConfig sees that settings that make no sense are refused, by name and value.
func TestConfig(t *testing.T) { // EXE-03, POL-19
	for name, c := range map[string]struct {
		cfg  threadpool.Config
		want string
	}{
		"workers":   {threadpool.Config{Workers: -1}, "threadpool: Config.Workers is -1: want 0 (GOMAXPROCS) or more"},
		"queue":     {threadpool.Config{QueueLimit: -2}, "threadpool: Config.QueueLimit is -2: want 0 (no limit) or more"},
		"keepAlive": {threadpool.Config{KeepAlive: -time.Second}, "threadpool: Config.KeepAlive is -1s: want 0 (as long as the pool) or more"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := threadpool.New(c.cfg)
			require.EqualError(t, err, c.want)
			require.Nil(t, p)
		})
	}
}

// open returns a pool that is closed at the end of the test, and the time limit of
// the test as a context.
func open(t testing.TB, cfg threadpool.Config) (context.Context, *threadpool.Pool) {
	t.Helper()
	p, err := threadpool.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return patience(t), p
}

// patience returns a context that ends with the test, or when something hangs.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A gate is where tasks wait until the test lets them go on.
type gate struct {
	entered chan int // gets the argument of each that came
	open    chan struct{}
}

func newGate() *gate { return &gate{entered: make(chan int, 1000), open: make(chan struct{})} }

// pass is the task: it waits at the gate.
func (g *gate) pass(ctx context.Context, n int) (int, error) {
	g.entered <- n
	select {
	case <-g.open:
		return n, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// task returns pass as a task.
func (g *gate) task(opts ...executor.CallOption) executor.Task[int, int] {
	return executor.LocalTask(g.pass, opts...)
}

// await waits until n more tasks are at the gate.
func (g *gate) await(ctx context.Context, t testing.TB, n int) {
	t.Helper()
	for range n {
		select {
		case <-g.entered:
		case <-ctx.Done():
			require.FailNow(t, "nobody comes to the gate")
		}
	}
}

// quiet is a logger for pools that break on purpose.
var quiet = slog.New(slog.DiscardHandler)

// double is the plainest task.
var double = executor.LocalTask(func(_ context.Context, n int) (int, error) { return 2 * n, nil })

// stressTime is how long a stress test goes on: FUTURES_STRESS, or little.
func stressTime(t testing.TB) time.Duration {
	s := os.Getenv("FUTURES_STRESS")
	if s == "" {
		return 500 * time.Millisecond
	}
	d, err := time.ParseDuration(s)
	require.NoError(t, err, "FUTURES_STRESS")
	return d
}
