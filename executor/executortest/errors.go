package executortest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var errorsPromises = []promise{
	{"IdenticalInProcess", "EXE-12, POL-23", local, errorsIdentical},
	{"SentinelKeepsIs", "PRO-03, ISO-03, POL-05", anywhere, errorsSentinel},
	{"WellKnownKeepIs", "PRO-03", anywhere, errorsWellKnown},
	{"WellKnownTypesKeepAs", "PRO-03", anywhere, errorsWellKnownTypes},
	{"GobTypeKeepsAs", "PRO-03", anywhere, errorsGobType},
	{"TreeKept", "PRO-03", anywhere, errorsTree},
	{"UnknownIsRemoteError", "PRO-03, ISO-03", portable, errorsUnknown},
	{"PanicHasStack", "POL-23", anywhere, errorsPanic},
	{"PanicWithErrorMatchesIt", "", anywhere, errorsPanicError},
	{"PanicNil", "", anywhere, errorsPanicNil},
	{"Goexit", "EXE-13, DEA-07", anywhere, errorsGoexit},
	{"LaterCallsUnharmed", "EXE-10, DEA-09", anywhere, errorsIsolated},
	{"ReturnedErrorAsValue", "EXE-11", anywhere, errorsAsValue},
}

// In process the future's error is the one that the task returned. // EXE-12, POL-23
func errorsIdentical(c *check) {
	ex := c.open(Config{Workers: 1})
	for _, want := range []error{errOwn, strangeError{"strange"}, &ShapeError{Sides: 1}, context.Canceled} {
		f := executor.SubmitFunc(c.ctx, ex, func(context.Context) (int, error) { return 0, want })
		equal(c, "Result's error", failure(c, f), want)
		equal(c, "Exception", f.Exception(c.ctx), want)
	}
}

// A registered sentinel keeps errors.Is, and its text. // PRO-03, ISO-03, POL-05
func errorsSentinel(c *check) {
	f := executor.Submit(c.ctx, c.open(Config{Workers: 1}), endTask, errorEnding)
	err := failure(c, f)
	matches(c, "Result's error", err, errOwn)
	equal(c, "Result's error, as text", err.Error(), errOwn.Error())
	if errors.Is(err, errReason) || errors.Is(err, future.ErrCancelled) {
		c.Fatalf("Result's error = %q matches errors that it is not", err)
	}
	matches(c, "Exception", f.Exception(c.ctx), errOwn)
}

// wellKnown are errors of the standard library that every worker knows.
var wellKnown = []error{
	context.Canceled, context.DeadlineExceeded,
	io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, io.ErrShortWrite, io.ErrShortBuffer, io.ErrNoProgress,
	fs.ErrInvalid, fs.ErrPermission, fs.ErrExist, fs.ErrNotExist, fs.ErrClosed,
	os.ErrDeadlineExceeded, os.ErrNoDeadline, os.ErrProcessDone,
	net.ErrClosed, errors.ErrUnsupported, strconv.ErrRange, strconv.ErrSyntax,
	syscall.ENOENT, syscall.EPIPE,
	executor.ErrShutdown, executor.ErrQueueFull, executor.ErrNotPortable, executor.ErrTimeout,
	future.ErrCancelled, future.ErrNotDone, future.ErrInvalidState,
}

// wellKnownTask returns one of the wellKnown errors, wrapped.
var wellKnownTask = executor.NewTask("executortest.wellKnown", func(_ context.Context, i int) (int, error) {
	return 0, fmt.Errorf("number %d: %w", i, wellKnown[i])
})

// The standard library's sentinels, and our own, keep errors.Is. // PRO-03
func errorsWellKnown(c *check) {
	ex := c.open(Config{Workers: 1})
	for i, want := range wellKnown {
		err := failure(c, executor.Submit(c.ctx, ex, wellKnownTask, i))
		matches(c, "Result's error", err, want)
		if !strings.Contains(err.Error(), want.Error()) {
			c.Fatalf("Result's error = %q, want it to contain %q", err, want)
		}
	}
}

// wellKnownTypeTask returns an error of the standard library that carries data.
var wellKnownTypeTask = executor.NewTask("executortest.wellKnownType", func(_ context.Context, which string) (int, error) {
	switch which {
	case "path":
		return 0, &fs.PathError{Op: "open", Path: "/no/such", Err: syscall.ENOENT}
	case "number":
		_, err := strconv.Atoi("twelve")
		return 0, fmt.Errorf("reading: %w", err)
	case "link":
		return 0, &os.LinkError{Op: "link", Old: "a", New: "b", Err: syscall.EEXIST}
	}
	return 0, os.NewSyscallError("pipe", syscall.EMFILE)
})

// Errors of the standard library that carry data keep errors.As, and what they
// wrap. // PRO-03
func errorsWellKnownTypes(c *check) {
	ex := c.open(Config{Workers: 1})
	fails := func(which string) error { return failure(c, executor.Submit(c.ctx, ex, wellKnownTypeTask, which)) }

	err := fails("path")
	path := as[*fs.PathError](c, "Result's error", err)
	equal(c, "Op and Path", path.Op+" "+path.Path, "open /no/such")
	matches(c, "Result's error", err, fs.ErrNotExist, syscall.ENOENT)
	equal(c, "Result's error, as text", err.Error(), (&fs.PathError{Op: "open", Path: "/no/such", Err: syscall.ENOENT}).Error())

	err = fails("number")
	number := as[*strconv.NumError](c, "Result's error", err)
	equal(c, "Num", number.Num, "twelve")
	matches(c, "Result's error", err, strconv.ErrSyntax)

	err = fails("link")
	equal(c, "New", as[*os.LinkError](c, "Result's error", err).New, "b")
	matches(c, "Result's error", err, fs.ErrExist)

	err = fails("syscall")
	equal(c, "Syscall", as[*os.SyscallError](c, "Result's error", err).Syscall, "pipe")
	matches(c, "Result's error", err, syscall.EMFILE)
}

// An error type that is registered with gob keeps errors.As, and its data. // PRO-03
func errorsGobType(c *check) {
	err := failure(c, executor.Submit(c.ctx, c.open(Config{Workers: 1}), endTask, gobEnding))
	equal(c, "Sides", as[*ShapeError](c, "Result's error", err).Sides, 2)
	equal(c, "Result's error, as text", err.Error(), (&ShapeError{Sides: 2}).Error())
}

// treeTask returns an error that wraps a joined one, which wraps others.
var treeTask = executor.NewTask("executortest.tree", func(context.Context, struct{}) (int, error) { return 0, errorTree() })

func errorTree() error {
	return fmt.Errorf("outer: %w", errors.Join(errOwn, fmt.Errorf("both %w and %w", io.EOF, &ShapeError{Sides: 1})))
}

// Wrapped and joined errors keep their tree. // PRO-03
func errorsTree(c *check) {
	err := failure(c, executor.Submit(c.ctx, c.open(Config{Workers: 1}), treeTask, struct{}{}))
	matches(c, "Result's error", err, errOwn, io.EOF)
	equal(c, "Sides", as[*ShapeError](c, "Result's error", err).Sides, 1)
	equal(c, "Result's error, as text", err.Error(), errorTree().Error())
	equalSlices(c, "its branches", branches(err), branches(errorTree()))
}

// branches returns how many errors each error of the tree wraps, root first.
func branches(err error) []int {
	var inner []error
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		inner = e.Unwrap()
	case interface{ Unwrap() error }:
		if u := e.Unwrap(); u != nil {
			inner = []error{u}
		}
	}
	all := []int{len(inner)}
	for _, e := range inner {
		all = append(all, branches(e)...)
	}
	return all
}

// An error that cannot travel as itself is a RemoteError with its type and
// text. // PRO-03, ISO-03
func errorsUnknown(c *check) {
	err := failure(c, executor.Submit(c.ctx, c.open(Config{Workers: 1}), endTask, strangeEnding))
	r := as[*executor.RemoteError](c, "Result's error", err)
	equal(c, "Message", r.Message, "strange indeed")
	if want := reflect.TypeFor[strangeError]().String(); !strings.Contains(r.Type, "strangeError") {
		c.Fatalf("Type = %q, want %q", r.Type, want)
	}
}

// A panic is a PanicError with its value and the stack of the place. // POL-23
func errorsPanic(c *check) {
	err := failure(c, executor.Submit(c.ctx, c.open(Config{Workers: 1}), endTask, panicEnding))
	p := as[*executor.PanicError](c, "Result's error", err)
	equal(c, "Value", p.Value, any("kaboom"))
	if !strings.Contains(string(p.Stack), "executortest.blowUp") {
		c.Fatalf("Stack does not name the function that panicked:\n%s", p.Stack)
	}
}

// A panic with an error matches that error.
func errorsPanicError(c *check) {
	err := failure(c, executor.Submit(c.ctx, c.open(Config{Workers: 1}), endTask, panicErrorEnding))
	as[*executor.PanicError](c, "Result's error", err)
	matches(c, "Result's error", err, errOwn)
}

// A panic with nil is a panic.
func errorsPanicNil(c *check) {
	err := failure(c, executor.Submit(c.ctx, c.open(Config{Workers: 1}), endTask, panicNilEnding))
	p := as[*executor.PanicError](c, "Result's error", err)
	if want := new(runtime.PanicNilError).Error(); !strings.Contains(err.Error(), want) {
		c.Fatalf("Result's error = %q with %#v, want it to contain %q", err, p.Value, want)
	}
}

// A task that ends its goroutine fails its own call, and the worker goes
// on. // EXE-13, DEA-07
func errorsGoexit(c *check) {
	ex := c.open(Config{Workers: 1})
	for range 3 {
		f := executor.Submit(c.ctx, ex, endTask, goexitEnding)
		if err := failure(c, f); !strings.Contains(err.Error(), "Goexit") {
			c.Fatalf("Result's error = %q, want it to name Goexit", err)
		}
		equal(c, "State", f.State(), future.Finished)
		c.works(ex)
	}
}

// However a call ends, later calls on the same worker do not notice. // EXE-10, DEA-09
func errorsIsolated(c *check) {
	ex := c.open(Config{Workers: 1})
	pid := value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{}))
	for range 5 {
		for _, e := range badEndings {
			f := executor.Submit(c.ctx, ex, endTask, e)
			next := executor.Submit(c.ctx, ex, endTask, wellEnding)
			failure(c, f)
			equal(c, "Result of the next call", value(c, next), int(wellEnding))
		}
	}
	equal(c, "the worker's process ID", value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{})), pid)
}

var (
	// verdictTask returns an error as its value.
	verdictTask = executor.NewTask("executortest.verdict", func(_ context.Context, n int) (*ShapeError, error) {
		return &ShapeError{Sides: n}, nil
	})

	// verdictInterfaceTask returns one as the interface.
	verdictInterfaceTask = executor.NewTask("executortest.verdictInterface", func(_ context.Context, n int) (error, error) { //nolint:revive // the first is the value
		return &ShapeError{Sides: n}, nil
	})
)

// An error that is the value is a value. // EXE-11
func errorsAsValue(c *check) {
	ex := c.open(Config{Workers: 1})
	equal(c, "Sides", value(c, executor.Submit(c.ctx, ex, verdictTask, 2)).Sides, 2)
	v := value(c, executor.Submit(c.ctx, ex, verdictInterfaceTask, 3))
	equal(c, "Sides", as[*ShapeError](c, "Result", v).Sides, 3)
}
