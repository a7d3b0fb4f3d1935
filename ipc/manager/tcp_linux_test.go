package manager

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// servedTCP is served, on TCP with a key.
func servedTCP(tb testing.TB) (server, client *Manager) {
	tb.Helper()
	cfg := Config{AuthKey: []byte("a key")}
	return servedOver(tb, cfg, cfg)
}

// servedCertificates is served, on TCP with certificates and no key.
func servedCertificates(tb testing.TB) (server, client *Manager) {
	tb.Helper()
	ca := newGateAuthority(tb)
	return servedOver(tb, Config{TLS: ca.server(tb)}, Config{TLS: ca.client(tb)})
}

func servedOver(tb testing.TB, own, other Config) (server, client *Manager) {
	tb.Helper()
	server, err := Serve(tb.Context(), "tcp", "127.0.0.1:0", own)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, server.Close()) })
	client, err = Connect(tb.Context(), "tcp", server.Addr().String(), other)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return server, client
}
