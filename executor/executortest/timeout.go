package executortest

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var timeoutPromises = []promise{
	{"IsDeadlineExceeded", "", anywhere, timeoutIsDeadlineExceeded},
	{"ValueAfterCtxEndedSucceeds", "", anywhere, timeoutValue},
	{"ErrorAfterwardsMatchesBoth", "", anywhere, timeoutError},
	{"CountsRunningTimeOnly", "", anywhere, timeoutRunningOnly},
	{"ZeroIsNone", "", anywhere, timeoutZero},
	{"EachItemOfAMap", "MAP-09", anywhere, timeoutItems},
	{"OfTheTaskIsNoLimitOfOurs", "MAP-09", anywhere, timeoutOwn},
}

// short is a time limit that calls run into on purpose.
const short = 20 * time.Millisecond

// hastyTask is visitTask with a time limit of its own.
var hastyTask = executor.NewTask("executortest.hasty", visit, executor.WithTimeout(short))

// A call over its time fails with ErrTimeout, which is a DeadlineExceeded; the
// worker goes on.
func timeoutIsDeadlineExceeded(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	for _, f := range []*future.Future[int]{
		executor.Submit(c.ctx, ex, visitTask, g.visit(1), executor.WithTimeout(short)),
		executor.Submit(c.ctx, ex, hastyTask, g.visit(2)),
	} {
		err := failure(c, f)
		matches(c, "Result's error", err, executor.ErrTimeout, context.DeadlineExceeded)
		if errors.Is(err, future.ErrNotDone) {
			c.Fatalf("Result's error = %q matches ErrNotDone", err)
		}
		equal(c, "State", f.State(), future.Finished)
		c.works(ex)
	}
}

// A call that returns a value after its time was over has succeeded.
func timeoutValue(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	v := g.visit(7)
	v.AtEnd = returnValue
	f := executor.Submit(c.ctx, ex, visitTask, v, executor.WithTimeout(short))
	equal(c, "Result", value(c, f), 7)
}

// A call that returns an error after its time was over has one that matches what it
// returned and ErrTimeout.
func timeoutError(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	v := g.visit(7)
	v.AtEnd = returnOwn
	f := executor.Submit(c.ctx, ex, visitTask, v, executor.WithTimeout(short))
	matches(c, "Result's error", failure(c, f), errOwn, executor.ErrTimeout, context.DeadlineExceeded)
}

// The limit is on running time: a call may be queued for longer.
func timeoutRunningOnly(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	first := executor.Submit(c.ctx, ex, visitTask, g.visit(1), executor.WithTimeout(5*short))
	c.next(g)
	v := g.visit(2)
	v.AtEnd = tellCause // so that a machine that is slow does no harm
	second := executor.Submit(c.ctx, ex, visitTask, v, executor.WithTimeout(short))
	failure(c, first)
	g.openUp()
	if err := second.Exception(c.ctx); err != nil {
		c.Fatalf("a call that was queued for longer than its time limit ends with %v", err)
	}
}

// A limit of zero is none, and takes away the task's own.
func timeoutZero(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	f := executor.Submit(c.ctx, ex, hastyTask, g.visit(1), executor.WithTimeout(0))
	v := c.next(g)
	// Another call that starts later runs into the limit: so would the first.
	matches(c, "Result's error", failure(c, executor.Submit(c.ctx, ex, hastyTask, g.visit(2))), executor.ErrTimeout)
	v.pass()
	equal(c, "Result", value(c, f), 1)
}

// The limit is on each item of a map, and its end is that item's error only, chunked
// or not.
func timeoutItems(c *check) {
	for _, chunk := range []int{1, 4} {
		ex, g := c.open(Config{Workers: 1}), c.newGate()
		g.openUp()
		shut := c.newGate()
		args := []Visit{g.visit(0), shut.visit(1), g.visit(2), shut.visit(3), g.visit(4)}
		for i := 0; i < len(args); i += 2 {
			args[i].AtEnd = returnValue // so that a machine that is slow does no harm
		}
		i := 0
		for v, err := range executor.Map(c.ctx, ex, visitTask, slices.Values(args), executor.WithChunk(chunk), executor.WithTimeout(10*short)) {
			if i == 1 || i == 3 {
				matches(c, "the item's error", err, executor.ErrTimeout, context.DeadlineExceeded)
			} else {
				equal(c, "the item's error", err, nil)
				equal(c, "the item", v, i)
			}
			i++
		}
		equal(c, "items", i, len(args))
	}
}

// A task's own DeadlineExceeded is an error like any other: no ErrTimeout, and
// nothing that a wait which timed out could be mistaken for. // MAP-09
func timeoutOwn(c *check) {
	err := failure(c, executor.Submit(c.ctx, c.open(Config{Workers: 1}), endTask, deadlineEnding))
	matches(c, "Result's error", err, context.DeadlineExceeded)
	if errors.Is(err, executor.ErrTimeout) || errors.Is(err, future.ErrNotDone) {
		c.Fatalf("Result's error = %q matches ErrTimeout or ErrNotDone", err)
	}
}
