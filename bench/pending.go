package main

import (
	"runtime"
	"sync/atomic"
)

// pendingCalls is a row's work: so many calls are submitted to workers that are kept
// busy. What they hold is the growth of the heap and the stacks, after a collection.
// The slice of the caller's handles does not count, its closures do.
type pendingCalls struct{ workers, calls int }

func (p pendingCalls) contestants(ways ...way) []contestant {
	var cs []contestant
	for _, w := range ways {
		run := func(e effort) (measurement, error) { return p.measure(w, e) }
		cs = append(cs, contestant{name: w.name, class: w.class, run: run})
	}
	return cs
}

func (p pendingCalls) measure(w way, e effort) (measurement, error) {
	var held atomic.Bool
	gate := make(chan struct{})
	l := load{workers: p.workers, calls: p.calls, want: next, body: func(n int) int {
		if held.Load() {
			<-gate
		}
		return next(n)
	}}
	args, out := l.prepare(e)
	eng := w.open(setup{workers: l.workers, calls: len(args), buffer: len(args), body: l.body})
	defer eng.close()

	warm := min(1000, len(args))
	eng.fan(args[:warm], out[:warm], nil)
	if err := l.check(args[:warm], out[:warm]); err != nil {
		return measurement{}, err
	}

	held.Store(true)
	n := float64(len(args))
	m := measurement{Calls: len(args)}
	var before, after runtime.MemStats
	eng.fan(args, out, &watch{
		ready: func() {
			collect(&before)
		},
		submitted: func() {
			runtime.ReadMemStats(&after)
			m.Allocs = float64(after.Mallocs-before.Mallocs) / n
			m.Bytes = float64(after.TotalAlloc-before.TotalAlloc) / n
			collect(&after)
			m.Held = max(0, float64(inUse(&after)-inUse(&before))/n)
			close(gate)
		},
	})
	return m, l.check(args, out)
}

// collect frees what nobody holds, and reads what is left. The second collection
// frees what a sync.Pool has kept over the first.
func collect(m *runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(m)
}

func inUse(m *runtime.MemStats) int64 { return int64(m.HeapAlloc + m.StackInuse) }
