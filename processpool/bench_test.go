//go:build linux

package processpool_test

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/processpool"
)

// BenchmarkCall is one call at a time, beside a byte that goes to a process over a
// socket and comes back.
func BenchmarkCall(b *testing.B) {
	b.Run("processpool", func(b *testing.B) {
		p := open(b, processpool.Config{Workers: 1})
		ctx := b.Context()
		require.NoError(b, executor.Submit(ctx, p, double, 1).Exception(ctx))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := executor.Apply(ctx, p, double, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare socket", func(b *testing.B) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(b, err)
		require.NoError(b, unix.SetNonblock(fds[0], true))
		ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
		cmd := self(b.Context(), "echo")
		cmd.ExtraFiles = []*os.File{theirs}
		require.NoError(b, cmd.Start())
		theirs.Close()
		defer reap(b, cmd)
		defer ours.Close()
		buf := make([]byte, 1)
		for b.Loop() {
			if _, err := ours.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(ours, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func reap(b *testing.B, cmd *exec.Cmd) { require.NoError(b, cmd.Wait()) }

// BenchmarkFanOut is 20,000 calls submitted and then collected; ns/op is for all.
func BenchmarkFanOut(b *testing.B) {
	const calls = 20_000
	p := open(b, processpool.Config{Workers: 2})
	ctx := b.Context()
	args := make([]int, calls)
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range executor.SubmitAll(ctx, p, double, args) {
			if _, err := f.Result(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*calls/b.Elapsed().Seconds(), "calls/s")
}

// BenchmarkMap is a map of 20,000 items.
func BenchmarkMap(b *testing.B) {
	const items = 20_000
	for _, chunk := range []struct {
		name string
		n    int
	}{{"chunk=1", 1}, {"chunk=100", 100}, {"chunk=chosen", 0}} {
		b.Run(chunk.name, func(b *testing.B) {
			p := open(b, processpool.Config{Workers: 2})
			ctx := b.Context()
			args := make([]int, items)
			b.ReportAllocs()
			for b.Loop() {
				for _, err := range executor.Map(ctx, p, double, slices.Values(args), executor.WithChunk(chunk.n)) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)*items/b.Elapsed().Seconds(), "items/s")
		})
	}
}

// BenchmarkEcho sends bytes to a worker and back.
func BenchmarkEcho(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"bytes=1MiB", 1 << 20}, {"bytes=64MiB", 64 << 20}} {
		b.Run(size.name, func(b *testing.B) {
			p := open(b, processpool.Config{Workers: 1})
			ctx := b.Context()
			payload := make([]byte, size.n)
			b.SetBytes(int64(size.n))
			for b.Loop() {
				if _, err := executor.Apply(ctx, p, echo, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStart is a pool with one worker, from New to its first result.
func BenchmarkStart(b *testing.B) {
	ctx := b.Context()
	for b.Loop() {
		p, err := processpool.New(processpool.Config{Workers: 1})
		require.NoError(b, err)
		require.NoError(b, executor.Submit(ctx, p, double, 1).Exception(ctx))
		b.StopTimer()
		require.NoError(b, p.Close())
		b.StartTimer()
	}
}
