package executortest

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync/atomic"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var initializerPromises = []promise{
	{"RunsInEveryWorkerFirst", "INI-01, INI-07", anywhere, initializerRuns},
	{"StateIsTheWorkers", "INI-05", anywhere, initializerState},
	{"FailureBreaks", "INI-02, THR-10", anywhere, initializerFails},
	{"PanicBreaks", "INI-02", anywhere, initializerPanics},
	{"GoexitBreaks", "INI-02", anywhere, initializerGoexits},
	{"BrokenEndsMapAndWait", "INI-02, PRO-02", anywhere, initializerMap},
	{"ClosureRefused", "INI-06", portable, initializerClosure},
}

// initialised is what setTask leaves behind in its process.
var initialised atomic.Int64

var (
	// setTask is an initializer that leaves something behind in its worker.
	setTask = executor.NewTask("executortest.set", func(_ context.Context, n int64) (struct{}, error) {
		initialised.Store(n)
		return struct{}{}, nil
	})

	// getTask returns what setTask left behind.
	getTask = executor.NewTask("executortest.get", func(context.Context, struct{}) (int64, error) { return initialised.Load(), nil })

	// failTask is an initializer that goes to a gate, and fails.
	failTask = executor.NewTask("executortest.fail", func(ctx context.Context, v failing) (struct{}, error) {
		if _, err := visit(ctx, v.Visit); err != nil {
			return struct{}{}, err
		}
		switch v.Ending {
		case panicErrorEnding:
			panic(errInit)
		case goexitEnding:
			runtime.Goexit()
		}
		return struct{}{}, errInit
	})
)

// A failing is the argument of failTask.
type failing struct {
	Visit  Visit
	Ending ending
}

// The initializer runs once in each worker, with its argument, and no call starts on
// a worker before it has ended. // INI-01, INI-07
func initializerRuns(c *check) {
	const workers, initName = 2, 1000
	g := c.newGate()
	ex := c.open(Config{Workers: workers, Initializer: executor.Bind(visitTask, g.visit(initName))})
	fs := executor.SubmitAll(c.ctx, ex, visitTask, []Visit{g.visit(0), g.visit(1)})
	inits, calls := 0, 0
	var held []*visitor
	for calls < workers {
		v := c.next(g)
		if v.name == initName {
			inits++
			v.pass()
			continue
		}
		if calls++; calls > inits {
			c.Fatalf("%d calls run, and %d workers were initialised", calls, inits)
		}
		held = append(held, v)
	}
	for _, v := range held {
		v.pass()
	}
	g.openUp()
	for i, f := range fs {
		equal(c, "Result", value(c, f), i)
	}
	for i := range 10 {
		equal(c, "Result", value(c, executor.Submit(c.ctx, ex, visitTask, g.visit(i))), i)
	}
	c.shutdown(ex)
	ran := slices.DeleteFunc(g.visits(), func(name int) bool { return name != initName })
	equal(c, "runs of the initializer", len(ran), workers)
}

// What the initializer leaves behind is there in its worker, and only there. // INI-05
func initializerState(c *check) {
	initialised.Store(1)
	ex := c.open(Config{Workers: 1, Initializer: executor.Bind(setTask, 42)})
	equal(c, "what the worker has", value(c, executor.Submit(c.ctx, ex, getTask, struct{}{})), 42)
	if pid := value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{})); pid != os.Getpid() {
		equal(c, "what this process has", initialised.Load(), 1)
	}
}

// broken opens an executor whose initializer ends badly while calls are queued, and
// looks at what becomes of them. It returns the executor and one of the errors.
func (c *check) broken(how ending) (executor.Executor, error) {
	c.Helper()
	g := c.newGate()
	ex := c.open(Config{Workers: 1, Initializer: executor.Bind(failTask, failing{g.visit(1000), how})})
	var fs []*future.Future[int]
	for i := range 5 {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(i)))
	}
	c.next(g).pass()
	var seen []*executor.BrokenError
	for _, f := range fs {
		b := as[*executor.BrokenError](c, "Result's error", failure(c, f))
		if b.Cause == nil {
			c.Fatal("the BrokenError has no cause")
		}
		if slices.Contains(seen, b) {
			c.Fatal("two calls have the same *BrokenError")
		}
		seen = append(seen, b)
	}
	as[*executor.BrokenError](c, "the error of a later call", failure(c, executor.Submit(c.ctx, ex, doubleTask, 1)))
	equalSlices(c, "what ran", g.visits(), []int{1000})
	return ex, seen[0]
}

// A failing initializer breaks the executor: what is queued, and every later call,
// fails with a BrokenError of its own that matches the cause. Shutdown and Close
// work. // INI-02, THR-10
func initializerFails(c *check) {
	ex, err := c.broken(errorEnding)
	matches(c, "Result's error", err, errInit)
	c.shutdown(ex)
	ex, _ = c.broken(errorEnding)
	c.within("Close", func() { _ = ex.Close() })
}

// So does one that panics. // INI-02
func initializerPanics(c *check) {
	_, err := c.broken(panicErrorEnding)
	as[*executor.PanicError](c, "Result's error", err)
	matches(c, "Result's error", err, errInit)
}

// And one that ends its goroutine. // INI-02
func initializerGoexits(c *check) { c.broken(goexitEnding) }

// When the executor breaks, a map ends and who waits for room wakes. // INI-02, PRO-02
func initializerMap(c *check) {
	g := c.newGate()
	ex := c.open(Config{Workers: 1, QueueLimit: 1, Initializer: executor.Bind(failTask, failing{g.visit(1000), errorEnding})})
	first := executor.Submit(c.ctx, ex, doubleTask, 1)
	second := make(chan error, 1)
	go func() {
		_ = executor.Submit(c.ctx, ex, doubleTask, 1).Exception(c.ctx)
		second <- executor.Submit(c.ctx, ex, doubleTask, 1).Exception(c.ctx)
	}()
	c.usher(g, 1, nil)
	n := 0
	for _, err := range executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(20))) {
		n++
		as[*executor.BrokenError](c, "the item's error", err)
		matches(c, "the item's error", err, errInit)
	}
	if n < 1 || n > 20 {
		c.Fatalf("the map yields %d items", n)
	}
	as[*executor.BrokenError](c, "Result's error", failure(c, first))
	var err error
	c.within("Submit", func() { err = <-second })
	as[*executor.BrokenError](c, "Result's error", err)
}

// An initializer that cannot leave the process is refused, by open or by the first
// call, and not waited for. // INI-06
func initializerClosure(c *check) {
	b := executor.Bind(executor.LocalTask(func(context.Context, int) (int, error) { return 0, nil }), 1)
	var ex executor.Executor
	tb := &refusals{TB: c.T}
	c.within("open", func() { ex = c.make(tb, Config{Workers: 1, Initializer: b}) })
	if tb.Failed() || ex == nil {
		return
	}
	c.execs = append(c.execs, ex)
	err := failure(c, executor.Submit(c.ctx, ex, doubleTask, 1))
	if !errors.Is(err, executor.ErrNotPortable) {
		c.Fatalf("Result's error = %v, want one that matches ErrNotPortable", err)
	}
}
