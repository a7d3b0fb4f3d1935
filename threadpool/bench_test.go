package threadpool_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// Each benchmark stands beside the plainest things that could do the work: a go
// statement for each call with a WaitGroup, and N goroutines that read functions
// from a buffered channel. Neither has futures, results, errors or panics.

// work takes about 100 ns.
func work(n int) int {
	x := uint64(n) | 1
	for range 56 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return int(x)
}

var workTask = executor.LocalTask(func(_ context.Context, n int) (int, error) { return work(n), nil })

// pool returns a pool for a benchmark.
func benchPool(b *testing.B, cfg threadpool.Config) (context.Context, *threadpool.Pool) {
	p, err := threadpool.New(cfg)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, p.Close()) })
	return context.Background(), p
}

// readers starts n goroutines that run what they read from a channel.
func readers(b *testing.B, n, buffer int) chan<- func() {
	calls := make(chan func(), buffer)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for f := range calls {
				f()
			}
		})
	}
	b.Cleanup(func() { close(calls); wg.Wait() })
	return calls
}

// BenchmarkSubmitAndWait runs one call at a time.
func BenchmarkSubmitAndWait(b *testing.B) {
	b.Run("pool", func(b *testing.B) {
		ctx, p := benchPool(b, threadpool.Config{Workers: 2})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := executor.Submit(ctx, p, workTask, 1).Result(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var wg sync.WaitGroup
			wg.Go(func() { sink(work(1)) })
			wg.Wait()
		}
	})
	b.Run("channel", func(b *testing.B) {
		calls := readers(b, 2, 2)
		b.ReportAllocs()
		for b.Loop() {
			done := make(chan int, 1)
			calls <- func() { done <- work(1) }
			<-done
		}
	})
}

// BenchmarkFanOut hands over so many calls and then waits for all of them.
func BenchmarkFanOut(b *testing.B) {
	for _, calls := range []int{1_000, 1_000_000} {
		for _, producers := range []int{1, 64} {
			if calls < 1_000_000 && producers > 1 {
				continue
			}
			name := fmt.Sprintf("calls=%d/producers=%d/", calls, producers)
			each := calls / producers
			b.Run(name+"pool", func(b *testing.B) {
				ctx, p := benchPool(b, threadpool.Config{Workers: 2})
				perCall(b, each*producers, func() {
					fanOut(producers, func() {
						fs := make([]*future.Future[int], each)
						for i := range fs {
							fs[i] = executor.Submit(ctx, p, workTask, i)
						}
						for _, f := range fs {
							if _, err := f.Result(ctx); err != nil {
								b.Error(err)
							}
						}
					})
				})
			})
			b.Run(name+"go", func(b *testing.B) {
				perCall(b, each*producers, func() {
					fanOut(producers, func() {
						var wg sync.WaitGroup
						results := make([]int, each)
						for i := range results {
							wg.Go(func() { results[i] = work(i) })
						}
						wg.Wait()
					})
				})
			})
			b.Run(name+"channel", func(b *testing.B) {
				calls := readers(b, 2, 1024)
				perCall(b, each*producers, func() {
					fanOut(producers, func() {
						var wg sync.WaitGroup
						results := make([]int, each)
						wg.Add(each)
						for i := range results {
							calls <- func() { results[i] = work(i); wg.Done() }
						}
						wg.Wait()
					})
				})
			})
		}
	}
}

// BenchmarkBounded is a fan-out through a queue of so many calls.
func BenchmarkBounded(b *testing.B) {
	const calls = 10_000
	for _, limit := range []int{1, 64} {
		b.Run(fmt.Sprintf("limit=%d/pool", limit), func(b *testing.B) {
			ctx, p := benchPool(b, threadpool.Config{Workers: 2, QueueLimit: limit})
			perCall(b, calls, func() {
				if _, err := future.All(ctx, executor.SubmitAll(ctx, p, workTask, make([]int, calls))...); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(fmt.Sprintf("limit=%d/channel", limit), func(b *testing.B) {
			ch := readers(b, 2, limit)
			perCall(b, calls, func() {
				var wg sync.WaitGroup
				results := make([]int, calls)
				wg.Add(calls)
				for i := range results {
					ch <- func() { results[i] = work(i); wg.Done() }
				}
				wg.Wait()
			})
		})
	}
}

// BenchmarkNested has each call wait for one more, 100 deep.
func BenchmarkNested(b *testing.B) {
	const depth = 100
	ctx, p := benchPool(b, threadpool.Config{Workers: 2})
	var down executor.Task[int, int]
	down = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		if n == 0 {
			return 0, nil
		}
		return executor.Apply(ctx, p, down, n-1)
	})
	perCall(b, depth, func() {
		if _, err := executor.Apply(ctx, p, down, depth); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkObserver is a round trip with an observer that does nothing.
func BenchmarkObserver(b *testing.B) {
	ctx, p := benchPool(b, threadpool.Config{Workers: 2, Observer: ignore{}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := executor.Submit(ctx, p, workTask, 1).Result(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

type ignore struct{}

func (ignore) Observe(executor.Event) {}

// perCall runs fn, which makes so many calls, and reports what one call takes.
func perCall(b *testing.B, calls int, fn func()) {
	b.ReportAllocs()
	for b.Loop() {
		fn()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(calls), "ns/call")
}

// fanOut runs fn in so many goroutines.
func fanOut(producers int, fn func()) {
	var wg sync.WaitGroup
	for range producers {
		wg.Go(fn)
	}
	wg.Wait()
}

//go:noinline
func sink(int) {}
