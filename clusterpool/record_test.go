package clusterpool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
)

// These tests are inside of the package: what they are about is what travels, which is
// nobody's business outside.

var records = map[string]record{
	"cancelled":             {kind: recCancelled, items: []byte{}},
	"cancelled for a cause": {kind: recCancelled, items: executor.EncodeError(io.EOF)},
	"running":               {kind: recRunning, token: math.MaxUint64, worker: "w-1", pid: 4711, why: []byte{}},
	"given back":            {kind: recRunning, token: 1, worker: "w", pid: 1, free: true, why: []byte{}},
	"taken over": {
		kind: recRunning, token: 2, worker: "w-2", pid: 1 << 22, takeovers: 3, lost: 5, retried: 48,
		losses: []loss{{0, 1}, {15, 2}}, why: executor.EncodeError(io.ErrUnexpectedEOF),
	},
	"done":              {kind: recDone, token: 3, worker: "w", pid: 7, items: appendItem(appendItem(nil, outValue, 3, []byte("a")), outSkipped, 0, nil)},
	"done, by a client": {kind: recDone, items: encodedFailure(io.EOF)},
	"done, large":       {kind: recDone, token: 4, worker: "w", pid: 7, takeovers: 1, losses: []loss{{3, 1}}, blob: true, items: []byte("me.g1.2.abc")},
}

// A record is read as it was written, and what is cut off it is refused or does not change
// who has the call.
func TestRecord(t *testing.T) {
	for name, want := range records {
		t.Run(name, func(t *testing.T) {
			b := want.append(nil)
			want.seq = 12
			got, err := parseRecord(b, 12)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, append([]byte("before"), b...), got.append([]byte("before")))

			for n := range b {
				short, err := parseRecord(b[:n], 12)
				if err != nil {
					require.ErrorIs(t, err, errRecord)
					continue
				}
				require.Equal(t, want.kind, short.kind)
				require.Equal(t, want.token, short.token)
				require.Equal(t, want.losses, short.losses)
			}
		})
	}
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"another kind":          {'X', 1, 2, 3},
		"a name beyond its end": append(append([]byte{recRunning}, make([]byte, 8)...), 200, 'w'),
		"a process below zero":  append(append([]byte{recRunning}, make([]byte, 9)...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"millions of losses":    append(append([]byte{recDone}, make([]byte, 13)...), 0xff, 0xff, 0xff, 0x7f, 1, 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseRecord(b, 1)
			require.ErrorIs(t, err, errRecord)
		})
	}
}

// Each item of a chunk has its own count of how often it was begun: a takeover begins all.
func TestRecordRuns(t *testing.T) {
	r := record{takeovers: 2, losses: []loss{{1, 3}, {4, 1}}}
	for item, want := range []int{2, 5, 2, 2, 3} {
		require.Equal(t, want, r.runs(item), item)
	}
}

var heads = map[string]head{
	"least": {task: "t", items: 1},
	"all of it": {
		task: "package.task", signature: math.MaxUint64, timeout: time.Hour, deadline: time.Now().UnixNano(),
		retries: 1000, keep: 24 * time.Hour, items: 3, packed: true,
	},
	"in the object store": {task: "t", keep: time.Hour, items: 1 << 20, blob: true},
}

func TestHead(t *testing.T) {
	for name, want := range heads {
		t.Run(name, func(t *testing.T) {
			rest := []byte("arguments")
			b := want.append(nil)
			got, left, err := parseHead(append(b, rest...))
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, rest, left)
			for n := range b {
				_, _, err := parseHead(b[:n])
				require.Error(t, err)
			}
		})
	}
	valid := head{task: "t", items: 1}
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"of another version": {append([]byte{headVersion + 1}, valid.append(nil)[1:]...), "in version 2 of the format, and this worker knows version 1"},
		"no items":           {(&head{task: "t", items: 0}).append(nil), "does not make sense"},
		"too many items":     {(&head{task: "t", items: 1<<24 + 1, blob: true}).append(nil), "does not make sense"},
		// It used to be taken for true, and its failure took gigabytes.
		"more items than bytes": {append((&head{task: "t", items: 1 << 24}).append(nil), "arguments"...), "does not make sense"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseHead(tt.b)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestInterruption(t *testing.T) {
	for name, want := range map[string]interruption{
		"for a cause": {id: "me.g1.2", cause: executor.EncodeError(io.EOF)},
		"deadline":    {id: "me.g1.2", deadline: true, cause: executor.EncodeError(context.DeadlineExceeded)},
	} {
		t.Run(name, func(t *testing.T) {
			b := want.append(nil)
			got, ok := parseInterruption(b)
			require.True(t, ok)
			require.Equal(t, want, got)
			for n := range len(want.id) + 1 {
				_, ok := parseInterruption(b[:n])
				require.False(t, ok)
			}
		})
	}
}

// FuzzRecord has a client take in what it likes as the record of its calls.
func FuzzRecord(f *testing.F) {
	for _, r := range records {
		f.Add(r.append(nil))
	}
	for _, items := range fuzzedItems {
		f.Add((&record{kind: recDone, items: items}).append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		var err error
		bounded(t, len(b), func() { r, err = parseRecord(b, 1) })
		if err != nil {
			return
		}
		again, err := parseRecord(r.append(nil), 1)
		if err != nil {
			t.Fatalf("what was read is written as something else: %v", err)
		}
		again.items, r.items = nil, nil
		if a, b := again.append(nil), r.append(nil); !bytes.Equal(a, b) {
			t.Fatalf("%q is read as %q", b, a)
		}
	})
}

// What outcomes of two items of plainTask and of gobTask may look like.
var fuzzedItems = func() (all [][]byte) {
	number := func(n int64) []byte {
		b, ok := wire.Result(nil, &wire.Box[int64]{V: n})
		if !ok {
			panic("a number is plain")
		}
		return b
	}
	all = append(all,
		appendItem(appendItem(nil, outValue, wire.FlagPlain, number(1)), outValue, wire.FlagPlain, number(-1)),
		appendItem(appendItem(nil, outError, 0, executor.EncodeError(io.EOF)), outValue, wire.FlagPlain, number(7)),
		appendItem(appendItem(nil, outSkipped, 0, nil), outError, 0, executor.EncodeError(errors.New("other"))),
		appendItem(nil, outRest, 0, executor.EncodeError(io.EOF)),
	)
	var results wire.Wholes
	var b []byte
	for range 2 {
		err := results.Encode(&wire.Box[shape]{V: shape{"s", []int{1, 2}, map[string]any{"a": 1}}}, 1<<20, func(p wire.Payload, flags uint8) {
			b = appendItem(b, outValue, flags, bytes.Clone(p.Bytes()))
		})
		if err != nil {
			panic(err)
		}
	}
	return append(all, b)
}()

type shape struct {
	Name  string
	Sizes []int
	More  map[string]any
}

var (
	plainTask = executor.NewTask("clusterpool.plain", func(_ context.Context, n int64) (int64, error) { return n, nil })
	gobTask   = executor.NewTask("clusterpool.gob", func(_ context.Context, s shape) (shape, error) { return s, nil })
)

// FuzzItems has a client take in what it likes as the outcomes of calls: afterwards each has
// ended.
func FuzzItems(f *testing.F) {
	for _, b := range fuzzedItems {
		f.Add(b, uint8(0))
		f.Add(b, uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, ahead uint8) {
		completed(t, plainTask, []int64{1, 2}, b, int(ahead))
		completed(t, gobTask, []shape{{Name: "a"}, {Name: "b"}}, b, int(ahead))
	})
}

// completed completes calls by b, of which so many first items have failed before.
func completed[T any](t *testing.T, task executor.Task[T, T], args []T, b []byte, ahead int) {
	p := &Pool{calls: map[string]*call{}}
	c := &capture{pool: p}
	fs := executor.SubmitAll(t.Context(), c, task, args)
	for _, e := range c.calls {
		e.Start()
		e.ahead = min(ahead, e.Len())
		for i := range e.ahead {
			e.Fail(i, io.ErrNoProgress)
		}
		ok := false
		bounded(t, len(b), func() { ok = p.completeItems(e, 0, e.Len(), b) })
		if !ok {
			e.fail(errRecord)
		}
	}
	for i, f := range fs {
		if !f.IsDone() {
			t.Fatalf("item %d has not ended", i)
		}
	}
	if len(p.calls) > 0 {
		t.Fatalf("%d calls are not forgotten", len(p.calls))
	}
}

// A capture takes calls as a Pool does, and sends them to nobody.
type capture struct {
	executor.Executor
	pool  *Pool
	calls []*call
}

func (c *capture) Execute(x executor.Call) error {
	e := &call{Call: x, pool: c.pool, left: x.Len()}
	e.gen, e.id = c.pool.gens.next("me")
	c.pool.calls[e.id] = e
	x.Accept(host{c.pool})
	x.Assign(e)
	c.calls = append(c.calls, e)
	return nil
}

// FuzzHead has a worker take what it likes for the message of a call.
func FuzzHead(f *testing.F) {
	for _, h := range heads {
		f.Add(append(h.append(nil), "arguments"...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), func() {
			h, rest, err := parseHead(b)
			if err != nil {
				return
			}
			if h.items < 1 || !h.blob && h.items > len(rest) || h.timeout < 0 || h.keep < 0 || h.retries < 0 {
				t.Fatalf("%+v with %d bytes of arguments", h, len(rest))
			}
			if again, left, err := parseHead(h.append(nil)); !h.blob && len(rest) > 0 && err == nil {
				t.Fatalf("%+v without its arguments is read as %+v, %q", h, again, left)
			}
			ttl(h.keep)
		})
	})
}

// FuzzTask has a worker run what it likes: the message of a call, head and arguments. Each
// item has an outcome.
func FuzzTask(f *testing.F) {
	plain := head{task: plainTask.Name(), signature: codecOf(plainTask.Name()).signature, items: 2, packed: true}
	f.Add(append(plain.append(nil), 1, 2, 1, 4))
	plain.packed, plain.timeout = false, time.Hour
	f.Add(append(plain.append(nil), itemAbsent, itemPresent, wire.FlagPlain, 1, 4))
	structs := head{task: gobTask.Name(), items: 2, retries: 1}
	b := structs.append(nil)
	var args wire.Wholes
	for range 2 {
		err := args.Encode(&wire.Box[shape]{V: shape{"s", []int{1, 2}, map[string]any{"a": 1}}}, 1<<20, func(p wire.Payload, flags uint8) {
			b = appendText(append(b, itemPresent, flags), p.Bytes())
		})
		require.NoError(f, err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := parseHead(b)
		if err != nil {
			return
		}
		fn, ok := executor.Lookup(h.task)
		if !ok || h.blob || fn.Name() != plainTask.Name() && fn.Name() != gobTask.Name() {
			return // another fuzz test's, or an example's
		}
		a := &attempt{server: &server{}, head: h, args: rest, fn: fn, codec: codecOf(h.task)}
		a.ctx = &callContext{t.Context(), new(atomic.Bool)}
		a.told.timer = time.NewTimer(time.Hour) // nobody is told of progress
		defer a.told.timer.Stop()
		bounded(t, len(b), func() {
			if err = a.unpack(); err == nil {
				a.runHere()
			}
		})
		if err != nil {
			return
		}
		d := reader{b: a.endProgress()}
		for i := range h.items {
			if o, _, _ := d.item(); d.bad || o > outRest {
				t.Fatalf("item %d of %d has no outcome", i, h.items)
			} else if o == outRest {
				break
			}
		}
		if len(d.b) > 0 {
			t.Fatalf("%d bytes behind the outcomes", len(d.b))
		}
	})
}

// bounded fails the test if fn allocates much more than n bytes from outside call for.
func bounded(t *testing.T, n int, fn func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(16<<20+4096*n); got > most {
		t.Fatalf("%d bytes from outside made it allocate %d", n, got)
	}
}
