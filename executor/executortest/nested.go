package executortest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"example.com/futures/executor"
	"example.com/futures/future"
)

// Where calls leave the process a task cannot reach its pool, so that these are for
// backends in process.
var nestedPromises = []promise{
	{"Result", "", local, nestedBy(func(ctx context.Context, f *future.Future[int]) (int, error) { return f.Result(ctx) })},
	{"Exception", "", local, nestedBy(func(ctx context.Context, f *future.Future[int]) (int, error) {
		if err := f.Exception(ctx); err != nil {
			return 0, err
		}
		return f.Result(ctx)
	})},
	{"All", "", local, nestedBy(func(ctx context.Context, f *future.Future[int]) (int, error) {
		vs, err := future.All(ctx, f, future.Resolved(0))
		if err != nil {
			return 0, err
		}
		return vs[0], nil
	})},
	{"Any", "", local, nestedBy(func(ctx context.Context, f *future.Future[int]) (int, error) {
		return future.Any(ctx, future.Rejected[int](errOwn), f)
	})},
	{"Wait", "", local, nestedBy(func(ctx context.Context, f *future.Future[int]) (int, error) {
		done, pending, err := future.Wait(ctx, future.AllCompleted, f)
		if len(done) != 1 || len(pending) != 0 || err != nil {
			return 0, fmt.Errorf("Wait = %d done, %d pending, %w", len(done), len(pending), err)
		}
		return f.Result(ctx)
	})},
	{"AsCompleted", "", local, nestedBy(func(ctx context.Context, f *future.Future[int]) (int, error) {
		for _, f := range future.AsCompleted(ctx, f) {
			return f.Result(ctx)
		}
		return 0, errors.New("AsCompleted yields nothing")
	})},
	{"Then", "", local, nestedBy(func(ctx context.Context, f *future.Future[int]) (int, error) {
		return future.Then(f, func(n int) (int, error) { return n, nil }).Result(ctx)
	})},
	{"DerivedContext", "", local, nestedBy(func(ctx context.Context, f *future.Future[int]) (int, error) {
		ctx, cancel := context.WithTimeout(context.WithValue(ctx, valueKey{}, "derived"), patience)
		defer cancel()
		return f.Result(ctx)
	})},
	{"Apply", "", local, nestedApply},
	{"Map", "", local, nestedMap},
	{"MapUnordered", "", local, nestedMapUnordered},
	{"BoundedQueue", "", local, nestedQueue},
	{"FanOut", "", local, nestedFanOut},
}

// depth is how many tasks wait for one another, on one worker.
const depth = 50

// nestedBy returns the check of a task that waits, in the given way, for a call of its
// own executor, which waits for another, and so on: with one worker nobody would
// ever run if a task that waits did not lend its place.
func nestedBy(wait func(context.Context, *future.Future[int]) (int, error)) func(*check) {
	return func(c *check) {
		ex := c.open(Config{Workers: 1})
		var dig executor.Task[int, int]
		dig = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
			if n == 0 {
				return 0, nil
			}
			v, err := wait(ctx, executor.Submit(ctx, ex, dig, n-1))
			return v + 1, err
		})
		equal(c, "Result", value(c, executor.Submit(c.ctx, ex, dig, depth)), depth)
		c.rests(ex)
	}
}

// rests fails the check unless ex is at rest and works.
func (c *check) rests(ex executor.Executor) {
	c.Helper()
	c.works(ex)
	s := ex.Stats()
	equal(c, "Running", s.Running, 0)
	equal(c, "Queued", s.Queued, 0)
	equal(c, "Submitted", s.Submitted, s.Succeeded)
}

// A task that waits by Apply lends its place.
func nestedApply(c *check) {
	ex := c.open(Config{Workers: 1})
	var dig executor.Task[int, int]
	dig = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		if n == 0 {
			return 0, nil
		}
		v, err := executor.Apply(ctx, ex, dig, n-1)
		return v + 1, err
	})
	equal(c, "Result", value(c, executor.Submit(c.ctx, ex, dig, depth)), depth)
	c.rests(ex)
}

// A task that maps over its own executor lends its place.
func nestedMap(c *check) {
	for _, opts := range [][]executor.CallOption{nil, {executor.WithBuffer(1)}, {executor.WithChunk(2)}} {
		ex := c.open(Config{Workers: 1})
		var dig executor.Task[int, int]
		dig = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
			if n == 0 {
				return 1, nil
			}
			sum := 0
			for v, err := range executor.Map(ctx, ex, dig, slices.Values([]int{n - 1, 0}), opts...) {
				if err != nil {
					return 0, err
				}
				sum += v
			}
			return sum, nil
		})
		equal(c, "Result", value(c, executor.Submit(c.ctx, ex, dig, depth)), depth+1)
		c.rests(ex)
	}
}

// A task that maps without order over its own executor lends its place.
func nestedMapUnordered(c *check) {
	ex := c.open(Config{Workers: 1})
	var dig executor.Task[int, int]
	dig = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		if n == 0 {
			return 1, nil
		}
		sum := 0
		for it, err := range executor.MapUnordered(ctx, ex, dig, slices.Values([]int{0, n - 1})) {
			if err != nil {
				return 0, err
			}
			sum += it.Value
		}
		return sum, nil
	})
	equal(c, "Result", value(c, executor.Submit(c.ctx, ex, dig, depth)), depth+1)
	c.rests(ex)
}

// A task that waits for room in the queue of its own executor lends its place.
func nestedQueue(c *check) {
	ex := c.open(Config{Workers: 1, QueueLimit: 1})
	var dig executor.Task[int, int]
	dig = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		if n == 0 {
			return 1, nil
		}
		// The second finds the queue full, as long as nobody runs the first.
		fs := []*future.Future[int]{executor.Submit(ctx, ex, dig, n-1), executor.Submit(ctx, ex, dig, 0), executor.Submit(ctx, ex, dig, 0)}
		vs, err := future.All(ctx, fs...)
		if err != nil {
			return 0, err
		}
		return vs[0] + vs[1] + vs[2], nil
	})
	equal(c, "Result", value(c, executor.Submit(c.ctx, ex, dig, depth)), 2*depth+1)
	c.rests(ex)
}

// Calls that wait for many others, on few workers, all end.
func nestedFanOut(c *check) {
	ex := c.open(Config{Workers: 2})
	var fib executor.Task[int, int]
	fib = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		if n < 2 {
			return n, nil
		}
		vs, err := future.All(ctx, executor.Submit(ctx, ex, fib, n-1), executor.Submit(ctx, ex, fib, n-2))
		if err != nil {
			return 0, err
		}
		return vs[0] + vs[1], nil
	})
	equal(c, "Result", value(c, executor.Submit(c.ctx, ex, fib, 15)), 610)
	c.rests(ex)
}
