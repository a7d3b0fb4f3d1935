package main

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/bench/remote"
	"example.com/futures/worker"
)

// TestMain has the test binary be the workers, as the program is.
func TestMain(m *testing.M) {
	worker.Main()
	// It stays if it gets to run only after the object that is put into a store (nats.go v1.55).
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// Each kind gives right results in each shape that it has: Measure checks them. And it leaves nothing in
// its folder.
func TestKinds(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("worker processes need Linux, where the library works and is tested")
	}
	found := versions()
	calls := []remote.Work{
		{Shape: remote.One, Workers: 1, Slots: 4, Calls: 2},
		{Shape: remote.Window, Workers: 2, Slots: 4, Calls: 30, Flying: 8},
	}
	chunks := remote.Work{Shape: remote.Map, Workers: 2, Slots: 4, Calls: 1000}
	payload := remote.Work{Shape: remote.Echo, Workers: 1, Slots: 4, Calls: 2, Bytes: 3 << 20, Flying: 1}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		works := calls
		switch kind {
		case "ours":
			works = append(slices.Clip(calls), chunks, payload)
		case "objects":
			works = []remote.Work{payload}
		}
		for _, w := range works {
			t.Run(kind+"/"+string(w.Shape), func(t *testing.T) {
				for prefix, needed := range map[string]string{"asynq": "redis-server", "river": "postgres"} {
					if strings.HasPrefix(kind, prefix) && found[needed] == "" {
						t.Skipf("it needs %s, a package of the system that a machine with Go alone does not have; the other kinds run", needed)
					}
				}
				dir := sharedDir(t)
				r, err := w.Measure(func(w remote.Work) remote.Crew { return kinds[kind](w, dir) })
				require.NoError(t, err)
				require.GreaterOrEqual(t, r.Calls, w.Calls)
				left, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Empty(t, left)
			})
		}
	}
}

// sharedDir is a folder that another user may pass through, as PostgreSQL does. A test's own has
// parents that he may not.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster") //nolint:usetesting // for the reason above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711))
	return dir
}

func TestVersions(t *testing.T) {
	require.Contains(t, versions(), "go")
	require.ErrorContains(t, run([]string{"nothing", "{}", "."}), `no kind "nothing"`)
	require.ErrorContains(t, run(nil), "usage")
}

// A server's password is in nobody's list of processes.
func TestPasswordsAreNoArguments(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it reads /proc, which only Linux has")
	}
	found := versions()
	for needed, start := range map[string]func(string) (string, func()){"redis-server": startRedis, "postgres": startPostgres} {
		t.Run(needed, func(t *testing.T) {
			if found[needed] == "" {
				t.Skipf("it needs %s, a package of the system that a machine with Go alone does not have; the other kinds run", needed)
			}
			address, stop := start(sharedDir(t))
			defer stop()
			_, secret, _ := strings.Cut(address, "://")
			_, secret, _ = strings.Cut(secret, ":")
			secret, _, _ = strings.Cut(secret, "@")
			require.Len(t, secret, 26)
			processes, err := os.ReadDir("/proc")
			require.NoError(t, err)
			for _, p := range processes {
				line, _ := os.ReadFile("/proc/" + p.Name() + "/cmdline") // none, or it has ended
				require.NotContains(t, string(line), secret)
			}
		})
	}
}
