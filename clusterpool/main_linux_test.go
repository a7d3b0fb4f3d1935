package clusterpool_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

func TestMain(m *testing.M) {
	clustertest.Main()
	worker.Main()
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // they mostly wait: for leases, elections, servers
		panic(err)
	}
	proctest.Main(m, play, clustertest.IgnoreListeners())
}

// notUnderRace skips a test of what servers do, and of waiting for it, under the race
// detector: it would take minutes, and what runs here runs in other tests, too.
func notUnderRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the servers are slow under the race detector")
	}
}

// play is what the test binary does in a role: see clientRole.
func play(role string) {
	if fn, ok := roles[role]; ok {
		fn()
	}
}

var roles = map[string]func(){}

// A job is one worker process of a cluster: what is told to it.
type job struct {
	URL, Name, Worker, Build string
	Slots                    int
	Lease, Grace             time.Duration
	Isolated                 bool // each call runs in a worker process of its own
}

// serveTask is a worker of a cluster, in a process that can be killed.
var serveTask = executor.NewTask("clustertest.serve", func(ctx context.Context, j job) (struct{}, error) {
	cfg := clusterpool.ServeConfig{URL: j.URL, Name: j.Name, Worker: j.Worker, Build: j.Build, Slots: j.Slots, Lease: j.Lease, Grace: j.Grace}
	if j.Isolated {
		cfg.Isolate = &processpool.Config{}
	}
	return struct{}{}, clusterpool.Serve(ctx, cfg)
})

// lease is that of the tests' workers.
const lease = time.Second

// A member is a worker process of a cluster.
type member struct {
	t testing.TB
	*worker.Process[struct{}]
}

// serve starts a worker process, which is killed at the end of the test if it is still there.
func serve(t testing.TB, j job) *member {
	t.Helper()
	if j.Lease == 0 {
		j.Lease = lease
	}
	p, err := worker.Start(context.Background(), serveTask, j, worker.Config{Output: func(int, string, []byte) {}})
	require.NoError(t, err)
	m := &member{t, p}
	t.Cleanup(m.kill)
	return m
}

// kill kills the worker, with all that it has started, and waits for it.
func (m *member) kill() {
	m.t.Helper()
	require.NoError(m.t, m.Kill())
	require.NoError(m.t, m.Join(context.Background()))
}

// freeze stops the worker, and returns when none of its threads runs any more.
func (m *member) freeze() {
	m.t.Helper()
	require.NoError(m.t, syscall.Kill(m.PID(), syscall.SIGSTOP))
	until(m.t, "it stands still", func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", m.PID()))
		require.NoError(m.t, err)
		for _, stat := range stats {
			b, err := os.ReadFile(stat)
			if err == nil && !strings.Contains(string(b), ") T ") {
				return false
			}
		}
		return true
	})
}

func (m *member) thaw() { require.NoError(m.t, syscall.Kill(m.PID(), syscall.SIGCONT)) }

// dial returns a pool that is closed at the end of the test.
func dial(t testing.TB, cfg clusterpool.Config) *clusterpool.Pool {
	t.Helper()
	if cfg.Lease == 0 {
		cfg.Lease = lease
	}
	p, err := clusterpool.New(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// serverAndPool starts a server for the test, and returns it, a journal, and a pool on the
// server with its name.
func serverAndPool(t testing.TB, cfg clusterpool.Config) (*clustertest.Server, *clustertest.Journal, string, *clusterpool.Pool) {
	t.Helper()
	s := clustertest.StartServer(t, clustertest.Options{})
	cfg.URL, cfg.Name = s.URL(), poolName(t)
	return s, clustertest.NewJournal(t), cfg.Name, dial(t, cfg)
}

// poolName returns a name for the test's pool that no other test has.
func poolName(t testing.TB) string {
	return strings.Map(func(c rune) rune {
		if c == '/' || c == '#' || c == '.' {
			return '-'
		}
		return c
	}, t.Name()[max(0, len(t.Name())-40):])
}

// awaitWorkers waits until p knows of n workers.
func awaitWorkers(t testing.TB, p *clusterpool.Pool, n int) {
	t.Helper()
	until(t, fmt.Sprintf("there are %d workers", n), func() bool { return len(p.Workers()) == n })
}

// until waits until what is described holds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, time.Minute, 2*time.Millisecond, what)
}

// A note is a call whose starts and ends are kept in a journal.
type note struct {
	Dir   string        // of the journal
	Call  int64         // a number of its own
	Sleep time.Duration // how long it runs; it ends early with its ctx
	Gate  string        // a file, see proctest.Announce: it runs until there is one; "": none
}

// noteTask keeps a journal and returns a function of its argument.
var noteTask = executor.NewTask("clustertest.note", func(ctx context.Context, n note) (int64, error) {
	end := clustertest.Start(n.Dir, n.Call)
	defer end()
	if n.Sleep > 0 {
		timer := time.NewTimer(n.Sleep)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	if n.Gate != "" {
		if _, err := proctest.Await(ctx, n.Gate); err != nil {
			return 0, err
		}
	}
	return noted(n.Call), nil
})

// noted is what noteTask returns of a call.
func noted(call int64) int64 { return 3*call + 1 }

// api returns a connection of the test's own to the servers.
func api(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}
