package future_test

import (
	"fmt"
	"sync"
	"testing"

	"example.com/futures/future"
)

// BenchmarkPromise makes, completes and reads one future in one goroutine.
func BenchmarkPromise(b *testing.B) {
	b.Run("future", func(b *testing.B) {
		b.ReportAllocs()
		ctx := b.Context()
		for b.Loop() {
			p := future.NewPromise[int]()
			_ = p.Resolve(1)
			if v, _ := p.Future().Result(ctx); v != 1 {
				b.Fatal(v)
			}
		}
	})
	b.Run("channel", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := make(chan int, 1)
			c <- 1
			if v := <-c; v != 1 {
				b.Fatal(v)
			}
		}
	})
}

// BenchmarkWaitAcross waits for a goroutine that has just been started.
func BenchmarkWaitAcross(b *testing.B) {
	b.Run("future", func(b *testing.B) {
		b.ReportAllocs()
		ctx := b.Context()
		for b.Loop() {
			p := future.NewPromise[int]()
			go func() { _ = p.Resolve(1) }()
			if v, _ := p.Future().Result(ctx); v != 1 {
				b.Fatal(v)
			}
		}
	})
	b.Run("channel", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := make(chan int, 1)
			go func() { c <- 1 }()
			if v := <-c; v != 1 {
				b.Fatal(v)
			}
		}
	})
	b.Run("WaitGroup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var wg sync.WaitGroup
			v := 0
			wg.Go(func() { v = 1 })
			if wg.Wait(); v != 1 {
				b.Fatal(v)
			}
		}
	})
}

// BenchmarkDone asks for the channel of a future before and after its end.
func BenchmarkDone(b *testing.B) {
	b.Run("pending", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p := future.NewPromise[int]()
			done := p.Future().Done()
			_ = p.Resolve(1)
			<-done
		}
	})
	b.Run("done", func(b *testing.B) {
		b.ReportAllocs()
		f := future.Resolved(1)
		for b.Loop() {
			<-f.Done()
		}
	})
	b.Run("close of a channel", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			done := make(chan struct{})
			close(done)
			<-done
		}
	})
}

// BenchmarkCallback completes a future that has callbacks.
func BenchmarkCallback(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("callbacks=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			ran := 0
			for b.Loop() {
				p := future.NewPromise[int]()
				for range n {
					p.Future().AddDoneCallback(func(*future.Future[int]) { ran++ })
				}
				_ = p.Resolve(1)
			}
			if ran%n != 0 || ran == 0 {
				b.Fatal(ran)
			}
		})
	}
	b.Run("added late", func(b *testing.B) {
		b.ReportAllocs()
		f, ran := future.Resolved(1), 0
		for b.Loop() {
			f.AddDoneCallback(func(*future.Future[int]) { ran++ })
		}
	})
	b.Run("goroutine", func(b *testing.B) {
		b.ReportAllocs()
		ran := 0
		for b.Loop() {
			done := make(chan struct{})
			go func() {
				ran++
				close(done)
			}()
			<-done
		}
	})
}

// BenchmarkThen completes a future that another was made of.
func BenchmarkThen(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		p := future.NewPromise[int]()
		g := future.Then(p.Future(), func(n int) (int, error) { return n + 1, nil })
		_ = p.Resolve(1)
		if !g.IsDone() {
			b.Fatal(g)
		}
	}
}

// BenchmarkMany waits for 1,000 futures that a goroutine completes meanwhile, and
// for 1,000 that are done.
func BenchmarkMany(b *testing.B) {
	const n = 1000
	ways := []struct {
		name string
		wait func(*testing.B, []*future.Future[int])
	}{
		{"AsCompleted", func(b *testing.B, fs []*future.Future[int]) {
			seen := 0
			for range future.AsCompleted(b.Context(), fs...) {
				seen++
			}
			if seen != n {
				b.Fatal(seen)
			}
		}},
		{"All", func(b *testing.B, fs []*future.Future[int]) {
			if vs, err := future.All(b.Context(), fs...); err != nil || len(vs) != n {
				b.Fatal(err)
			}
		}},
		{"Wait", func(b *testing.B, fs []*future.Future[int]) {
			if _, _, err := future.Wait(b.Context(), future.AllCompleted, fs...); err != nil {
				b.Fatal(err)
			}
		}},
		{"Result", func(b *testing.B, fs []*future.Future[int]) { // the plainest way
			for _, f := range fs {
				if _, err := f.Result(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		}},
	}
	for _, way := range ways {
		b.Run(way.name+"/pending", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ps := make([]*future.Promise[int], n)
				fs := make([]*future.Future[int], n)
				for i := range ps {
					ps[i] = future.NewPromise[int]()
					fs[i] = ps[i].Future()
				}
				var completer sync.WaitGroup
				completer.Go(func() {
					for i, p := range ps {
						_ = p.Resolve(i)
					}
				})
				way.wait(b, fs)
				completer.Wait()
			}
		})
		b.Run(way.name+"/done", func(b *testing.B) {
			b.ReportAllocs()
			fs := make([]*future.Future[int], n)
			for i := range fs {
				fs[i] = future.Resolved(i)
			}
			for b.Loop() {
				way.wait(b, fs)
			}
		})
	}
}
