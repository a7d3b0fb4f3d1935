// Futures shows every method of a Future and of an Executor, and what works on
// several futures at once. Each line of output is the proof of one of them.
//
//	go run ./examples/futures
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"example.com/futures/executor"
	"example.com/futures/threadpool"
)

var square = executor.NewTask("square", func(ctx context.Context, n int) (int, error) { return n * n, nil })

var errOdd = errors.New("odd")

// half fails for odd numbers.
var half = executor.NewTask("half", func(ctx context.Context, n int) (int, error) {
	if n%2 != 0 {
		return 0, fmt.Errorf("half of %d: %w", n, errOdd)
	}
	return n / 2, nil
})

var crash = executor.NewTask("crash", func(ctx context.Context, s string) (int, error) { panic(s) })

func main() {
	// One worker: while it is busy, whatever else is submitted stays pending.
	ex, err := threadpool.New(threadpool.Config{Workers: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer ex.Close()
	ctx := context.Background()

	results(ctx, ex)
	states(ctx, ex)
	callbacks(ctx, ex)
	several(ctx, ex)
	promises(ctx)
	submitting(ctx, ex)
	options(ctx, ex)
	ending(ctx, ex)
}

func title(s string) { fmt.Printf("\n%s\n", s) }

// show prints what an expression is.
func show(expression string, got ...any) {
	fmt.Printf("  %-56s %s", expression, fmt.Sprintln(got...))
}

// A gate is a call that runs until it is opened.
type gate struct {
	running, open chan struct{} // closed by the call; closed by whoever opens it
}

func newGate() gate { return gate{make(chan struct{}), make(chan struct{})} }

// pass is the call: it says that it runs, and waits.
func (g gate) pass(ctx context.Context) (string, error) {
	close(g.running)
	select {
	case <-g.open:
		return "through", nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
