//go:build linux

package processpool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// swell makes so many bytes resident, and then sleeps for a moment, in which it is seen.
var swell = executor.NewTask("swell", func(ctx context.Context, n int) (int, error) {
	b := make([]byte, n)
	for i := 0; i < n; i += os.Getpagesize() {
		b[i] = 1
	}
	<-ctx.Done()
	return len(b), context.Cause(ctx)
})

// TestChaos does everything at once, for as long as FUTURES_STRESS says, 10 s by default:
// calls, crashes, kills from outside, frozen processes, cancellations, interrupts, time
// limits, resizes, recycling, priorities, retries, too much memory. FUTURES_SEED replays
// what was chosen, though not when it met what.
func TestChaos(t *testing.T) {
	length := 10 * time.Second
	if testing.Short() {
		length = 2 * time.Second
	}
	chaosFor(t, length)
}

// TestChaosByMeans does the same without each of the means that make calls fast.
func TestChaosByMeans(t *testing.T) {
	byMeans(t, func(t *testing.T) { chaosFor(t, 2*time.Second) })
}

func chaosFor(t *testing.T, length time.Duration) {
	if s := os.Getenv("FUTURES_STRESS"); s != "" {
		var err error
		length, err = time.ParseDuration(s)
		require.NoError(t, err, "FUTURES_STRESS")
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FUTURES_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, "FUTURES_SEED")
	}
	t.Logf("FUTURES_SEED=%d", seed)
	byEach(t, func(t *testing.T, m worker.StartMethod) {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		descriptorsBefore := proctest.Descriptors()

		t.Run("unlimited", func(t *testing.T) { wreak(t, m, seed, 0, length/4) })
		t.Run("limited", func(t *testing.T) { wreak(t, m, seed, 256<<20, length/4) })

		require.Empty(t, proctest.Opened(descriptorsBefore))
		_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		require.ErrorIs(t, err, syscall.ECHILD)
		runtime.GC()
		runtime.ReadMemStats(&after)
		require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(16<<20))
	})
}

// A chaos is a pool to which everything happens.
type chaos struct {
	*processpool.Pool
	dir     string
	limited bool // workers have a limit of their memory

	made, ended, files atomic.Int64
	outcomes           sync.Map // what came of calls, in a word → *atomic.Int64
	wrong              chan error
}

// wreak makes chaos. With a limit of the memory nothing is sent ahead.
func wreak(t *testing.T, m worker.StartMethod, seed uint64, memory int64, length time.Duration) {
	cfg := by(m, processpool.Config{Workers: 3, MaxTasksPerChild: 50, KeepAlive: 20 * time.Millisecond, Worker: hushed})
	cfg.Worker.KillGrace = 100 * time.Millisecond
	cfg.Worker.MemoryLimit = memory
	c := &chaos{Pool: open(t, cfg), dir: t.TempDir(), limited: memory > 0, wrong: make(chan error, 1)}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	patience, stop := context.WithTimeout(t.Context(), length+time.Minute)
	defer stop()

	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { c.produce(ctx, patience, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	all.Go(func() { c.kill(ctx, rand.New(rand.NewPCG(seed, 100))) })
	all.Go(func() {
		r := rand.New(rand.NewPCG(seed, 101))
		for pause(ctx, r, 50*time.Millisecond) {
			_ = c.Resize(1 + r.IntN(5))
		}
	})
	all.Go(func() { // else calls that were long keep others from being sent ahead
		r := rand.New(rand.NewPCG(seed, 102))
		for pause(ctx, r, 2*time.Millisecond) {
			processpool.Quicken(c.Pool)
		}
	})
	all.Wait()
	require.NoError(t, c.Shutdown(patience))

	select {
	case err := <-c.wrong:
		t.Fatal(err)
	default:
	}
	require.Equal(t, c.made.Load(), c.ended.Load(), "futures, and callbacks of theirs")
	s := c.Stats()
	require.Equal(t, s.Submitted, s.Succeeded+s.Failed+s.Cancelled)
	require.Zero(t, s.Workers+s.Idle+s.Running+s.Queued, "%+v", s)
	text := ""
	c.outcomes.Range(func(k, n any) bool {
		text += fmt.Sprintf(" %v %d;", k, n.(*atomic.Int64).Load())
		return true
	})
	t.Logf("%+v;%s", s, text)
	require.Positive(t, s.WorkersLost)
	require.Positive(t, s.Retried)
}

// pause waits for a time of that mean, and reports false when ctx has ended.
func pause(ctx context.Context, r *rand.Rand, mean time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(r.ExpFloat64() * float64(mean))):
		return true
	}
}

// kill ends and freezes workers from outside.
func (c *chaos) kill(ctx context.Context, r *rand.Rand) {
	for pause(ctx, r, 20*time.Millisecond) {
		all := slices.DeleteFunc(c.Workers(), func(w processpool.WorkerInfo) bool { return !w.Ready })
		if len(all) == 0 {
			continue
		}
		pid := all[r.IntN(len(all))].PID
		switch r.IntN(4) {
		case 0:
			_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended, here and below
		case 1:
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			pause(ctx, r, 5*time.Millisecond)
			_ = syscall.Kill(pid, syscall.SIGCONT)
		default:
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// A wish says whether err may be what became of a call that nobody killed or cancelled.
type wish func(err error) bool

func succeeds(err error) bool { return err == nil }
func isLost(err error) bool {
	_, lost := errors.AsType[*executor.WorkerLostError](err)
	return lost
}

// produce submits calls and sees what becomes of them.
func (c *chaos) produce(ctx, patience context.Context, r *rand.Rand) {
	var open sync.WaitGroup
	defer open.Wait()
	room := make(chan struct{}, 32)
	for ctx.Err() == nil {
		room <- struct{}{}
		opts := []executor.CallOption{executor.WithPriority(r.IntN(3))}
		var f *future.Future[int]
		var want wish
		own, cancel := context.WithCancel(patience)
		retried := false
		switch n := r.IntN(100); {
		case n < 50:
			i := r.Int()
			f, want = executor.Submit(own, c, double, i, opts...), succeeds
		case n < 60:
			fates := []fate{exit0, exit3, sigkill, wildAccess}
			f, want = executor.Submit(own, c, say, fates[r.IntN(len(fates))], opts...), isLost
		case n < 70:
			fates := []fate{anError, aPanic, goexit}
			f, want = executor.Submit(own, c, say, fates[r.IntN(len(fates))], opts...), func(err error) bool { return err != nil && !isLost(err) }
		case n < 80:
			path := filepath.Join(c.dir, strconv.FormatInt(c.files.Add(1), 10))
			f, want = executor.Submit(own, c, crashAt, crash{Once: path}, append(opts, executor.WithRetries(1000))...), succeeds
			retried = true
		case n < 84:
			f = executor.Submit(own, c, deaf, filepath.Join(c.dir, "deaf"+strconv.FormatInt(c.files.Add(1), 10)), append(opts, executor.WithTimeout(10*time.Millisecond))...)
			want = func(err error) bool { return errors.Is(err, executor.ErrTimeout) && isLost(err) }
		case n < 85 && c.limited:
			f, want = executor.Submit(own, c, swell, 400<<20, opts...), isLost
		case n < 90:
			c.chunks(own, r.IntN(2) == 0, 1+r.IntN(30))
		default:
			f, want = executor.Submit(own, c, double, 7, opts...), func(error) bool { return true }
			switch r.IntN(3) {
			case 0:
				f.Cancel()
			case 1:
				f.Interrupt(errReason)
			default:
				cancel()
			}
		}
		if f == nil {
			cancel()
			<-room
			continue
		}
		c.made.Add(1)
		f.AddDoneCallback(func(*future.Future[int]) { c.ended.Add(1) })
		open.Go(func() { // ends when the call has
			defer cancel()
			defer func() { <-room }()
			err := f.Exception(patience)
			switch {
			case errors.Is(err, future.ErrNotDone):
				c.complain(fmt.Errorf("a call does not end: %w", err))
			case want(err):
			case isLost(err) && !retried: // it was killed from outside
			default:
				c.complain(fmt.Errorf("not what a call wants: %w", err))
			}
			c.count(err)
		})
	}
}

// chunks runs a map in which some items crash, and tries each of them again.
func (c *chaos) chunks(ctx context.Context, ordered bool, size int) {
	args := make([]crash, 40)
	for i := range args {
		args[i] = crash{N: i, At: -1}
		if i%13 == 12 {
			args[i].At, args[i].Once = i, filepath.Join(c.dir, strconv.FormatInt(c.files.Add(1), 10))
		}
	}
	opts := []executor.CallOption{executor.WithChunk(size), executor.WithRetries(1000)}
	var seen []int
	if ordered {
		for n, err := range executor.Map(ctx, c, crashAt, slices.Values(args), opts...) {
			if err != nil {
				c.complain(fmt.Errorf("an item of a map: %w", err))
				return
			}
			seen = append(seen, n)
		}
	} else {
		for item, err := range executor.MapUnordered(ctx, c, crashAt, slices.Values(args), opts...) {
			if err != nil {
				c.complain(fmt.Errorf("an item of an unordered map: %w", err))
				return
			}
			seen = append(seen, item.Value)
		}
		slices.Sort(seen)
	}
	for i, n := range seen {
		if i != n {
			c.complain(fmt.Errorf("item %d of a map is %d", i, n))
			return
		}
	}
	if len(seen) != len(args) {
		c.complain(fmt.Errorf("a map of %d items yields %d", len(args), len(seen)))
	}
}

// count takes note of what came of a call.
func (c *chaos) count(err error) {
	word := "failed"
	switch {
	case err == nil:
		word = "succeeded"
	case errors.Is(err, future.ErrCancelled):
		word = "cancelled"
	case errors.Is(err, executor.ErrTimeout):
		word = "over time"
	case isLost(err):
		word = "lost"
	}
	n, _ := c.outcomes.LoadOrStore(word, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

func (c *chaos) complain(err error) {
	select {
	case c.wrong <- err:
	default:
	}
}
