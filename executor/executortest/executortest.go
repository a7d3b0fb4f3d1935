// Package executortest checks that a backend keeps what package executor promises.
//
// Whoever writes an [executor.Executor] runs the suite on it, as the backends of
// this module do, and gets one named subtest for each promise:
//
//	func TestMain(m *testing.M) {
//		worker.Main() // if calls run in processes that are this binary once more
//		os.Exit(m.Run())
//	}
//
//	func TestExecutor(t *testing.T) {
//		executortest.Run(t, func(tb testing.TB, cfg executortest.Config) executor.Executor {
//			p, err := mypool.New(mypool.Config{Workers: cfg.Workers, QueueLimit: cfg.QueueLimit, …})
//			if err != nil {
//				tb.Fatal(err)
//			}
//			return p
//		})
//	}
//
// The suite finds out by itself what kind of backend it looks at: one whose calls
// share memory with the program, one that carries them through bytes, one whose
// workers are processes of their own. What is promised of one kind only is checked
// there only. Its tasks are package-level, so they exist in every process that
// links this package, and they talk to the tests over unix sockets.
//
// Nothing in the suite waits for time to pass, but for limits of 30 s and more that
// tell a hang from a slow machine; a check that passes its limit prints the stacks
// of all goroutines.
//
// A backend that departs from a promise on purpose, and says so to its users, calls
// tb.Skip with the reason when tb.Name ends with the promise's name.
package executortest

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"testing"
	"time"

	"example.com/futures/executor"
)

// Config is what the suite asks of the executor that it opens: the settings that
// every backend's own Config has in common. The zero Config asks for defaults.
type Config struct {
	// Workers is how many calls run at the same time at most. Zero means the
	// backend's default, which must be at least 1.
	Workers int

	// QueueLimit is how many calls may wait for a worker. Zero means any number.
	QueueLimit int

	// RejectWhenFull asks for ErrQueueFull at once instead of waiting for room.
	RejectWhenFull bool

	// Initializer runs in every worker before its first call. The zero Bound is none.
	Initializer executor.Bound

	// Observer is told what the executor does. Nil is none.
	Observer executor.Observer

	// Logger is where the executor logs to. Nil means slog.Default.
	Logger *slog.Logger
}

// Run checks every promise on executors that open makes, each in a subtest of its
// own, named group and promise: Map/Order.
//
// open makes a fresh executor from cfg, or calls tb.Fatal if the settings are
// refused; the suite closes it. It is called at least once in each subtest, with
// that subtest as tb, and never by two goroutines at once.
func Run(t *testing.T, open func(tb testing.TB, cfg Config) executor.Executor) {
	t.Helper()
	kind := probe(t, open)
	for _, g := range groups() {
		t.Run(g.name, func(t *testing.T) {
			for _, p := range g.promises {
				if p.where&kind == 0 {
					continue
				}
				t.Run(p.name, func(t *testing.T) {
					p.check(newCheck(t, kind, open))
				})
			}
		})
	}
}

// A promise is one line of the contract with the check that a backend keeps it.
type promise struct {
	name  string
	rows  string // of behaviours that the check covers as well
	where where
	check func(*check)
}

// A group is what the promises about one thing have in common: the name.
type group struct {
	name     string
	promises []promise
}

// groups returns all that the suite checks, in the order in which a reader of a
// failure would want to look: the plain things first.
func groups() []group {
	return []group{
		{"Config", configPromises},
		{"Submit", submitPromises},
		{"Types", typesPromises},
		{"Errors", errorsPromises},
		{"Context", contextPromises},
		{"Timeout", timeoutPromises},
		{"Cancel", cancelPromises},
		{"Interrupt", interruptPromises},
		{"Priority", priorityPromises},
		{"Queue", queuePromises},
		{"Map", mapPromises},
		{"MapUnordered", unorderedPromises},
		{"Stats", statsPromises},
		{"Observer", observerPromises},
		{"Initializer", initializerPromises},
		{"Shutdown", shutdownPromises},
		{"Close", closePromises},
		{"Callbacks", callbackPromises},
		{"Nested", nestedPromises},
		{"Memory", memoryPromises},
		{"Portable", portablePromises},
		{"Lost", lostPromises},
		{"Concurrent", concurrentPromises},
	}
}

// where says on which kinds of backend a promise holds.
type where uint8

const (
	local   where = 1 << iota // calls run in this process and share its memory
	carried                   // calls leave as bytes, for a worker in this process
	remote                    // calls leave as bytes, for another process

	portable = carried | remote
	anywhere = local | portable
)

// probe finds out what kind of backend open makes.
func probe(t *testing.T, open func(testing.TB, Config) executor.Executor) where {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ex := open(t, Config{Workers: 1})
	defer ex.Close()
	pid, err := executor.Apply(ctx, ex, pidTask, struct{}{})
	if err != nil {
		t.Fatalf("the first call of all, which returns its process ID, ends with %v", err)
	}
	_, err = executor.SubmitFunc(ctx, ex, func(context.Context) (int, error) { return 1, nil }).Result(ctx)
	switch {
	case err == nil && pid == os.Getpid():
		return local
	case err == nil:
		t.Fatalf("a closure ran although the worker is another process")
	case pid == os.Getpid():
		return carried
	}
	return remote
}

// patience is how long anything may take before the suite calls it a hang.
const patience = 90 * time.Second

// A check is one promise being checked: a *testing.T with the executors and gates
// that were opened for it, which it closes at the end.
type check struct {
	*testing.T
	ctx   context.Context // ends when patience does
	kind  where
	make  func(testing.TB, Config) executor.Executor
	gates []*gate
	execs []executor.Executor
}

func newCheck(t *testing.T, kind where, open func(testing.TB, Config) executor.Executor) *check {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	c := &check{T: t, ctx: ctx, kind: kind, make: open}
	t.Cleanup(func() {
		cancel()
		// Gates first: a task that stands before one goes on when it falls.
		for _, g := range c.gates {
			g.close()
		}
		for _, ex := range c.execs {
			if hangs(func() {
				if err := ex.Close(); err != nil {
					t.Errorf("Close() = %v, want nil", err)
				}
			}) {
				t.Errorf("Close hangs; all goroutines:\n%s", stacks())
			}
		}
	})
	return c
}

// open makes an executor that is closed at the end of the check.
func (c *check) open(cfg Config) executor.Executor {
	c.Helper()
	ex := c.make(c.T, cfg)
	if ex == nil {
		c.Fatal("open returned nil")
	}
	c.execs = append(c.execs, ex)
	return ex
}

// within runs fn on a goroutine of its own and fails the check if it hangs. fn must
// not call Fatal.
func (c *check) within(what string, fn func()) {
	c.Helper()
	if hangs(fn) {
		c.Fatalf("%s hangs; all goroutines:\n%s", what, stacks())
	}
}

// hangs runs fn on a goroutine of its own and reports whether it takes too long.
func hangs(fn func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
		return false
	case <-time.After(patience):
		return true
	}
}

func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}
