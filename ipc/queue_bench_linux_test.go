package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/ipc"
)

func init() {
	role("drain", func(b bag, _ []string) {
		for {
			if _, err := b.Ints.Get(context.Background()); err == io.EOF {
				return
			} else {
				must(err)
			}
		}
	})
	// Sends back what it gets; args: how long it rests in between, so that the other side
	// sleeps.
	role("pong", func(b bag, args []string) {
		rest := get(time.ParseDuration(args[0]))
		for {
			v, err := b.Ints.Get(context.Background())
			if err == io.EOF {
				return
			}
			must(err)
			spinFor(rest)
			must(b.Back.Put(context.Background(), v))
		}
	})
	role("futex pong", func(_ bag, args []string) {
		rest := get(time.ParseDuration(args[0]))
		w := wordOf(3)
		runtime.LockOSThread()
		for {
			switch w.Load() {
			case 0:
				futexWait(w, 0)
			case 1:
				spinFor(rest)
				w.Store(0)
				futexWake(w)
			case 2:
				return
			}
		}
	})
	role("conn pong", func(b bag, args []string) {
		rest := get(time.ParseDuration(args[0]))
		for {
			v, err := b.Conn.Recv(context.Background())
			if err == io.EOF {
				return
			}
			must(err)
			spinFor(rest)
			must(b.Conn.Send(context.Background(), v))
		}
	})
	role("conn drain", func(b bag, _ []string) {
		for {
			_, err := b.Conn.Recv(context.Background())
			if err == io.EOF {
				return
			}
			must(err)
			must(b.Back.Put(context.Background(), 1))
		}
	})
	// Reads messages of args[0] bytes, each into memory of its own, until the end, which it
	// acknowledges.
	role("socket drain", func(_ bag, args []string) {
		n := get(strconv.Atoi(args[0]))
		for {
			b := ipc.Fresh(n)
			for len(b) > 0 {
				n, err := unix.Read(3, b)
				must(err)
				if n == 0 {
					return
				}
				b = b[n:]
			}
			get(unix.Write(3, []byte{1}))
		}
	})
	role("socket pong", func(_ bag, args []string) {
		rest := get(time.ParseDuration(args[0]))
		buf := make([]byte, 1<<16)
		for {
			n, err := unix.Read(3, buf)
			if n == 0 {
				return
			}
			must(err)
			spinFor(rest)
			get(unix.Write(3, buf[:n]))
		}
	})
	role("netpoll pong", func(_ bag, args []string) {
		must(unix.SetNonblock(3, true))
		f := os.NewFile(3, "socket")
		rest := get(time.ParseDuration(args[0]))
		buf := make([]byte, 1<<16)
		for {
			n, err := f.Read(buf)
			if errors.Is(err, io.EOF) {
				return
			}
			must(err)
			spinFor(rest)
			get(f.Write(buf[:n]))
		}
	})
}

func spinFor(d time.Duration) {
	if d == 0 {
		return
	}
	for began := time.Now(); time.Since(began) < d; {
	}
}

func wordOf(fd int) *atomic.Uint32 {
	b := get(unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED))
	return (*atomic.Uint32)(unsafe.Pointer(&b[0]))
}

func futexWait(w *atomic.Uint32, old uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), 0, uintptr(old), 0, 0, 0)
}

func futexWake(w *atomic.Uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), 1, 1, 0, 0, 0)
}

// rests are how long each side lets the other wait: so long that it sleeps, or not at all.
var rests = []struct {
	name string
	rest time.Duration
}{{"awake", 0}, {"asleep", 100 * time.Microsecond}}

func BenchmarkQueueStream(b *testing.B) {
	ctx := context.Background()
	q := newQueue[int](b, 1000)
	m := start(b, "drain", bag{Ints: q}, "")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		require.NoError(b, q.Put(ctx, n))
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msgs/s")
	require.NoError(b, q.Shutdown())
	m.ends()
}

func BenchmarkQueueRoundTrip(b *testing.B) {
	for _, tc := range rests {
		b.Run(tc.name+"/how=queues", func(b *testing.B) {
			ctx := context.Background()
			there, back := newQueue[int](b, 1), newQueue[int](b, 1)
			m := start(b, "pong", bag{Ints: there, Back: back}, "", tc.rest.String())
			require.NoError(b, there.Put(ctx, 1))
			_, err := back.Get(ctx)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				spinFor(tc.rest)
				_ = there.Put(ctx, 1)
				_, _ = back.Get(ctx)
			}
			report(b, tc.rest)
			require.NoError(b, there.Shutdown())
			m.ends()
		})
		if tc.rest > 0 {
			b.Run(tc.name+"/how=futex", func(b *testing.B) {
				fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
				require.NoError(b, err)
				f := os.NewFile(uintptr(fd), "test")
				defer f.Close()
				require.NoError(b, f.Truncate(4096))
				w := wordOf(fd)
				m := launch(b, "futex pong", []*os.File{f}, nil, tc.rest.String())
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				ping := func() {
					w.Store(1)
					futexWake(w)
					for w.Load() == 1 {
						futexWait(w, 1)
					}
				}
				ping()
				for b.Loop() {
					spinFor(tc.rest)
					ping()
				}
				report(b, tc.rest)
				w.Store(2)
				futexWake(w)
				m.ends()
				_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(w)), 4096))
			})
		}
	}
}

// report reports a round trip without the rests.
func report(b *testing.B, rest time.Duration) {
	b.ReportMetric(float64((b.Elapsed()-2*rest*time.Duration(b.N)).Nanoseconds())/float64(b.N), "ns/trip")
}

func BenchmarkPipeRoundTrip(b *testing.B) {
	msg := []byte("12345678")
	for _, tc := range rests {
		b.Run(tc.name+"/how=pipe", func(b *testing.B) {
			ctx := context.Background()
			here, there := newPipe[[]byte](b, true)
			m := start(b, "conn pong", bag{Conn: there}, "", tc.rest.String())
			require.NoError(b, there.Close())
			require.NoError(b, here.Send(ctx, msg))
			_, err := here.Recv(ctx)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				spinFor(tc.rest)
				_ = here.Send(ctx, msg)
				_, _ = here.Recv(ctx)
			}
			report(b, tc.rest)
			require.NoError(b, here.Close())
			m.ends()
		})
		b.Run(tc.name+"/how=socket", func(b *testing.B) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			require.NoError(b, err)
			f := os.NewFile(uintptr(fds[1]), "socket")
			m := launch(b, "socket pong", []*os.File{f}, nil, tc.rest.String())
			f.Close()
			buf := make([]byte, 64)
			ping := func() {
				_, _ = unix.Write(fds[0], msg)
				_, _ = unix.Read(fds[0], buf)
			}
			ping()
			for b.Loop() {
				spinFor(tc.rest)
				ping()
			}
			report(b, tc.rest)
			_ = unix.Close(fds[0])
			m.ends()
		})
		b.Run(tc.name+"/how=netpoll", func(b *testing.B) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			require.NoError(b, err)
			f, here := os.NewFile(uintptr(fds[1]), "socket"), os.NewFile(uintptr(fds[0]), "socket")
			m := launch(b, "netpoll pong", []*os.File{f}, nil, tc.rest.String())
			f.Close()
			buf := make([]byte, 64)
			ping := func() {
				_, _ = here.Write(msg)
				_, _ = here.Read(buf)
			}
			ping()
			for b.Loop() {
				spinFor(tc.rest)
				ping()
			}
			report(b, tc.rest)
			here.Close()
			m.ends()
		})
	}
}

func BenchmarkPipeStream(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 64 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("bytes=%d/how=socket", size), func(b *testing.B) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			require.NoError(b, err)
			f := os.NewFile(uintptr(fds[1]), "socket")
			m := launch(b, "socket drain", []*os.File{f}, nil, strconv.Itoa(size))
			f.Close()
			msg, acks := make([]byte, size), make([]byte, 4096)
			b.SetBytes(int64(size))
			n := 0
			for b.Loop() {
				for out := msg; len(out) > 0; {
					w, err := unix.Write(fds[0], out)
					if err != nil {
						b.Fatal(err)
					}
					out = out[w:]
				}
				n++
				if got, _, err := unix.Recvfrom(fds[0], acks, unix.MSG_DONTWAIT); err == nil {
					n -= got
				}
			}
			for n > 0 {
				got, err := unix.Read(fds[0], acks)
				require.NoError(b, err)
				n -= got
			}
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds()/(1<<20), "MiB/s")
			_ = unix.Close(fds[0])
			m.ends()
		})
		b.Run(fmt.Sprintf("bytes=%d/how=pipe", size), func(b *testing.B) {
			ctx := context.Background()
			here, there := newPipe[[]byte](b, true)
			acks := newQueue[int](b, 1<<20)
			m := start(b, "conn drain", bag{Conn: there, Back: acks}, "")
			require.NoError(b, there.Close())
			msg := make([]byte, size)
			for range 20 {
				require.NoError(b, here.Send(ctx, msg))
			}
			for range 20 {
				_, err := acks.Get(ctx)
				require.NoError(b, err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := here.Send(ctx, msg); err != nil {
					b.Fatal(err)
				}
				n++
				for {
					if _, err := acks.TryGet(); err != nil {
						break
					}
					n--
				}
			}
			for ; n > 0; n-- {
				_, err := acks.Get(ctx)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds()/(1<<20), "MiB/s")
			require.NoError(b, here.Close())
			m.ends()
		})
	}
}

func BenchmarkQueueLocal(b *testing.B) {
	ctx := context.Background()
	b.Run("type=int", func(b *testing.B) { benchLocal(b, ctx, 1) })
	b.Run("type=struct", func(b *testing.B) { benchLocal(b, ctx, nested{Name: "name", Bytes: []byte("bytes")}) })
	for _, n := range []int{100, 1000, 100_000, 1 << 20} {
		b.Run(fmt.Sprintf("type=[]byte/bytes=%d", n), func(b *testing.B) { benchLocal(b, ctx, make([]byte, n)) })
	}
}

func benchLocal[T any](b *testing.B, ctx context.Context, v T) {
	q, err := ipc.NewQueue[T](10)
	require.NoError(b, err)
	defer q.Close()
	b.ReportAllocs()
	for b.Loop() {
		_ = q.Put(ctx, v)
		_, _ = q.Get(ctx)
	}
}
