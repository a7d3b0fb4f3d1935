package executor_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"slices"
	"testing"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
)

var (
	plainInt    = executor.NewTask("executor_test.plainInt", func(_ context.Context, n int) (int, error) { return n*n + 1, nil })
	plainString = executor.NewTask("executor_test.plainString", func(_ context.Context, s string) (string, error) { return s, nil })
)

// BenchmarkServe is what a worker process does for a cheap item: it decodes the argument,
// runs the task and encodes the result. Beside the plain codec stand gob in a stream, as
// a struct has it, and gob alone for each value.
func BenchmarkServe(b *testing.B) {
	ctx := context.Background()
	b.Run("plain/int", func(b *testing.B) {
		benchServe(b, ctx, plainInt.Name(), binary.LittleEndian.AppendUint64(nil, 7))
	})
	b.Run("plain/string", func(b *testing.B) {
		benchServe(b, ctx, plainString.Name(), []byte("sixteen letters."))
	})
	b.Run("message/int", func(b *testing.B) {
		fn, _ := executor.Lookup(plainInt.Name())
		benchMessages(b, ctx, fn, &wire.Box[int]{V: 7})
	})
	b.Run("message/struct", func(b *testing.B) {
		fn, _ := executor.Lookup(structTask.Name())
		benchMessages(b, ctx, fn, &wire.Box[numbered]{V: numbered{7}})
	})
	b.Run("gob/int", func(b *testing.B) {
		fn, _ := executor.Lookup(plainInt.Name())
		var in bytes.Buffer
		if err := gob.NewEncoder(&in).Encode(&wire.Box[int]{V: 7}); err != nil {
			b.Fatal(err)
		}
		var out bytes.Buffer
		b.ReportAllocs()
		for b.Loop() {
			out.Reset()
			fn.Serve(ctx, gob.NewDecoder(bytes.NewReader(in.Bytes())), func(result any, err error) {
				if err != nil || gob.NewEncoder(&out).Encode(result) != nil {
					b.Fatal(err)
				}
			})
		}
	})
}

// numbered is about the least that is not plain.
type numbered struct{ N int }

var structTask = executor.NewTask("executor_test.structTask", func(_ context.Context, n numbered) (numbered, error) { return n, nil })

// benchServe serves a plain argument with what lies around a task and nothing else.
func benchServe(b *testing.B, ctx context.Context, task string, arg []byte) {
	fn, _ := executor.Lookup(task)
	var in wire.Value
	var out []byte
	reply := func(result any, err error) {
		if err != nil {
			b.Fatal(err)
		}
		out, _ = wire.AppendResult(out[:0], result)
	}
	b.ReportAllocs()
	for b.Loop() {
		in.Reset(arg)
		fn.Serve(ctx, &in, reply)
	}
	if len(out) == 0 {
		b.Fatal("no result")
	}
}

// benchMessages serves one message of a stream after another.
func benchMessages(b *testing.B, ctx context.Context, fn executor.Function, arg any) {
	in, out := wire.NewEncoder(1<<20), wire.NewEncoder(1<<20)
	var dec wire.Decoder
	next := func() wire.Frame {
		payload, flags, err := in.Message(func(e *wire.Encoder) error { return e.Encode(arg) })
		if err != nil {
			b.Fatal(err)
		}
		return wire.Frame{Header: wire.Header{Flags: flags}, Payload: slices.Clone(payload.Bytes())}
	}
	first, f := next(), next()
	serve := func(f wire.Frame) {
		err := dec.Message(f, func(v *wire.Value) error {
			fn.Serve(ctx, v, func(result any, err error) {
				if err == nil {
					_, _, err = out.Message(func(e *wire.Encoder) error { return e.Encode(result) })
				}
				if err != nil {
					b.Fatal(err)
				}
			})
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	serve(first)
	b.ReportAllocs()
	for b.Loop() {
		serve(f)
	}
}

// BenchmarkChunkPlain is a map of a million integers whose chunks go out as bytes and come
// back as such, without anybody to run them: what the parent has to do, in one goroutine.
// Beside it stands the same with one item at a time.
func BenchmarkChunkPlain(b *testing.B) {
	numbers := make([]int, benchItems)
	for i := range numbers {
		numbers[i] = i
	}
	for name, ex := range map[string]executor.Executor{"packed": &mirror{}, "oneByOne": &mirror{single: true}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			perItem(b, func() (sum int) {
				for v, err := range executor.Map(context.Background(), ex, plainInt, slices.Values(numbers), executor.WithChunk(100)) {
					if err != nil {
						b.Fatal(err)
					}
					sum += v
				}
				return sum
			})
		})
	}
}

// A mirror is an executor that completes every item with its argument, at once. It is for
// one goroutine.
type mirror struct {
	executor.Executor
	executor.Host

	single  bool
	buf     []byte
	results [][]byte
	enc     *wire.Encoder
	dec     wire.Decoder
}

func (m *mirror) Finished(executor.Call, executor.Outcome) {}

func (m *mirror) Execute(c executor.Call) error {
	c.Accept(m)
	c.Start()
	if m.single {
		return m.oneByOne(c)
	}
	for i := 0; i < c.Len(); {
		var next int
		m.buf, next = c.PackPlain(m.buf[:0], i, c.Len(), 64<<10)
		m.results = m.results[:0]
		for rest := m.buf; len(rest) > 0; {
			var v []byte
			v, rest, _ = wire.Cut(rest)
			m.results = append(m.results, v)
		}
		c.CompletePlain(i, m.results)
		i = next
	}
	return nil
}

func (m *mirror) oneByOne(c executor.Call) error {
	if m.enc == nil {
		m.enc = wire.NewEncoder(1 << 20)
	}
	for i := range c.Len() {
		payload, flags, err := m.enc.Message(func(e *wire.Encoder) error { return c.Encode(i, e) })
		if err != nil {
			return err
		}
		f := wire.Frame{Header: wire.Header{Flags: flags}, Payload: payload.Bytes()}
		if err := m.dec.Message(f, func(v *wire.Value) error { return c.Complete(i, v) }); err != nil {
			return err
		}
	}
	return nil
}
