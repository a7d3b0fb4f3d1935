package main

import (
	"fmt"
	"runtime"
	"sync"
	"time"
)

// warmUp is how long a process works before it measures: workers are started, the
// heap has grown, and caches are warm.
const warmUp = 50 * time.Millisecond

// A load is the work of a row: calls of one body, in a shape.
type load struct {
	workers int
	calls   int // of one repetition
	warm    int // of one repetition of the warm-up; 0 is as many
	body    func(int) int
	want    func(int) int // what body answers, quickly; nil is body
	shape   func(e engine, args, out []int)
}

// A way is how one library, or plain Go, runs calls.
type way struct {
	name  string
	class class
	open  func(setup) engine
}

// A setup is what a way needs to know to start its workers.
type setup struct {
	workers int
	calls   int // that may be pending at a time
	buffer  int // of a channel between producers and workers
	body    func(int) int
}

// An engine has its workers running, or starts them when calls come.
type engine struct {
	// one calls the body with args[0] and waits for the result, out[0].
	one func(args, out []int)

	// fan calls the body with each of args, so that many calls are pending at the
	// same time, and reads every result into its place in out. It tells w when its
	// own slices are made, and when every call was submitted.
	fan func(args, out []int, w *watch)

	// close ends the workers and waits for them.
	close func()
}

// A watch hears how far a fan has come. A nil watch does nothing.
type watch struct{ ready, submitted func() }

func (w *watch) isReady() {
	if w != nil {
		w.ready()
	}
}

func (w *watch) allSubmitted() {
	if w != nil {
		w.submitted()
	}
}

// contestants returns the contestants that do l in the given ways.
func (l load) contestants(ways ...way) []contestant {
	var cs []contestant
	for _, w := range ways {
		run := func(e effort) (measurement, error) { return l.measure(w, e) }
		cs = append(cs, contestant{name: w.name, class: w.class, run: run})
	}
	return cs
}

// The shapes of a load.

func oneAtATime(e engine, args, out []int) {
	for i := range args {
		e.one(args[i:i+1], out[i:i+1])
	}
}

func allAtOnce(e engine, args, out []int) { e.fan(args, out, nil) }

// batches of so many calls.
func batches(size int) func(engine, []int, []int) {
	return func(e engine, args, out []int) {
		for len(args) > 0 {
			n := min(size, len(args))
			e.fan(args[:n], out[:n], nil)
			args, out = args[n:], out[n:]
		}
	}
}

// producers that each have their part of the calls.
func producers(n int) func(engine, []int, []int) {
	return func(e engine, args, out []int) {
		var wg sync.WaitGroup
		for i := range n {
			from, to := i*len(args)/n, (i+1)*len(args)/n
			wg.Go(func() { e.fan(args[from:to], out[from:to], nil) })
		}
		wg.Wait()
	}
}

// prepare returns the arguments of the calls, and room for the results.
func (l load) prepare(e effort) (args, out []int) {
	n := l.calls
	if e.Calls > 0 {
		n = min(n, e.Calls)
	}
	args = make([]int, n)
	for i := range args {
		args[i] = i + 1
	}
	return args, make([]int, n)
}

// check fails unless out has what the body makes of args, in order, and clears it.
func (l load) check(args, out []int) error {
	answer := l.body
	if l.want != nil {
		answer = l.want
	}
	for i, arg := range args {
		if want := answer(arg); out[i] != want {
			return fmt.Errorf("call %d of %d has result %d, want %d", i, len(args), out[i], want)
		}
	}
	clear(out)
	return nil
}

// measure does l in the given way: a warm-up, then as many repetitions as fill the
// time. What is measured is from the first submit to the last result.
func (l load) measure(w way, e effort) (measurement, error) {
	args, out := l.prepare(e)
	eng := w.open(setup{workers: l.workers, calls: len(args), buffer: 1024, body: l.body})
	defer eng.close()

	warm := len(args)
	if l.warm > 0 {
		warm = min(l.warm, warm)
	}
	for start := time.Now(); ; {
		l.shape(eng, args[:warm], out[:warm])
		if time.Since(start) >= min(warmUp, e.Least) {
			break
		}
	}
	if err := l.check(args[:warm], out[:warm]); err != nil {
		return measurement{}, err
	}

	var m measurement
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for start := time.Now(); ; {
		l.shape(eng, args, out)
		m.Calls += len(args)
		m.Nanos = time.Since(start).Nanoseconds()
		if m.Nanos >= e.Least.Nanoseconds() {
			break
		}
	}
	runtime.ReadMemStats(&after)
	m.Allocs = float64(after.Mallocs-before.Mallocs) / float64(m.Calls)
	m.Bytes = float64(after.TotalAlloc-before.TotalAlloc) / float64(m.Calls)
	return m, l.check(args, out)
}
