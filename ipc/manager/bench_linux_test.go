package manager

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"golang.org/x/sys/unix"
)

// A rawDict is the least that a Dict can be: keys are texts, and so is the datum.
type rawDict[V any] struct{ object }

func (*rawDict[V]) describe() string { return "rawDict[" + typeText[V]() + "]" }

func newRawDict[V any](ctx context.Context, m *Manager) (*rawDict[V], error) {
	d := new(rawDict[V])
	return d, create(ctx, m, kindDict, d, nil)
}

func (d *rawDict[V]) Get(ctx context.Context, k string) (v V, ok bool, err error) {
	err = d.call(ctx, opDictGet, func(w *writer) { w.text(k) }, func(r *reader) error {
		if ok = r.bool(); ok {
			d := r.datum()
			if err := r.end(); err != nil {
				return err
			}
			v, err = unpack[V](d)
			return err
		}
		return r.end()
	})
	return v, ok, err
}

func (d *rawDict[V]) Set(ctx context.Context, k string, v V) error {
	in, err := pack(v)
	if err != nil {
		return err
	}
	return d.call(ctx, opDictSet, func(w *writer) {
		w.int(1)
		w.text(k)
		w.datum(in)
	}, nil)
}

func (d *rawDict[V]) Delete(ctx context.Context, k string) error {
	return d.call(ctx, opDictDelete, func(w *writer) { w.text(k) }, nil)
}

func (d *rawDict[V]) GobEncode() ([]byte, error) { return encode(d) }
func (d *rawDict[V]) GobDecode(b []byte) error   { return d.decode(d, b) }

// echoServer is a process that sends back what it gets, by socket, at the netpoller.
func init() {
	roles["echo"] = func() {
		f := os.NewFile(3, "socket")
		c, err := net.FileConn(f)
		if err != nil {
			panic(err)
		}
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if err != nil {
				os.Exit(0)
			}
			if _, err := c.Write(b[:n]); err != nil {
				os.Exit(0)
			}
		}
	}
}

func init() {
	roles["sink"] = func() {
		c, err := net.FileConn(os.NewFile(3, "socket"))
		if err != nil {
			panic(err)
		}
		b := make([]byte, 1<<20)
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				os.Exit(0)
			}
			if _, err := c.Write(b[:1]); err != nil {
				os.Exit(0)
			}
		}
	}
}

// BenchmarkOne compares a call with a ping-pong of as many bytes over such a socket.
func BenchmarkOne(b *testing.B) {
	b.Run("pingpong", func(b *testing.B) {
		c := echo(b, "echo")
		buf := make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Write(buf[:40]); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Get", func(b *testing.B) {
		ctx := context.Background()
		d, err := NewDict[string, int](ctx, started(b))
		require.NoError(b, err)
		require.NoError(b, d.Set(ctx, "k", 1))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := d.Get(ctx, "k"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOneToPingpong takes turns, so that both have the same machine, and reports the medians.
func BenchmarkOneToPingpong(b *testing.B) {
	ctx := context.Background()
	c := echo(b, "echo")
	buf := make([]byte, 64)
	d, err := NewDict[string, int](ctx, started(b))
	require.NoError(b, err)
	require.NoError(b, d.Set(ctx, "k", 1))
	turn := func(fn func() error) float64 {
		const n = 500
		begin := time.Now()
		for range n {
			if err := fn(); err != nil {
				b.Fatal(err)
			}
		}
		return float64(time.Since(begin).Nanoseconds()) / n
	}
	var bare, ours, ratios []float64
	for b.Loop() {
		x := turn(func() error {
			if _, err := c.Write(buf[:40]); err != nil {
				return err
			}
			_, err := c.Read(buf)
			return err
		})
		y := turn(func() error {
			_, _, err := d.Get(ctx, "k")
			return err
		})
		bare, ours, ratios = append(bare, x), append(ours, y), append(ratios, y/x)
	}
	median := func(x []float64) float64 {
		slices.Sort(x)
		return x[len(x)/2]
	}
	b.ReportMetric(median(bare), "bare-ns")
	b.ReportMetric(median(ours), "get-ns")
	b.ReportMetric(median(ratios), "ratio")
}

func BenchmarkMany(b *testing.B) {
	ctx := context.Background()
	for name, way := range map[string]func(testing.TB) (*Manager, *Manager){"unix": served, "tls": servedTCP} {
		for _, axis := range [][2]int{{1, 64}, {10, 64}, {10, 640}} {
			clients, goroutines := axis[0], axis[1]
			b.Run(fmt.Sprintf("%s/Get/clients=%d/goroutines=%d", name, clients, goroutines), func(b *testing.B) {
				s, m := way(b)
				dicts := make([]*Dict[string, int], clients)
				for i := range dicts {
					if i > 0 {
						c, err := Connect(ctx, s.Addr().Network(), s.Addr().String(), Config{AuthKey: authKeyOf(name)})
						require.NoError(b, err)
						defer c.Close()
						m = c
					}
					d, err := NewDict[string, int](ctx, m)
					require.NoError(b, err)
					require.NoError(b, d.Set(ctx, "k", 1))
					dicts[i] = d
				}
				spread(b, goroutines, func(i int) error {
					_, _, err := dicts[i%clients].Get(ctx, "k")
					return err
				})
			})
		}
	}
	d, err := NewDict[string, int](ctx, started(b))
	require.NoError(b, err)
	require.NoError(b, d.Set(ctx, "k", 1))
	b.Run("start/Get/goroutines=64", func(b *testing.B) {
		spread(b, 64, func(int) error {
			_, _, err := d.Get(ctx, "k")
			return err
		})
	})
	b.Run("start/Set/goroutines=64", func(b *testing.B) {
		spread(b, 64, func(int) error { return d.Set(ctx, "k", 1) })
	})
}

func authKeyOf(way string) []byte {
	if way == "tls" {
		return []byte("a key")
	}
	return nil
}

// spread has n goroutines share b.N calls.
func spread(b *testing.B, n int, call func(i int) error) {
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	var wg sync.WaitGroup
	for i := range n {
		mine := b.N / n
		if i < b.N%n {
			mine++
		}
		wg.Go(func() {
			for range mine {
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/call") // what a busy machine leaves as it is
}

// cpuTime returns how long this process has been running.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it does not fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkLarge(b *testing.B) {
	ctx := context.Background()
	b.Run("socket/bytes=1048576", func(b *testing.B) {
		c := echo(b, "sink")
		v, one := make([]byte, 1<<20), make([]byte, 1)
		b.SetBytes(int64(len(v)))
		for b.Loop() {
			if _, err := c.Write(v); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Read(one); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, size := range []int{64 << 10, 1 << 20, 16 << 20} {
		d, err := NewDict[string, []byte](ctx, started(b))
		require.NoError(b, err)
		v := make([]byte, size)
		require.NoError(b, d.Set(ctx, "k", v))
		b.Run(fmt.Sprintf("Set/bytes=%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := d.Set(ctx, "k", v); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("Get/bytes=%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, _, err := d.Get(ctx, "k"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// echo starts such a process.
func echo(tb testing.TB, role string) net.Conn {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(tb, err)
	theirs, mine := os.NewFile(uintptr(fds[0]), ""), os.NewFile(uintptr(fds[1]), "")
	cmd := self(role)
	cmd.ExtraFiles = []*os.File{theirs}
	require.NoError(tb, cmd.Start())
	theirs.Close()
	c, err := net.FileConn(mine)
	require.NoError(tb, err)
	mine.Close()
	tb.Cleanup(func() {
		c.Close()
		_ = cmd.Wait()
	})
	return c
}
