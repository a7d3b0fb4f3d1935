package executortest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"example.com/futures/executor"
)

var unorderedPromises = []promise{
	{"YieldsAll", "POL-15", anywhere, unorderedAll},
	{"Empty", "POL-08", anywhere, unorderedEmpty},
	{"FinishedFirst", "POL-15", anywhere, unorderedFirst},
	{"BufferBounds", "MAP-21", anywhere, unorderedBuffer},
	{"InfiniteInput", "MAP-17", anywhere, unorderedInfinite},
	{"EachRangeIsARun", "", anywhere, unorderedEachRange},
	{"ItemErrorGoesOn", "MAP-07, MAP-08", anywhere, unorderedItemError},
	{"InputPanics", "POL-16", anywhere, unorderedInputPanics},
	{"Break", "MAP-12", anywhere, unorderedBreak},
	{"CtxEnds", "MAP-10", anywhere, unorderedCtxEnds},
	{"AfterShutdown", "MAP-24", anywhere, unorderedAfterShutdown},
	{"ShutdownUnderWay", "MAP-25", anywhere, unorderedShutdown},
}

// Every item comes once, with its index, its argument and its value. // POL-15
func unorderedAll(c *check) {
	ex := c.open(Config{Workers: 2})
	args := numbers(200)
	slices.Reverse(args)
	for _, chunk := range []int{0, 1, 7, 500} {
		seen := make([]bool, len(args))
		for it, err := range executor.MapUnordered(c.ctx, ex, doubleTask, slices.Values(args), executor.WithChunk(chunk)) {
			equal(c, "the item's error", err, nil)
			equal(c, "Arg", it.Arg, args[it.Index])
			equal(c, "Value", it.Value, 2*it.Arg)
			equal(c, "seen before", seen[it.Index], false)
			seen[it.Index] = true
		}
		equal(c, "some item is missing", slices.Contains(seen, false), false)
	}
}

// Of nothing comes nothing. // POL-08
func unorderedEmpty(c *check) {
	ex := c.open(Config{Workers: 1})
	for it, err := range executor.MapUnordered(c.ctx, ex, doubleTask, slices.Values([]int{})) {
		c.Fatalf("an item of nothing: %v, %v", it, err)
	}
}

// An item is there when it is done, whatever came before it. // POL-15
func unorderedFirst(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	passage := c.newGate()
	passage.openUp()
	args := []Visit{g.visit(0), passage.visit(1), passage.visit(2), passage.visit(3)}
	var order []int
	for it, err := range executor.MapUnordered(c.ctx, ex, visitTask, slices.Values(args), executor.WithChunk(1)) {
		equal(c, "the item's error", err, nil)
		if order = append(order, it.Index); len(order) == 3 {
			c.next(g).pass()
		}
	}
	equal(c, "the last item", order[len(order)-1], 0)
	equal(c, "items", len(order), 4)
}

// No more inputs are taken ahead of the consumer than WithBuffer says. // MAP-21
func unorderedBuffer(c *check) {
	ex := c.open(Config{Workers: 2})
	for _, buffer := range []int{1, 2, 7} {
		for _, chunk := range []int{0, 1, 4} {
			taken, read := 0, 0
			args := c.ahead(&taken, &read, buffer)
			for _, err := range executor.MapUnordered(c.ctx, ex, doubleTask, args, executor.WithBuffer(buffer), executor.WithChunk(chunk)) {
				equal(c, "the item's error", err, nil)
				read++
				if read == 40 {
					break
				}
			}
		}
	}
}

// An input without end gives results from the first on. // MAP-17
func unorderedInfinite(c *check) {
	ex := c.open(Config{Workers: 2})
	taken, read := 0, 0
	for it, err := range executor.MapUnordered(c.ctx, ex, doubleTask, counted(&taken)) {
		equal(c, "the item's error", err, nil)
		equal(c, "Value", it.Value, 2*it.Index)
		if read++; read == 300 {
			break
		}
	}
	c.works(ex)
}

// Each range is a run of its own, also one inside the other.
func unorderedEachRange(c *check) {
	ex := c.open(Config{Workers: 2})
	seq := executor.MapUnordered(c.ctx, ex, doubleTask, slices.Values(numbers(8)))
	count := func() (n int) {
		for range seq {
			n++
		}
		return n
	}
	n := 0
	for range seq {
		equal(c, "items of the inner range", count(), 8)
		n++
	}
	equal(c, "items of the outer range", n, 8)
}

// An item that fails has its own error, its index and its argument; the others have
// their values. // MAP-07, MAP-08
func unorderedItemError(c *check) {
	ex := c.open(Config{Workers: 2})
	for _, chunk := range []int{0, 1, 3, 100} {
		n := 0
		for it, err := range executor.MapUnordered(c.ctx, ex, oddTask, slices.Values(numbers(40)), executor.WithChunk(chunk)) {
			n++
			equal(c, "Arg", it.Arg, it.Index)
			if it.Arg%2 == 1 {
				matches(c, "the item's error", err, errOwn)
				continue
			}
			equal(c, "the item's error", err, nil)
			equal(c, "Value", it.Value, 2*it.Arg)
		}
		equal(c, "items", n, 40)
	}
}

// An input sequence that panics does so in the caller; the executor goes on. // POL-16
func unorderedInputPanics(c *check) {
	ex := c.open(Config{Workers: 2})
	args := func(yield func(int) bool) {
		for i := 0; i < 20 && yield(i); i++ {
		}
		panic("no more")
	}
	v := recovered(func() {
		for it, err := range executor.MapUnordered(c.ctx, ex, doubleTask, args) {
			if err != nil || it.Value != 2*it.Index {
				c.Errorf("item %d = %d, %v", it.Index, it.Value, err)
			}
		}
	})
	if !strings.Contains(fmt.Sprint(v), "no more") {
		c.Fatalf("range over a map whose input panics: recover() = %v", v)
	}
	c.works(ex)
}

// break interrupts what runs and cancels what is queued. // MAP-12
func unorderedBreak(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	c.usher(g, 1, nil)
	var vs map[int]*visitor
	for it, err := range executor.MapUnordered(c.ctx, ex, visitTask, g.endless(), executor.WithBuffer(6), executor.WithChunk(1)) {
		equal(c, "the item's error", err, nil)
		equal(c, "Value", it.Value, it.Index)
		vs = c.arrive(g, 2)
		break
	}
	for _, v := range vs {
		c.wait("the end of the task's context", v.ended)
	}
	c.works(ex)
	c.shutdown(ex)
	equal(c, "calls that ran", len(g.visits()), 3)
}

// When ctx ends one error that matches it ends the map. // MAP-10
func unorderedCtxEnds(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	ctx, cancel := context.WithCancel(c.ctx)
	c.usher(g, 2, func(*visitor) { cancel() })
	n := 0
	var last error
	for it, err := range executor.MapUnordered(ctx, ex, visitTask, g.endless(), executor.WithChunk(1)) {
		if last != nil {
			c.Fatalf("after the error %v comes another item: %v, %v", last, it, err)
		}
		if err != nil {
			last = err
			continue
		}
		n++
	}
	matches(c, "the last error", last, context.Canceled)
	equal(c, "items before it", n, 2)
	c.works(ex)
}

// On an executor that was shut down it yields one ErrShutdown. // MAP-24
func unorderedAfterShutdown(c *check) {
	ex := c.open(Config{Workers: 1})
	c.shutdown(ex)
	var errs []error
	for _, err := range executor.MapUnordered(c.ctx, ex, doubleTask, slices.Values(numbers(10))) {
		errs = append(errs, err)
	}
	equal(c, "items", len(errs), 1)
	matches(c, "its error", errs[0], executor.ErrShutdown)
}

// The executor is shut down under way: what was accepted, then one ErrShutdown, then
// the end. // MAP-25
func unorderedShutdown(c *check) {
	ex := c.open(Config{Workers: 2})
	taken, read := 0, 0
	var last error
	for it, err := range executor.MapUnordered(c.ctx, ex, doubleTask, counted(&taken)) {
		if last != nil {
			c.Fatalf("after the error %v comes another item: %v, %v", last, it, err)
		}
		if err != nil {
			last = err
			continue
		}
		equal(c, "Value", it.Value, 2*it.Index)
		if read++; read == 20 {
			_ = ex.Shutdown(over())
		}
	}
	matches(c, "the last error", last, executor.ErrShutdown)
	c.shutdown(ex)
}
