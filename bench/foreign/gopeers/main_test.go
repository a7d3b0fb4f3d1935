package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/bench/remote"
)

// TestMain has the test binary be the children, as the program is.
func TestMain(m *testing.M) {
	if os.Getenv(addressVariable) != "" || os.Getenv(handshake.MagicCookieKey) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// Each kind gives right results in each shape: Measure checks them.
func TestKinds(t *testing.T) {
	for kind, open := range map[string]func(remote.Work) remote.Crew{"rpc": openRPC, "plugin": openPlugin} {
		for _, w := range []remote.Work{
			{Shape: remote.One, Workers: 2, Calls: 10},
			{Shape: remote.Fan, Workers: 2, Calls: 100},
			{Shape: remote.Fan, Workers: 2, Calls: 10, Body: remote.Spin, Each: 1000},
			{Shape: remote.Echo, Workers: 2, Calls: 5, Bytes: 4096, Flying: 2},
			{Shape: remote.Start, Workers: 2, Calls: 1},
			{Shape: remote.StartAll, Workers: 3, Calls: 1},
		} {
			t.Run(kind+"/"+string(w.Shape), func(t *testing.T) {
				r, err := w.Measure(open)
				require.NoError(t, err)
				require.Positive(t, r.Calls)
			})
		}
	}
}

func TestVersions(t *testing.T) {
	require.Contains(t, versions(), "go")
	require.ErrorContains(t, run([]string{"nothing", "{}"}), `no kind "nothing"`)
	require.ErrorContains(t, run(nil), "usage")
}
