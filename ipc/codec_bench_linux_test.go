package ipc_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

// An entry is what many programs send: a few fields.
type entry struct {
	ID    int
	Name  string
	Score float64
}

// BenchmarkQueueStruct is a put and a get in one process, of a struct, beside that of an int,
// which is not encoded.
func BenchmarkQueueStruct(b *testing.B) {
	b.Run("type=int", func(b *testing.B) { benchPutGet(b, 1) })
	b.Run("type=struct", func(b *testing.B) { benchPutGet(b, entry{ID: 12345, Name: "a name", Score: 0.1}) })
	b.Run("type=nested", func(b *testing.B) {
		benchPutGet(b, map[string][]entry{"a": {{ID: 1, Name: "b"}, {ID: 2, Score: 1}}})
	})
}

func benchPutGet[T any](b *testing.B, v T) {
	ctx := context.Background()
	q, err := ipc.NewQueue[T](10)
	require.NoError(b, err)
	defer q.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Put(ctx, v); err != nil {
			b.Fatal(err)
		}
		if _, err := q.Get(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
