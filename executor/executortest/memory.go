package executortest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"weak"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var memoryPromises = []promise{
	{"ArgumentForgotten", "EXE-04, POL-24", local, memoryArgument},
	{"ResultForgotten", "EXE-04, POL-24", local, memoryResult},
	{"FunctionForgotten", "EXE-04", local, memoryFunction},
	{"CancelledForgotten", "EXE-04", local, memoryCancelled},
	{"MapResultForgotten", "EXE-05", local, memoryMap},
	{"ArgumentForgottenInWorker", "EXE-06", anywhere, memoryWorker},
}

// A load is something that is worth being forgotten.
type load struct{ Data [4096]byte }

// carryTask returns what it is given.
func carryTask() executor.Task[*load, *load] {
	return executor.LocalTask(func(_ context.Context, l *load) (*load, error) { return l, nil })
}

// collected waits until nothing keeps p's object alive, and reports whether that came
// to be.
func collected[T any](ctx context.Context, p weak.Pointer[T]) bool {
	for p.Value() != nil {
		if ctx.Err() != nil {
			return false
		}
		runtime.GC()
	}
	return true
}

// forgotten fails the check unless p's object is collected.
func forgotten[T any](c *check, what string, p weak.Pointer[T]) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience/3)
	defer cancel()
	if !collected(ctx, p) {
		c.Fatalf("%s is kept alive", what)
	}
}

// When a call is done nothing keeps its argument alive: not its future, not the
// idle executor. // EXE-04, POL-24
func memoryArgument(c *check) {
	ex := c.open(Config{Workers: 1})
	size := executor.LocalTask(func(_ context.Context, l *load) (int, error) { return len(l.Data), nil })
	submit := func() (*future.Future[int], weak.Pointer[load]) {
		l := new(load)
		return executor.Submit(c.ctx, ex, size, l), weak.Make(l)
	}
	f, p := submit()
	equal(c, "Result", value(c, f), len(load{}.Data))
	forgotten(c, "the argument of a done call", p)
	runtime.KeepAlive(f)
	runtime.KeepAlive(ex)
}

// When its future is dropped nothing keeps a call's result alive. // EXE-04, POL-24
func memoryResult(c *check) {
	ex := c.open(Config{Workers: 1})
	run := func() weak.Pointer[load] {
		return weak.Make(value(c, executor.Submit(c.ctx, ex, carryTask(), new(load))))
	}
	forgotten(c, "the result of a done call", run())
	runtime.KeepAlive(ex)
}

// When a call is done nothing keeps the closure alive that it ran. // EXE-04
func memoryFunction(c *check) {
	ex := c.open(Config{Workers: 1})
	submit := func() (*future.Future[int], weak.Pointer[load]) {
		l := new(load)
		return executor.SubmitFunc(c.ctx, ex, func(context.Context) (int, error) { return len(l.Data), nil }), weak.Make(l)
	}
	f, p := submit()
	value(c, f)
	forgotten(c, "what the closure of a done call holds", p)
	runtime.KeepAlive(f)
	runtime.KeepAlive(ex)
}

// When a call is cancelled its argument is let go, although the executor never came
// to it. // EXE-04
func memoryCancelled(c *check) {
	ex, g := c.open(Config{Workers: 1}), c.newGate()
	c.hold(ex, g, 1)
	submit := func() (*future.Future[*load], weak.Pointer[load]) {
		l := new(load)
		return executor.Submit(c.ctx, ex, carryTask(), l), weak.Make(l)
	}
	f, p := submit()
	equal(c, "Cancel", f.Cancel(), true)
	forgotten(c, "the argument of a cancelled call", p)
	runtime.KeepAlive(f)
	runtime.KeepAlive(ex)
}

// A map keeps no argument and no result that it has yielded. // EXE-05
func memoryMap(c *check) {
	for _, chunk := range []int{1, 3} {
		ex := c.open(Config{Workers: 1})
		args := func(yield func(*load) bool) {
			for range 12 {
				if !yield(new(load)) {
					return
				}
			}
		}
		var before weak.Pointer[load]
		n := 0
		for l, err := range executor.Map(c.ctx, ex, carryTask(), args, executor.WithChunk(chunk)) {
			equal(c, "the item's error", err, nil)
			if n > 0 {
				forgotten(c, "an item that was yielded", before)
			}
			before = weak.Make(l)
			n++
		}
		equal(c, "items", n, 12)
		runtime.KeepAlive(ex)
	}
}

// lastLoad is the argument that watchTask had in this process.
var lastLoad atomic.Pointer[weak.Pointer[load]]

var (
	// watchTask remembers its argument, weakly.
	watchTask = executor.NewTask("executortest.watch", func(_ context.Context, l *load) (int, error) {
		p := weak.Make(l)
		lastLoad.Store(&p)
		return len(l.Data), nil
	})

	// watchedTask returns an error unless what watchTask remembers is gone.
	watchedTask = executor.NewTask("executortest.watched", func(ctx context.Context, _ struct{}) (int, error) {
		ctx, cancel := context.WithTimeout(ctx, patience/3)
		defer cancel()
		if p := lastLoad.Load(); p == nil || !collected(ctx, *p) {
			return 0, errors.New("the argument of the call before is kept alive")
		}
		return 0, nil
	})
)

// A worker lets go of a call's argument when the call has ended. // EXE-06
func memoryWorker(c *check) {
	ex := c.open(Config{Workers: 1})
	run := func() {
		l := new(load)
		l.Data[0] = 1
		value(c, executor.Submit(c.ctx, ex, watchTask, l))
	}
	run()
	value(c, executor.Submit(c.ctx, ex, watchedTask, struct{}{}))
	runChunk := func() {
		l := new(load)
		l.Data[0] = 1
		for _, err := range executor.Map(c.ctx, ex, watchTask, slices.Values([]*load{l, l, l}), executor.WithChunk(3)) {
			equal(c, "the item's error", err, nil)
		}
	}
	runChunk()
	value(c, executor.Submit(c.ctx, ex, watchedTask, struct{}{}))
}
