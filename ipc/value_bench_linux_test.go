package ipc_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

// batch is how many operations a benchmark makes between two looks whether it goes on.
const batch = 100

var background = context.Background()

// valueOps make a batch of operations on a Value.
var valueOps = map[string]func(*ipc.Value[int64]){
	"Load": func(v *ipc.Value[int64]) {
		for range batch {
			v.Load()
		}
	},
	"Store": func(v *ipc.Value[int64]) {
		for range batch {
			v.Store(7)
		}
	},
	"Add": func(v *ipc.Value[int64]) {
		for range batch {
			ipc.Add(v, 1)
		}
	},
	"Update": func(v *ipc.Value[int64]) {
		for range batch {
			_ = v.Update(background, func(x *int64) { *x++ })
		}
	},
}

// A page is a value of more than a page of memory.
type page [640]uint64

// pageOps make a batch of operations on a Value of 5 KiB.
var pageOps = map[string]func(*ipc.Value[page]){
	"Load": func(v *ipc.Value[page]) {
		for range batch {
			v.Load()
		}
	},
	"Store": func(v *ipc.Value[page]) {
		var p page
		for range batch {
			v.Store(p)
		}
	},
	"Update": func(v *ipc.Value[page]) {
		for range batch {
			_ = v.Update(background, func(p *page) { p[0]++ })
		}
	},
}

// arrayOps make a batch of operations on an Array.
var arrayOps = map[string]func(*ipc.Array[int64]){
	"At": func(a *ipc.Array[int64]) {
		for i := range batch {
			a.At(i)
		}
	},
	"Set": func(a *ipc.Array[int64]) {
		for i := range batch {
			a.Set(i, 7)
		}
	},
	"Update": func(a *ipc.Array[int64]) {
		for range batch {
			_ = a.Update(background, func(s []int64) { s[0]++ })
		}
	},
}

func init() {
	role("bench-value", func(v *ipc.Value[int64], args []string) { rival(func() { valueOps[args[0]](v) }) })
	role("bench-page", func(v *ipc.Value[page], args []string) { rival(func() { pageOps[args[0]](v) }) })
	role("bench-array", func(a *ipc.Array[int64], args []string) { rival(func() { arrayOps[args[0]](a) }) })
}

// rival makes operations until it is stopped, and prints how many it has made a second.
func rival(op func()) {
	op()
	fmt.Println("ready")
	begin, n := time.Now(), 0
	for ; !stopping(); n += batch {
		op()
	}
	fmt.Println(int(float64(n) / time.Since(begin).Seconds()))
}

// measure runs op, alone or beside another process that does the same. ops/s is what all
// processes have made.
func measure[H any](b *testing.B, h H, role, name string, op func()) {
	for _, processes := range []int{1, 2} {
		b.Run(fmt.Sprintf("%s/processes=%d", name, processes), func(b *testing.B) {
			b.ReportAllocs()
			var c *process
			if processes > 1 {
				c = start(b, role, h, "", name)
				c.line()
			}
			left := 0
			for b.Loop() {
				if left--; left < 0 {
					op()
					left = batch - 1
				}
			}
			total := float64(b.N) / b.Elapsed().Seconds()
			if c != nil {
				c.tell("stop")
				n, err := strconv.Atoi(c.line())
				require.NoError(b, err)
				total += float64(n)
			}
			b.ReportMetric(total/1e6, "Mops/s")
		})
	}
}

func BenchmarkValue(b *testing.B) {
	v, err := ipc.NewValue(int64(0))
	require.NoError(b, err)
	defer v.Close()
	for _, name := range []string{"Load", "Store", "Add", "Update"} {
		measure(b, v, "bench-value", name, func() { valueOps[name](v) })
	}
}

func BenchmarkValuePage(b *testing.B) {
	v, err := ipc.NewValue(page{})
	require.NoError(b, err)
	defer v.Close()
	for _, name := range []string{"Load", "Store", "Update"} {
		measure(b, v, "bench-page", name, func() { pageOps[name](v) })
	}
}

func BenchmarkArray(b *testing.B) {
	a, err := ipc.NewArray[int64](batch)
	require.NoError(b, err)
	defer a.Close()
	for _, name := range []string{"At", "Set", "Update"} {
		measure(b, a, "bench-array", name, func() { arrayOps[name](a) })
	}
}

// BenchmarkWithin is the plainest that could work, for one process.
func BenchmarkWithin(b *testing.B) {
	b.Run("atomic", func(b *testing.B) {
		var n atomic.Int64
		for b.Loop() {
			n.Add(1)
		}
	})
	b.Run("mutex", func(b *testing.B) {
		var mu sync.Mutex
		n := 0
		for b.Loop() {
			mu.Lock()
			n++
			mu.Unlock()
		}
	})
}

// large is what a Value should not be, but can.
type large [64 << 20]byte

func BenchmarkValueLarge(b *testing.B) {
	v, err := ipc.NewValue(large{})
	require.NoError(b, err)
	defer v.Close()
	b.Run("Load", func(b *testing.B) {
		b.SetBytes(64 << 20)
		for b.Loop() {
			v.Load()
		}
	})
	b.Run("Update", func(b *testing.B) {
		b.SetBytes(64 << 20)
		for b.Loop() {
			_ = v.Update(background, func(p *large) { p[0]++ })
		}
	})
}
