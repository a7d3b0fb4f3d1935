package executor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
)

// A map whose calls become slow makes its chunks smaller, and with them what it takes
// ahead of the consumer. It used to wait for a chunk in flight, at a moment when all
// that it had taken was in its own hands: MapUnordered for ever, Map with a panic.
func TestMapCallsBecomeSlow(t *testing.T) {
	// How much was taken at that moment depends on which call is the first slow one.
	for fast := range 200 {
		all := fast + 300
		args := func(yield func(int) bool) {
			for i := 0; i < all && yield(i); i++ {
			}
		}
		task := executor.LocalTask(func(_ context.Context, n int) (int, error) {
			if n >= fast {
				time.Sleep(10 * time.Millisecond)
			}
			return n, nil
		})
		synctest.Test(t, func(t *testing.T) {
			p, err := newPool(zeroConfig, false)
			require.NoError(t, err)
			defer p.Close()
			n := 0
			for v, err := range executor.Map(t.Context(), p, task, args) {
				require.NoError(t, err)
				require.Equal(t, n, v)
				n++
			}
			require.Equal(t, all, n)
			for it, err := range executor.MapUnordered(t.Context(), p, task, args) {
				require.NoError(t, err)
				require.Equal(t, it.Index, it.Value)
				n--
			}
			require.Zero(t, n)
		})
	}
}

// A map whose input becomes slow hands over and yields what it has, instead of filling
// the large chunks that cheap calls had led to.
func TestMapInputBecomesSlow(t *testing.T) {
	const fast, slow = 100_000, 100
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { return n, nil })
	synctest.Test(t, func(t *testing.T) {
		p, err := newPool(zeroConfig, false)
		require.NoError(t, err)
		defer p.Close()
		taken := 0
		args := func(yield func(int) bool) {
			for ; taken < fast+slow; taken++ {
				if taken >= fast {
					time.Sleep(time.Second)
				}
				if !yield(taken) {
					return
				}
			}
		}
		read := 0
		for _, err := range executor.Map(t.Context(), p, task, args) {
			require.NoError(t, err)
			read++
			if taken > fast+slow/2 {
				require.Less(t, taken-read, slow/2, "inputs taken and not yielded")
			}
		}
		require.Equal(t, fast+slow, read)
	})
}

// A canceller is a backend that cancels what it accepts, while the caller goes on.
type canceller struct{ executor.Executor }

func (x canceller) Execute(c executor.Call) error {
	c.Accept(x)
	go c.Cancel(executor.ErrShutdown)
	return nil
}

func (canceller) Withdraw(executor.Call) bool              { return true }
func (canceller) Cancelled(executor.Call, error)           {}
func (canceller) Interrupt(executor.Call, error)           {}
func (canceller) Finished(executor.Call, executor.Outcome) {}

// A consumer that waits for a chunk hears of its cancellation when it can see it. It
// used to hear of it just before, and to wait for ever if it was quick to look.
func TestMapHearsOfCancelledChunk(t *testing.T) {
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { return n, nil })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 20_000 {
		args := func(yield func(int) bool) { yield(1) }
		for _, err := range executor.Map(ctx, canceller{}, task, args) {
			require.ErrorIs(t, err, executor.ErrShutdown)
		}
		for _, err := range executor.MapUnordered(ctx, canceller{}, task, args) {
			require.ErrorIs(t, err, executor.ErrShutdown)
		}
	}
	require.NoError(t, ctx.Err())
}
