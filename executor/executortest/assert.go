package executortest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
)

// value waits for f and returns its value; anything else fails the check.
func value[R any](c *check, f *future.Future[R]) R {
	c.Helper()
	v, err := outcome(c, f)
	if err != nil {
		c.Fatalf("Result(ctx) error = %v, want a value", err)
	}
	return v
}

// failure waits for f and returns its error; a value fails the check.
func failure[R any](c *check, f *future.Future[R]) error {
	c.Helper()
	v, err := outcome(c, f)
	if err == nil {
		c.Fatalf("Result(ctx) = %v, want an error", v)
	}
	return err
}

// outcome waits for f, but not for ever.
func outcome[R any](c *check, f *future.Future[R]) (R, error) {
	c.Helper()
	if f == nil {
		c.Fatal("the future is nil")
	}
	v, err := f.Result(c.ctx)
	if errors.Is(err, future.ErrNotDone) && !f.IsDone() {
		c.Fatalf("the call does not end, its state is %v; all goroutines:\n%s", f.State(), stacks())
	}
	return v, err
}

// equal fails the check unless got is want.
func equal[T comparable](c *check, what string, got, want T) {
	c.Helper()
	if got != want {
		c.Fatalf("%s = %v, want %v", what, got, want)
	}
}

// equalSlices fails the check unless got is want.
func equalSlices[T comparable](c *check, what string, got, want []T) {
	c.Helper()
	if !slices.Equal(got, want) {
		c.Fatalf("%s = %v, want %v", what, got, want)
	}
}

// matches fails the check unless err matches all targets.
func matches(c *check, what string, err error, targets ...error) {
	c.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			c.Fatalf("%s = %q, which does not match %q", what, text(err), target)
		}
	}
}

// as fails the check unless err is, or wraps, an E, which it returns.
func as[E error](c *check, what string, err error) E {
	c.Helper()
	var e E
	if !errors.As(err, &e) {
		c.Fatalf("%s = %q, which is no %T", what, text(err), e)
	}
	return e
}

func text(err error) string {
	if err == nil {
		return "nil"
	}
	return err.Error()
}

// hold occupies n workers with calls named 0 to n-1 and returns them.
func (c *check) hold(ex executor.Executor, g *gate, n int) ([]*future.Future[int], map[int]*visitor) {
	c.Helper()
	fs := make([]*future.Future[int], n)
	for i := range fs {
		fs[i] = executor.Submit(c.ctx, ex, visitTask, g.visit(i))
	}
	return fs, c.arrive(g, n)
}

// works fails the check unless ex still runs calls.
func (c *check) works(ex executor.Executor) {
	c.Helper()
	if got, err := executor.Apply(c.ctx, ex, doubleTask, 21); got != 42 || err != nil {
		c.Fatalf("a call afterwards = %v, %q, want 42", got, text(err))
	}
}

// shutdown drains ex and fails the check if that goes wrong.
func (c *check) shutdown(ex executor.Executor, opts ...executor.ShutdownOption) {
	c.Helper()
	var err error
	c.within("Shutdown", func() { err = ex.Shutdown(c.ctx, opts...) })
	if err != nil {
		c.Fatalf("Shutdown(ctx) = %v, want nil", err)
	}
}

// over returns a context that has ended.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// numbers returns 0 to n-1.
func numbers(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// until waits for a condition that nothing announces.
func (c *check) until(what string, ok func() bool) {
	c.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			c.Fatalf("waited in vain: %s; all goroutines:\n%s", what, stacks())
		}
	}
}

// goroutine returns the name of the calling goroutine.
func goroutine() string {
	var buf [64]byte
	name, _, _ := strings.Cut(string(buf[:runtime.Stack(buf[:], false)]), " [")
	return name
}
