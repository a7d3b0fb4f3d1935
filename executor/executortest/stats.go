package executortest

import (
	"slices"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var statsPromises = []promise{
	{"CountAfterResult", "", anywhere, statsAfterResult},
	{"QueuedAndRunning", "", anywhere, statsQueued},
	{"EachItemOfAMap", "", anywhere, statsMap},
	{"RefusedDoesNotCount", "", anywhere, statsRefused},
	{"NeverMoreThanWorkers", "THR-02, PRO-06, ISO-05", anywhere, statsSaturation},
	{"WorkersStartOnDemand", "THR-03, THR-08, PRO-07, PRO-08, SHU-13", anywhere, statsOnDemand},
	{"AfterClose", "SHU-08", anywhere, statsAfterClose},
}

// What Result has told, Stats counts. At rest Submitted is the sum of the rest.
func statsAfterResult(c *check) {
	ex := c.open(Config{Workers: 1})
	equal(c, "Submitted by a new executor", ex.Stats().Submitted, 0)
	var failed uint64
	for i, e := range append([]ending{wellEnding}, badEndings...) {
		if _, err := outcome(c, executor.Submit(c.ctx, ex, endTask, e)); err != nil {
			failed++
		}
		s := ex.Stats()
		equal(c, "Submitted", s.Submitted, uint64(i+1))
		equal(c, "Succeeded", s.Succeeded, 1)
		equal(c, "Failed", s.Failed, failed)
		equal(c, "Cancelled", s.Cancelled, 0)
		equal(c, "Running", s.Running, 0)
		equal(c, "Queued", s.Queued, 0)
	}
	s := ex.Stats()
	equal(c, "WorkersLost", s.WorkersLost, 0)
	equal(c, "Retried", s.Retried, 0)
}

// Queued and Running tell what waits and what runs, without what was cancelled.
func statsQueued(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	fs, _ := c.hold(ex, g, 2)
	for i := range 5 {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(i+2)))
	}
	s := ex.Stats()
	equal(c, "Running", s.Running, 2)
	equal(c, "Queued", s.Queued, 5)
	equal(c, "Submitted", s.Submitted, 7)
	equal(c, "Idle", s.Idle, 0)
	equal(c, "Workers", s.Workers, 2)
	equal(c, "Cancel", fs[4].Cancel(), true)
	s = ex.Stats()
	equal(c, "Queued after one was cancelled", s.Queued, 4)
	equal(c, "Cancelled", s.Cancelled, 1)
	g.openUp()
	for i, f := range fs {
		if i != 4 {
			value(c, f)
		}
	}
	c.shutdown(ex)
	s = ex.Stats()
	equal(c, "Submitted", s.Submitted, 7)
	equal(c, "Succeeded", s.Succeeded, 6)
	equal(c, "Cancelled", s.Cancelled, 1)
}

// Each item of a map counts as a call.
func statsMap(c *check) {
	for _, chunk := range []int{0, 1, 3, 100} {
		ex := c.open(Config{Workers: 2})
		for range executor.Map(c.ctx, ex, oddTask, slices.Values(numbers(11)), executor.WithChunk(chunk)) { //nolint:revive // what it does is looked at below
		}
		s := ex.Stats()
		equal(c, "Submitted", s.Submitted, 11)
		equal(c, "Succeeded", s.Succeeded, 6)
		equal(c, "Failed", s.Failed, 5)
		equal(c, "Running", s.Running, 0)
		c.shutdown(ex)
	}
}

// A call that was refused does not count.
func statsRefused(c *check) {
	g := c.newGate()
	ex, _, _ := c.crowded(Config{RejectWhenFull: true}, g)
	failure(c, executor.Submit(c.ctx, ex, visitTask, g.visit(3)))
	failure(c, executor.Submit(over(), ex, visitTask, g.visit(3)))
	g.openUp()
	c.shutdown(ex)
	failure(c, executor.Submit(c.ctx, ex, visitTask, g.visit(3)))
	s := ex.Stats()
	equal(c, "Submitted", s.Submitted, 3)
	equal(c, "Succeeded", s.Succeeded, 3)
	equal(c, "Failed", s.Failed, 0)
	equal(c, "Cancelled", s.Cancelled, 0)
}

// However many calls there are, no more run at once than there are
// workers. // THR-02, PRO-06, ISO-05
func statsSaturation(c *check) {
	const workers = 3
	ex, g := c.open(Config{Workers: workers}), c.newGate()
	var args []Visit
	for i := range 15 * workers {
		args = append(args, g.visit(i))
	}
	fs := executor.SubmitAll(c.ctx, ex, visitTask, args)
	var held []*visitor
	for range workers {
		held = append(held, c.next(g))
	}
	equal(c, "Workers", ex.Stats().Workers, workers)
	equal(c, "Running", ex.Stats().Running, workers)
	for range len(args) - workers {
		held[0].pass()
		held = append(held[1:], c.next(g))
	}
	g.openUp()
	for i, f := range fs {
		equal(c, "Result", value(c, f), i)
	}
	equal(c, "calls at once, at most", g.crowd(), workers)
}

// Workers start when they are needed, and one that idles is used before another is
// started. // THR-03, THR-08, PRO-07, PRO-08, SHU-13
func statsOnDemand(c *check) {
	ex, g := c.open(Config{Workers: 5}), c.newGate()
	equal(c, "Workers before the first call", ex.Stats().Workers, 0)
	c.hold(ex, g, 3)
	equal(c, "Workers with three calls", ex.Stats().Workers, 3)
	g.openUp()
	c.shutdown(ex)

	ex = c.open(Config{Workers: 5})
	pids := make(map[int]bool)
	for range 3 {
		pids[value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{}))] = true
		c.until("the worker idles", func() bool { return ex.Stats().Idle == 1 })
	}
	equal(c, "processes that ran three calls, one after another", len(pids), 1)
	equal(c, "Workers", ex.Stats().Workers, 1)
}

// A closed executor has no workers. // SHU-08
func statsAfterClose(c *check) {
	for _, stop := range []func(executor.Executor){
		func(ex executor.Executor) { c.shutdown(ex) },
		func(ex executor.Executor) { c.within("Close", func() { _ = ex.Close() }) },
	} {
		ex := c.open(Config{Workers: 2})
		var fs []*future.Future[int]
		for i := range 10 {
			fs = append(fs, executor.Submit(c.ctx, ex, doubleTask, i))
		}
		stop(ex)
		s := ex.Stats()
		equal(c, "Workers", s.Workers, 0)
		equal(c, "Idle", s.Idle, 0)
		equal(c, "Running", s.Running, 0)
		equal(c, "Queued", s.Queued, 0)
		equal(c, "Submitted", s.Submitted, 10)
		equal(c, "Succeeded+Failed+Cancelled", s.Succeeded+s.Failed+s.Cancelled, 10)
		for _, f := range fs {
			equal(c, "IsDone", f.IsDone(), true)
		}
	}
}
