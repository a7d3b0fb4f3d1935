package executortest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var concurrentPromises = []promise{
	{"ManyGoroutines", "EXE-08, PRO-27", anywhere, concurrentMany},
	{"ManySubmitters", "PRO-27", anywhere, concurrentSubmitters},
	{"BoundedQueue", "EXE-08", anywhere, concurrentBounded},
	{"AsCompleted", "", anywhere, concurrentAsCompleted},
}

// Many goroutines may submit, map, cancel and ask at once, and all get what is
// theirs. // EXE-08, PRO-27
func concurrentMany(c *check) {
	ex := c.open(Config{Workers: 2})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			for round := range 5 {
				c.mixed(ex, 1000*i+100*round)
			}
		})
	}
	c.within("10 goroutines", wg.Wait)
	c.shutdown(ex)
	s := ex.Stats()
	equal(c, "Submitted", s.Submitted, s.Succeeded+s.Failed+s.Cancelled)
}

// mixed does a little of everything on ex, with arguments from n on. It runs in any
// goroutine.
func (c *check) mixed(ex executor.Executor, n int) {
	bad := func(what string, v int, err error) { c.Errorf("%s = %d, %v", what, v, err) }
	if v, err := executor.Apply(c.ctx, ex, doubleTask, n); v != 2*n || err != nil {
		bad("Apply", v, err)
	}
	f := executor.Submit(c.ctx, ex, doubleTask, n)
	cancelled := f.Cancel()
	if v, err := f.Result(c.ctx); cancelled != errors.Is(err, future.ErrCancelled) || !cancelled && v != 2*n {
		bad("a call that may have been cancelled", v, err)
	}
	i := n
	for v, err := range executor.Map(c.ctx, ex, doubleTask, slices.Values([]int{n, n + 1, n + 2, n + 3, n + 4})) {
		if v != 2*i || err != nil {
			bad("Map", v, err)
		}
		if i++; i == n+4 {
			break
		}
	}
	ctx, cancel := context.WithCancel(c.ctx)
	fs := executor.SubmitAll(ctx, ex, oddTask, []int{n, n + 1, n + 2})
	cancel()
	for _, f := range fs {
		// It may have been done before its context ended.
		if v, err := f.Result(c.ctx); err == nil && v%4 != 2*n%4 {
			bad("a call whose context ended", v, err)
		}
	}
	if s := ex.Stats(); s.Running > 2 || s.Queued < 0 {
		c.Errorf("Stats() = %+v", s)
	}
}

// Many submit from goroutines of their own; every call runs once. // PRO-27
func concurrentSubmitters(c *check) {
	ex := c.open(Config{Workers: 2})
	const goroutines, each = 64, 50
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			fs := executor.SubmitAll(c.ctx, ex, doubleTask, numbers(each))
			for n := range each {
				fs = append(fs, executor.Submit(c.ctx, ex, doubleTask, n))
			}
			for n, f := range fs {
				if v, err := f.Result(c.ctx); v != 2*(n%each) || err != nil {
					c.Errorf("goroutine %d: call %d = %d, %v", i, n, v, err)
				}
			}
		})
	}
	c.within("64 goroutines", wg.Wait)
	equal(c, "Succeeded", ex.Stats().Succeeded, 2*goroutines*each)
}

// So it is with a queue that is nearly always full. // EXE-08
func concurrentBounded(c *check) {
	ex := c.open(Config{Workers: 2, QueueLimit: 2})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			for round := range 5 {
				c.mixed(ex, 1000*i+100*round)
			}
		})
	}
	c.within("10 goroutines", wg.Wait)
	c.shutdown(ex)
}

// AsCompleted yields each call once, as they end.
func concurrentAsCompleted(c *check) {
	ex, g := c.open(Config{Workers: 2}), c.newGate()
	fs, vs := c.hold(ex, g, 2)
	var order []int
	vs[1].pass()
	for i, f := range future.AsCompleted(c.ctx, fs...) {
		equal(c, "Result", value(c, f), i)
		if order = append(order, i); i == 1 {
			vs[0].pass()
		}
	}
	equalSlices(c, "the order", order, []int{1, 0})
}
