package executortest

import (
	"runtime"
	"sync/atomic"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var callbackPromises = []promise{
	{"OnceEachInOrder", "", anywhere, callbacksOrder},
	{"SeeTheResult", "", anywhere, callbacksSee},
	{"SubmitFromCallback", "EXE-09", anywhere, callbacksSubmit},
	{"SlowOneDelaysNoCall", "", anywhere, callbacksSlow},
	{"PanicAndGoexitHarmNobody", "DEA-19", anywhere, callbacksPanic},
	{"Then", "", anywhere, callbacksThen},
}

// Callbacks run once each, in the order in which they were added.
func callbacksOrder(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, vs := c.hold(ex, g, 1)
	const n = 50
	ran := make(chan int, 2*n)
	for i := range n {
		fs[0].AddDoneCallback(func(*future.Future[int]) { ran <- i })
	}
	vs[0].pass()
	for i := range n {
		c.within("the callbacks", func() {
			if got := <-ran; got != i {
				c.Errorf("callback %d ran when it was the turn of %d", got, i)
			}
		})
	}
	equal(c, "callbacks that ran twice", len(ran), 0)
}

// When a callback runs, the future is done.
func callbacksSee(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, vs := c.hold(ex, g, 1)
	queued := executor.Submit(c.ctx, ex, visitTask, g.visit(1))
	done := make(chan *future.Future[int], 2)
	for _, f := range []*future.Future[int]{fs[0], queued} {
		f.AddDoneCallback(func(f *future.Future[int]) {
			if !f.IsDone() {
				c.Errorf("in its callback a future is %v", f.State())
			}
			done <- f
		})
	}
	queued.Cancel()
	c.within("the callback", func() {
		if f := <-done; f != queued || !f.IsCancelled() {
			c.Errorf("a callback of another future ran, which is %v", f.State())
		}
	})
	vs[0].pass()
	c.within("the callback", func() {
		if f := <-done; f != fs[0] {
			c.Errorf("a callback of another future ran, which is %v", f.State())
		}
	})
	late := false
	fs[0].AddDoneCallback(func(*future.Future[int]) { late = true })
	equal(c, "a callback added to a done future ran at once", late, true)
}

// A callback may submit to the same executor, in a chain of any length, also where
// the queue is bounded. // EXE-09
func callbacksSubmit(c *check) {
	for _, limit := range []int{0, 1} {
		ex := c.open(Config{Workers: 1, QueueLimit: limit})
		last := make(chan int, 1)
		var next func(f *future.Future[int])
		n := 0
		next = func(f *future.Future[int]) {
			v, err := f.Result(c.ctx)
			if err != nil || v != 2*n {
				c.Errorf("call %d of the chain = %d, %v", n, v, err)
			}
			if n++; n == 100 {
				last <- n
				return
			}
			executor.Submit(c.ctx, ex, doubleTask, n).AddDoneCallback(next)
		}
		executor.Submit(c.ctx, ex, doubleTask, 0).AddDoneCallback(next)
		c.within("a chain of 100 calls", func() { <-last })
	}
}

// A slow callback delays no other call and holds no worker.
func callbacksSlow(c *check) {
	ex := c.open(Config{Workers: 1, QueueLimit: 1})
	c.slowCallback(ex, func() {
		for range 20 {
			c.works(ex)
		}
		// Nor does it keep another call's callback waiting.
		other := make(chan struct{})
		executor.Submit(c.ctx, ex, doubleTask, 1).AddDoneCallback(func(*future.Future[int]) { close(other) })
		c.wait("another call's callback", other)
	})
}

// A callback that panics or ends its goroutine is not heard of again; the next ones
// run, and so do calls. // DEA-19
func callbacksPanic(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	fs, vs := c.hold(ex, g, 1)
	var before atomic.Int32
	after := make(chan struct{})
	fs[0].AddDoneCallback(func(*future.Future[int]) { before.Add(1); panic("from a callback of executortest, on purpose") })
	fs[0].AddDoneCallback(func(*future.Future[int]) { before.Add(1); runtime.Goexit() })
	fs[0].AddDoneCallback(func(*future.Future[int]) { close(after) })
	vs[0].pass()
	c.wait("the callback after those that go wrong", after)
	equal(c, "callbacks before it", before.Load(), 2)
	c.works(ex)
	c.shutdown(ex)
}

// A future derived by Then follows the call.
func callbacksThen(c *check) {
	ex := c.open(Config{Workers: 1})
	plusOne := func(n int) (int, error) { return n + 1, nil }
	equal(c, "Result", value(c, future.Then(executor.Submit(c.ctx, ex, doubleTask, 21), plusOne)), 43)
	matches(c, "Result's error", failure(c, future.Then(executor.Submit(c.ctx, ex, oddTask, 1), plusOne)), errOwn)
}
