package ipc_test

import (
	"context"
	"testing"

	"example.com/futures/ipc"

	"github.com/stretchr/testify/require"
)

func BenchmarkLockAlone(b *testing.B) {
	l, err := ipc.NewLock()
	require.NoError(b, err)
	defer l.Close()
	b.ReportAllocs()
	ctx := b.Context()
	for b.Loop() {
		_ = l.Lock(ctx)
		_ = l.Unlock()
	}
}

func BenchmarkLockGoroutines(b *testing.B) {
	l, err := ipc.NewLock()
	require.NoError(b, err)
	defer l.Close()
	n := 0
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = l.Lock(context.Background())
			n++
			_ = l.Unlock()
		}
	})
}

func BenchmarkNewLock(b *testing.B) {
	for b.Loop() {
		l, err := ipc.NewLock()
		require.NoError(b, err)
		l.Close()
	}
}
