package executortest

import (
	"context"
	"slices"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var submitPromises = []promise{
	{"ReturnsValue", "EXE-01", anywhere, submitReturnsValue},
	{"ApplyWaits", "POL-01", anywhere, submitApply},
	{"Func", "EXE-01", local, submitFunc},
	{"LocalTask", "EXE-01", local, submitLocalTask},
	{"All", "EXE-01", anywhere, submitAll},
	{"AllOfNothing", "POL-08", anywhere, submitAllOfNothing},
	{"KeepsOrder", "", anywhere, submitKeepsOrder},
	{"RunsAtOnceOnAllWorkers", "ISO-05", anywhere, submitRunsAtOnce},
	{"OptionOverridesTaskDefault", "", anywhere, submitOptionOverrides},
	{"NeverNilAfterShutdown", "SHU-01, POL-22", anywhere, submitAfterShutdown},
	{"CtxEndedBefore", "", anywhere, submitCtxEndedBefore},
	{"CtxEndsWhileQueued", "", anywhere, submitCtxEndsWhileQueued},
	{"CtxEndsWhileRunning", "", anywhere, submitCtxEndsWhileRunning},
	{"WaitEndsCallGoesOn", "POL-10", anywhere, submitWaitEnds},
}

// A call's future has the call's value. // EXE-01
func submitReturnsValue(c *check) {
	f := executor.Submit(c.ctx, c.open(Config{Workers: 1}), doubleTask, 21)
	equal(c, "Result", value(c, f), 42)
	equal(c, "Exception", f.Exception(c.ctx), nil)
	equal(c, "State", f.State(), future.Finished)
	if _, err := f.Result(over()); err != nil {
		c.Fatalf("Result of a done future under an ended context = %v, want its value", err)
	}
}

// Apply waits and returns what the call returned. // POL-01
func submitApply(c *check) {
	ex := c.open(Config{Workers: 1})
	v, err := executor.Apply(c.ctx, ex, oddTask, 4)
	equal(c, "Apply", v, 8)
	equal(c, "Apply's error", err, nil)
	_, err = executor.Apply(c.ctx, ex, oddTask, 5)
	matches(c, "Apply's error", err, errOwn)
}

// A closure runs in process, and sees what it closes over. // EXE-01
func submitFunc(c *check) {
	n := 20
	f := executor.SubmitFunc(c.ctx, c.open(Config{Workers: 1}), func(context.Context) (int, error) {
		n++
		return 2 * n, nil
	})
	equal(c, "Result", value(c, f), 42)
	equal(c, "the variable closed over", n, 21)
}

// A LocalTask is a task for Submit, Map and SubmitAll, without a name.
func submitLocalTask(c *check) {
	ex := c.open(Config{Workers: 2})
	k := 3
	times := executor.LocalTask(func(_ context.Context, n int) (int, error) { return k * n, nil })
	equal(c, "Name", times.Name(), "")
	equal(c, "Result", value(c, executor.Submit(c.ctx, ex, times, 5)), 15)
	var got []int
	for v, err := range executor.Map(c.ctx, ex, times, slices.Values(numbers(4))) {
		equal(c, "Map's error", err, nil)
		got = append(got, v)
	}
	equalSlices(c, "Map", got, []int{0, 3, 6, 9})
}

// SubmitAll returns a future for each argument, in their order. // EXE-01
func submitAll(c *check) {
	fs := executor.SubmitAll(c.ctx, c.open(Config{Workers: 2}), oddTask, numbers(200))
	equal(c, "len(SubmitAll)", len(fs), 200)
	for i, f := range fs {
		if i%2 == 1 {
			matches(c, "Result's error", failure(c, f), errOwn)
			continue
		}
		equal(c, "Result", value(c, f), 2*i)
	}
}

// SubmitAll of nothing is nothing. // POL-08
func submitAllOfNothing(c *check) {
	fs := executor.SubmitAll(c.ctx, c.open(Config{Workers: 1}), doubleTask, nil)
	equal(c, "len(SubmitAll)", len(fs), 0)
}

// Calls of one priority start in the order in which they were submitted.
func submitKeepsOrder(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	for i := range 40 {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(i+1)))
	}
	g.openUp()
	for _, f := range fs {
		value(c, f)
	}
	equalSlices(c, "the order of calls", g.visits(), numbers(41))
}

// As many calls run at once as there are workers. // ISO-05
func submitRunsAtOnce(c *check) {
	ex, g := c.open(Config{Workers: 3}), c.newGate()
	fs, _ := c.hold(ex, g, 3)
	for _, f := range fs {
		equal(c, "IsRunning", f.IsRunning(), true)
	}
	g.openUp()
	for i, f := range fs {
		equal(c, "Result", value(c, f), i)
	}
}

// latecomerTask has a priority of its own.
var latecomerTask = executor.NewTask("executortest.latecomer", visit, executor.WithPriority(-5))

// An option given to Submit wins over the task's own, which wins over the default.
func submitOptionOverrides(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	fs = append(fs,
		executor.Submit(c.ctx, ex, latecomerTask, g.visit(3)),
		executor.Submit(c.ctx, ex, latecomerTask, g.visit(1), executor.WithPriority(0)),
		executor.Submit(c.ctx, ex, visitTask, g.visit(2)))
	g.openUp()
	for _, f := range fs {
		value(c, f)
	}
	// What was sent ahead to a process may be overtaken by nobody, so there only
	// that all have run is certain.
	if c.kind != remote {
		equalSlices(c, "the order of calls", g.visits(), []int{0, 1, 2, 3})
	}
}

// Whatever is submitted to an executor that was shut down fails with ErrShutdown
// through its future, which is never nil. // SHU-01, POL-22
func submitAfterShutdown(c *check) {
	ex := c.open(Config{Workers: 1})
	c.works(ex)
	c.shutdown(ex)
	matches(c, "Submit's error", failure(c, executor.Submit(c.ctx, ex, doubleTask, 1)), executor.ErrShutdown)
	fs := executor.SubmitAll(c.ctx, ex, doubleTask, numbers(3))
	equal(c, "len(SubmitAll)", len(fs), 3)
	for _, f := range fs {
		matches(c, "SubmitAll's error", failure(c, f), executor.ErrShutdown)
	}
	_, err := executor.Apply(c.ctx, ex, doubleTask, 1)
	matches(c, "Apply's error", err, executor.ErrShutdown)
	if c.kind == local {
		f := executor.SubmitFunc(c.ctx, ex, func(context.Context) (int, error) { return 0, nil })
		matches(c, "SubmitFunc's error", failure(c, f), executor.ErrShutdown)
	}
}

// A call whose context has ended before it is submitted does not run.
func submitCtxEndedBefore(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	c.works(ex)
	g.openUp()
	ctx, cancel := context.WithCancelCause(c.ctx)
	cancel(errReason)
	for range 300 {
		f := executor.Submit(ctx, ex, visitTask, g.visit(1))
		matches(c, "Result's error", failure(c, f), future.ErrCancelled, errReason)
	}
	c.works(ex)
	equal(c, "calls that ran", len(g.visits()), 0)
}

// The context of a queued call ends: the future is cancelled, with the cause, and
// the call never runs.
func submitCtxEndsWhileQueued(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	held, _ := c.hold(ex, g, 1)
	ctx, cancel := context.WithCancelCause(c.ctx)
	fs := executor.SubmitAll(ctx, ex, visitTask, []Visit{g.visit(1), g.visit(2)})
	fs = append(fs, executor.Submit(ctx, ex, visitTask, g.visit(3)))
	cancel(errReason)
	for _, f := range fs {
		matches(c, "Result's error", failure(c, f), future.ErrCancelled, errReason)
		equal(c, "State", f.State(), future.Cancelled)
	}
	g.openUp()
	value(c, held[0])
	c.works(ex)
	equal(c, "calls that ran", len(g.visits()), 1)
}

// The context of a running call ends: so does the one that the task sees, and the
// error matches what the task returned and the cause.
func submitCtxEndsWhileRunning(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	ctx, cancel := context.WithCancelCause(c.ctx)
	f := executor.Submit(ctx, ex, visitTask, g.visit(1))
	v := c.next(g)
	cancel(errReason)
	c.wait("the end of the task's context", v.ended)
	matches(c, "Result's error", failure(c, f), context.Canceled, errReason)
	equal(c, "State", f.State(), future.Finished)
	c.works(ex)
}

// Who stops waiting for a call learns that, and the call goes on and can be had
// later. // POL-10
func submitWaitEnds(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	_, err := fs[0].Result(over())
	matches(c, "Result's error", err, future.ErrNotDone, context.Canceled)
	equal(c, "State", fs[0].State(), future.Running)
	g.openUp()
	equal(c, "Result", value(c, fs[0]), 0)
}
