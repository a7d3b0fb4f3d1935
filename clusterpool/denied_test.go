package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// A request fails soon after the servers have denied something. The caller's own
// cancellation was told as a want of permission; what only the denial has ended still is.
func TestExplainUnder(t *testing.T) {
	d := new(denials)
	denied := fmt.Errorf("%w: Permissions Violation for Publish to \"x\"", nats.ErrPermissionViolation)
	d.note(denied)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := d.explainUnder(ctx, context.Canceled) // of what during has returned
	require.ErrorIs(t, err, nats.ErrPermissionViolation)
	require.NotErrorIs(t, err, context.Canceled)
	cancel(why)
	err = d.explainUnder(ctx, context.Canceled)
	require.ErrorIs(t, err, why)
	require.NotErrorIs(t, err, nats.ErrPermissionViolation)

	late, stop := context.WithTimeoutCause(t.Context(), 0, why)
	defer stop()
	err = d.explainUnder(late, context.DeadlineExceeded) // perhaps since nobody answers whom is denied
	require.ErrorIs(t, err, why)
	require.ErrorIs(t, err, nats.ErrPermissionViolation)
	require.NoError(t, d.explainUnder(late, nil))
}
