package executor_test

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
)

const errMalformed = "executor: an error came back from another process in a form that cannot be read"

// Bytes that are no error become one, never a panic or nil.
func TestDecodeErrorMalformed(t *testing.T) {
	good := executor.EncodeError(fmt.Errorf("x: %w", &executor.PanicError{Value: &wrapError{Op: "op", Err: syscall.ENOENT}, Stack: []byte("s")}))
	for n := range good {
		require.EqualError(t, executor.DecodeError(good[:n]), errMalformed, "cut at %d", n)
	}
	require.EqualError(t, executor.DecodeError(append(slices.Clip(good), 0)), errMalformed)
	require.EqualError(t, executor.DecodeError(nil), errMalformed)
	other := append([]byte{}, good...)
	other[0]++
	require.EqualError(t, executor.DecodeError(other), errMalformed)

	// One RemoteError in another, a million deep.
	deep := []byte{1}
	for range 1 << 20 {
		deep = append(deep, 0, 0, 0, 0, 0, 0, 1)
	}
	require.EqualError(t, executor.DecodeError(deep), errMalformed)
	// A gob of a list of 100,000 errors, which EncodeError would not have made.
	list := &cyclic{}
	for range 100_000 {
		list = &cyclic{Next: list}
	}
	var blob bytes.Buffer
	require.NoError(t, gob.NewEncoder(&blob).Encode(&struct{ V any }{list}))
	node := []byte{1, 4}
	for _, s := range []string{"*executor_test.cyclic", "cyclic", "", blob.String()} {
		node = append(binary.AppendUvarint(node, uint64(len(s))), s...)
	}
	require.EqualError(t, executor.DecodeError(append(node, 0)), "cyclic")
	require.EqualError(t, send(t, list), "cyclic")
	// And a million beside each other.
	wide := []byte{1, 0, 0, 0, 0, 0, 0}
	for range 1 << 20 {
		wide = append(wide, 1, 0, 0, 0, 0, 0, 0, 0)
	}
	require.EqualError(t, executor.DecodeError(append(wide, 0)), errMalformed)
}

// The text of an error has those of its causes in it. So what claims to be a chain of
// many with a long text at its end is refused, rather than put together a hundred times
// over; and what is not refused is not put together at all.
func TestDecodeErrorIsQuick(t *testing.T) {
	chain := func(text int) []byte {
		b := []byte{1}
		for range 99 {
			b = append(b, 3) // kindStruct
			for _, s := range []string{"*future.PanicError", "", ""} {
				if b = append(b, byte(len(s))); s == "" {
					continue
				}
				b = append(b, s...)
			}
			b = append(b, 1, 1) // the value is an error
		}
		b = append(b, 0, 0)
		b = append(binary.AppendUvarint(b, uint64(text)), make([]byte, text)...)
		b = append(b, 0, 0, 0, 0)
		for range 99 {
			b = append(b, 0, 0) // the end of the list, and no stack
		}
		return b
	}
	before := allocated()
	err := executor.DecodeError(chain(1 << 20))
	require.Less(t, allocated()-before, uint64(4<<20))
	require.True(t, strings.HasPrefix(err.Error(), strings.Repeat("panic: ", 99)))
	for _, text := range []int{1<<20 + 65, 10 << 20} {
		require.EqualError(t, executor.DecodeError(chain(text)), errMalformed)
	}
	require.EqualError(t, executor.DecodeError(make([]byte, 8<<20+1)), errMalformed)
}

// allocated returns how many bytes were allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// What is not known here is a RemoteError that still says what it was.
func TestDecodeErrorOfAnotherProgram(t *testing.T) {
	b := executor.EncodeError(&wrapError{Op: "op", Err: errors.Join(errStock, io.EOF)})
	b = []byte(strings.ReplaceAll(string(b), "executor_test.wrapError", "executor_test.wrapErrox"))
	b = []byte(strings.ReplaceAll(string(b), "shop.ErrStock", "shop.ErrStocx"))
	back := executor.DecodeError(b)
	require.EqualError(t, back, "op: shop: no stock\nEOF")
	require.ErrorIs(t, back, io.EOF)
	require.NotErrorIs(t, back, errStock)
	re, ok := errors.AsType[*executor.RemoteError](back)
	require.True(t, ok)
	require.Equal(t, "*executor_test.wrapErrox", re.Type)

	b = executor.EncodeError(&fs.PathError{Op: "open", Path: "p", Err: syscall.EPERM})
	b = []byte(strings.Replace(string(b), runtime.GOOS, strings.Repeat("x", len(runtime.GOOS)), 1))
	back = executor.DecodeError(b)
	require.ErrorIs(t, back, fs.ErrPermission)
	require.NotErrorIs(t, back, syscall.EPERM)
}

func FuzzDecodeError(f *testing.F) {
	for _, err := range []error{
		errLocal, errStock, syscall.ENOENT, ring(),
		codeError{1},
		isNotExist{},
		&fs.PathError{Op: "o", Path: "p", Err: fmt.Errorf("x: %w", io.EOF)},
		errors.Join(errStock, &wrapError{Op: "op", Err: io.EOF}),
		&multiErr{N: 1, Errs: []error{errStock, &forgetful{"m", io.EOF}}},
		&executor.PanicError{Value: 1, Stack: []byte("s")},
		&executor.PanicError{Value: 1.5}, &executor.PanicError{Value: "s"}, &executor.PanicError{Value: true}, &executor.PanicError{Value: uint8(1)},
		&executor.WorkerLostError{PID: 1, Task: "t", Signal: syscall.SIGTERM, Cause: executor.ErrTimeout},
		&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{Port: 1}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		&executor.RemoteError{Type: "t", Message: "m", Stack: "s"},
	} {
		f.Add(executor.EncodeError(err))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := executor.DecodeError(b)
		if err == nil {
			t.Fatal("DecodeError returned nil")
		}
		text := err.Error()
		_ = errors.Is(err, errStock)
		_ = errors.As(err, new(*net.OpError))
		again := executor.DecodeError(executor.EncodeError(err))
		if again.Error() != text && len(text) < 1<<19 {
			t.Fatalf("the text became %q, was %q", again, text)
		}
	})
}

func BenchmarkRemoteError(b *testing.B) {
	for name, err := range map[string]error{
		"sentinel": io.EOF,
		"path":     &fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT},
		"wrapped":  fmt.Errorf("a: %w", fmt.Errorf("b: %w", io.EOF)),
		"gob":      &detailError{"f", 1},
	} {
		b.Run("error="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = executor.DecodeError(executor.EncodeError(err))
			}
		})
	}
}

// A package registers its sentinels where it declares them, in an init function. A
// second time, as here, does no harm.
func ExampleRegisterError() {
	executor.RegisterError("shop.ErrStock", errStock)

	// What a backend does with the error of a task, in the worker and here.
	b := executor.EncodeError(fmt.Errorf("order 12: %w", errStock))
	err := executor.DecodeError(b)

	fmt.Println(err)
	fmt.Println(errors.Is(err, errStock))
	// Output:
	// order 12: shop: no stock
	// true
}
