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
