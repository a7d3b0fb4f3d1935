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

// betray writes what it is told to the memory that its worker shares with the parent and to
// its socket, in place of an answer, and goes on for ever, or returns, or ends the process.
func betray[R any](_ context.Context, a betrayal) (r R, err error) {
	if len(a.Pokes) > 0 {
		if err := pokeAll(a.Pokes); err != nil {
			return r, err
		}
	}
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
	if a.Path != "" {
		announce(a.Path)
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
	Pokes []poke // first
	Bytes []byte
	Path  string // what is announced then, if it is not empty
	Then  string
}

func (b betrayal) size() int {
	n := len(b.Bytes)
	for _, p := range b.Pokes {
		n += len(p.Bytes)
	}
	return n
}

var (
	betrayAny  = executor.NewTask("betrayAny", betray[any])
	betrayKnot = executor.NewTask("betrayKnot", betray[*knot])
	betrayMap  = executor.NewTask("betrayMap", betray[map[string]string])
	betrayInt  = executor.NewTask("betrayInt", betray[int])
	betrayText = executor.NewTask("betrayText", betray[[]byte])
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
	dicts = message([]byte{0xff, 129, 4, 1, 1, 1, 'm', 0, 1, 12, 1, 12, 0, 0})                                    // map[string]string
)

// A lie is the payload of a result that no worker of ours would say, for a call that answers
// with it and goes on for ever.
type lie struct {
	call    func(context.Context, *processpool.Pool, betrayal) error
	flags   uint8
	payload []byte
	want    string
}

// nonsense returns lies. No variable holds them, for each worker would make it, too.
func nonsense() map[string]lie {
	ones := bytes.Repeat([]byte{1}, 4<<20)
	return map[string]lie{
		"a type of nothing":           {apply(betrayKnot), wire.FlagStart, gobOf(knots, 0, nil), "makes no sense"},
		"a knot, four million deep":   {apply(betrayKnot), wire.FlagStart, gobOf(knots, 65, ones), "nested deeper than 10,000"},
		"to be skipped":               {apply(betrayInt), wire.FlagStart, gobOf(rows, 65, ones), "nested deeper than 10,000"},
		"alone":                       {apply(betrayKnot), wire.FlagAlone, gobOf(knots, 65, ones), "nested deeper than 10,000"},
		"map of a billion":            {apply(betrayMap), wire.FlagStart, gobOf(dicts, 65, []byte{0xfc, 0x40, 0, 0, 0}), "claims to be longer than it is"},
		"interfaces in a stream":      {apply(betrayInt), wire.FlagStart, gobOf(nil, 8, []byte{0}), "an interface in a stream"},
		"string beyond its interface": {apply(betrayAny), wire.FlagAlone, gobOf(nil, 8, []byte("\x06string\x0c\x02\x00\x7f")), "claims to be longer than it is"},
		"garbage for gob":             {apply(betrayAny), wire.FlagAlone, []byte("\x7fgarbage"), "claims to be longer than it is"},
		"a stream that never began":   {apply(betrayInt), 0, []byte{3, 2, 0, 0}, "a stream that has not started"},
		"nothing":                     {apply(betrayInt), wire.FlagStart, nil, "claims to be longer than it is"},
		"plain, and alone":            {apply(betrayInt), wire.FlagPlain | wire.FlagAlone, make([]byte, 8), "a plain value of a stream, or alone"},
		"parts that are nowhere":      {apply(betrayInt), wire.FlagParts, make([]byte, 8), "parts of a value that are not where they should be"},
	}
}

// A worker that answers with what no worker of ours would say fails its own call: it is
// killed, and the error says why. The pool goes on, and the program has not had more
// memory than was sent to it. This is what there is to be said on the socket; see
// TestHostileMemory. // DEA-15
func TestHostileWorker(t *testing.T) {
	processpool.Without(t, "no ring")
	for name, tt := range nonsense() {
		t.Run(name, func(t *testing.T) {
			isBetrayed(t, tt.call, betrayal{Bytes: answer(wire.KindResult, tt.flags, tt.payload)}, tt.want)
		})
	}
	huge := binary.LittleEndian.AppendUint64(nil, 4<<30)
	for name, tt := range map[string]struct {
		bytes []byte
		then  string
		want  string
	}{
		"garbage for frames":        {bytes: bytes.Repeat([]byte("garbage."), 1000), want: "is over the limit of"},
		"a frame of 4 GiB":          {bytes: append(huge, make([]byte, 1000)...), want: "a frame of 4294967296 bytes is over the limit of"},
		"a frame of 2^64-1":         {bytes: bytes.Repeat([]byte{0xff}, 24), want: "is over the limit of"},
		"half a frame":              {bytes: answer(wire.KindResult, 0, make([]byte, 40<<20))[:100], then: "die", want: "exit status 3"},
		"an answer to another call": {bytes: wire.Append(nil, wire.Header{Kind: wire.KindResult, Seq: 77}, nil), want: "to call 77, which nobody waits for"},
		"an answer to another item": {bytes: wire.Append(nil, wire.Header{Kind: wire.KindResult, Seq: 2, Item: math.MaxUint32}, nil), want: "which nobody waits for"},
		"skipped, for no reason":    {bytes: answer(wire.KindSkipped, 0, nil), want: "was skipped without being interrupted"},
		"taken up twice":            {bytes: bytes.Repeat(answer(wire.KindStarted, 0, nil), 2), want: "call 2 was taken up twice"},
		"a parent's frame":          {bytes: answer(wire.KindCall, 0, nil), want: "an answer of kind 3"},
		"a frame of no kind":        {bytes: answer(0, 0, nil), want: "an answer of kind 0"},
	} {
		t.Run(name, func(t *testing.T) {
			isBetrayed(t, apply(betrayInt), betrayal{Bytes: tt.bytes, Then: tt.then}, tt.want)
		})
	}
}

// isBetrayed has the first call of a worker do what b says, beside another worker, whose
// call does not notice.
func isBetrayed(t *testing.T, call func(context.Context, *processpool.Pool, betrayal) error, b betrayal, want string) {
	t.Helper()
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 2, Worker: worker.Config{MaxMessage: 64 << 20, Output: hushed.Output}})
	held := hold(t, p, 1)[0]
	before := heap()
	if b.Then == "" {
		b.Then = "hang"
	}
	err := call(ctx, p, b)
	var lost *executor.WorkerLostError
	require.ErrorAs(t, err, &lost)
	require.ErrorContains(t, lost.Cause, want)
	if b.Then == "hang" {
		require.Equal(t, syscall.SIGKILL, lost.Signal)
		require.ErrorContains(t, lost.Cause, "killed for breaking the protocol")
	}
	// The argument, its encoding, and what came back; not what that claims to be.
	require.Less(t, heap()-before, uint64(32<<20+8*b.size()))
	goesOn(t, p)
	require.True(t, held.IsRunning())
	require.True(t, held.Interrupt(errReason))
	require.NoError(t, held.Exception(ctx))
	require.Equal(t, executor.Stats{Submitted: 22, Succeeded: 21, Failed: 1, WorkersLost: 1}, counts(p))
}

// An error that cannot be read is that of its call. If the worker is gone before it takes
// up another, that costs no call.
func TestHostileError(t *testing.T) {
	for name, b := range map[string]betrayal{
		"no ring": {Bytes: answer(wire.KindError, 0, []byte("no error")), Then: "die"},
		"all":     {Pokes: publish(record(wire.KindError, 0, 2, []byte("no error"))), Bytes: bell, Then: "die"},
	} {
		t.Run(name, func(t *testing.T) {
			processpool.Without(t, name)
			p := open(t, processpool.Config{Workers: 1, Worker: hushed})
			err := apply(betrayInt)(within(t), p, b)
			require.EqualError(t, err, "executor: an error came back from another process in a form that cannot be read")
			goesOn(t, p)
		})
	}
}

// A worker that answers twice is killed for the second answer. By then it may have taken up
// its next call, which is lost with it, but no other.
func TestHostileTwice(t *testing.T) {
	one := record(wire.KindError, 0, 2, nil)
	for name, b := range map[string]betrayal{
		"no ring": {Bytes: answer(wire.KindError, 0, nil)},
		"all":     {Pokes: publish(one, one), Bytes: bell, Then: "hang"},
	} {
		t.Run(name, func(t *testing.T) {
			processpool.Without(t, name)
			p := open(t, processpool.Config{Workers: 1, Worker: hushed})
			require.ErrorContains(t, apply(betrayInt)(within(t), p, b), "cannot be read")
			_, err := executor.Apply(within(t), p, double, 1)
			if err != nil {
				var lost *executor.WorkerLostError
				require.ErrorAs(t, err, &lost)
				require.ErrorContains(t, lost.Cause, "killed for breaking the protocol: an answer of kind")
				require.ErrorContains(t, lost.Cause, "to call 2, which nobody waits for")
			}
			goesOn(t, p)
		})
	}
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
