package manager

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// servedTCP is served, on TCP with a key.
func servedTCP(tb testing.TB) (server, client *Manager) {
	tb.Helper()
	cfg := Config{AuthKey: []byte("a key")}
	server, err := Serve(tb.Context(), "tcp", "127.0.0.1:0", cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, server.Close()) })
	client, err = Connect(tb.Context(), "tcp", server.Addr().String(), cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return server, client
}
