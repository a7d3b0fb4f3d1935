package clusterpool_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
	"example.com/futures/executor"
)

type traceKey struct{}

// traceTask returns the trace that its ctx belongs to.
var traceTask = executor.NewTask("clustertest.trace", func(ctx context.Context, _ struct{}) (string, error) {
	s, _ := ctx.Value(traceKey{}).(string)
	return s, nil
})

// What identifies a trace goes along in the headers of the call's message.
func TestTrace(t *testing.T) {
	s, err := embed.Start(t.Context(), embed.Config{Listen: "none"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	p := dial(t, clusterpool.Config{
		Options: s.Options(), Memory: true,
		Inject: func(ctx context.Context, set func(key, value string)) {
			if parent, ok := ctx.Value(traceKey{}).(string); ok {
				set("traceparent", parent)
			}
		},
	})
	require.NoError(t, embed.Serve(t.Context(), p, clusterpool.ServeConfig{
		Options: s.Options(), Slots: 1,
		Extract: func(ctx context.Context, get func(key string) string) context.Context {
			return context.WithValue(ctx, traceKey{}, get("traceparent"))
		},
	}))
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, want := range []string{parent, ""} {
		ctx := t.Context()
		if want != "" {
			ctx = context.WithValue(ctx, traceKey{}, want)
		}
		got, err := executor.Apply(ctx, p, traceTask, struct{}{})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}
