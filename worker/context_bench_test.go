package worker

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
)

var squared = executor.NewTask("worker.squared", func(_ context.Context, n int) (int, error) { return n * n, nil })

// BenchmarkItem is what an item costs a worker besides its way there and back: a context,
// the argument, the task, and the result. Beside it stands the context by itself, and one
// of the standard library's.
func BenchmarkItem(b *testing.B) {
	b.Run("served", func(b *testing.B) {
		fn, _ := executor.Lookup(squared.Name())
		arg := binary.LittleEndian.AppendUint64(nil, 7)
		var contexts contextMaker
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
			ctx := contexts.next(time.Time{})
			in.Reset(arg)
			fn.Serve(ctx, &in, reply)
			ctx.finish(false, nil)
		}
	})
	b.Run("context", func(b *testing.B) {
		var contexts contextMaker
		b.ReportAllocs()
		for b.Loop() {
			contexts.next(time.Time{}).finish(false, nil)
		}
	})
	b.Run("context/done", func(b *testing.B) {
		var contexts contextMaker
		b.ReportAllocs()
		for b.Loop() {
			ctx := contexts.next(time.Time{})
			_ = ctx.Done()
			ctx.finish(false, nil)
		}
	})
	b.Run("WithCancel", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, cancel := context.WithCancel(context.Background())
			cancel()
		}
	})
}
