//go:build linux

package processpool_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// A hunger says how a call uses memory.
type hunger struct {
	Bytes int64  // 0: without an end
	How   string // "heap", "mapped", "garbage", "impossible"
	Once  string // if that file is not there, it is made, and the call is not hungry if it is
}

var (
	devour = executor.NewTask("devour", func(_ context.Context, h hunger) (int, error) {
		if h.Once != "" {
			f, err := os.OpenFile(h.Once, os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return os.Getpid(), nil
			}
			f.Close()
		}
		eaten = nil
		const bite = 4 << 20
		for n := int64(0); h.Bytes == 0 || n < h.Bytes; n += bite {
			switch h.How {
			case "heap", "garbage":
				b := make([]byte, bite)
				for i := 0; i < len(b); i += 4096 {
					b[i] = 1
				}
				if h.How == "heap" {
					eaten = append(eaten, b)
				}
			case "mapped":
				if _, err := unix.Mmap(-1, 0, bite, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
					return 0, err
				}
			case "impossible":
				eaten = append(eaten, make([]byte, 1<<46))
			}
		}
		return os.Getpid(), nil
	})

	// peak returns the highest resident size that the worker has had. That of getrusage
	// begins with its parent's.
	peak = executor.NewTask("peak", func(context.Context, struct{}) (n int64, err error) {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(b), "VmHWM:")
		_, err = fmt.Sscanf(rest, "%d kB", &n)
		return n << 10, err
	})
)

// eaten keeps what a call has allocated, in its worker.
var eaten [][]byte

const memoryLimit = 128 << 20

// A call that passes the memory limit has its worker killed, says so with the limit and
// the size, and costs nothing but itself.
func TestMemoryLimit(t *testing.T) { byEach(t, testMemoryLimit) }

func testMemoryLimit(t *testing.T, m worker.StartMethod) {
	for _, how := range []string{"heap", "mapped"} {
		t.Run(how, func(t *testing.T) {
			ctx := within(t)
			p := open(t, by(m, processpool.Config{Workers: 2, Worker: worker.Config{MemoryLimit: memoryLimit}}))
			fs := executor.SubmitAll(ctx, p, devour, []hunger{{How: how}, {How: how, Bytes: 16 << 20}, {How: how}})
			for i, f := range fs {
				n, err := f.Result(ctx)
				if i == 1 {
					require.NoError(t, err)
					require.NotZero(t, n)
					continue
				}
				var lost *executor.WorkerLostError
				require.ErrorAs(t, err, &lost)
				require.Equal(t, syscall.SIGKILL, lost.Signal)
				require.Equal(t, -1, lost.ExitCode)
				require.Equal(t, "devour", lost.Task)
				require.Regexp(t, `killed: its resident size, \d{9,} bytes, passed the memory limit of 134217728 bytes`, err.Error())
				require.Greater(t, lost.RSS, int64(memoryLimit))
				require.Less(t, lost.RSS, int64(memoryLimit)*4)
			}
			for i, f := range executor.SubmitAll(ctx, p, double, make([]int, 100)) {
				require.NoError(t, f.Exception(ctx), i)
			}
			require.Equal(t, executor.Stats{Submitted: 103, Succeeded: 101, Failed: 2, WorkersLost: 2}, counts(p))
		})
	}
}

// What is garbage does not count: the worker's collector keeps below the limit.
func TestMemoryLimitCollects(t *testing.T) {
	if raced() {
		t.Skip("the race detector keeps several bytes for each, of which the collector knows nothing")
	}
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{MemoryLimit: memoryLimit, Env: append(os.Environ(), "GOGC=off")}})
	_, err := executor.Apply(ctx, p, devour, hunger{How: "garbage", Bytes: 2 << 30})
	require.NoError(t, err)
	most, err := executor.Apply(ctx, p, peak, struct{}{})
	require.NoError(t, err)
	require.Greater(t, most, int64(1<<20))
	require.Less(t, most, int64(memoryLimit))
}

// raced reports whether this program has the race detector.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// A worker that was lost by its memory is a worker that was lost: the call runs again.
func TestMemoryLimitRetries(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: worker.Config{MemoryLimit: memoryLimit}})
	_, err := executor.Submit(ctx, p, devour, hunger{How: "mapped", Once: t.TempDir() + "/once"}, executor.WithRetries(1)).Result(ctx)
	require.NoError(t, err)
	require.Equal(t, executor.Stats{Submitted: 1, Succeeded: 1, Retried: 1, WorkersLost: 1}, counts(p))
}

// What a call has left behind does not cost the next one: the worker is replaced.
func TestMemoryLeftBehind(t *testing.T) {
	ctx := within(t)
	limit := worker.Config{MemoryLimit: memoryLimit}
	p := open(t, processpool.Config{Workers: 1, Worker: limit})
	for range 20 {
		// The call passes the limit with its last bite, and often ends before that is seen.
		f := executor.Submit(ctx, p, devour, hunger{How: "mapped", Bytes: memoryLimit})
		next := executor.Submit(ctx, p, double, 1)
		if err := f.Exception(ctx); err != nil {
			require.ErrorContains(t, err, "passed the memory limit")
		}
		require.NoError(t, next.Exception(ctx))
	}
}

// A limit that an initializer passes breaks the pool, and says why.
func TestMemoryLimitInInitializer(t *testing.T) { byEach(t, testMemoryLimitInInitializer) }

func testMemoryLimitInInitializer(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{
		Workers: 1, Worker: worker.Config{MemoryLimit: memoryLimit},
		Initializer: executor.Bind(gorge, struct{}{}),
	}))
	err := executor.Submit(ctx, p, double, 1).Exception(ctx)
	require.ErrorAs(t, err, new(*executor.BrokenError))
	require.ErrorContains(t, err, "passed the memory limit of 134217728 bytes")
}

// The initializer of a worker that waits to take another's place is watched, too.
func TestMemoryLimitInNextInitializer(t *testing.T) {
	log := new(lockedBuffer)
	p := open(t, processpool.Config{
		Workers: 1, MaxTasksPerChild: 1, Worker: worker.Config{MemoryLimit: memoryLimit},
		Initializer: executor.Bind(gorgeLater, t.TempDir()+"/first"),
		Logger:      slog.New(slog.NewTextHandler(log, nil)),
	})
	first := hold(t, p, 1)[0]
	require.Eventually(t, func() bool {
		return strings.Contains(log.String(), "passed the memory limit of 134217728 bytes")
	}, time.Minute, time.Millisecond)
	require.False(t, first.IsDone())
	require.Zero(t, p.Stats().WorkersLost)
}

// A lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// gorgeLater uses 1 GiB, but in the first worker nothing.
var gorgeLater = executor.NewTask("gorgeLater", func(_ context.Context, path string) (struct{}, error) {
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		return struct{}{}, f.Close()
	}
	for range 256 {
		eaten = append(eaten, make([]byte, 4<<20))
		clear(eaten[len(eaten)-1])
	}
	eaten = nil
	return struct{}{}, nil
})

var gorge = executor.NewTask("gorge", func(context.Context, struct{}) (struct{}, error) {
	for {
		eaten = append(eaten, make([]byte, 4<<20))
		clear(eaten[len(eaten)-1])
		runtime.KeepAlive(eaten)
	}
})

// Memory that there is not is a fatal error of the worker's runtime.
func TestOutOfMemory(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	var lost *executor.WorkerLostError
	require.ErrorAs(t, executor.Submit(ctx, p, devour, hunger{How: "impossible"}).Exception(ctx), &lost)
	require.Equal(t, 2, lost.ExitCode)
	require.Regexp(t, "out of memory|address space", lost.Stderr) // the latter with the race detector
	require.NotZero(t, lost.RSS)
	require.NoError(t, executor.Submit(ctx, p, double, 1).Exception(ctx))
}

// However a worker ends, its error says how much memory it had. A kill from outside is
// not taken for one by the system for want of memory.
func TestLostRSS(t *testing.T) { byEach(t, testLostRSS) }

func testLostRSS(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 1, Worker: hushed}))
	for _, f := range []fate{exit0, exit3, sigkill, wildAccess, overflow} {
		var lost *executor.WorkerLostError
		err := executor.Submit(ctx, p, explode, bomb{run: f}).Exception(ctx)
		require.ErrorAs(t, err, &lost)
		require.Greater(t, lost.RSS, int64(1<<20), f)
		require.Less(t, lost.RSS, int64(1<<30), f)
		require.NotContains(t, err.Error(), "out-of-memory")
	}
	cfg := hushed
	cfg.KillGrace = -1
	p = open(t, by(m, processpool.Config{Workers: 1, Worker: cfg}))
	path := t.TempDir() + "/deaf"
	f := executor.Submit(ctx, p, deaf, path, executor.WithTimeout(10*time.Millisecond))
	var lost *executor.WorkerLostError
	require.ErrorAs(t, f.Exception(ctx), &lost)
	require.Greater(t, lost.RSS, int64(1<<20))
}

// What a program has had in memory at its most is not taken for the size of its workers,
// though the system counts from there.
func TestLostRSSOfLargeProgram(t *testing.T) { byEach(t, testLostRSSOfLargeProgram) }

func testLostRSSOfLargeProgram(t *testing.T, m worker.StartMethod) {
	const large = 1 << 30
	mem, err := unix.Mmap(-1, 0, large, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	require.NoError(t, err)
	require.NoError(t, unix.Munmap(mem))
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 1}))
	var lost *executor.WorkerLostError
	require.ErrorAs(t, executor.Submit(ctx, p, exitLate, 1200*time.Millisecond).Exception(ctx), &lost)
	require.Greater(t, lost.RSS, int64(1<<20))
	require.Less(t, lost.RSS, int64(large))
}

// exitLate exits after a time: later than what was seen of its memory is taken for new.
var exitLate = executor.NewTask("exitLate", func(_ context.Context, d time.Duration) (int, error) {
	<-time.After(d)
	os.Exit(0)
	return 0, nil
})
