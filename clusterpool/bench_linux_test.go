package clusterpool_test

import (
	"context"
	"encoding/binary"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/worker"
)

var doubleTask = executor.NewTask("clustertest.double", func(_ context.Context, n int64) (int64, error) { return 2 * n, nil })

// answerTask answers requests over NATS alone, as a worker that stores nothing.
var answerTask = executor.NewTask("clustertest.answer", func(ctx context.Context, url string) (struct{}, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return struct{}{}, err
	}
	defer nc.Close()
	_, err = nc.QueueSubscribe("answer", "workers", func(m *nats.Msg) {
		b := make([]byte, 8)
		binary.LittleEndian.PutUint64(b, 2*binary.LittleEndian.Uint64(m.Data))
		_ = m.Respond(b)
	})
	if err != nil {
		return struct{}{}, err
	}
	<-ctx.Done()
	return struct{}{}, nil
})

// Calls by a pool beside bare requests to responders, which store nothing: both with two
// worker processes, the server in this one, 512 at a time or one at a time.
func BenchmarkCall(b *testing.B) {
	s, err := embed.Start(b.Context(), embed.Config{})
	require.NoError(b, err)
	b.Cleanup(func() { s.Close() })
	for range 2 {
		p, err := worker.Start(context.Background(), answerTask, s.URL(), worker.Config{})
		require.NoError(b, err)
		b.Cleanup(func() { p.Kill(); p.Join(context.Background()) })
	}
	p := dial(b, clusterpool.Config{URL: s.URL(), Name: "bench", Memory: true})
	for range 2 {
		serve(b, job{URL: s.URL(), Name: "bench", Slots: 16, Lease: 10 * time.Second})
	}
	awaitWorkers(b, p, 2)
	nc := api(b, s.URL())
	until(b, "somebody answers", func() bool {
		_, err := nc.Request("answer", make([]byte, 8), nats.DefaultTimeout)
		return err == nil
	})
	for _, window := range []int{1, 512} {
		name := map[int]string{1: "one", 512: "window512"}[window]
		b.Run(name+"/nats", func(b *testing.B) {
			together(b, window, func() error {
				m, err := nc.Request("answer", make([]byte, 8), nats.DefaultTimeout*10)
				if err == nil && len(m.Data) != 8 {
					b.Error("an answer of", len(m.Data))
				}
				return err
			})
		})
		b.Run(name+"/pool", func(b *testing.B) {
			if window == 1 {
				together(b, 1, func() error {
					_, err := executor.Apply(b.Context(), p, doubleTask, 1)
					return err
				})
				return
			}
			pipelined(b, p, window)
		})
	}
	b.Run("map/pool", func(b *testing.B) {
		n := int64(0)
		var input iter.Seq[int64] = func(yield func(int64) bool) {
			for b.Loop() {
				if n++; !yield(n) {
					return
				}
			}
		}
		for _, err := range executor.Map(b.Context(), p, doubleTask, input) {
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "items/s")
	})
}

// Calls by servers of several kinds, in processes of their own: one at a time, 512 at a time.
func BenchmarkServers(b *testing.B) {
	for _, kind := range []struct {
		name string
		pool clusterpool.Config
		url  func(testing.TB) string
	}{
		{"memory", clusterpool.Config{Memory: true}, func(tb testing.TB) string { return clustertest.StartServer(tb, clustertest.Options{}).URL() }},
		{"file", clusterpool.Config{}, func(tb testing.TB) string { return clustertest.StartServer(tb, clustertest.Options{}).URL() }},
		{"sync", clusterpool.Config{}, func(tb testing.TB) string {
			return clustertest.StartServer(tb, clustertest.Options{SyncAlways: true}).URL()
		}},
		{"three", clusterpool.Config{Replicas: 3}, func(tb testing.TB) string { return clustertest.StartCluster(tb, 3, clustertest.Options{}).URL() }},
		{"three-sync", clusterpool.Config{Replicas: 3}, func(tb testing.TB) string {
			return clustertest.StartCluster(tb, 3, clustertest.Options{SyncAlways: true}).URL()
		}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			kind.pool.URL, kind.pool.Name, kind.pool.Lease = kind.url(b), "bench", 10*time.Second
			p := dial(b, kind.pool)
			for range 2 {
				serve(b, job{URL: kind.pool.URL, Name: "bench", Slots: 16, Lease: 10 * time.Second})
			}
			awaitWorkers(b, p, 2)
			b.Run("one", func(b *testing.B) {
				together(b, 1, func() error {
					_, err := executor.Apply(b.Context(), p, doubleTask, 1)
					return err
				})
			})
			b.Run("window512", func(b *testing.B) { pipelined(b, p, 512) })
		})
	}
}

// together has n goroutines call fn.
func together(b *testing.B, n int, fn func() error) {
	if n == 1 {
		for b.Loop() {
			if err := fn(); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	var wg sync.WaitGroup
	todo := make(chan struct{}, n)
	for range n {
		wg.Go(func() {
			for range todo {
				if err := fn(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	for range b.N {
		todo <- struct{}{}
	}
	close(todo)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// pipelined submits calls, of which n are under way.
func pipelined(b *testing.B, p *clusterpool.Pool, n int) {
	fs := make([]*future.Future[int64], n)
	for i := range b.N {
		at := i % n
		if f := fs[at]; f != nil {
			if _, err := f.Result(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		fs[at] = executor.Submit(b.Context(), p, doubleTask, int64(i))
	}
	for _, f := range fs {
		if f != nil {
			if _, err := f.Result(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
