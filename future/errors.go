package future

import (
	"context"
	"errors"
	"fmt"

	"example.com/futures/internal/printable"
	"example.com/futures/internal/promise"
)

// What a caller may ask for with errors.Is.
var (
	// ErrCancelled reports that a future was cancelled before its call started. The
	// error that Result returns then matches the cause of the cancellation as well,
	// where there is one.
	ErrCancelled = promise.ErrCancelled

	// ErrNotDone reports that a wait ended before the future was done. It always
	// comes together with the error of the ctx that ended; the future is untouched.
	ErrNotDone = errors.New("future: not done")

	// ErrInvalidState reports that a promise was completed a second time.
	ErrInvalidState = errors.New("future: invalid state")
)

// A PanicError reports that the code behind a future panicked.
type PanicError struct {
	Value any    // what panic was called with; across processes its text, unless it is a basic type or an error
	Stack []byte // the stack of the goroutine that panicked, as runtime/debug.Stack prints it
}

// Error returns the text of the panic's value, without the stack.
func (e *PanicError) Error() string { return "panic: " + printable.Text(e.Value) }

// Unwrap returns Value if it is an error, otherwise nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// notDoneError is what a wait returns whose ctx ended first.
type notDoneError struct {
	what string
	ctx  error // ctx.Err()
	why  error // context.Cause(ctx)
}

func notDone(ctx context.Context, what string) error {
	return &notDoneError{what: what, ctx: ctx.Err(), why: context.Cause(ctx)}
}

func (e *notDoneError) Error() string {
	return fmt.Sprintf("future: %s when the wait ended: %v", e.what, e.why)
}

func (e *notDoneError) Is(target error) bool { return target == ErrNotDone }

func (e *notDoneError) Unwrap() []error {
	if e.why == e.ctx {
		return []error{e.ctx}
	}
	return []error{e.ctx, e.why}
}
