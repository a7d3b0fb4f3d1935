package executortest

import (
	"context"
	"errors"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var cancelPromises = []promise{
	{"Queued", "EXE-08, PRO-26", anywhere, cancelQueued},
	{"RunningRefused", "PRO-26", anywhere, cancelRunning},
	{"DoneRefused", "", anywhere, cancelDone},
	{"AnswerIsTheTruth", "PRO-26", anywhere, cancelTruth},
	{"WakesWaiters", "", anywhere, cancelWakes},
}

var interruptPromises = []promise{
	{"EndsTaskCtxWithCause", "", anywhere, interruptRunning},
	{"QueuedIsCancelled", "", anywhere, interruptQueued},
	{"DoneRefused", "", anywhere, interruptDone},
	{"ValueAfterwardsSucceeds", "", anywhere, interruptValue},
	{"ErrorAfterwardsMatchesBoth", "", anywhere, interruptError},
	{"OthersGoOn", "", anywhere, interruptOthers},
	{"IgnoredIsDoneWhenTheTaskReturns", "", local, interruptIgnored},
}

// A call that has not started can be cancelled, sent ahead to a worker or not: it is
// done at once, stays so, and never runs. // PRO-26
func cancelQueued(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	held, _ := c.hold(ex, g, 1)
	var fs []*future.Future[int]
	for i := range 8 {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(i+1)))
	}
	for _, f := range fs {
		equal(c, "State of a queued call", f.State(), future.Pending)
		equal(c, "Cancel", f.Cancel(), true)
		equal(c, "IsCancelled", f.IsCancelled(), true)
		equal(c, "Cancel, once more", f.Cancel(), true)
		matches(c, "Result's error", failure(c, f), future.ErrCancelled)
	}
	g.openUp()
	value(c, held[0])
	c.works(ex)
	equalSlices(c, "calls that ran", g.visits(), []int{0})
}

// A call that runs cannot be cancelled, and goes on. // PRO-26
func cancelRunning(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	equal(c, "Cancel", fs[0].Cancel(), false)
	equal(c, "IsRunning", fs[0].IsRunning(), true)
	g.openUp()
	equal(c, "Result", value(c, fs[0]), 0)
}

// A call that has ended cannot be cancelled.
func cancelDone(c *check) {
	f := executor.Submit(c.ctx, c.open(Config{Workers: 1}), doubleTask, 21)
	value(c, f)
	equal(c, "Cancel", f.Cancel(), false)
	equal(c, "Result", value(c, f), 42)
}

// However Cancel and the start of the call fall together, a call of which Cancel
// said true never ran, and one of which it said false runs to its end. // PRO-26
func cancelTruth(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	g.openUp()
	ran := make(map[int]bool)
	for i := range 100 {
		f := executor.Submit(c.ctx, ex, visitTask, g.visit(i))
		cancelled := f.Cancel()
		_, err := outcome(c, f)
		if cancelled {
			matches(c, "Result's error after Cancel() = true", err, future.ErrCancelled)
			continue
		}
		equal(c, "Result's error after Cancel() = false", err, nil)
		ran[i] = true
	}
	c.shutdown(ex)
	for _, i := range g.visits() {
		if !ran[i] {
			c.Fatalf("call %d ran although Cancel had answered true", i)
		}
	}
}

// Who waits for a call wakes when it is cancelled.
func cancelWakes(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	c.hold(ex, g, 1)
	f := executor.Submit(c.ctx, ex, visitTask, g.visit(1))
	done := make(chan error, 1)
	go func() { done <- f.Exception(c.ctx) }()
	f.Cancel()
	c.within("Exception", func() { matches(c, "Exception", <-done, future.ErrCancelled) })
}

// Interrupt ends the context of a running call, with the cause, which its error
// matches.
func interruptRunning(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, vs := c.hold(ex, g, 1)
	equal(c, "Interrupt", fs[0].Interrupt(errReason), true)
	c.wait("the end of the task's context", vs[0].ended)
	matches(c, "Result's error", failure(c, fs[0]), context.Canceled, errReason)
	equal(c, "State", fs[0].State(), future.Finished)
	c.works(ex)

	v := g.visit(1)
	v.AtEnd = tellCause
	f := executor.Submit(c.ctx, ex, visitTask, v)
	c.next(g)
	f.Interrupt(errReason)
	equal(c, "whether the task sees the cause", value(c, f), 1)
}

// Interrupt cancels a queued call, with the cause.
func interruptQueued(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	held, _ := c.hold(ex, g, 1)
	f := executor.Submit(c.ctx, ex, visitTask, g.visit(1))
	equal(c, "Interrupt", f.Interrupt(errReason), true)
	matches(c, "Result's error", failure(c, f), future.ErrCancelled, errReason)
	equal(c, "State", f.State(), future.Cancelled)
	g.openUp()
	value(c, held[0])
	c.works(ex)
	equalSlices(c, "calls that ran", g.visits(), []int{0})
}

// Interrupt of a call that has ended does nothing.
func interruptDone(c *check) {
	f := executor.Submit(c.ctx, c.open(Config{Workers: 1}), doubleTask, 21)
	value(c, f)
	equal(c, "Interrupt", f.Interrupt(errReason), false)
	equal(c, "Result", value(c, f), 42)
}

// A call that returns a value although it was interrupted has succeeded.
func interruptValue(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	v := g.visit(7)
	v.AtEnd = returnValue
	f := executor.Submit(c.ctx, ex, visitTask, v)
	c.next(g)
	f.Interrupt(errReason)
	equal(c, "Result", value(c, f), 7)
}

// A call that returns an error after it was interrupted has one that matches what
// it returned and the cause.
func interruptError(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	v := g.visit(7)
	v.AtEnd = returnOwn
	f := executor.Submit(c.ctx, ex, visitTask, v)
	c.next(g)
	f.Interrupt(errReason)
	matches(c, "Result's error", failure(c, f), errOwn, errReason)
}

// Interrupt is for one call: the others notice nothing.
func interruptOthers(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	fs, vs := c.hold(ex, g, 2)
	fs[0].Interrupt(errReason)
	failure(c, fs[0])
	c.works(ex)
	select {
	case <-vs[1].ended:
		c.Fatal("the context of another call ended too")
	default:
	}
	g.openUp()
	equal(c, "Result of another call", value(c, fs[1]), 1)
}

// A goroutine that ignores its context cannot be stopped: its future is done when it
// returns, not before.
func interruptIgnored(c *check) {
	ex := c.open(Config{Workers: 1})
	started, release := make(chan struct{}), make(chan struct{})
	f := executor.SubmitFunc(c.ctx, ex, func(ctx context.Context) (int, error) {
		close(started)
		<-release
		return 0, context.Cause(ctx)
	})
	c.wait("the start of the call", started)
	equal(c, "Interrupt", f.Interrupt(errReason), true)
	equal(c, "IsDone", f.IsDone(), false)
	equal(c, "Cancel", f.Cancel(), false)
	close(release)
	err := failure(c, f)
	matches(c, "Result's error", err, errReason)
	if errors.Is(err, future.ErrCancelled) {
		c.Fatalf("Result's error = %q matches ErrCancelled, but the call ran", err)
	}
}
