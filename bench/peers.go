package main

import (
	"context"
	"time"

	"github.com/alitto/pond/v2"
	"github.com/bytedance/gopkg/util/gopool"
	"github.com/failsafe-go/failsafe-go"
	"github.com/gammazero/workerpool"
	"github.com/panjf2000/ants/v2"
	"github.com/reugn/async"
	"github.com/samber/mo"
	"github.com/sourcegraph/conc/iter"
	"github.com/sourcegraph/conc/pool"
	"github.com/sourcegraph/conc/stream"
	"golang.org/x/sync/errgroup"
)

// Other libraries, each used as its documentation says. Where the documentation makes
// a pool for each lot of calls (conc, errgroup), one is kept for all of them here,
// which is to its advantage.
var (
	pondGo        = way{"pond", pools, openPondGo}
	pondGroup     = way{"pond group", pools, openPondGroup}
	antsPool      = way{"ants", pools, openAnts}
	concPool      = way{"conc", pools, openConc}
	gammazeroPool = way{"gammazero/workerpool", pools, openGammazero}
	goPool        = way{"gopool", pools, openGopool}
	errGroup      = way{"errgroup", pools, openErrgroup}

	pondResult    = way{"pond result pool", futures, openPondResult}
	reugnAsync    = way{"reugn/async", futures, openReugn}
	moFuture      = way{"samber/mo", futures, openMo}
	failsafeAsync = way{"failsafe-go", futures, openFailsafe}

	concIter   = way{"conc iter.Map", pools, openConcIter}
	concStream = way{"conc stream", pools, openConcStream}
)

func openPondGo(s setup) engine {
	p := pond.NewPool(s.workers)
	return withoutFutures(s, func(g *gang, i int) { check(p.Go(func() { g.run(i) })) }, p.StopAndWait)
}

// openPondGroup has one group for each lot of calls, whose Wait returns the results
// in order.
func openPondGroup(s setup) engine {
	p := pond.NewResultPool[int](s.workers)
	body := s.body
	fan := func(args, out []int, w *watch) {
		g := p.NewGroup()
		w.isReady()
		for _, arg := range args {
			g.Submit(func() int { return body(arg) })
		}
		w.allSubmitted()
		copy(out, must(g.Wait()))
	}
	return engine{one: func(args, out []int) { fan(args, out, nil) }, fan: fan, close: p.StopAndWait}
}

func openAnts(s setup) engine {
	p := must(ants.NewPool(s.workers))
	return withoutFutures(s, func(g *gang, i int) { check(p.Submit(func() { g.run(i) })) },
		func() { check(p.ReleaseTimeout(10 * time.Second)) })
}

func openConc(s setup) engine {
	p := pool.New().WithMaxGoroutines(s.workers)
	return withoutFutures(s, func(g *gang, i int) { p.Go(func() { g.run(i) }) }, p.Wait)
}

func openGammazero(s setup) engine {
	p := workerpool.New(s.workers)
	return withoutFutures(s, func(g *gang, i int) { p.Submit(func() { g.run(i) }) }, p.StopWait)
}

// openGopool has nothing to stop: the workers of a gopool end when the queue is empty.
func openGopool(s setup) engine {
	p := gopool.NewPool("bench", int32(s.workers), gopool.NewConfig())
	return withoutFutures(s, func(g *gang, i int) { p.Go(func() { g.run(i) }) }, nothing)
}

func openErrgroup(s setup) engine {
	var p errgroup.Group
	p.SetLimit(s.workers)
	return withoutFutures(s, func(g *gang, i int) {
		p.Go(func() error { g.run(i); return nil })
	}, func() { check(p.Wait()) })
}

func openPondResult(s setup) engine {
	p := pond.NewResultPool[int](s.workers)
	body := s.body
	return withFutures(func(arg int) pond.ResultTask[int] {
		return p.Submit(func() int { return body(arg) })
	}, func(t pond.ResultTask[int]) int { return must(t.Wait()) }, p.StopAndWait)
}

// openReugn gives the executor a queue that has room for all calls: it refuses what
// does not fit.
func openReugn(s setup) engine {
	p := async.NewExecutor[int](context.Background(), async.NewExecutorConfig(s.workers, s.calls))
	body := s.body
	return withFutures(func(arg int) async.Future[int] {
		return must(p.Submit(func(context.Context) (int, error) { return body(arg), nil }))
	}, func(f async.Future[int]) int { return must(f.Join()) }, func() { check(p.Shutdown()) })
}

// openMo bounds nothing: each future is a goroutine.
func openMo(s setup) engine {
	body := s.body
	return withFutures(func(arg int) *mo.Future[int] {
		return mo.NewFuture(func(resolve func(int), _ func(error)) { resolve(body(arg)) })
	}, func(f *mo.Future[int]) int { return must(f.Collect()) }, nothing)
}

// openFailsafe bounds nothing: each execution is a goroutine.
func openFailsafe(s setup) engine {
	ex := failsafe.With[int]()
	body := s.body
	return withFutures(func(arg int) failsafe.ExecutionResult[int] {
		return ex.GetAsync(func() (int, error) { return body(arg), nil })
	}, func(r failsafe.ExecutionResult[int]) int { return must(r.Get()) }, nothing)
}

func openConcIter(s setup) engine {
	m := iter.Mapper[int, int]{MaxGoroutines: s.workers}
	return inOneGo(func(args, out []int) {
		copy(out, m.Map(args, func(arg *int) int { return s.body(*arg) }))
	}, nothing)
}

func openConcStream(s setup) engine {
	return inOneGo(func(args, out []int) {
		st := stream.New().WithMaxGoroutines(s.workers)
		next := 0
		for _, arg := range args {
			st.Go(func() stream.Callback {
				v := s.body(arg)
				return func() { out[next] = v; next++ }
			})
		}
		st.Wait()
	}, nothing)
}
