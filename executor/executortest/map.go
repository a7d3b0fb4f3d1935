package executortest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"

	"example.com/futures/executor"
)

var mapPromises = []promise{
	{"Order", "MAP-01, MAP-12, POL-02, POL-12", anywhere, mapOrder},
	{"Empty", "MAP-19, POL-08", anywhere, mapEmpty},
	{"ChunkSizes", "MAP-03, MAP-04", anywhere, mapChunks},
	{"BufferSizes", "MAP-15", anywhere, mapBuffers},
	{"BufferBounds", "MAP-21", anywhere, mapBufferBounds},
	{"BufferRunsWithoutReader", "MAP-21, MAP-22", anywhere, mapBufferRuns},
	{"StartsWithRange", "MAP-21, MAP-22", anywhere, mapStartsWithRange},
	{"KeepsEveryWorkerBusy", "", anywhere, mapBusy},
	{"InfiniteInput", "MAP-17, MAP-18", anywhere, mapInfinite},
	{"InputRunsInTheCaller", "", anywhere, mapInputRunsInCaller},
	{"EachRangeIsARun", "", anywhere, mapEachRange},
	{"MisusePanics", "MAP-05, MAP-14", anywhere, mapMisuse},
	{"ItemErrorGoesOn", "MAP-06, MAP-07, MAP-08, POL-17, POL-18", anywhere, mapItemError},
	{"ItemPanicAndGoexitGoOn", "MAP-07, MAP-08, EXE-13", anywhere, mapItemPanic},
	{"ItemDeadlineGoesOn", "MAP-09", anywhere, mapItemDeadline},
	{"InputPanics", "MAP-23, POL-09, POL-14", anywhere, mapInputPanics},
	{"Break", "MAP-12, THR-11", anywhere, mapBreak},
	{"BreakWithoutReading", "EXE-07", anywhere, mapBreakAtOnce},
	{"CtxEnds", "MAP-10, MAP-11", anywhere, mapCtxEnds},
	{"CtxEndedBefore", "MAP-10", anywhere, mapCtxEndedBefore},
	{"AfterShutdown", "MAP-24", anywhere, mapAfterShutdown},
	{"ShutdownUnderWay", "MAP-25", anywhere, mapShutdownUnderWay},
	{"CloseUnderWay", "MAP-25", anywhere, mapCloseUnderWay},
}

// collect ranges over a map to its end and returns its values; an error fails the
// check.
func (c *check) collect(seq iter.Seq2[int, error]) []int {
	c.Helper()
	var all []int
	for v, err := range seq {
		if err != nil {
			c.Fatalf("item %d = %v, want a value", len(all), err)
		}
		all = append(all, v)
	}
	return all
}

// doubles returns what doubleTask makes of 0 to n-1.
func doubles(n int) []int {
	all := numbers(n)
	for i := range all {
		all[i] *= 2
	}
	return all
}

// Results come in the order of the input, whichever ends first. // MAP-01, MAP-12, POL-02, POL-12
func mapOrder(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	equalSlices(c, "Map", c.collect(executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(500)))), doubles(500))

	// The first item is let through last.
	args := []Visit{g.visit(0), g.visit(1), g.visit(2), g.visit(3)}
	go func() {
		var first *visitor
		for range args {
			select {
			case v := <-g.comers:
				if v.name != 0 {
					v.pass()
				} else {
					first = v
				}
			case <-c.ctx.Done():
				return
			}
		}
		first.pass()
	}()
	got := c.collect(executor.Map(c.ctx, ex, visitTask, slices.Values(args), executor.WithChunk(1), executor.WithBuffer(4)))
	equalSlices(c, "Map", got, numbers(4))
}

// Mapping nothing yields nothing, whatever the options. // MAP-19, POL-08
func mapEmpty(c *check) {
	ex := c.open(Config{Workers: 1})
	for _, opts := range [][]executor.CallOption{nil, {executor.WithChunk(1)}, {executor.WithChunk(5)}, {executor.WithBuffer(1)}, {executor.WithBuffer(7)}} {
		equal(c, "items", len(c.collect(executor.Map(c.ctx, ex, doubleTask, slices.Values([]int{}), opts...))), 0)
	}
}

// A chunk below, at and above the length of the input changes nothing. // MAP-03, MAP-04
func mapChunks(c *check) {
	ex := c.open(Config{Workers: 2})
	for _, n := range []int{1, 7, 50} {
		for _, chunk := range []int{0, 1, 2, n - 1, n, n + 1, 2 * n, 1000} {
			got := c.collect(executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(n)), executor.WithChunk(chunk)))
			equalSlices(c, fmt.Sprintf("Map of %d in chunks of %d", n, chunk), got, doubles(n))
		}
	}
}

// A buffer below, at and above the length of the input changes nothing. // MAP-15
func mapBuffers(c *check) {
	ex := c.open(Config{Workers: 2})
	const n = 30
	for _, buffer := range []int{1, 2, n, 2 * n} {
		for _, chunk := range []int{0, 1, 4} {
			got := c.collect(executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(n)), executor.WithBuffer(buffer), executor.WithChunk(chunk)))
			equalSlices(c, fmt.Sprintf("Map with a buffer of %d in chunks of %d", buffer, chunk), got, doubles(n))
		}
	}
}

// counted returns numbers without end and, in taken, how many were asked for.
func counted(taken *int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; ; i++ {
			*taken++
			if !yield(i) {
				return
			}
		}
	}
}

// ahead returns numbers without end, and fails the check when more than buffer of
// them are taken and not read.
func (c *check) ahead(taken, read *int, buffer int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range counted(taken) {
			if *taken-*read > buffer {
				c.Errorf("%d inputs are taken and %d were read: more than a buffer of %d", *taken, *read, buffer)
				return
			}
			if !yield(i) {
				return
			}
		}
	}
}

// A map never takes more inputs ahead of its consumer than WithBuffer says. // MAP-21
func mapBufferBounds(c *check) {
	ex := c.open(Config{Workers: 2})
	for _, buffer := range []int{1, 2, 5, 16} {
		for _, chunk := range []int{0, 1, 4, 100} {
			taken, read := 0, 0
			args := c.ahead(&taken, &read, buffer)
			for v, err := range executor.Map(c.ctx, ex, doubleTask, args, executor.WithBuffer(buffer), executor.WithChunk(chunk)) {
				read++
				if err != nil || v != 2*(read-1) {
					c.Fatalf("item %d = %d, %v", read-1, v, err)
				}
				if read == 60 {
					break
				}
			}
		}
	}
}

// What is in the buffer runs although nobody reads on. // MAP-21, MAP-22
func mapBufferRuns(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	passage := c.newGate()
	passage.openUp()
	args := func(yield func(Visit) bool) {
		if yield(passage.visit(0)) {
			g.endless()(yield)
		}
	}
	for v, err := range executor.Map(c.ctx, ex, visitTask, args, executor.WithBuffer(4), executor.WithChunk(1)) {
		equal(c, "the first item", v, 0)
		equal(c, "its error", err, nil)
		c.arrive(g, 2)
		break
	}
}

// Nothing happens before the range: no input is taken and no call made. // MAP-21, MAP-22
func mapStartsWithRange(c *check) {
	ex := c.open(Config{Workers: 1})
	taken := 0
	seq := executor.Map(c.ctx, ex, doubleTask, counted(&taken))
	c.works(ex)
	equal(c, "inputs taken", taken, 0)
	equal(c, "Submitted", ex.Stats().Submitted, 1)
	for range seq {
		break
	}
	if taken == 0 {
		c.Fatal("no input was taken by the range")
	}
}

// By default a map takes enough to keep every worker busy; more than the processors
// of this machine, if the executor says that it has so many. // ISO-05
func mapBusy(c *check) {
	workers := 3
	if _, ok := c.open(Config{Workers: 1}).(interface{ Capacity() int }); ok {
		workers = min(2*runtime.GOMAXPROCS(0)+3, 16) // more than twice the processors, and one
	}
	ex, g := c.open(Config{Workers: workers}), c.newGate()
	args := func(yield func(Visit) bool) {
		for i := 0; i < 30 && yield(g.visit(i)); i++ {
		}
	}
	// Nobody is let through before as many have come as there are workers.
	go func() {
		for range workers {
			select {
			case <-g.comers:
			case <-c.ctx.Done():
				return
			}
		}
		g.openUp()
	}()
	equalSlices(c, "Map", c.collect(executor.Map(c.ctx, ex, visitTask, args)), numbers(30))
	equal(c, "calls at once, at most", g.crowd(), workers)
}

// An input without end gives results from the first on. // MAP-17, MAP-18
func mapInfinite(c *check) {
	ex := c.open(Config{Workers: 2})
	for _, opts := range [][]executor.CallOption{nil, {executor.WithBuffer(8)}, {executor.WithBuffer(8), executor.WithChunk(3)}} {
		taken, read := 0, 0
		for v, err := range executor.Map(c.ctx, ex, doubleTask, counted(&taken), opts...) {
			equal(c, "the item's error", err, nil)
			equal(c, "the item", v, 2*read)
			if read++; read == 300 {
				break
			}
		}
	}
	c.works(ex)
}

// The input sequence runs in the goroutine of the range.
func mapInputRunsInCaller(c *check) {
	ex := c.open(Config{Workers: 2})
	home := goroutine()
	args := func(yield func(int) bool) {
		for i := range 50 {
			if g := goroutine(); g != home {
				c.Errorf("the input runs in %s, want %s", g, home)
			}
			if !yield(i) {
				return
			}
		}
	}
	equalSlices(c, "Map", c.collect(executor.Map(c.ctx, ex, doubleTask, args)), doubles(50))
}

// Each range over a map is a run of its own, also one inside the other.
func mapEachRange(c *check) {
	ex := c.open(Config{Workers: 2})
	seq := executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(10)))
	n := 0
	for range seq {
		equalSlices(c, "the inner range", c.collect(seq), doubles(10))
		n++
	}
	equal(c, "items of the outer range", n, 10)
	equal(c, "Submitted", ex.Stats().Submitted, 110)
}

// A buffer below 1 and a chunk below 0 are misuse. // MAP-05, MAP-14
func mapMisuse(c *check) {
	ex := c.open(Config{Workers: 1})
	for name, option := range map[string]func() executor.CallOption{
		"WithBuffer(0)":  func() executor.CallOption { return executor.WithBuffer(0) },
		"WithBuffer(-1)": func() executor.CallOption { return executor.WithBuffer(-1) },
		"WithChunk(-1)":  func() executor.CallOption { return executor.WithChunk(-1) },
	} {
		if v := recovered(func() { executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(3)), option()) }); v == nil {
			c.Errorf("Map with %s does not panic", name)
		}
	}
	c.works(ex)
}

// recovered runs fn and returns what it panics with.
func recovered(fn func()) (v any) {
	defer func() { v = recover() }()
	fn()
	return nil
}

// An item that fails shows its own error at its place; the others of its chunk and
// those after it have their values. // MAP-06, MAP-07, MAP-08, POL-17, POL-18
func mapItemError(c *check) {
	ex := c.open(Config{Workers: 2})
	for _, chunk := range []int{0, 1, 3, 100} {
		i := 0
		for v, err := range executor.Map(c.ctx, ex, oddTask, slices.Values(numbers(40)), executor.WithChunk(chunk)) {
			if i%2 == 1 {
				matches(c, "the item's error", err, errOwn)
				equal(c, "the item's error, as text", err.Error(), fmt.Sprintf("%d is odd: %v", i, errOwn))
			} else {
				equal(c, "the item's error", err, nil)
				equal(c, "the item", v, 2*i)
			}
			i++
		}
		equal(c, "items", i, 40)
	}
}

// An item that panics, or ends its goroutine, costs its own place only, chunked or
// not. // MAP-07, MAP-08, EXE-13
func mapItemPanic(c *check) {
	ex := c.open(Config{Workers: 2})
	args := []ending{wellEnding, panicEnding, wellEnding, goexitEnding, wellEnding, panicErrorEnding, goexitEnding, goexitEnding, wellEnding}
	for _, chunk := range []int{0, 1, 3, 100} {
		i := 0
		for _, err := range executor.Map(c.ctx, ex, endTask, slices.Values(args), executor.WithChunk(chunk)) {
			if failed := err != nil; failed != (args[i] != wellEnding) {
				c.Fatalf("item %d of chunks of %d: error = %v", i, chunk, err)
			}
			i++
		}
		equal(c, "items", i, len(args))
	}
}

// A task's own DeadlineExceeded is that item's error and no end of the map. // MAP-09
func mapItemDeadline(c *check) {
	ex := c.open(Config{Workers: 1})
	args := []ending{wellEnding, deadlineEnding, wellEnding}
	var got []bool
	for _, err := range executor.Map(c.ctx, ex, endTask, slices.Values(args)) {
		got = append(got, errors.Is(err, context.DeadlineExceeded))
	}
	equalSlices(c, "items that were DeadlineExceeded", got, []bool{false, true, false})
}
