package executortest

import (
	"slices"

	"example.com/futures/executor"
	"example.com/futures/future"
)

// These are for backends whose workers are processes of their own.
var lostPromises = []promise{
	{"FailsOnlyItsCall", "PRO-01, PRO-04, PRO-05, DEA-06", remote, lostOne},
	{"ItemOfAMap", "PRO-01", remote, lostItem},
	{"RetriesAreLimited", "PRO-01", remote, lostRetries},
	{"AfterShutdown", "SHU-15", remote, lostAfterShutdown},
}

// A worker that dies takes only the call along that it ran, with an error that tells
// which process ended and how; another takes its place. // PRO-01, PRO-04, PRO-05, DEA-06
func lostOne(c *check) {
	ex := c.open(Config{Workers: 1})
	pid := value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{}))
	for _, how := range []ending{exitEnding, killEnding} {
		bad := executor.Submit(c.ctx, ex, endTask, how)
		var fs []*future.Future[int]
		for i := range 20 {
			fs = append(fs, executor.Submit(c.ctx, ex, doubleTask, i))
		}
		e := as[*executor.WorkerLostError](c, "Result's error", failure(c, bad))
		equal(c, "PID", e.PID, pid)
		equal(c, "Task", e.Task, endTask.Name())
		if how == exitEnding {
			equal(c, "ExitCode", e.ExitCode, 99)
			equal(c, "Signal", e.Signal, nil)
		} else {
			equal(c, "ExitCode", e.ExitCode, -1)
			equal(c, "whether Signal is there", e.Signal != nil, true)
		}
		for i, f := range fs {
			equal(c, "Result of another call", value(c, f), 2*i)
		}
		next := value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{}))
		if next == pid {
			c.Fatalf("the worker's process ID is %d, as before", pid)
		}
		pid = next
	}
	equal(c, "WorkersLost", ex.Stats().WorkersLost, 2)
}

// Of a map it takes one item along, chunked or not. // PRO-01
func lostItem(c *check) {
	ex := c.open(Config{Workers: 2})
	args := slices.Repeat([]ending{wellEnding}, 9)
	args[1], args[5] = exitEnding, killEnding
	for _, chunk := range []int{0, 1, 3, 9} {
		i := 0
		for _, err := range executor.Map(c.ctx, ex, endTask, slices.Values(args), executor.WithChunk(chunk)) {
			if args[i] == wellEnding {
				equal(c, "the item's error", err, nil)
			} else {
				as[*executor.WorkerLostError](c, "the item's error", err)
			}
			i++
		}
		equal(c, "items", i, len(args))
	}
}

// With WithRetries a call whose worker was lost runs again, as often as that says;
// without it, never. // PRO-01
func lostRetries(c *check) {
	ex := c.open(Config{Workers: 1})
	as[*executor.WorkerLostError](c, "Result's error", failure(c, executor.Submit(c.ctx, ex, endTask, exitEnding, executor.WithRetries(2))))
	equal(c, "Retried", ex.Stats().Retried, 2)
	equal(c, "WorkersLost", ex.Stats().WorkersLost, 3)
	as[*executor.WorkerLostError](c, "Result's error", failure(c, executor.Submit(c.ctx, ex, endTask, exitEnding)))
	equal(c, "Retried", ex.Stats().Retried, 2)
	c.works(ex)
}

// A worker that dies after Shutdown was called does not block it. // SHU-15
func lostAfterShutdown(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	held, _ := c.hold(ex, g, 1)
	bad := executor.Submit(c.ctx, ex, endTask, exitEnding)
	last := executor.Submit(c.ctx, ex, doubleTask, 21)
	if err := ex.Shutdown(over()); err == nil {
		c.Fatal("Shutdown(ended ctx) = nil while a call runs")
	}
	g.openUp()
	c.shutdown(ex)
	equal(c, "Result", value(c, held[0]), 0)
	as[*executor.WorkerLostError](c, "Result's error", failure(c, bad))
	equal(c, "Result of the call behind it", value(c, last), 42)
}
