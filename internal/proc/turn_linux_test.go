package proc_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proc"
)

// Processes that do not greet keep others waiting for a moment only, and whoever is not
// wanted any more does not wait.
func TestTurnsAreGivenUp(t *testing.T) {
	quit := make(chan struct{})
	close(quit)
	for range 3 * (runtime.NumCPU() + 1) {
		done, err := proc.TakeTurn(nil)
		require.NoError(t, err)
		defer done()
	}
	refused := 0
	for range 100 {
		done, err := proc.TakeTurn(quit)
		if err == nil { // there was a token, too
			done()
			continue
		}
		require.ErrorIs(t, err, proc.ErrQuit)
		refused++
	}
	require.Positive(t, refused)
}
