package executor_test

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
)

// What the tests send.
type (
	codeError   struct{ Code int } // registered by value
	detailError struct {
		File string
		Line int
	} // registered as a pointer
	byValue   struct{ Name string } // registered by value, sent as a pointer
	byPointer struct{ Name string } // registered as a pointer, sent by value
	wrapError struct {              // registered; wraps
		Op  string
		Err error
	}
	onlyErr  struct{ Err error } // registered; wraps, and is nothing else
	multiErr struct {            // registered; wraps several
		N    int
		Errs []error
	}
	hidden    struct{ Name, secret string } // registered, but gob would lose the secret
	forgetful struct {                      // registered; its GobEncode forgets the cause
		msg   string
		cause error
	}
	lossy      struct{ msg string }   // registered; its GobEncode forgets the text
	cyclic     struct{ Next *cyclic } // registered; can be cyclic
	stranger   struct{ A, B int }     // not registered
	isNotExist struct{}               // has an Is method, as some clients of databases do
	grumpy     struct{ in string }    // panics in the method that in names
	pointy     struct{}               // its methods work on a nil pointer
	safeErr    struct{ Err error }    // registered; its Error method works on a nil pointer
	loop       struct{}               // wraps itself
	bush       struct{}               // wraps itself many times
)

func (e codeError) Error() string    { return fmt.Sprintf("code %d", e.Code) }
func (e *detailError) Error() string { return fmt.Sprintf("%s:%d", e.File, e.Line) }
func (e *byValue) Error() string     { return "by value " + e.Name }
func (e byPointer) Error() string    { return "by pointer " + e.Name }
func (e *wrapError) Error() string   { return e.Op + ": " + e.Err.Error() }
func (e *wrapError) Unwrap() error   { return e.Err }
func (e onlyErr) Error() string      { return "only " + e.Err.Error() }
func (e onlyErr) Unwrap() error      { return e.Err }
func (e *multiErr) Error() string    { return fmt.Sprint(e.N, e.Errs) }
func (e *multiErr) Unwrap() []error  { return e.Errs }
func (e *hidden) Error() string      { return e.Name + e.secret }
func (e *forgetful) Error() string   { return e.msg }
func (e *forgetful) Unwrap() error   { return e.cause }
func (e *lossy) Error() string       { return e.msg }
func (e *cyclic) Error() string      { return "cyclic" }
func (e *stranger) Error() string    { return fmt.Sprint("stranger ", e.A, e.B) }
func (isNotExist) Error() string     { return "no such row" }
func (isNotExist) Is(t error) bool   { return t == fs.ErrNotExist || t == errStock }
func (e *pointy) Error() string      { return "pointy" }
func (e *safeErr) Error() string {
	if e == nil {
		return "safe"
	}
	return e.Err.Error()
}
func (*loop) Error() string     { return "loop" }
func (e *loop) Unwrap() error   { return e }
func (*bush) Error() string     { return "bush" }
func (e *bush) Unwrap() []error { return []error{e, e, e} }

func (e *forgetful) GobEncode() ([]byte, error) { return []byte(e.msg), nil }
func (e *forgetful) GobDecode(b []byte) error   { e.msg = string(b); return nil }
func (e *lossy) GobEncode() ([]byte, error)     { return []byte{1}, nil }
func (e *lossy) GobDecode([]byte) error         { return nil }

func (e *grumpy) Error() string { return e.do("Error") }
func (e *grumpy) Unwrap() error { e.do("Unwrap"); return io.EOF }
func (e *grumpy) Is(error) bool { e.do("Is"); return false }
func (e *grumpy) GobEncode() ([]byte, error) {
	return []byte(e.do("GobEncode")), nil
}

func (e *grumpy) GobDecode(b []byte) error {
	e.in = "GobDecode"
	if string(b) == "grumpy GobDecode" {
		panic("in GobDecode")
	}
	return nil
}

func (e *grumpy) do(method string) string {
	if e.in == method {
		panic("in " + method)
	}
	return "grumpy " + e.in
}

var (
	errStock = errors.New("shop: no stock")
	errLocal = errors.New("not registered")
)

func init() {
	executor.RegisterError("shop.ErrStock", errStock)
	gob.Register(codeError{})
	gob.Register(&detailError{})
	gob.Register(byValue{})
	gob.Register(&byPointer{})
	gob.Register(&wrapError{})
	gob.Register(onlyErr{})
	gob.Register(&multiErr{})
	gob.Register(&hidden{})
	gob.Register(&forgetful{})
	gob.Register(&lossy{})
	gob.Register(&cyclic{})
	gob.Register(&grumpy{})
	gob.Register(&safeErr{})
}

// send takes err to another process and back, as far as an error can tell.
func send(t *testing.T, err error) error {
	t.Helper()
	back := executor.DecodeError(executor.EncodeError(err))
	require.Error(t, back)
	return back
}

// wellKnown is every sentinel that the documentation of EncodeError promises.
var wellKnown = []error{
	context.Canceled, context.DeadlineExceeded,
	io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, io.ErrShortWrite, io.ErrShortBuffer, io.ErrNoProgress,
	fs.ErrInvalid, fs.ErrPermission, fs.ErrExist, fs.ErrNotExist, fs.ErrClosed,
	os.ErrProcessDone, os.ErrDeadlineExceeded, os.ErrNoDeadline,
	net.ErrClosed, errors.ErrUnsupported, strconv.ErrRange, strconv.ErrSyntax,
	future.ErrCancelled, future.ErrNotDone, future.ErrInvalidState,
	executor.ErrShutdown, executor.ErrQueueFull, executor.ErrNotPortable, executor.ErrTimeout,
	errStock,
}

// Sentinels are the same variables on both sides, alone and at any depth. PRO-03, ISO-03
func TestRemoteSentinels(t *testing.T) {
	for _, want := range wellKnown {
		t.Run(want.Error(), func(t *testing.T) {
			require.True(t, send(t, want) == want, "must be the variable itself")

			deep := fmt.Errorf("deep: %w", errors.Join(errLocal, &fs.PathError{Op: "open", Path: "p", Err: fmt.Errorf("in: %w", want)}))
			back := send(t, deep)
			require.ErrorIs(t, back, want)
			require.EqualError(t, back, deep.Error())
			for _, other := range wellKnown {
				require.Equal(t, errors.Is(deep, other), errors.Is(back, other), "errors.Is(%v)", other)
			}
		})
	}
	require.ErrorIs(t, send(t, executor.ErrTimeout), context.DeadlineExceeded)
}

// An error type comes back with its fields, and with what it wraps. PRO-03, ISO-03
func TestRemoteTypes(t *testing.T) {
	for _, err := range []error{
		syscall.ENOENT,
		&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT},
		&os.LinkError{Op: "link", Old: "a", New: "b", Err: fs.ErrExist},
		&os.SyscallError{Syscall: "read", Err: syscall.EAGAIN},
		&strconv.NumError{Func: "Atoi", Num: "x", Err: strconv.ErrSyntax},
		&net.DNSError{Err: "no such host", Name: "h", Server: "s", IsNotFound: true, IsTimeout: true},
		&net.AddrError{Err: "missing port", Addr: "h"},
		&net.ParseError{Type: "IP address", Text: "x"},
		&executor.PanicError{Value: "text", Stack: []byte("goroutine 1")},
		&executor.PanicError{Value: 42, Stack: []byte{}},
		&executor.PanicError{Value: int8(-3), Stack: []byte{}},
		&executor.PanicError{Value: uint64(1 << 63), Stack: []byte{}},
		&executor.PanicError{Value: true, Stack: []byte{}},
		&executor.PanicError{Value: float32(1.5), Stack: []byte{}},
		&executor.PanicError{Value: 2.5, Stack: []byte{}},
		&executor.PanicError{Value: io.EOF, Stack: []byte{}},
		&executor.PanicError{Stack: []byte{}},
		&executor.WorkerLostError{
			PID: 12, Task: "t", ExitCode: -1, Signal: syscall.SIGKILL, RSS: 1 << 40, Stderr: "fatal\n",
			Cause: &fs.PathError{Op: "o", Path: "p", Err: executor.ErrTimeout},
		},
		&executor.WorkerLostError{PID: 1, ExitCode: 3, Cause: io.EOF},
		&executor.BrokenError{Cause: executor.ErrTimeout},
		&executor.RemoteError{Type: "x.E", Message: "m", Stack: "s"},
		codeError{Code: 7},
		&detailError{File: "f", Line: 3},
		&byValue{Name: "v"},
		byPointer{Name: "p"},
		&wrapError{Op: "op", Err: &wrapError{Op: "in", Err: io.EOF}},
		onlyErr{io.EOF},
		&multiErr{N: 2, Errs: []error{io.EOF, codeError{1}}},
	} {
		t.Run(fmt.Sprintf("%T", err), func(t *testing.T) {
			require.Equal(t, err, send(t, err))

			back := send(t, fmt.Errorf("wrapped: %w", errors.Join(errLocal, err)))
			target := reflect.New(reflect.TypeOf(err))
			require.True(t, errors.As(back, target.Interface()))
			if _, remote := err.(*executor.RemoteError); !remote { // the outer ones are of that type, too
				require.Equal(t, err, target.Elem().Interface())
			}
		})
	}
}

func TestRemoteNetError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	_, err = net.Dial("tcp", addr)
	require.Error(t, err)

	back := send(t, err)
	require.EqualError(t, back, err.Error())
	require.ErrorIs(t, back, syscall.ECONNREFUSED)
	var op *net.OpError
	require.ErrorAs(t, back, &op)
	require.Equal(t, "dial", op.Op)
	require.Equal(t, "tcp", op.Addr.Network())
	require.Equal(t, addr, op.Addr.String())
	require.Nil(t, op.Source)
	var ne net.Error
	require.ErrorAs(t, back, &ne)

	_, err = l.Accept()
	require.ErrorIs(t, send(t, err), net.ErrClosed)
	require.EqualError(t, send(t, err), err.Error())
}

func TestRemoteRealErrors(t *testing.T) {
	_, open := os.Open("/no such file")
	_, num := strconv.ParseInt("99999999999999999999", 10, 64)
	_, look := exec.LookPath("no such program")
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	_, dial := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:1")
	_, rejected := future.Rejected[int](errStock).Result(t.Context())
	for _, err := range []error{open, num, look, dial, rejected} {
		back := send(t, err)
		require.EqualError(t, back, err.Error())
		for _, s := range wellKnown {
			require.Equal(t, errors.Is(err, s), errors.Is(back, s), "%v is %v", err, s)
		}
	}
	require.ErrorIs(t, send(t, open), fs.ErrNotExist)
	require.ErrorIs(t, send(t, num), strconv.ErrRange)
}

// What cannot travel as itself is a RemoteError with type, text and causes. PRO-03, ISO-03, POL-23
func TestRemoteError(t *testing.T) {
	cause := &fs.PathError{Op: "open", Path: "p", Err: fs.ErrNotExist}
	for name, tc := range map[string]struct {
		err    error
		typ    string
		causes bool
	}{
		"text":                 {errLocal, "*errors.errorString", false},
		"wrapped":              {fmt.Errorf("no config: %w", cause), "*fmt.wrapError", true},
		"not registered":       {&stranger{1, 2}, "*executor_test.stranger", false},
		"loses a field in gob": {&hidden{"a", "b"}, "*executor_test.hidden", false},
		"gob loses its text":   {&lossy{"text"}, "*executor_test.lossy", false},
		"cyclic":               {ring(), "*executor_test.cyclic", false},
		"too large for gob":    {&detailError{File: strings.Repeat("x", 300<<10)}, "*executor_test.detailError", false},
		"runtime error":        {runtimeError(), "runtime.boundsError", false},
		"empty text":           {errors.New(""), "*errors.errorString", false},
	} {
		t.Run(name, func(t *testing.T) {
			back := send(t, tc.err)
			var re *executor.RemoteError
			require.ErrorAs(t, back, &re)
			require.Equal(t, tc.typ, re.Type)
			require.Equal(t, tc.err.Error(), re.Message)
			require.Equal(t, tc.err.Error(), back.Error())
			require.Empty(t, re.Stack)
			if tc.causes {
				require.Equal(t, cause, errors.Unwrap(back))
			} else {
				require.NoError(t, errors.Unwrap(back))
			}
			require.Equal(t, back, send(t, back), "a second border changes nothing")
		})
	}
}

func ring() *cyclic {
	c := &cyclic{}
	c.Next = c
	return c
}

func runtimeError() (err error) {
	defer func() { err = recover().(runtime.Error) }()
	s := os.Args
	return errors.New(s[len(os.Args)])
}

// Whoever asks for the form of Unwrap finds the one that the original had.
func TestRemoteKeepsTheFormOfUnwrap(t *testing.T) {
	joined := errors.Join(errStock, fmt.Errorf("a: %w, b: %w", io.EOF, codeError{3}))
	for _, back := range []error{send(t, joined), send(t, send(t, joined))} {
		require.EqualError(t, back, joined.Error())
		errs := back.(interface{ Unwrap() []error }).Unwrap()
		require.Len(t, errs, 2)
		require.True(t, errs[0] == errStock)
		require.ErrorIs(t, errs[1], io.EOF)

		re, ok := errors.AsType[*executor.RemoteError](back)
		require.True(t, ok)
		require.Equal(t, "*errors.joinError", re.Type)
		require.Equal(t, joined.Error(), re.Message)
		require.ErrorIs(t, re, io.EOF)
		code, ok := errors.AsType[codeError](re)
		require.True(t, ok)
		require.Equal(t, 3, code.Code)
	}
	chain := fmt.Errorf("3: %w", fmt.Errorf("2: %w", errStock))
	back := send(t, chain)
	require.EqualError(t, errors.Unwrap(back), "2: shop: no stock")
	require.True(t, errors.Unwrap(errors.Unwrap(back)) == errStock)
}

// An Is method that matches what is not in the tree goes on matching it.
func TestRemoteIsMethod(t *testing.T) {
	back := send(t, fmt.Errorf("query: %w", isNotExist{}))
	for _, back := range []error{back, send(t, back)} {
		require.ErrorIs(t, back, fs.ErrNotExist)
		require.ErrorIs(t, back, errStock)
		require.NotErrorIs(t, back, fs.ErrExist)
		require.NotErrorIs(t, back, isNotExist{})
	}
	require.ErrorIs(t, send(t, syscall.EACCES), fs.ErrPermission)

	p := future.NewPromise[int]()
	p.Future().Cancel()
	_, err := p.Future().Result(t.Context())
	require.ErrorIs(t, send(t, err), future.ErrCancelled)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStock)
	_, err = future.NewPromise[int]().Future().Result(ctx)
	back = send(t, err)
	require.ErrorIs(t, back, future.ErrNotDone)
	require.ErrorIs(t, back, context.Canceled)
	require.ErrorIs(t, back, errStock)
}

// A panic has its stack, as text, and so has what wraps it. PRO-03, POL-23
func TestRemotePanic(t *testing.T) {
	p := &executor.PanicError{Value: fmt.Errorf("bad: %w", io.EOF), Stack: []byte("goroutine 7 [running]:\nmain.f()")}
	back := send(t, fmt.Errorf("task: %w", p))
	require.EqualError(t, back, "task: panic: bad: EOF")
	require.ErrorIs(t, back, io.EOF)
	var re *executor.RemoteError
	require.ErrorAs(t, back, &re)
	require.Equal(t, string(p.Stack), re.Stack)
	var pe *executor.PanicError
	require.ErrorAs(t, back, &pe)
	require.Equal(t, p.Stack, pe.Stack)

	for _, value := range []any{[]int{1, 2}, time.Second, struct{ A int }{3}, &struct{ A int }{3}, 1i} {
		p := &executor.PanicError{Value: value}
		back := send(t, p)
		require.ErrorAs(t, back, &pe)
		require.Equal(t, fmt.Sprint(value), pe.Value)
		require.EqualError(t, back, p.Error())
	}
}

// Gob's own fields come back, and so does what GobEncode forgets.
func TestRemoteGobForgetsTheCause(t *testing.T) {
	err := &forgetful{"no config", fmt.Errorf("p: %w", fs.ErrNotExist)}
	for _, back := range []error{send(t, err), send(t, fmt.Errorf("x: %w", err))} {
		require.ErrorIs(t, back, fs.ErrNotExist)
		var f *forgetful
		require.ErrorAs(t, back, &f)
		require.EqualError(t, f, "no config")
	}
	require.EqualError(t, send(t, err), "no config")
	plain := &forgetful{msg: "alone"}
	require.Equal(t, plain, send(t, plain))
}

// Sending changes nothing in the task's error. EXE-12
func TestRemoteLeavesTheErrorAlone(t *testing.T) {
	err := &wrapError{Op: "op", Err: &multiErr{Errs: []error{errStock, io.EOF}}}
	executor.EncodeError(err)
	require.Equal(t, &wrapError{Op: "op", Err: &multiErr{Errs: []error{errStock, io.EOF}}}, err)

	frozen := frozenError{"frozen"} // there is nothing about it that could be changed
	require.EqualError(t, send(t, frozen), "frozen")
}

type frozenError struct{ msg string }

func (e frozenError) Error() string { return e.msg }

// A failure is a failure, whatever it holds. FUT-28
func TestRemoteEmptyErrors(t *testing.T) {
	require.EqualError(t, send(t, errors.New("")), "")
	for _, err := range []error{(*fs.PathError)(nil), (*detailError)(nil), (*executor.RemoteError)(nil), (*executor.PanicError)(nil), (*wrapError)(nil)} {
		back := send(t, err)
		var re *executor.RemoteError
		require.ErrorAs(t, back, &re)
		require.Equal(t, fmt.Sprintf("%T", err), re.Type)
		require.Equal(t, "<nil>", re.Message)
	}
	require.EqualError(t, send(t, (*pointy)(nil)), "pointy")
	require.EqualError(t, send(t, (*safeErr)(nil)), "safe")
	require.EqualError(t, send(t, nil), "executor: a nil error was sent as the error of a call")
	require.EqualError(t, send(t, errors.Join(nil, errStock)), errStock.Error())
}

func TestRemoteMethodsThatPanic(t *testing.T) {
	back := send(t, fmt.Errorf("x: %w", errors.Join(io.EOF, errQuiet{&grumpy{"Error"}})))
	require.ErrorIs(t, back, io.EOF)
	require.EqualError(t, send(t, &grumpy{"Error"}), "executor: the Error method of a *executor_test.grumpy panicked: in Error")
	require.ErrorIs(t, send(t, &grumpy{"Error"}), io.EOF)
	for _, method := range []string{"Unwrap", "Is", "GobEncode", "GobDecode"} {
		require.EqualError(t, send(t, &grumpy{method}), "grumpy "+method)
	}
	require.EqualError(t, send(t, &fs.PathError{Op: "o"}), "executor: the Error method of a *fs.PathError panicked: runtime error: invalid memory address or nil pointer dereference")
	require.Contains(t, send(t, &net.OpError{Op: "o", Net: "n", Addr: (*net.TCPAddr)(nil), Err: io.EOF}).Error(), "<nil>")
	require.Contains(t, send(t, &executor.PanicError{Value: stringer{}}).Error(), "PANIC=String method")
}

type stringer struct{}

func (stringer) String() string { panic("in String") }

// errQuiet has a text although what it wraps panics.
type errQuiet struct{ error }

func (errQuiet) Error() string   { return "quiet" }
func (e errQuiet) Unwrap() error { return e.error }

// Depth and number are bounded; the text of the whole is not changed by it.
func TestRemoteBounds(t *testing.T) {
	err := errStock
	for range 99 {
		err = fmt.Errorf(".%w", err)
	}
	require.ErrorIs(t, send(t, err), errStock)
	for range 10_000 {
		err = fmt.Errorf(".%w", err)
	}
	back := send(t, err)
	require.EqualError(t, back, err.Error())
	require.NotErrorIs(t, back, errStock)
	require.EqualError(t, deepest(back), "executor: the rest of the error's causes was cut off")
	require.EqualError(t, send(t, back), err.Error())

	typed := error(errStock)
	for range 200 {
		typed = &fs.PathError{Op: "o", Path: "p", Err: typed}
	}
	require.EqualError(t, send(t, typed), typed.Error())

	many := make([]error, 50_000)
	for i := range many {
		many[i] = errStock
	}
	many[0] = io.EOF
	wide := errors.Join(many...)
	back = send(t, wide)
	require.EqualError(t, back, wide.Error())
	require.ErrorIs(t, back, io.EOF)
	require.Less(t, len(executor.EncodeError(wide)), 5<<20)
	require.EqualError(t, deepest(back), "executor: the rest of the error's causes was cut off")

	require.EqualError(t, send(t, &loop{}), "loop")
	require.EqualError(t, send(t, &bush{}), "bush")

	long := strings.Repeat("é", 1<<20)
	back = send(t, errors.New(long))
	require.True(t, strings.HasSuffix(back.Error(), fmt.Sprintf("é … (%d bytes more were cut off)", 1<<20)))
	big := make([]error, 16)
	for i := range big {
		big[i] = errors.New(long)
	}
	require.Less(t, len(executor.EncodeError(errors.Join(big...))), 8<<20)
	addr := &net.UnixAddr{Name: long, Net: long}
	last := errors.Join(big[0], big[1], &net.OpError{Op: long, Net: long, Source: addr, Addr: addr, Err: errStock})
	require.Less(t, len(executor.EncodeError(last)), 6<<20, "texts behind what is too much are cut shorter")
	require.Contains(t, send(t, last).Error(), "é … (")
	var lost *executor.WorkerLostError
	require.ErrorAs(t, send(t, &executor.WorkerLostError{Stderr: long, Cause: errStock}), &lost)
	require.ErrorIs(t, lost, errStock)
}

// deepest follows the last cause of err, and of that, to the end.
func deepest(err error) error {
	for {
		switch e := err.(type) {
		case interface{ Unwrap() []error }:
			errs := e.Unwrap()
			err = errs[len(errs)-1]
		default:
			next := errors.Unwrap(err)
			if next == nil {
				return err
			}
			err = next
		}
	}
}

func TestRegisterErrorMisuse(t *testing.T) {
	executor.RegisterError("shop.ErrStock", errStock)   // the same again does no harm
	executor.RegisterError("shop.ErrNoStock", errStock) // nor does a second name
	require.True(t, send(t, errStock) == errStock)
	require.PanicsWithValue(t, "executor: RegisterError with an empty name", func() { executor.RegisterError("", errLocal) })
	require.PanicsWithValue(t, `executor: RegisterError("a") with a nil error`, func() { executor.RegisterError("a", nil) })
	require.PanicsWithValue(t, `executor: RegisterError("shop.ErrStock"): the name is in use for another error`, func() { executor.RegisterError("shop.ErrStock", errLocal) })
	require.PanicsWithValue(t, `executor: RegisterError("io.EOF"): the name is in use for another error`, func() { executor.RegisterError("io.EOF", errLocal) })
	require.PanicsWithValue(t, `executor: RegisterError("b") with a executor_test.sliceError, which cannot be compared`, func() { executor.RegisterError("b", sliceError{}) })
	require.EqualError(t, send(t, sliceError{"x"}), "x")
}

type sliceError []string

func (e sliceError) Error() string { return strings.Join(e, "") }

// registered makes names that are new also when the tests run more than once.
var registered atomic.Int64

func TestRegisterErrorConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				err := errors.New("e")
				executor.RegisterError(fmt.Sprintf("concurrent.%d", registered.Add(1)), err)
				if executor.DecodeError(executor.EncodeError(err)) != err || !errors.Is(send(t, isNotExist{}), errStock) {
					t.Error("a registered error is another after the way there and back")
				}
			}
		})
	}
	wg.Wait()
}
