package threadpool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/threadpool"
)

// TestStress does everything at once, for as long as FUTURES_STRESS says: calls that
// return, fail, panic, end their goroutine, wait for others and are cancelled, queued
// or running, on pools that are resized and in the end shut down. Every call must
// end as it should, and the counters must agree.
func TestStress(t *testing.T) { // EXE-08
	deadline := time.Now().Add(stressTime(t))
	for round := 0; round == 0 || time.Now().Before(deadline); round++ {
		stress(t, round)
	}
}

var errFailed = errors.New("failed as asked")

func stress(t *testing.T, seed int) {
	const producers, calls = 8, 200
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	cfg := threadpool.Config{Workers: 1 + rng.IntN(4)}
	if rng.IntN(2) == 0 {
		cfg.QueueLimit = 1 + rng.IntN(20)
	}
	if rng.IntN(3) == 0 {
		cfg.KeepAlive = time.Duration(1+rng.IntN(100)) * time.Microsecond
	}
	ctx, p := open(t, cfg)

	var nested, nestedRefused atomic.Int64 // calls made by tasks; those that a shutdown refused
	var task executor.Task[int, int]
	task = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		switch n % 10 {
		case 1:
			return 0, errFailed
		case 2:
			panic(errFailed)
		case 3:
			runtime.Goexit()
		case 4, 5:
			nested.Add(1)
			got, err := executor.Submit(ctx, p, task, n*10).Result(ctx)
			if errors.Is(err, executor.ErrShutdown) {
				nestedRefused.Add(1)
			}
			return got / 10, err
		case 6:
			runtime.Gosched()
		}
		return n, nil
	})

	var wg sync.WaitGroup
	var refused atomic.Int64
	for producer := range producers {
		rng := rand.New(rand.NewPCG(uint64(seed), uint64(producer+1)))
		wg.Go(func() {
			for range calls {
				n, fate := rng.IntN(1000), rng.IntN(12)
				cctx, cancel := context.WithCancelCause(ctx)
				f := executor.Submit(cctx, p, task, n, executor.WithPriority(rng.IntN(3)))
				switch fate {
				case 0:
					f.Cancel()
				case 1:
					cancel(errFailed)
				case 2:
					f.Interrupt(errFailed)
				}
				got, err := f.Result(ctx)
				cancel(nil)
				switch {
				case errors.Is(err, executor.ErrShutdown):
					refused.Add(1)
				case err == nil && got == n && (n%10 == 0 || n%10 > 3):
				case errors.Is(err, future.ErrCancelled) && (fate < 3 || n%10 == 4 || n%10 == 5):
				case errors.Is(err, errFailed) && (fate < 3 || n%10 == 1 || n%10 == 2):
				case err != nil && n%10 == 3: // Goexit
				default:
					t.Errorf("call of %d with fate %d ends with %d, %v", n, fate, got, err)
				}
			}
		})
	}
	if rng.IntN(2) == 0 {
		wg.Go(func() {
			for range 50 {
				if err := p.Resize(1 + rng.IntN(6)); err != nil && !errors.Is(err, executor.ErrShutdown) {
					t.Errorf("Resize: %v", err)
				}
				runtime.Gosched()
			}
		})
	}
	if seed%4 == 0 {
		wg.Go(func() {
			for p.Stats().Submitted < producers*calls/2 {
				runtime.Gosched()
			}
			if err := p.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, p.Shutdown(ctx))
	if seed%4 != 0 {
		require.Zero(t, refused.Load()+nestedRefused.Load())
		require.LessOrEqual(t, p.Stats().Submitted, uint64(producers*calls+nested.Load()))
	}
	s := p.Stats()
	require.Equal(t, executor.Stats{
		Submitted: s.Submitted, Succeeded: s.Succeeded, Failed: s.Failed,
		Cancelled: s.Submitted - s.Succeeded - s.Failed,
	}, s)
}
