package main

import "sync"

// A gang is calls that are run by something without futures: each puts its result in
// its place, and a WaitGroup counts.
type gang struct {
	body      func(int) int
	args, out []int
	wg        sync.WaitGroup
}

func (g *gang) run(i int) {
	g.out[i] = g.body(g.args[i])
	g.wg.Done()
}

// withoutFutures is the engine of a way that runs functions: spawn has call i of g
// run, and makes itself what closure it needs.
func withoutFutures(s setup, spawn func(g *gang, i int), stop func()) engine {
	fan := func(args, out []int, w *watch) {
		g := &gang{body: s.body, args: args, out: out}
		g.wg.Add(len(args))
		w.isReady()
		for i := range args {
			spawn(g, i)
		}
		w.allSubmitted()
		g.wg.Wait()
	}
	one := func(args, out []int) {
		g := &gang{body: s.body, args: args, out: out}
		g.wg.Add(1)
		spawn(g, 0)
		g.wg.Wait()
	}
	return engine{one: one, fan: fan, close: stop}
}

// withFutures is the engine of a way that hands out a handle F for each call.
func withFutures[F any](submit func(arg int) F, result func(F) int, stop func()) engine {
	fan := func(args, out []int, w *watch) {
		fs := make([]F, len(args))
		w.isReady()
		for i, arg := range args {
			fs[i] = submit(arg)
		}
		w.allSubmitted()
		for i, f := range fs {
			out[i] = result(f)
		}
	}
	one := func(args, out []int) { out[0] = result(submit(args[0])) }
	return engine{one: one, fan: fan, close: stop}
}

// inOneGo is the engine of a way that takes all arguments at once.
func inOneGo(fan func(args, out []int), stop func()) engine {
	return engine{one: fan, fan: func(args, out []int, _ *watch) { fan(args, out) }, close: stop}
}

// nothing is the stop of a way that keeps no workers.
func nothing() {}

// must stops this process, which runs nothing but one contestant: the tool reports
// that contestant as failed, with this text.
func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
