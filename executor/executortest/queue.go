package executortest

import (
	"context"
	"slices"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var priorityPromises = []promise{
	{"HigherFirst", "", anywhere, priorityHigherFirst},
	{"FIFOWithinOne", "", anywhere, priorityFIFO},
}

var queuePromises = []promise{
	{"WaitsForRoom", "", anywhere, queueWaits},
	{"WaitEndsWithCtx", "", anywhere, queueWaitEnds},
	{"RejectWhenFull", "", anywhere, queueRejects},
	{"CancelledGivesRoomBack", "DEA-16", anywhere, queueCancelled},
	{"EndedCtxGivesRoomBack", "", anywhere, queueCtxEnded},
	{"MapWaitsWhateverRejectWhenFull", "", anywhere, queueMap},
	{"ShutdownEndsTheWait", "", anywhere, queueShutdown},
	{"CloseEndsTheWait", "", anywhere, queueClose},
}

// A call of higher priority goes before those that wait.
func priorityHigherFirst(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	const low = 200
	for i := range low {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(i+1)))
	}
	for _, p := range []int{-3, 7, 3} {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(1000+p), executor.WithPriority(p)))
	}
	g.openUp()
	for _, f := range fs {
		value(c, f)
	}
	order := g.visits()
	if c.kind != remote {
		equalSlices(c, "the first three", order[:3], []int{0, 1007, 1003})
		equal(c, "the last", order[len(order)-1], 997)
		return
	}
	// A few calls may have been sent ahead to the worker before.
	if i := slices.Index(order, 1007); i > low/2 {
		c.Fatalf("the call of priority 7 was number %d of %d", i, len(order))
	}
}

// Calls of one priority keep their order, among calls of others.
func priorityFIFO(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	for i := range 30 {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(10*i+i%3), executor.WithPriority(i%3)))
	}
	g.openUp()
	for _, f := range fs {
		value(c, f)
	}
	for p := range 3 {
		got := slices.DeleteFunc(g.visits()[1:], func(name int) bool { return name%10 != p })
		if !slices.IsSorted(got) {
			c.Fatalf("the calls of priority %d ran in the order %v", p, got)
		}
	}
}

// crowded returns an executor with one worker that is held and a full queue.
func (c *check) crowded(cfg Config, g *gate) (ex executor.Executor, running *future.Future[int], queued []*future.Future[int]) {
	c.Helper()
	cfg.Workers = 1
	cfg.QueueLimit = 2
	ex = c.open(cfg)
	held, _ := c.hold(ex, g, 1)
	for i := range cfg.QueueLimit {
		queued = append(queued, executor.Submit(c.ctx, ex, visitTask, g.visit(i+1)))
	}
	return ex, held[0], queued
}

// Submit waits while the queue is full, and goes on when there is room.
func queueWaits(c *check) {
	g := c.newGate()
	ex, _, _ := c.crowded(Config{}, g)
	fs := make(chan *future.Future[int], 20)
	go func() {
		defer close(fs)
		for i := range cap(fs) {
			fs <- executor.Submit(c.ctx, ex, visitTask, g.visit(i+3))
		}
	}()
	g.openUp()
	for i := range cap(fs) {
		equal(c, "Result", value(c, <-fs), i+3)
	}
	equalSlices(c, "the order of calls", g.visits(), numbers(cap(fs)+3))
}

// Submit waits for room until its context ends: it does not return before.
func queueWaitEnds(c *check) {
	g := c.newGate()
	ex, _, _ := c.crowded(Config{}, g)
	ctx, cancel := context.WithTimeout(c.ctx, short)
	defer cancel()
	f := executor.Submit(ctx, ex, visitTask, g.visit(3))
	if ctx.Err() == nil {
		c.Fatalf("Submit returned before there was room, with a future that is %v", f.State())
	}
	matches(c, "Result's error", failure(c, f), context.DeadlineExceeded)
	equal(c, "Submitted", ex.Stats().Submitted, 3)
	g.openUp()
	c.works(ex)
	equalSlices(c, "calls that ran", g.visits(), numbers(3))
}

// With RejectWhenFull, what finds no room fails with ErrQueueFull at once, also a
// part of what SubmitAll hands over.
func queueRejects(c *check) {
	g := c.newGate()
	ex, _, queued := c.crowded(Config{RejectWhenFull: true}, g)
	matches(c, "Result's error", failure(c, executor.Submit(c.ctx, ex, visitTask, g.visit(3))), executor.ErrQueueFull)
	equal(c, "Cancel", queued[1].Cancel(), true)
	fs := executor.SubmitAll(c.ctx, ex, visitTask, []Visit{g.visit(4), g.visit(5), g.visit(6)})
	matches(c, "Result's error", failure(c, fs[1]), executor.ErrQueueFull)
	matches(c, "Result's error", failure(c, fs[2]), executor.ErrQueueFull)
	g.openUp()
	equal(c, "Result", value(c, queued[0]), 1)
	equal(c, "Result", value(c, fs[0]), 4)
	c.works(ex)
	equalSlices(c, "calls that ran", g.visits(), []int{0, 1, 4})
}

// A call that was cancelled gives its room back at once. // DEA-16
func queueCancelled(c *check) {
	g := c.newGate()
	ex, _, queued := c.crowded(Config{RejectWhenFull: true}, g)
	for i := range 20 {
		equal(c, "Cancel", queued[i%2].Cancel(), true)
		queued[i%2] = executor.Submit(c.ctx, ex, visitTask, g.visit(i+3))
		if s := queued[i%2].State(); s != future.Pending {
			c.Fatalf("a call submitted after another was cancelled is %v: %v", s, queued[i%2].Exception(c.ctx))
		}
	}
	g.openUp()
	value(c, queued[0])
	value(c, queued[1])
}

// A call whose context ended gives its room back.
func queueCtxEnded(c *check) {
	g := c.newGate()
	ex, _, queued := c.crowded(Config{RejectWhenFull: true}, g)
	equal(c, "Cancel", queued[0].Cancel(), true)
	for i := range 20 {
		ctx, cancel := context.WithCancel(c.ctx)
		f := executor.Submit(ctx, ex, visitTask, g.visit(i+3))
		cancel()
		matches(c, "Result's error", failure(c, f), future.ErrCancelled, context.Canceled)
	}
}

// A map waits for room, also where Submit would be refused.
func queueMap(c *check) {
	ex := c.open(Config{Workers: 2, QueueLimit: 1, RejectWhenFull: true})
	for _, opts := range [][]executor.CallOption{nil, {executor.WithBuffer(20)}, {executor.WithBuffer(20), executor.WithChunk(3)}} {
		got := c.collect(executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(60)), opts...))
		for i, v := range got {
			equal(c, "the item", v, 2*i)
		}
		equal(c, "items", len(got), 60)
	}
}

// Who waits for room when the executor is shut down learns that. Calls that were
// accepted run.
func queueShutdown(c *check) {
	g := c.newGate()
	ex, _, queued := c.crowded(Config{}, g)
	refused := make(chan error, 1)
	go func() { refused <- executor.Submit(c.ctx, ex, visitTask, g.visit(3)).Exception(c.ctx) }()
	matches(c, "Shutdown's error", ex.Shutdown(over()), context.Canceled)
	var err error
	c.within("Submit", func() { err = <-refused })
	matches(c, "Result's error", err, executor.ErrShutdown)
	g.openUp()
	value(c, queued[0])
	value(c, queued[1])
	c.shutdown(ex)
}

// Who waits for room when the executor is closed learns that.
func queueClose(c *check) {
	g := c.newGate()
	ex, _, _ := c.crowded(Config{}, g)
	refused := make(chan error, 1)
	go func() { refused <- executor.Submit(c.ctx, ex, visitTask, g.visit(3)).Exception(c.ctx) }()
	c.within("Close", func() { _ = ex.Close() })
	var err error
	c.within("Submit", func() { err = <-refused })
	matches(c, "Result's error", err, executor.ErrShutdown)
}
