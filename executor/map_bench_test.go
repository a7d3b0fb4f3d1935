package executor_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/threadpool"
)

const benchItems = 1_000_000

// increment takes a few nanoseconds, most of which are its call.
var increment = executor.LocalTask(func(_ context.Context, n int) (int, error) { return n*n + 1, nil })

// work takes about 100 ns.
var work = executor.LocalTask(func(_ context.Context, n int) (int, error) { return xorshift(n), nil })

func xorshift(n int) int {
	x := uint64(n) | 1
	for range 56 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return int(x)
}

// BenchmarkMapCheap is an ordered map of a million items that cost next to nothing.
// Beside it stand the plain loop, the loop split by hand, which has neither an input
// sequence nor a consumer, and the floor: what the goroutine of the range has to do
// whatever the map does, which is to store each input and to yield each result.
func BenchmarkMapCheap(b *testing.B) {
	numbers := make([]int, benchItems)
	for i := range numbers {
		numbers[i] = i
	}
	b.Run("map", func(b *testing.B) {
		ctx, p := benchPool(b)
		perItem(b, func() (sum int) {
			for v, err := range executor.Map(ctx, p, increment, slices.Values(numbers)) {
				if err != nil {
					b.Fatal(err)
				}
				sum += v
			}
			return sum
		})
	})
	b.Run("unordered", func(b *testing.B) {
		ctx, p := benchPool(b)
		perItem(b, func() (sum int) {
			for it, err := range executor.MapUnordered(ctx, p, increment, slices.Values(numbers)) {
				if err != nil {
					b.Fatal(err)
				}
				sum += it.Value
			}
			return sum
		})
	})
	b.Run("floor", func(b *testing.B) {
		perItem(b, func() (sum int) {
			for v, err := range through(slices.Values(numbers)) {
				if err != nil {
					b.Fatal(err)
				}
				sum += v
			}
			return sum
		})
	})
	b.Run("split", func(b *testing.B) {
		fn := func(n int) (int, error) { return n*n + 1, nil }
		perItem(b, func() (sum int) {
			results := make([]int, len(numbers))
			var wg sync.WaitGroup
			for part := range slices.Chunk(numbers, len(numbers)/2) {
				out := results[:len(part)]
				results = results[len(part):]
				wg.Go(func() {
					for i, n := range part {
						out[i], _ = fn(n)
					}
				})
			}
			wg.Wait()
			return 0
		})
	})
}

// through stores each input and yields it, both in blocks.
//
//go:noinline
func through(args iter.Seq[int]) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		var block [4096]int
		n := 0
		flush := func() bool {
			for _, v := range block[:n] {
				if !yield(v, nil) {
					return false
				}
			}
			n = 0
			return true
		}
		for v := range args {
			block[n] = v
			if n++; n == len(block) && !flush() {
				return
			}
		}
		flush()
	}
}

// BenchmarkMapShort is a map of a million calls of about 100 ns, beside a buffered
// channel that two goroutines read functions from.
func BenchmarkMapShort(b *testing.B) {
	numbers := make([]int, benchItems)
	for i := range numbers {
		numbers[i] = i
	}
	b.Run("map", func(b *testing.B) {
		ctx, p := benchPool(b)
		perItem(b, func() (sum int) {
			for v, err := range executor.Map(ctx, p, work, slices.Values(numbers)) {
				if err != nil {
					b.Fatal(err)
				}
				sum += v
			}
			return sum
		})
	})
	b.Run("unordered", func(b *testing.B) {
		ctx, p := benchPool(b)
		perItem(b, func() (sum int) {
			for it, err := range executor.MapUnordered(ctx, p, work, slices.Values(numbers)) {
				if err != nil {
					b.Fatal(err)
				}
				sum += it.Value
			}
			return sum
		})
	})
	b.Run("channel", func(b *testing.B) {
		calls := make(chan func(), 1024)
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for f := range calls {
					f()
				}
			})
		}
		defer readers.Wait()
		defer close(calls)
		perItem(b, func() int {
			var wg sync.WaitGroup
			results := make([]int, len(numbers))
			wg.Add(len(numbers))
			for i, n := range numbers {
				calls <- func() { results[i] = xorshift(n); wg.Done() }
			}
			wg.Wait()
			return 0
		})
	})
}

// BenchmarkMapUneven is a map of cheap items with a few among them that take 10 ms:
// apart from one another, or all in a row, where they are in one chunk at first. The
// ideal is half of what they take together.
func BenchmarkMapUneven(b *testing.B) {
	const items, slow, each = 200_000, 20, 10 * time.Millisecond
	for _, where := range []struct {
		name string
		slow func(i int) bool
	}{
		{"apart", func(i int) bool { return i%(items/slow) == items/slow/2 }},
		{"inARow", func(i int) bool { return i >= items/2 && i < items/2+slow }},
	} {
		task := executor.LocalTask(func(_ context.Context, i int) (int, error) {
			if where.slow(i) {
				time.Sleep(each) // that is what is measured
			}
			return i, nil
		})
		args := func(yield func(int) bool) {
			for i := 0; i < items && yield(i); i++ {
			}
		}
		for _, ordered := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/ordered=%v", where.name, ordered), func(b *testing.B) {
				ctx, p := benchPool(b)
				for b.Loop() {
					if ordered {
						for range executor.Map(ctx, p, task, args) {
						}
					} else {
						for range executor.MapUnordered(ctx, p, task, args) {
						}
					}
				}
				b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/(slow*each/2).Seconds(), "x-ideal")
			})
		}
	}
}

// benchPool returns a pool of two workers.
func benchPool(b *testing.B) (context.Context, executor.Executor) {
	p, err := threadpool.New(threadpool.Config{Workers: 2})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, p.Close()) })
	return context.Background(), p
}

// perItem runs fn, which maps benchItems items, and reports what one of them takes.
func perItem(b *testing.B, fn func() int) {
	b.ReportAllocs()
	for b.Loop() {
		fn()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchItems, "ns/item")
}
