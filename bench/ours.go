package main

import (
	"context"
	"slices"
	"sync"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// The ways of this library: a thread pool, and the functions of package executor.
var (
	submit      = way{"Submit", ours, openSubmit}
	submitFunc  = way{"SubmitFunc", ours, openSubmitFunc}
	submitAll   = way{"SubmitAll", ours, openSubmitAll}
	orderedMap  = way{"Map", ours, openMap}
	anyOrderMap = way{"MapUnordered", ours, openMapUnordered}
)

// What a call costs more that uses what most calls do not.
var (
	withDoneChannel = way{"done channel", ours, openDoneChannel}
	withCallback    = way{"callback", ours, openCallback}
	withCtx         = way{"ctx that can end", ours, openCtx}
	withObserver    = way{"observer", ours, openObserver}
)

// bg is the context of all calls but one: it cannot end.
var bg = context.Background()

func newPool(s setup) *threadpool.Pool {
	return must(threadpool.New(threadpool.Config{Workers: s.workers}))
}

func closing(p *threadpool.Pool) func() { return func() { check(p.Close()) } }

// task is body as a task, to be called with an argument.
func task(body func(int) int) executor.Task[int, int] {
	return executor.LocalTask(func(_ context.Context, arg int) (int, error) { return body(arg), nil })
}

func result(f *future.Future[int]) int { return must(f.Result(bg)) }

func openSubmit(s setup) engine {
	p, t := newPool(s), task(s.body)
	return withFutures(func(arg int) *future.Future[int] { return executor.Submit(bg, p, t, arg) }, result, closing(p))
}

func openSubmitFunc(s setup) engine {
	p, body := newPool(s), s.body
	return withFutures(func(arg int) *future.Future[int] {
		return executor.SubmitFunc(bg, p, func(context.Context) (int, error) { return body(arg), nil })
	}, result, closing(p))
}

func openSubmitAll(s setup) engine {
	p, t := newPool(s), task(s.body)
	fan := func(args, out []int, w *watch) {
		w.isReady()
		fs := executor.SubmitAll(bg, p, t, args)
		w.allSubmitted()
		for i, f := range fs {
			out[i] = result(f)
		}
	}
	return engine{one: func(args, out []int) { fan(args, out, nil) }, fan: fan, close: closing(p)}
}

func openMap(s setup) engine {
	p, t := newPool(s), task(s.body)
	return inOneGo(func(args, out []int) {
		i := 0
		for v, err := range executor.Map(bg, p, t, slices.Values(args)) {
			check(err)
			out[i] = v
			i++
		}
	}, closing(p))
}

func openMapUnordered(s setup) engine {
	p, t := newPool(s), task(s.body)
	return inOneGo(func(args, out []int) {
		for item, err := range executor.MapUnordered(bg, p, t, slices.Values(args)) {
			check(err)
			out[item.Index] = item.Value
		}
	}, closing(p))
}

func openDoneChannel(s setup) engine {
	p, t := newPool(s), task(s.body)
	return withFutures(func(arg int) *future.Future[int] { return executor.Submit(bg, p, t, arg) }, func(f *future.Future[int]) int {
		<-f.Done()
		return result(f)
	}, closing(p))
}

// openCallback has a callback run for each call; that it has run is waited for once,
// at the end.
func openCallback(s setup) engine {
	p, t := newPool(s), task(s.body)
	var ran sync.WaitGroup
	called := func(*future.Future[int]) { ran.Done() }
	return withFutures(func(arg int) *future.Future[int] {
		f := executor.Submit(bg, p, t, arg)
		ran.Add(1)
		f.AddDoneCallback(called)
		return f
	}, result, func() { ran.Wait(); check(p.Close()) })
}

func openCtx(s setup) engine {
	p, t := newPool(s), task(s.body)
	ctx, cancel := context.WithCancel(bg)
	return withFutures(func(arg int) *future.Future[int] { return executor.Submit(ctx, p, t, arg) }, result,
		func() { cancel(); check(p.Close()) })
}

func openObserver(s setup) engine {
	p, t := must(threadpool.New(threadpool.Config{Workers: s.workers, Observer: unmoved{}})), task(s.body)
	return withFutures(func(arg int) *future.Future[int] { return executor.Submit(bg, p, t, arg) }, result, closing(p))
}

// unmoved is an observer that does nothing.
type unmoved struct{}

func (unmoved) Observe(executor.Event) {}
