package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

func submitting(ctx context.Context, ex executor.Executor) {
	title("Handing calls to an executor")
	v, err := executor.Apply(ctx, ex, square, 9)
	show("Apply: Submit, then Result", v, err)
	word, err := executor.SubmitFunc(ctx, ex, func(context.Context) (string, error) { return "a closure", nil }).Result(ctx)
	show("SubmitFunc", word, err)
	all, err := future.All(ctx, executor.SubmitAll(ctx, ex, square, []int{1, 2, 3})...)
	show("SubmitAll", all, err)
	show("Name of a task", square.Name())

	var got []string
	for v, err := range executor.Map(ctx, ex, half, slices.Values([]int{8, 7, 6})) {
		got = append(got, fmt.Sprintf("%d %v", v, err))
	}
	show("Map: in order, an error beside its own item", strings.Join(got, "; "))
	sum := 0
	for item, err := range executor.MapUnordered(ctx, ex, square, slices.Values([]int{1, 2, 3, 4})) {
		if err != nil || item.Value != item.Arg*item.Arg {
			sum = -1
			break
		}
		sum += item.Value
	}
	show("MapUnordered: each with its argument; their sum", sum)
}

func options(ctx context.Context, ex executor.Executor) {
	title("Options of a call")
	_, err := executor.SubmitFunc(ctx, ex, newGate().pass, executor.WithTimeout(time.Millisecond)).Result(ctx)
	show("WithTimeout: is ErrTimeout", errors.Is(err, executor.ErrTimeout))
	show("and DeadlineExceeded, but not ErrNotDone", errors.Is(err, context.DeadlineExceeded), errors.Is(err, future.ErrNotDone))

	g := newGate()
	executor.SubmitFunc(ctx, ex, g.pass) // has the worker, until there are three to choose from
	<-g.running
	var mu sync.Mutex
	var order []string
	note := executor.LocalTask(func(_ context.Context, s string) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
		return true, nil
	})
	fs := []*future.Future[bool]{
		executor.Submit(ctx, ex, note, "low", executor.WithPriority(-1)),
		executor.Submit(ctx, ex, note, "normal"),
		executor.Submit(ctx, ex, note, "high", executor.WithPriority(1)),
	}
	close(g.open)
	_, err = future.All(ctx, fs...)
	show("WithPriority: high goes first", order, err)

	taken := 0
	count := func(yield func(int) bool) {
		for taken = 1; yield(taken); taken++ {
		}
	}
	for v, err := range executor.Map(ctx, ex, square, count, executor.WithBuffer(3), executor.WithChunk(1)) {
		show("Map WithBuffer(3) of an endless input: the first", v, err)
		break
	}
	show("it took at most 3 of it", taken <= 3)

	mine, cancel := context.WithCancelCause(ctx)
	g = newGate()
	f := executor.SubmitFunc(mine, ex, g.pass)
	<-g.running
	cancel(errors.New("the user went home"))
	show("the ctx of a Submit is the call's own", f.Exception(ctx))
}

func ending(ctx context.Context, ex executor.Executor) {
	title("The end of an executor")
	s := ex.Stats()
	show("Stats: Submitted = Succeeded + Failed + Cancelled", s.Submitted == s.Succeeded+s.Failed+s.Cancelled)
	show("Stats: Workers, Queued, Running", s.Workers, s.Queued, s.Running)
	g := newGate()
	busy := executor.SubmitFunc(ctx, ex, g.pass)
	<-g.running
	queued := executor.Submit(ctx, ex, square, 2)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	err := ex.Shutdown(ended)
	show("Shutdown, without waiting", errors.Is(err, context.Canceled))
	show("Submit after it: is ErrShutdown", errors.Is(executor.Submit(ctx, ex, square, 3).Exception(ctx), executor.ErrShutdown))
	close(g.open)
	show("Shutdown once more, and wait", ex.Shutdown(ctx))
	v, err := queued.Result(ctx)
	show("what had been accepted was done", busy.State(), v, err)

	ex, err = threadpool.New(threadpool.Config{Workers: 1})
	if err != nil {
		show("threadpool.New", err)
		return
	}
	g = newGate()
	busy = executor.SubmitFunc(ctx, ex, g.pass)
	<-g.running
	queued = executor.Submit(ctx, ex, square, 2)
	_ = ex.Shutdown(ended, executor.CancelPending())
	show("Shutdown with CancelPending: running, queued", busy.State(), queued.State())
	show("Close interrupts what runs", ex.Close())
	show("which says so: is ErrShutdown", errors.Is(busy.Exception(ctx), executor.ErrShutdown))
	show("Stats: workers left", ex.Stats().Workers)
}
