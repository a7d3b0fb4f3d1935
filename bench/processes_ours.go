package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// The tasks that this program's worker processes serve.
var (
	nextTask = executor.NewTask("bench.next", func(_ context.Context, n int) (int, error) { return remote.Next.Call(n), nil })
	spinTask = executor.NewTask("bench.spin", func(_ context.Context, n int) (int, error) { return remote.Spin.Call(n), nil })
	// Long calls and short ones are of one task, so that its name does not tell which is which.
	pauseTask  = executor.NewTask("bench.pause", func(_ context.Context, n int) (int, error) { return remote.Pause.Call(n), nil })
	echoTask   = executor.NewTask("bench.echo", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
	attendTask = executor.NewTask("bench.attend", func(_ context.Context, address string) (int, error) {
		return 0, remote.Attend(address)
	})
)

func taskOf(b remote.Body) executor.Task[int, int] {
	switch b {
	case remote.Spin:
		return spinTask
	case remote.Pause:
		return pauseTask
	}
	return nextTask
}

// An opener opens a crew for a work.
type opener func(remote.Work) remote.Crew

// spawned are worker processes that are started one by one, each from the beginning.
func spawned(w remote.Work) remote.Crew { return crewOf(w, worker.Spawn) }

// served are worker processes that a fork server starts.
func served(w remote.Work) remote.Crew { return crewOf(w, worker.ForkServer) }

// crewOf is a loop over Submit.
func crewOf(w remote.Work, method worker.StartMethod) remote.Crew {
	p := must(processpool.New(processpool.Config{Workers: w.Workers, Worker: worker.Config{StartMethod: method}}))
	t := taskOf(w.Body)
	return remote.Crew{
		Call: func(arg int) int { return result(executor.Submit(bg, p, t, arg)) },
		Submit: func(arg int) func() int {
			f := executor.Submit(bg, p, t, arg)
			return func() int { return result(f) }
		},
		Fan: func(args, out []int) {
			fs := make([]*future.Future[int], len(args))
			for i, arg := range args {
				fs[i] = executor.Submit(bg, p, t, arg)
			}
			for i, f := range fs {
				out[i] = result(f)
			}
		},
		Echo: func(payload []byte) func() []byte {
			f := executor.Submit(bg, p, echoTask, payload)
			return func() []byte { return must(f.Result(bg)) }
		},
		Attend: attending(p),
		Close:  func() { check(p.Close()) },
	}
}

func attending(p *processpool.Pool) func(string) func() int {
	return func(address string) func() int {
		f := executor.Submit(bg, p, attendTask, address)
		return func() int { return result(f) }
	}
}

// inOneSubmit hands over all calls at a time.
func inOneSubmit(w remote.Work) remote.Crew {
	p := must(processpool.New(processpool.Config{Workers: w.Workers}))
	t := taskOf(w.Body)
	return remote.Crew{
		Fan: func(args, out []int) {
			for i, f := range executor.SubmitAll(bg, p, t, args) {
				out[i] = result(f)
			}
		},
		Attend: attending(p),
		Close:  func() { check(p.Close()) },
	}
}

// mapped is a Map, in chunks where the work has some.
func mapped(w remote.Work) remote.Crew {
	p := must(processpool.New(processpool.Config{Workers: w.Workers}))
	t := taskOf(w.Body)
	return remote.Crew{
		Fan: func(args, out []int) {
			i := 0
			for v, err := range executor.Map(bg, p, t, slices.Values(args), executor.WithChunk(w.Chunk)) {
				check(err)
				out[i] = v
				i++
			}
		},
		Attend: attending(p),
		Close:  func() { check(p.Close()) },
	}
}

// remotely is a contestant of this program that does w.
func remotely(name string, c class, w remote.Work, open opener) contestant {
	return contestant{name: name, class: c, run: func(e effort) (measurement, error) {
		return measuredAs(limited(w, e).Measure(open))
	}}
}

// limited is w with what e allows. A test's effort, which limits the calls, is little in
// all respects.
func limited(w remote.Work, e effort) remote.Work {
	w.Least = e.Least
	if e.Calls == 0 {
		return w
	}
	w.Calls = min(w.Calls, e.Calls)
	w.Each = min(w.Each, 10*time.Millisecond)
	w.Bytes = min(w.Bytes, 1<<16)
	switch w.Shape {
	case remote.Mixed, remote.Start, remote.StartAll:
		w.Calls = 1
	}
	return w
}

func measuredAs(r remote.Result, err error) (measurement, error) {
	return measurement{Calls: r.Calls, Nanos: r.Nanos, Figures: r.Figures}, err
}

// furtherPool is a pool beside one that is open, whose fork server is warm.
func furtherPool(name string, w remote.Work) contestant {
	return contestant{name: name, class: ours, run: func(e effort) (measurement, error) {
		w := limited(w, e)
		before := served(w)
		defer before.Close()
		if got := before.Call(1); got != 2 {
			return measurement{}, fmt.Errorf("the first call has result %d", got)
		}
		return measuredAs(w.Measure(served))
	}}
}

// pendingRemote is what a call holds in this process that waits for a worker process. All workers
// are in calls of their own. The slice of the caller's handles does not count.
func pendingRemote(name string, w remote.Work) contestant {
	return contestant{name: name, class: ours, run: func(e effort) (measurement, error) {
		w := limited(w, e)
		p := must(processpool.New(processpool.Config{Workers: w.Workers}))
		defer p.Close() // cancels what waits
		meeting, err := remote.NewMeeting()
		if err != nil {
			return measurement{}, err
		}
		defer meeting.Close()
		for range w.Workers {
			executor.Submit(bg, p, attendTask, meeting.Address())
		}
		if err := meeting.Wait(w.Workers); err != nil {
			return measurement{}, err
		}

		fs := make([]*future.Future[int], w.Calls)
		n := float64(w.Calls)
		var before, after runtime.MemStats
		collect(&before)
		start := time.Now()
		for i := range fs {
			fs[i] = executor.Submit(bg, p, nextTask, i)
		}
		nanos := time.Since(start).Nanoseconds()
		runtime.ReadMemStats(&after)
		m := measurement{Calls: w.Calls, Nanos: nanos}
		m.Allocs = float64(after.Mallocs-before.Mallocs) / n
		m.Bytes = float64(after.TotalAlloc-before.TotalAlloc) / n
		collect(&after)
		m.Held = max(0, float64(inUse(&after)-inUse(&before))/n)
		for i, f := range fs {
			if s := f.State(); s != future.Pending {
				return m, fmt.Errorf("call %d of %d is %v while all workers are busy", i, w.Calls, s)
			}
		}
		return m, nil
	}}
}
