package executortest

import (
	"context"
	"time"

	"example.com/futures/executor"
)

var contextPromises = []promise{
	{"ValuesInProcess", "", local, contextValues},
	{"ValuesDoNotTravel", "", portable, contextNoValues},
	{"DeadlineTravels", "", anywhere, contextDeadline},
	{"DeadlineEndsTheTask", "", anywhere, contextDeadlineEnds},
	{"CauseTravels", "", anywhere, contextCause},
	{"NoDeadlineIsNone", "", anywhere, contextNoDeadline},
}

type valueKey struct{}

var (
	// valueTask returns what its context holds.
	valueTask = executor.NewTask("executortest.value", func(ctx context.Context, _ struct{}) (string, error) {
		s, _ := ctx.Value(valueKey{}).(string)
		return s, nil
	})

	// deadlineTask returns its context's deadline, or the zero time.
	deadlineTask = executor.NewTask("executortest.deadline", func(ctx context.Context, _ struct{}) (time.Time, error) {
		t, _ := ctx.Deadline()
		return t, nil
	})
)

// In process a task sees the values of the call's context.
func contextValues(c *check) {
	ctx := context.WithValue(c.ctx, valueKey{}, "a value")
	equal(c, "Result", value(c, executor.Submit(ctx, c.open(Config{Workers: 1}), valueTask, struct{}{})), "a value")
}

// The values of a call's context do not leave the process.
func contextNoValues(c *check) {
	ctx := context.WithValue(c.ctx, valueKey{}, "a value")
	equal(c, "Result", value(c, executor.Submit(ctx, c.open(Config{Workers: 1}), valueTask, struct{}{})), "")
}

// A task sees the deadline of the call's context.
func contextDeadline(c *check) {
	want, _ := c.ctx.Deadline()
	got := value(c, executor.Submit(c.ctx, c.open(Config{Workers: 1}), deadlineTask, struct{}{}))
	// A deadline may travel as the time that is left, which takes a while.
	if d := got.Sub(want).Abs(); d > patience/10 {
		c.Fatalf("the task's deadline is %v from the call's", d)
	}
}

// A task of a call without a deadline sees none.
func contextNoDeadline(c *check) {
	f := executor.Submit(context.WithoutCancel(c.ctx), c.open(Config{Workers: 1}), deadlineTask, struct{}{})
	equal(c, "the deadline is zero", value(c, f).IsZero(), true)
}

// The deadline ends the task's context, and the call's error is DeadlineExceeded.
func contextDeadlineEnds(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	c.works(ex)
	ctx, cancel := context.WithTimeout(c.ctx, 10*short)
	defer cancel()
	f := executor.Submit(ctx, ex, visitTask, g.visit(1))
	matches(c, "Result's error", failure(c, f), context.DeadlineExceeded)
	c.works(ex)
}

// A task sees why the call's context ended.
func contextCause(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	ctx, cancel := context.WithCancelCause(c.ctx)
	v := g.visit(1)
	v.AtEnd = tellCause
	f := executor.Submit(ctx, ex, visitTask, v)
	c.next(g)
	cancel(errReason)
	equal(c, "whether the task sees the cause", value(c, f), 1)
}
