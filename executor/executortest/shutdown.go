package executortest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var shutdownPromises = []promise{
	{"WaitsForAccepted", "SHU-04, SHU-09, SHU-23", anywhere, shutdownWaits},
	{"CancelPending", "SHU-05", anywhere, shutdownCancelPending},
	{"CtxEndsThenAgain", "SHU-06, SHU-11, SHU-20, SHU-24", anywhere, shutdownCtxEnds},
	{"CtxEndsThenCancelPending", "SHU-12", anywhere, shutdownThenCancel},
	{"CtxEndsThenClose", "SHU-24", anywhere, shutdownThenClose},
	{"RepeatedAndAtOnce", "SHU-18", anywhere, shutdownRepeated},
	{"Unused", "PRO-22", anywhere, shutdownUnused},
	{"AfterCancel", "SHU-07", anywhere, shutdownAfterCancel},
	{"AfterFailures", "SHU-14", anywhere, shutdownAfterFailures},
	{"RacesWithSubmit", "SHU-01", anywhere, shutdownRaces},
	{"FromTaskAnswersError", "SHU-19, THR-12", local, shutdownFromTask},
	{"FromCallback", "SHU-25", anywhere, shutdownFromCallback},
	{"DoesNotWaitForCallbacks", "", anywhere, shutdownNoCallbacks},
}

var closePromises = []promise{
	{"CancelsQueuedInterruptsRunning", "SHU-21, SHU-23, POL-20", anywhere, closeEnds},
	{"WaitsForRunning", "SHU-08", local, closeWaits},
	{"RepeatedAndAtOnce", "SHU-18, PRO-21", anywhere, closeRepeated},
	{"Unused", "PRO-22", anywhere, closeUnused},
	{"DoesNotWaitForCallbacks", "", anywhere, closeNoCallbacks},
	{"FromCallback", "SHU-25", anywhere, closeFromCallback},
}

// Shutdown waits for all that was accepted. // SHU-04, SHU-09, SHU-23
func shutdownWaits(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	fs, _ := c.hold(ex, g, 2)
	for i := range 50 {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(i+2)))
	}
	g.openUp()
	c.shutdown(ex)
	for i, f := range fs {
		equal(c, "IsDone", f.IsDone(), true)
		equal(c, "Result", value(c, f), i)
	}
}

// With CancelPending, Shutdown cancels what is queued, with ErrShutdown as cause, at
// once, and waits for what runs. // SHU-05
func shutdownCancelPending(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	held, _ := c.hold(ex, g, 1)
	var fs []*future.Future[int]
	for i := range 50 {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(i+1)))
	}
	done := make(chan error, 1)
	go func() { done <- ex.Shutdown(c.ctx, executor.CancelPending()) }()
	for _, f := range fs {
		matches(c, "the error of a queued call", failure(c, f), future.ErrCancelled, executor.ErrShutdown)
	}
	equal(c, "State of the running call", held[0].State(), future.Running)
	g.openUp()
	equal(c, "Result of the running call", value(c, held[0]), 0)
	var err error
	c.within("Shutdown", func() { err = <-done })
	equal(c, "Shutdown", err, nil)
	equalSlices(c, "calls that ran", g.visits(), []int{0})
}

// When its ctx ends Shutdown answers so; calls are refused, those that were accepted
// stay what they are and end as if nothing had been, and it may be called
// again. // SHU-06, SHU-11, SHU-20, SHU-24
func shutdownCtxEnds(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	for i := range 3 {
		fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(i+1)))
	}
	for range 2 {
		matches(c, "Shutdown", ex.Shutdown(over()), context.Canceled)
	}
	matches(c, "the error of a later call", failure(c, executor.Submit(c.ctx, ex, doubleTask, 1)), executor.ErrShutdown)
	equal(c, "State of the running call", fs[0].State(), future.Running)
	equal(c, "State of a queued call", fs[1].State(), future.Pending)
	g.openUp()
	for i, f := range fs {
		equal(c, "Result", value(c, f), i)
	}
	c.shutdown(ex)
}

// A second Shutdown may cancel what the first left queued. // SHU-12
func shutdownThenCancel(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(1)))
	matches(c, "Shutdown", ex.Shutdown(over()), context.Canceled)
	matches(c, "Shutdown", ex.Shutdown(over(), executor.CancelPending()), context.Canceled)
	matches(c, "the error of a queued call", failure(c, fs[1]), future.ErrCancelled, executor.ErrShutdown)
	g.openUp()
	equal(c, "Result of the running call", value(c, fs[0]), 0)
	c.shutdown(ex)
}

// Close ends what Shutdown gave up waiting for. // SHU-24
func shutdownThenClose(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, _ := c.hold(ex, g, 1)
	fs = append(fs, executor.Submit(c.ctx, ex, visitTask, g.visit(1)))
	matches(c, "Shutdown", ex.Shutdown(over()), context.Canceled)
	c.within("Close", func() { _ = ex.Close() })
	for _, f := range fs {
		equal(c, "IsDone", f.IsDone(), true)
		matches(c, "Result's error", failure(c, f), executor.ErrShutdown)
	}
	c.shutdown(ex)
}

// Shutdown may be called again, and by many at once. // SHU-18
func shutdownRepeated(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	fs, _ := c.hold(ex, g, 2)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = ex.Shutdown(c.ctx) })
	}
	g.openUp()
	c.within("Shutdown", wg.Wait)
	equal(c, "Shutdown", errors.Join(errs...), nil)
	for i, f := range fs {
		equal(c, "Result", value(c, f), i)
	}
	c.shutdown(ex)
	equal(c, "Close", ex.Close(), nil)
}

// An executor that was never used can be shut down. // PRO-22
func shutdownUnused(c *check) {
	ex := c.open(Config{Workers: 2})
	c.shutdown(ex)
	equal(c, "Submitted", ex.Stats().Submitted, 0)
}

// A call that was cancelled just before does not make Shutdown hang. // SHU-07
func shutdownAfterCancel(c *check) {
	for range 10 {
		ex := c.open(Config{Workers: 1})
		f := executor.Submit(c.ctx, ex, doubleTask, 1)
		f.Cancel()
		c.shutdown(ex)
		equal(c, "IsDone", f.IsDone(), true)
	}
}

// A call that fails, and a Shutdown that does not wait, with fewer workers than calls
// and with more. // SHU-14
func shutdownAfterFailures(c *check) {
	for _, workers := range []int{1, 4} {
		ex := c.open(Config{Workers: workers})
		var fs []*future.Future[int]
		for _, e := range badEndings {
			fs = append(fs, executor.Submit(c.ctx, ex, endTask, e))
		}
		if err := ex.Shutdown(over()); err != nil {
			matches(c, "Shutdown", err, context.Canceled)
		}
		for _, f := range fs {
			if err := failure(c, f); errors.Is(err, executor.ErrShutdown) {
				c.Fatalf("a call that was accepted ends with %v", err)
			}
		}
		c.shutdown(ex)
	}
}

// A call that is submitted while the executor is shut down is accepted, and runs, or
// refused. // SHU-01
func shutdownRaces(c *check) {
	for range 10 {
		ex := c.open(Config{Workers: 2, QueueLimit: 64})
		var wg sync.WaitGroup
		fs := make([][]*future.Future[int], 4)
		begun := make(chan struct{}, len(fs))
		for i := range fs {
			wg.Go(func() {
				for n := 0; ; n++ {
					f := executor.Submit(c.ctx, ex, doubleTask, n)
					fs[i] = append(fs[i], f)
					if n == 0 {
						begun <- struct{}{}
					}
					if f.IsDone() && errors.Is(f.Exception(c.ctx), executor.ErrShutdown) {
						return
					}
				}
			})
		}
		for range fs {
			<-begun
		}
		c.shutdown(ex)
		c.within("Submit", wg.Wait)
		var accepted uint64
		for _, of := range fs {
			for n, f := range of {
				equal(c, "IsDone", f.IsDone(), true)
				v, err := outcome(c, f)
				if err != nil {
					matches(c, "the error of a refused call", err, executor.ErrShutdown)
					continue
				}
				equal(c, "Result", v, 2*n)
				accepted++
			}
		}
		equal(c, "Submitted", ex.Stats().Submitted, accepted)
	}
}

// Under the context of a task of the same executor Shutdown begins, and answers with
// an error instead of waiting for itself. // SHU-19, THR-12
func shutdownFromTask(c *check) {
	ex := c.open(Config{Workers: 1})
	f := executor.SubmitFunc(c.ctx, ex, func(ctx context.Context) (int, error) {
		if err := ex.Shutdown(ctx); err == nil {
			c.Error("Shutdown inside a task = nil, want an error")
		}
		derived, cancel := context.WithCancel(ctx)
		defer cancel()
		if err := ex.Shutdown(derived, executor.CancelPending()); err == nil {
			c.Error("Shutdown inside a task, under a derived context = nil, want an error")
		}
		return 1, nil
	})
	equal(c, "Result", value(c, f), 1)
	matches(c, "the error of a later call", failure(c, executor.Submit(c.ctx, ex, doubleTask, 1)), executor.ErrShutdown)
	c.shutdown(ex)
}

// A callback may shut its executor down, and wait for that. // SHU-25
func shutdownFromCallback(c *check) {
	ex := c.open(Config{Workers: 1})
	done := make(chan error, 1)
	executor.Submit(c.ctx, ex, doubleTask, 1).AddDoneCallback(func(*future.Future[int]) { done <- ex.Shutdown(c.ctx) })
	var err error
	c.within("Shutdown in a callback", func() { err = <-done })
	equal(c, "Shutdown", err, nil)
	matches(c, "the error of a later call", failure(c, executor.Submit(c.ctx, ex, doubleTask, 1)), executor.ErrShutdown)
}

// Shutdown waits for calls and workers, never for callbacks.
func shutdownNoCallbacks(c *check) {
	ex := c.open(Config{Workers: 1})
	c.slowCallback(ex, func() { c.shutdown(ex) })
}

// slowCallback runs fn while a callback of a call on ex is under way.
func (c *check) slowCallback(ex executor.Executor, fn func()) {
	c.Helper()
	g := c.newGate()
	fs, vs := c.hold(ex, g, 1)
	begun, release, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	fs[0].AddDoneCallback(func(*future.Future[int]) {
		defer close(over)
		close(begun)
		<-release
	})
	vs[0].pass()
	c.wait("the callback", begun)
	defer func() {
		close(release)
		<-over
	}()
	fn()
}

// Close cancels what is queued and interrupts what runs, both with ErrShutdown as
// cause, and returns when all of it has ended. // SHU-21, SHU-23, POL-20
func closeEnds(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	running, _ := c.hold(ex, g, 2)
	queued := executor.SubmitAll(c.ctx, ex, visitTask, slices.Repeat([]Visit{g.visit(9)}, 5000))
	c.within("Close", func() { _ = ex.Close() })
	for _, f := range queued {
		equal(c, "State of a queued call", f.State(), future.Cancelled)
		matches(c, "its error", failure(c, f), future.ErrCancelled, executor.ErrShutdown)
	}
	for _, f := range running {
		equal(c, "State of a running call", f.State(), future.Finished)
		matches(c, "its error", failure(c, f), executor.ErrShutdown, context.Canceled)
	}
	matches(c, "the error of a later call", failure(c, executor.Submit(c.ctx, ex, doubleTask, 1)), executor.ErrShutdown)
	equal(c, "calls that ran", len(g.visits()), 2)
}

// Close waits for a call that ignores its context, in process. // SHU-08
func closeWaits(c *check) {
	ex := c.open(Config{Workers: 1})
	started, release := make(chan struct{}), make(chan struct{})
	f := executor.SubmitFunc(c.ctx, ex, func(ctx context.Context) (bool, error) {
		close(started)
		<-ctx.Done()
		<-release
		return true, nil
	})
	c.wait("the start of the call", started)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = ex.Close()
	}()
	matches(c, "the error of a later call", c.refusedBy(ex), executor.ErrShutdown)
	select {
	case <-closed:
		c.Error("Close returned while a call ran")
	default:
	}
	close(release)
	c.wait("Close", closed)
	equal(c, "IsDone", f.IsDone(), true)
	equal(c, "Result", value(c, f), true)
}

// refusedBy submits until ex refuses a call, and returns the error.
func (c *check) refusedBy(ex executor.Executor) error {
	for {
		f := executor.Submit(c.ctx, ex, doubleTask, 1)
		if f.IsDone() || c.ctx.Err() != nil {
			return f.Exception(c.ctx)
		}
		f.Cancel()
	}
}

// Close may be called again, by many at once, and together with Shutdown. // SHU-18, PRO-21
func closeRepeated(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	fs, _ := c.hold(ex, g, 2)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			if i%2 == 0 {
				errs[i] = ex.Close()
			} else {
				errs[i] = ex.Shutdown(c.ctx)
			}
		})
	}
	c.within("Close", wg.Wait)
	equal(c, "Close and Shutdown", errors.Join(errs...), nil)
	for _, f := range fs {
		matches(c, "Result's error", failure(c, f), executor.ErrShutdown)
	}
	equal(c, "Close", ex.Close(), nil)
}

// An executor that was never used can be closed. // PRO-22
func closeUnused(c *check) {
	ex := c.open(Config{Workers: 2})
	c.within("Close", func() { _ = ex.Close() })
	matches(c, "the error of a later call", failure(c, executor.Submit(c.ctx, ex, doubleTask, 1)), executor.ErrShutdown)
}

// Close does not wait for callbacks.
func closeNoCallbacks(c *check) {
	ex := c.open(Config{Workers: 1})
	c.slowCallback(ex, func() { c.within("Close", func() { _ = ex.Close() }) })
}

// A callback may close its executor. // SHU-25
func closeFromCallback(c *check) {
	ex := c.open(Config{Workers: 1})
	done := make(chan error, 1)
	executor.Submit(c.ctx, ex, doubleTask, 1).AddDoneCallback(func(*future.Future[int]) { done <- ex.Close() })
	var err error
	c.within("Close in a callback", func() { err = <-done })
	equal(c, "Close", err, nil)
}
