//go:build linux

package processpool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"math"
	"runtime/metrics"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// A knot is a type that can be nested without end.
type knot struct {
	Next *knot
	Any  any
}

// A knotError is an error that holds what it likes.
type knotError struct{ Any any }

func (knotError) Error() string { return "a knot" }

func init() {
	gob.Register(&knot{})
	gob.Register([]any{})
	gob.Register(knotError{})
}

// tie returns n knots in a row, or, if n is negative, one that is tied to itself.
func tie(n int) *knot {
	if n < 0 {
		k := &knot{}
		k.Next = &knot{Next: k}
		return k
	}
	var k *knot
	for range n {
		k = &knot{Next: k}
	}
	return k
}

func tieSlices(n int) any {
	if n < 0 {
		s := []any{nil}
		s[0] = s
		return s
	}
	var v any
	for range n {
		v = []any{v}
	}
	return v
}

func depthOf(k *knot) (n int) {
	for ; k != nil; k = k.Next {
		n++
	}
	return n
}

var (
	untie = executor.NewTask("untie", func(_ context.Context, k *knot) (int, error) { return depthOf(k), nil })

	tied = executor.NewTask("tied", func(_ context.Context, n int) (*knot, error) { return tie(n), nil })

	tiedAny = executor.NewTask("tiedAny", func(_ context.Context, n int) (any, error) { return tieSlices(n), nil })

	tiedError = executor.NewTask("tiedError", func(_ context.Context, n int) (int, error) {
		return 0, fmt.Errorf("wrapped: %w", knotError{tieSlices(n)})
	})

	tiedPanic = executor.NewTask("tiedPanic", func(_ context.Context, n int) (int, error) { panic(tieSlices(n)) })
)

const tooDeep = "cyclic or nested deeper than 10,000"

// What is nested up to 10,000 deep travels. What is deeper, or has no end, fails its own
// call, by an error that says where: in each direction, behind interfaces, in errors and
// in the values of panics. No worker is lost. gob would overflow its stack. // PRO-28
func TestNestedValues(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	before, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	for _, n := range []int{0, 1, 9_999, 10_000} {
		got, err := executor.Apply(ctx, p, untie, tie(n))
		require.NoError(t, err)
		require.Equal(t, n, got)
		k, err := executor.Apply(ctx, p, tied, n)
		require.NoError(t, err)
		require.Equal(t, n, depthOf(k))
	}
	v, err := executor.Apply(ctx, p, anything, tieSlices(10_000)) // once: gob copies what is inside at each level
	require.NoError(t, err)
	require.IsType(t, []any{}, v)
	for _, n := range []int{10_001, 1_000_000, -1} {
		_, err := executor.Apply(ctx, p, untie, tie(n))
		require.ErrorContains(t, err, `task "untie": encoding the argument: knot.Next.Next`)
		require.ErrorContains(t, err, tooDeep)
		_, err = executor.Apply(ctx, p, tied, n)
		require.ErrorContains(t, err, `task "tied": encoding the result: knot.Next.Next`)
		require.ErrorContains(t, err, tooDeep)
		_, err = executor.Apply(ctx, p, anything, tieSlices(n))
		require.ErrorContains(t, err, `task "anything": encoding the argument: value[0][0]`)
		require.ErrorContains(t, err, tooDeep)
		_, err = executor.Apply(ctx, p, tiedAny, n)
		require.ErrorContains(t, err, `task "tiedAny": encoding the result: value[0][0]`)
		require.ErrorContains(t, err, tooDeep)
		_, err = executor.Apply(ctx, p, tiedError, n)
		require.EqualError(t, err, "wrapped: a knot")
		_, err = executor.Apply(ctx, p, tiedPanic, n)
		var panicked *executor.PanicError
		require.ErrorAs(t, err, &panicked)
		require.Contains(t, panicked.Error(), "a []interface {} that is cyclic, or too large to be printed")
	}
	_, err = executor.Apply(ctx, p, tiedError, 3)
	var held knotError
	require.ErrorAs(t, err, &held)
	require.Equal(t, knotError{tieSlices(3)}, held)
	after, err := executor.Apply(ctx, p, pid, struct{}{})
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// betray writes what it is told to the socket of its worker, in place of an answer, and
// goes on for ever, or returns, or ends the process.
func betray[R any](_ context.Context, a betrayal) (r R, err error) {
	for b := a.Bytes; len(b) > 0; {
		n, err := syscall.Write(3, b)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			continue
		}
		if err != nil {
			return r, err
		}
		b = b[n:]
	}
	switch a.Then {
	case "hang":
		select {}
	case "die":
		syscall.Exit(3)
	}
	return r, nil
}

type betrayal struct {
	Bytes []byte
	Then  string
}

var (
	betrayAny  = executor.NewTask("betrayAny", betray[any])
	betrayKnot = executor.NewTask("betrayKnot", betray[*knot])
	betrayMap  = executor.NewTask("betrayMap", betray[map[string]string])
	betrayInt  = executor.NewTask("betrayInt", betray[int])
)

// answer is the frame of an answer to the first call that a worker gets.
func answer(kind wire.Kind, flags uint8, payload []byte) []byte {
	return wire.Append(nil, wire.Header{Kind: kind, Seq: 2, Flags: flags}, payload)
}

// gobOf is a struct{ V }, whose V is of the type number id and has the bytes value. types
// describe number 65.
func gobOf(types []byte, id byte, value []byte) []byte {
	number := []byte{2 * id}
	if id >= 64 {
		number = []byte{0xff, 2 * id}
	}
	box := append(append([]byte{127, 3, 1, 1, 1, 'B', 0, 1, 1, 1, 1, 'V', 1}, number...), 0, 0, 0)
	b := append(bytes.Clone(types), message(box)...)
	return append(b, message(append(append([]byte{0xff, 128, 1}, value...), 0))...)
}

// message is b with its length before it, as gob has it.
func message(b []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{0xf8}, uint64(len(b))), b...)
}

// Definitions of number 65.
var (
	knots = message([]byte{0xff, 129, 3, 1, 1, 1, 'k', 0, 1, 1, 1, 4, 'N', 'e', 'x', 't', 1, 0xff, 130, 0, 0, 0}) // type k struct{ Next *k }
	rows  = message([]byte{0xff, 129, 2, 1, 1, 1, 's', 0, 1, 0xff, 130, 0, 0})                                    // type s []s
	maps  = message([]byte{0xff, 129, 4, 1, 1, 1, 'm', 0, 1, 12, 1, 12, 0, 0})                                    // map[string]string
)

// A worker that answers with what no worker of ours would say fails its own call: it is
// killed, and the error says why. The pool goes on, and the program has not had more
// memory than was sent to it. // DEA-15
func TestHostileWorker(t *testing.T) {
	ones := bytes.Repeat([]byte{1}, 4<<20)
	huge := binary.LittleEndian.AppendUint64(nil, 4<<30)
	for name, tt := range map[string]struct {
		call  func(context.Context, *processpool.Pool, betrayal) error
		bytes []byte
		then  string
		want  string
	}{
		"a type of nothing":           {call: apply(betrayKnot), bytes: answer(wire.KindResult, wire.FlagStart, gobOf(knots, 0, nil)), want: "makes no sense"},
		"a knot, four million deep":   {call: apply(betrayKnot), bytes: answer(wire.KindResult, wire.FlagStart, gobOf(knots, 65, ones)), want: "nested deeper than 10,000"},
		"to be skipped":               {call: apply(betrayInt), bytes: answer(wire.KindResult, wire.FlagStart, gobOf(rows, 65, ones)), want: "nested deeper than 10,000"},
		"alone":                       {call: apply(betrayKnot), bytes: answer(wire.KindResult, wire.FlagAlone, gobOf(knots, 65, ones)), want: "nested deeper than 10,000"},
		"map of a billion":            {call: apply(betrayMap), bytes: answer(wire.KindResult, wire.FlagStart, gobOf(maps, 65, []byte{0xfc, 0x40, 0, 0, 0})), want: "claims to be longer than it is"},
		"interfaces in a stream":      {call: apply(betrayInt), bytes: answer(wire.KindResult, wire.FlagStart, gobOf(nil, 8, []byte{0})), want: "an interface in a stream"},
		"string beyond its interface": {call: apply(betrayAny), bytes: answer(wire.KindResult, wire.FlagAlone, gobOf(nil, 8, []byte("\x06string\x0c\x02\x00\x7f"))), want: "claims to be longer than it is"},
		"garbage for gob":             {call: apply(betrayAny), bytes: answer(wire.KindResult, wire.FlagAlone, []byte("\x7fgarbage")), want: "claims to be longer than it is"},
		"a stream that never began":   {call: apply(betrayInt), bytes: answer(wire.KindResult, 0, []byte{3, 2, 0, 0}), want: "a stream that has not started"},
		"nothing":                     {call: apply(betrayInt), bytes: answer(wire.KindResult, wire.FlagStart, nil), want: "claims to be longer than it is"},
		"garbage for frames":          {call: apply(betrayInt), bytes: bytes.Repeat([]byte("garbage."), 1000), want: "is over the limit of"},
		"a frame of 4 GiB":            {call: apply(betrayInt), bytes: append(huge, make([]byte, 1000)...), want: "a frame of 4294967296 bytes is over the limit of"},
		"a frame of 2^64-1":           {call: apply(betrayInt), bytes: bytes.Repeat([]byte{0xff}, 24), want: "is over the limit of"},
		"half a frame":                {call: apply(betrayInt), bytes: answer(wire.KindResult, 0, make([]byte, 40<<20))[:100], then: "die", want: "exit status 3"},
		"an answer to another call":   {call: apply(betrayInt), bytes: wire.Append(nil, wire.Header{Kind: wire.KindResult, Seq: 77}, nil), want: "an answer to item 0 of call 77, which nobody waits for"},
		"an answer to another item":   {call: apply(betrayInt), bytes: wire.Append(nil, wire.Header{Kind: wire.KindResult, Seq: 2, Item: math.MaxUint32}, nil), want: "which nobody waits for"},
		"skipped, for no reason":      {call: apply(betrayInt), bytes: answer(wire.KindSkipped, 0, nil), want: "was skipped without being interrupted"},
		"a parent's frame":            {call: apply(betrayInt), bytes: answer(wire.KindCall, 0, nil), want: "a frame of kind 3"},
		"a frame of no kind":          {call: apply(betrayInt), bytes: answer(0, 0, nil), want: "a frame of kind 0"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{MaxMessage: 64 << 20, Output: hushed.Output}})
			before := heap()
			then := tt.then
			if then == "" {
				then = "hang"
			}
			err := tt.call(ctx, p, betrayal{tt.bytes, then})
			var lost *executor.WorkerLostError
			require.ErrorAs(t, err, &lost)
			require.ErrorContains(t, lost.Cause, tt.want)
			if then == "hang" {
				require.Equal(t, syscall.SIGKILL, lost.Signal)
				require.ErrorContains(t, lost.Cause, "killed for breaking the protocol")
			}
			// The argument, its encoding, and what came back; not what that claims to be.
			require.Less(t, heap()-before, uint64(32<<20+8*len(tt.bytes)))
			goesOn(t, p)
			require.Equal(t, executor.Stats{Submitted: 21, Succeeded: 20, Failed: 1, WorkersLost: 1}, counts(p))
		})
	}
}

// An error that cannot be read is that of its call. If the worker is gone before it takes
// up another, that costs no call.
func TestHostileError(t *testing.T) {
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	err := apply(betrayInt)(within(t), p, betrayal{answer(wire.KindError, 0, []byte("no error")), "die"})
	require.EqualError(t, err, "executor: an error came back from another process in a form that cannot be read")
	goesOn(t, p)
}

// A worker that answers twice is killed for the second answer. By then it may have taken up
// its next call, which is lost with it, but no other.
func TestHostileTwice(t *testing.T) {
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	require.ErrorContains(t, apply(betrayInt)(within(t), p, betrayal{answer(wire.KindError, 0, nil), ""}), "cannot be read")
	_, err := executor.Apply(within(t), p, double, 1)
	if err != nil {
		var lost *executor.WorkerLostError
		require.ErrorAs(t, err, &lost)
		require.ErrorContains(t, lost.Cause, "killed for breaking the protocol: an answer to item 0 of call 2, which nobody waits for")
	}
	goesOn(t, p)
}

func apply[R any](task executor.Task[betrayal, R]) func(context.Context, *processpool.Pool, betrayal) error {
	return func(ctx context.Context, p *processpool.Pool, b betrayal) error {
		_, err := executor.Apply(ctx, p, task, b)
		return err
	}
}

// goesOn asserts that the pool does.
func goesOn(t *testing.T, p *processpool.Pool) {
	t.Helper()
	ctx := within(t)
	for i := range 20 {
		got, err := executor.Apply(ctx, p, double, i)
		require.NoError(t, err)
		require.Equal(t, 2*i, got)
	}
}

// heap returns how many bytes were allocated so far.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
