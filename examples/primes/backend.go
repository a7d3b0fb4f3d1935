package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/threadpool"
)

var task = executor.NewTask("isPrime", isPrime)

// isPrime reports whether n is prime, by trial division. Now and then it looks at
// ctx, so that an interrupted call ends soon.
func isPrime(ctx context.Context, n int64) (bool, error) {
	if n < 4 || n%2 == 0 {
		return n == 2 || n == 3, nil
	}
	const lookEvery = 1 << 14 // divisions: some 30 µs
	for i, d := 1, int64(3); d <= n/d; i, d = i+1, d+2 {
		if n%d == 0 {
			return false, nil
		}
		if i%lookEvery == 0 && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	return true, nil
}

// A backend is a way to run the checks.
type backend struct {
	name string
	open func(workers int) (executor.Executor, error) // nil: no executor, one call after another
}

var backends = []backend{
	{"serial", nil},
	{"threads", func(workers int) (executor.Executor, error) {
		return threadpool.New(threadpool.Config{Workers: workers})
	}},
	{"processes", func(workers int) (executor.Executor, error) {
		return processpool.New(processpool.Config{Workers: workers})
	}},
}

// pick returns the backends of a comma-separated list of names, in the list's order.
func pick(names string) ([]backend, error) {
	if names == "all" {
		return backends, nil
	}
	var picked []backend
	for name := range strings.SplitSeq(names, ",") {
		byName := func(b backend) bool { return b.name == name }
		i := slices.IndexFunc(backends, byName)
		switch {
		case i < 0:
			return nil, fmt.Errorf("-backend %q: %q is none of all, serial, threads, processes", names, name)
		case slices.ContainsFunc(picked, byName):
			return nil, fmt.Errorf("-backend %q: %q is named twice", names, name)
		}
		picked = append(picked, backends[i])
	}
	return picked, nil
}

// A verdict is what is known about a number.
type verdict byte

const (
	unknown verdict = iota
	composite
	prime
)

// A result is what came of checking the numbers on one backend.
type result struct {
	backend  string
	verdicts []verdict // one a number
	elapsed  time.Duration
	workers  int
	calls    uint64
	complete bool
}

// check runs the checks on b and shows their progress on w. If ctx ends, or a call
// fails, what has been done by then is in the result.
func (b backend) check(ctx context.Context, numbers []int64, workers int, w io.Writer) (result, error) {
	r := result{backend: b.name, verdicts: make([]verdict, len(numbers)), workers: 1}
	bar := newProgress(w, b.name, len(numbers))
	defer bar.end()
	record := func(i int, isPrime bool) {
		r.verdicts[i] = composite
		if isPrime {
			r.verdicts[i] = prime
		}
		bar.step()
	}

	start := time.Now() // what a pool costs to start is a part of its time
	var err error
	if b.open == nil {
		err = r.serially(ctx, numbers, record)
	} else {
		err = r.pooled(ctx, b.open, numbers, workers, record)
	}
	r.elapsed = time.Since(start)
	if err != nil {
		return r, fmt.Errorf("%s: %w", b.name, err)
	}
	r.complete = true
	return r, nil
}

func (r *result) serially(ctx context.Context, numbers []int64, record func(i int, isPrime bool)) error {
	for i, n := range numbers {
		r.calls++
		p, err := isPrime(ctx, n)
		if err != nil {
			return fmt.Errorf("%d: %w", n, err)
		}
		record(i, p)
	}
	return nil
}

func (r *result) pooled(ctx context.Context, open func(int) (executor.Executor, error), numbers []int64, workers int, record func(i int, isPrime bool)) error {
	ex, err := open(workers)
	if err != nil {
		return err
	}
	defer func() {
		stats := ex.Stats()
		r.workers, r.calls = stats.Workers, stats.Submitted
		ex.Close()
	}()
	// Map measures how long a number takes, and sends quick ones many at a time.
	for item, err := range executor.MapUnordered(ctx, ex, task, slices.Values(numbers)) {
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("%d: %w", item.Arg, err)
		}
		record(item.Index, item.Value)
	}
	return nil
}
