package executortest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"example.com/futures/executor"
)

// An input sequence that panics does so in the caller, first item or later; the
// executor goes on. // MAP-23, POL-09, POL-14
func mapInputPanics(c *check) {
	ex := c.open(Config{Workers: 2})
	for _, after := range []int{0, 1, 20} {
		for _, chunk := range []int{0, 1, 3} {
			args := func(yield func(int) bool) {
				for i := 0; i < after && yield(i); i++ {
				}
				panic("no more")
			}
			read := 0
			v := recovered(func() {
				for v, err := range executor.Map(c.ctx, ex, doubleTask, args, executor.WithChunk(chunk)) {
					if err != nil || v != 2*read {
						c.Errorf("item %d = %d, %v", read, v, err)
					}
					read++
				}
			})
			if !strings.Contains(fmt.Sprint(v), "no more") {
				c.Fatalf("range over a map whose input panics after %d: recover() = %v", after, v)
			}
			c.works(ex)
		}
	}
}

// endless returns arguments that lead to g, without end.
func (g *gate) endless() iter.Seq[Visit] {
	return func(yield func(Visit) bool) {
		for i := 0; yield(g.visit(i)); i++ {
		}
	}
}

// break cancels what is queued and interrupts what runs, without waiting for
// it. // MAP-12, THR-11
func mapBreak(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	passage := c.newGate()
	passage.openUp()
	// All items but the first stand at the gate, also when their context has ended.
	stubborn := func(yield func(Visit) bool) {
		if !yield(passage.visit(0)) {
			return
		}
		for v := range g.endless() {
			v.AtEnd = stay
			if !yield(v) {
				return
			}
		}
	}
	var vs map[int]*visitor
	for v, err := range executor.Map(c.ctx, ex, visitTask, stubborn, executor.WithBuffer(8), executor.WithChunk(1)) {
		equal(c, "the first item", v, 0)
		equal(c, "its error", err, nil)
		vs = c.arrive(g, 2)
		break
	}
	// The range is over, and the tasks still stand there.
	for _, v := range vs {
		c.wait("the end of the task's context", v.ended)
		v.pass()
	}
	c.works(ex)
	c.shutdown(ex)
	equal(c, "calls that ran", len(g.visits()), 2)
	s := ex.Stats()
	equal(c, "Queued", s.Queued, 0)
	equal(c, "Submitted", s.Submitted, s.Succeeded+s.Failed+s.Cancelled)
}

// A map that nobody reads to the end leaves nothing that a shutdown would wait
// for. // EXE-07
func mapBreakAtOnce(c *check) {
	for range 10 {
		ex := c.open(Config{Workers: 2})
		for range executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(50))) {
			break
		}
		c.shutdown(ex)
	}
}

// When ctx ends a map yields what is done, up to the first item that is not, then one
// error that matches it, and stops; what runs is interrupted. // MAP-10, MAP-11
func mapCtxEnds(c *check) {
	for _, chunk := range []int{1, 3} {
		ex, g := c.open(Config{Workers: 1}), c.newGate()
		ctx, cancel := context.WithCancelCause(c.ctx)
		defer cancel(nil)
		third := make(chan *visitor, 1)
		c.usher(g, 2, func(v *visitor) { third <- v })
		var running *visitor
		var got []int
		var last error
		for v, err := range executor.Map(ctx, ex, visitTask, g.endless(), executor.WithBuffer(6), executor.WithChunk(chunk)) {
			if last != nil {
				c.Fatalf("after the error %v comes another item: %v, %v", last, v, err)
			}
			if err != nil {
				last = err
				continue
			}
			got = append(got, v)
			if v == 0 { // the second is done, the third runs, and both are still to be yielded
				select {
				case running = <-third:
				case <-c.ctx.Done():
					c.Fatal("the third call does not start")
				}
				c.until("the second call counts as done", func() bool { return ex.Stats().Succeeded == 2 })
				cancel(errReason)
			}
		}
		equalSlices(c, "items", got, numbers(2))
		matches(c, "the last error", last, context.Canceled)
		c.wait("the end of the task's context", running.ended)
		c.works(ex)
	}
}

// A map under a ctx that has ended yields its error and makes no call. // MAP-10
func mapCtxEndedBefore(c *check) {
	ex := c.open(Config{Workers: 1})
	var errs []error
	for _, err := range executor.Map(over(), ex, doubleTask, slices.Values(numbers(10))) {
		errs = append(errs, err)
	}
	equal(c, "items", len(errs), 1)
	matches(c, "its error", errs[0], context.Canceled)
	c.works(ex)
}

// A map on an executor that was shut down yields one ErrShutdown. // MAP-24
func mapAfterShutdown(c *check) {
	ex := c.open(Config{Workers: 1})
	c.shutdown(ex)
	var errs []error
	for _, err := range executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(10))) {
		errs = append(errs, err)
	}
	equal(c, "items", len(errs), 1)
	matches(c, "its error", errs[0], executor.ErrShutdown)
}

// The executor is shut down under way: what was accepted, then one ErrShutdown, then
// the end. // MAP-25
func mapShutdownUnderWay(c *check) {
	for _, chunk := range []int{0, 1, 3} {
		ex := c.open(Config{Workers: 2})
		c.mapUntilShutdown(ex, chunk, func() {
			if err := ex.Shutdown(over()); err != nil && !errors.Is(err, context.Canceled) {
				c.Errorf("Shutdown(ended ctx) = %v", err)
			}
		})
		c.shutdown(ex)
	}
}

// The executor is closed under way: what is done, then one ErrShutdown, then the
// end. // MAP-25
func mapCloseUnderWay(c *check) {
	for _, chunk := range []int{0, 1, 3} {
		ex := c.open(Config{Workers: 2})
		c.mapUntilShutdown(ex, chunk, func() { _ = ex.Close() })
	}
}

// mapUntilShutdown ranges over an endless map on ex, calls stop in the middle, and
// looks at how the map ends.
func (c *check) mapUntilShutdown(ex executor.Executor, chunk int, stop func()) {
	c.Helper()
	taken, read := 0, 0
	var last error
	for v, err := range executor.Map(c.ctx, ex, doubleTask, counted(&taken), executor.WithChunk(chunk)) {
		if last != nil {
			c.Fatalf("after the error %v comes another item: %v, %v", last, v, err)
		}
		if err != nil {
			last = err
			continue
		}
		equal(c, "the item", v, 2*read)
		if read++; read == 20 {
			stop()
		}
	}
	matches(c, "the last error", last, executor.ErrShutdown)
	if read < 20 {
		c.Fatalf("the map ended after %d items, before the executor was shut down", read)
	}
}
