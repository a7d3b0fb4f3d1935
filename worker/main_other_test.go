//go:build !linux

package worker_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/executor"
	"example.com/futures/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var double = executor.NewTask("double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })

// Where there are no worker processes, Start says so.
func TestStartUnsupported(t *testing.T) {
	p, err := worker.Start(t.Context(), double, 1, worker.Config{})
	require.Nil(t, p)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
