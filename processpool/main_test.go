//go:build linux

package processpool_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

func TestMain(m *testing.M) {
	worker.Main()
	proctest.Main(m, play)
}

// What other packages' tests of processes need, too.
var (
	within      = proctest.Within
	self        = proctest.Self
	descriptors = proctest.Descriptors
	announce    = proctest.Announce
	await       = proctest.Await
	awaitGone   = proctest.AwaitGone
)

// hushed is for workers that crash on purpose, and say so at length.
var hushed = worker.Config{Output: func(int, string, []byte) {}}

// byMeans runs test once without each of the means that pools have.
func byMeans(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(processpool.Means)) {
		if name != "all" {
			t.Run(name, func(t *testing.T) {
				processpool.Without(t, name)
				test(t)
			})
		}
	}
}

// open returns a pool that is closed at the end of the test.
func open(tb testing.TB, cfg processpool.Config) *processpool.Pool {
	tb.Helper()
	p, err := processpool.New(cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, p.Close()) })
	return p
}
