package promise

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Callbacks are what runs once a future is done, in the order added.
type Callbacks struct{ fns []func() }

// None reports whether there is nothing to run.
func (c Callbacks) None() bool { return len(c.fns) == 0 }

// Wait runs the callbacks and returns when they have returned. They run on a
// goroutine of their own, so that one that calls runtime.Goexit, as
// testing.T.FailNow does, does not end the goroutine that completed the future.
func (c Callbacks) Wait() {
	if c.None() {
		return
	}
	done := make(chan struct{})
	go run(c.fns, func() { close(done) })
	<-done
}

// Go runs the callbacks without waiting for them.
func (c Callbacks) Go() {
	if !c.None() {
		go run(c.fns, nil)
	}
}

// Inline runs the callbacks in the calling goroutine, which runs callbacks itself.
func (c Callbacks) Inline() {
	if !c.None() {
		run(c.fns, nil)
	}
}

// run calls fns one after another, whatever one of them does, and then done.
func run(fns []func(), done func()) {
	i := 0
	defer func() {
		if i < len(fns) { // fns[i] is ending this goroutine
			slog.Error("futures: a callback called runtime.Goexit")
			go run(fns[i+1:], done)
			return
		}
		if done != nil {
			done()
		}
	}()
	for ; i < len(fns); i++ {
		protect(fns[i])
		fns[i] = nil
	}
}

func protect(fn func()) {
	defer func() {
		if v := recover(); v != nil {
			slog.Error("futures: a callback panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	fn()
}

// One returns fn as Callbacks.
func One(fn func()) Callbacks { return Callbacks{fns: []func(){fn}} }
