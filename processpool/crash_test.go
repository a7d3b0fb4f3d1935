//go:build linux

package processpool_test

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// The crash table: each step of a call with each fate costs that call alone, and says
// what has happened. // DEA-01 … DEA-14, PRO-03, PRO-04, PRO-05, ISO-04, POL-07, POL-32
func TestCrashTable(t *testing.T) { byEach(t, testCrashTable) }

func TestCrashTableByMeans(t *testing.T) {
	byMeans(t, func(t *testing.T) { testCrashTable(t, worker.Spawn) })
}

// Where a step happens in this process, what would be deadly there is not tried.
func testCrashTable(t *testing.T, m worker.StartMethod) {
	numbers := make([]int, 100)
	for i := range numbers {
		numbers[i] = i
	}
	type check func(t *testing.T, err error)
	isError := func(t *testing.T, err error) { require.ErrorIs(t, err, errFate) }
	isPanic := func(t *testing.T, err error) {
		var p *executor.PanicError
		require.ErrorAs(t, err, &p)
		require.Contains(t, fmt.Sprint(p.Value), errFate.Error())
		require.Contains(t, string(p.Stack), "befall")
	}
	isGoexit := func(t *testing.T, err error) { require.ErrorContains(t, err, "runtime.Goexit") }
	isLost := func(code int, sig os.Signal, stderr string) check {
		return func(t *testing.T, err error) {
			var lost *executor.WorkerLostError
			require.ErrorAs(t, err, &lost)
			require.Equal(t, code, lost.ExitCode)
			require.Equal(t, sig, lost.Signal)
			require.Equal(t, "explode", lost.Task)
			require.NotZero(t, lost.PID)
			require.NotEqual(t, os.Getpid(), lost.PID)
			require.Contains(t, lost.Stderr, stderr)
			require.Error(t, lost.Cause)
			require.Greater(t, lost.RSS, int64(1<<20))
			require.Less(t, lost.RSS, int64(1<<30))
		}
	}
	isOverTime := func(t *testing.T, err error) {
		require.ErrorIs(t, err, executor.ErrTimeout)
		isLost(-1, syscall.SIGKILL, "")(t, err)
	}
	caught := map[fate]check{anError: isError, aPanic: isPanic, goexit: isGoexit}
	deadly := map[fate]check{
		exit0:      isLost(0, nil, ""),
		exit3:      isLost(3, nil, "about to exit"),
		sigkill:    isLost(-1, syscall.SIGKILL, ""),
		wildAccess: isLost(2, nil, "unexpected fault address"),
		overflow:   isLost(2, nil, "stack overflow"),
		mapWrites:  isLost(2, nil, "concurrent map"),
		noMemory:   isLost(2, nil, "fatal error"), // what else it says depends on the race detector
		hang:       isOverTime,
	}
	if raced() {
		delete(deadly, mapWrites) // the race detector is first
	}
	steps := []struct {
		name   string
		make   func(fate) bomb
		inPool bool // it happens in this process, so a crash would be ours
	}{
		{"encode argument", func(f fate) bomb { return bomb{encode: f} }, true},
		{"decode argument", func(f fate) bomb { return bomb{decode: f} }, false},
		{"run", func(f fate) bomb { return bomb{run: f} }, false},
		{"encode result", func(f fate) bomb { return bomb{encodeResult: f} }, false},
		{"decode result", func(f fate) bomb { return bomb{decodeResult: f} }, true},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			ctx := within(t)
			cfg := by(m, processpool.Config{Workers: 2, Worker: hushed})
			cfg.Worker.KillGrace = 500 * time.Millisecond
			p := open(t, cfg)
			try := func(f fate, c check) {
				t.Run(string(f), func(t *testing.T) {
					before := p.Stats()
					var limit []executor.CallOption
					if f == hang {
						limit = append(limit, executor.WithTimeout(10*time.Millisecond))
					}
					for range 2 {
						c(t, executor.Submit(ctx, p, explode, s.make(f), limit...).Exception(ctx))
					}
					for i, v := range executor.SubmitAll(ctx, p, double, numbers) {
						n, err := v.Result(ctx)
						require.NoError(t, err)
						require.Equal(t, 2*i, n)
					}
					after := p.Stats()
					require.Equal(t, before.Failed+2, after.Failed)
					require.Equal(t, before.Succeeded+100, after.Succeeded)
					full(t, p, 2)
					if deadly[f] != nil {
						require.Equal(t, before.WorkersLost+2, after.WorkersLost)
					} else {
						require.Equal(t, before.WorkersLost, after.WorkersLost)
					}
				})
			}
			for f, c := range caught {
				try(f, c)
			}
			if !s.inPool {
				for f, c := range deadly {
					try(f, c)
				}
			}
		})
	}
}

// full sees that the pool can have n calls run at the same time, each in a worker of its own
// that lives.
func full(t *testing.T, p *processpool.Pool, n int) {
	t.Helper()
	held := hold(t, p, n)
	workers := p.Workers()
	require.Len(t, workers, n)
	for _, w := range workers {
		require.NoError(t, syscall.Kill(w.PID, 0))
	}
	for _, f := range held {
		require.True(t, f.Interrupt(errReason))
		require.NoError(t, f.Exception(t.Context()))
	}
}

// A crash inside a chunk costs its own item; those before it keep their results and
// those behind it run elsewhere.
func TestCrashInChunk(t *testing.T) { byEach(t, testCrashInChunk) }

func testCrashInChunk(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 1}))
	for _, at := range []int{0, 4, 9} {
		var args []crash
		for i := range 10 {
			args = append(args, crash{N: i, At: at})
		}
		i := 0
		for v, err := range executor.Map(ctx, p, crashAt, slices.Values(args), executor.WithChunk(10)) {
			if i == at {
				var lost *executor.WorkerLostError
				require.ErrorAs(t, err, &lost)
				require.Equal(t, 3, lost.ExitCode)
			} else {
				require.NoError(t, err)
				require.Equal(t, i, v)
			}
			i++
		}
		require.Equal(t, 10, i)
	}
	require.Equal(t, uint64(3), p.Stats().WorkersLost)
}

// With retries the crashed item of a chunk runs again, and only that.
func TestRetryInChunk(t *testing.T) { byEach(t, testRetryInChunk) }

func testRetryInChunk(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 2}))
	var args []crash
	for i := range 10 {
		args = append(args, crash{N: i, At: 4, Once: t.TempDir() + "/crashed"})
	}
	args[4].Once = t.TempDir() + "/crashed"
	i := 0
	for v, err := range executor.Map(ctx, p, crashAt, slices.Values(args), executor.WithChunk(10), executor.WithRetries(1)) {
		require.NoError(t, err)
		require.Equal(t, i, v)
		i++
	}
	require.Equal(t, 10, i)
	require.Equal(t, uint64(1), p.Stats().Retried)
	require.Equal(t, uint64(10), p.Stats().Succeeded)
}

// An item of a chunk whose argument does not encode fails alone, and so does one whose
// encoder ends its goroutine.
func TestChunkArgumentsThatDoNotEncode(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, Worker: hushed})
	args := make([]bomb, 9)
	args[0].encode, args[3].encode, args[4].encode, args[5].run, args[8].encode = anError, goexit, aPanic, exit3, anError
	i := 0
	for _, err := range executor.Map(ctx, p, explode, slices.Values(args), executor.WithChunk(len(args))) {
		require.Equal(t, args[i] != bomb{}, err != nil, "item %d: %v", i, err)
		i++
	}
	require.Equal(t, len(args), i)
	require.Equal(t, executor.Stats{Submitted: 9, Succeeded: 4, Failed: 5, WorkersLost: 1}, counts(p))
}

// counts returns what of the pool's statistics does not depend on the moment.
func counts(p *processpool.Pool) executor.Stats {
	s := p.Stats()
	s.Workers, s.Idle, s.Queued, s.Running = 0, 0, 0, 0
	return s
}

// A worker that is killed from outside while it idles is replaced when it is needed.
func TestIdleWorkerKilled(t *testing.T) { byEach(t, testIdleWorkerKilled) }

func testIdleWorkerKilled(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 1}))
	seen := map[int]bool{}
	for range 5 {
		n, err := executor.Apply(ctx, p, pid, struct{}{})
		require.NoError(t, err)
		require.False(t, seen[n])
		seen[n] = true
		require.NoError(t, syscall.Kill(n, syscall.SIGKILL))
		// The next call may be handed to the dying worker: it is not lost then.
	}
	require.Equal(t, executor.Stats{Submitted: 5, Succeeded: 5, WorkersLost: counts(p).WorkersLost}, counts(p))
}

// Values whose types hide behind interfaces keep the streams in step, whatever fails
// or is skipped between them.
func TestStreamsStayInStep(t *testing.T) { byWay(t, testStreamsStayInStep) }

func testStreamsStayInStep(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	for range 3 {
		require.ErrorContains(t, executor.Submit(ctx, p, anything, any(pair{A: make(chan int)})).Exception(ctx), "chan int")
		v, err := executor.Apply(ctx, p, anything, any(pair{A: square{3}, B: []any{pair{B: 1}}}))
		if err != nil { // []any is not registered
			require.ErrorContains(t, err, "interface")
		} else {
			require.Equal(t, 9, v.(pair).A.(shape).Area())
		}
		v, err = executor.Apply(ctx, p, anything, any(pair{A: square{3}}))
		require.NoError(t, err)
		require.Equal(t, pair{A: square{3}}, v)
		n, err := executor.Apply(ctx, p, double, 4)
		require.NoError(t, err)
		require.Equal(t, 8, n)
		require.Error(t, executor.Submit(ctx, p, explode, bomb{decode: anError}).Exception(ctx))
		require.NoError(t, executor.Submit(ctx, p, explode, bomb{}).Exception(ctx))
	}
	require.Zero(t, p.Stats().WorkersLost)
}

// 100 calls that do not encode leave room for 100 that do. // DEA-16
func TestQueueAfterEncodeErrors(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1, QueueLimit: 1})
	for range 100 {
		require.ErrorIs(t, executor.Submit(ctx, p, explode, bomb{encode: anError}).Exception(ctx), errFate)
	}
	for i := range 100 {
		require.NoError(t, executor.Submit(ctx, p, double, i).Exception(ctx))
	}
}
