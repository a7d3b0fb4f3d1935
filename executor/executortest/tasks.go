package executortest

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"runtime"

	"example.com/futures/executor"
)

// Errors that keep errors.Is in and out of every worker.
var (
	errOwn    = errors.New("executortest: the task's own error")
	errReason = errors.New("executortest: a reason to stop")
	errInit   = errors.New("executortest: the initializer failed")
)

func init() {
	executor.RegisterError("executortest.own", errOwn)
	executor.RegisterError("executortest.reason", errReason)
	executor.RegisterError("executortest.init", errInit)
	gob.Register(&Shape{})
	gob.Register(&ShapeError{})
	gob.Register(Unencodable{})
}

// A Shape is a struct as users have them.
type Shape struct {
	Name  string
	Sides []float64
	Inner *Shape
	Tags  map[string]int
}

// A ShapeError is an error type that is registered with gob.
type ShapeError struct{ Sides int }

// Error names the number of sides.
func (e *ShapeError) Error() string { return fmt.Sprintf("no shape has %d sides", e.Sides) }

// A strangeError is an error type that nobody registered.
type strangeError struct{ text string }

func (e strangeError) Error() string { return e.text }

var (
	// pidTask returns the ID of the process that it runs in.
	pidTask = executor.NewTask("executortest.pid", func(context.Context, struct{}) (int, error) { return os.Getpid(), nil })

	// doubleTask returns twice its argument.
	doubleTask = executor.NewTask("executortest.double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })

	// oddTask fails on odd numbers and doubles even ones.
	oddTask = executor.NewTask("executortest.odd", func(_ context.Context, n int) (int, error) {
		if n%2 == 1 {
			return 0, fmt.Errorf("%d is odd: %w", n, errOwn)
		}
		return 2 * n, nil
	})

	// endTask ends in the way that it is told.
	endTask = executor.NewTask("executortest.end", func(_ context.Context, how ending) (int, error) { return how.end() })
)

// An ending is a way for a task to end.
type ending int

const (
	wellEnding ending = iota
	errorEnding
	panicEnding
	panicErrorEnding
	panicNilEnding
	goexitEnding
	deadlineEnding
	strangeEnding
	gobEnding
	exitEnding
	killEnding
)

// badEndings are those that a worker survives.
var badEndings = []ending{errorEnding, panicEnding, panicErrorEnding, panicNilEnding, goexitEnding, deadlineEnding, strangeEnding, gobEnding}

func (e ending) end() (int, error) {
	switch e {
	case errorEnding:
		return 0, errOwn
	case panicEnding:
		blowUp()
	case panicErrorEnding:
		panic(errOwn)
	case panicNilEnding:
		panic(nil) //nolint:govet // what becomes of it is a promise
	case goexitEnding:
		runtime.Goexit()
	case deadlineEnding:
		return 0, context.DeadlineExceeded
	case strangeEnding:
		return 0, strangeError{"strange indeed"}
	case gobEnding:
		return 0, &ShapeError{Sides: 2}
	case exitEnding:
		fmt.Fprintln(os.Stderr, "executortest: this worker exits with code 99, as it was told")
		os.Exit(99)
	case killEnding:
		p, err := os.FindProcess(os.Getpid())
		if err != nil {
			return 0, err
		}
		if err := p.Kill(); err != nil {
			return 0, err
		}
		select {}
	}
	return int(e), nil
}

// blowUp has a name of its own, to be looked for in a stack.
//
//go:noinline
func blowUp() { panic("kaboom") }

// Unencodable is a value that gob refuses: it holds a function.
type Unencodable struct{ F func() }
