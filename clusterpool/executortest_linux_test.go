package clusterpool_test

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/executor/executortest"
	"example.com/futures/processpool"
)

// A pool keeps every promise of an executor on servers of every kind.
func TestExecutor(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		conform(t, func(tb testing.TB) (clusterpool.Config, func() error) {
			return embedded(tb, embed.Config{Listen: "none"}, clusterpool.Config{Memory: true})
		})
	})
	if raceEnabled {
		return // what differs is the servers, which would be slow to look through
	}
	t.Run("file", func(t *testing.T) {
		conform(t, func(tb testing.TB) (clusterpool.Config, func() error) {
			return embedded(tb, embed.Config{Listen: "none", Dir: directory(tb)}, clusterpool.Config{})
		})
	})
	t.Run("server", func(t *testing.T) {
		s := clustertest.StartServer(t, clustertest.Options{})
		conform(t, func(tb testing.TB) (clusterpool.Config, func() error) {
			return shared(clusterpool.Config{URL: s.URL()})
		})
	})
	t.Run("cluster", func(t *testing.T) {
		s := clustertest.StartCluster(t, 3, clustertest.Options{})
		conform(t, func(tb testing.TB) (clusterpool.Config, func() error) {
			return shared(clusterpool.Config{URL: s.URL(), Replicas: 3})
		})
	})
}

// embedded starts a server for one pool.
func embedded(tb testing.TB, cfg embed.Config, pool clusterpool.Config) (clusterpool.Config, func() error) {
	s, err := embed.Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	pool.Options = s.Options()
	return pool, s.Close
}

// directory returns a new one, which is removed at the end of the test: the server may write
// there a little longer than it says.
func directory(tb testing.TB) string {
	dir, err := os.MkdirTemp("", "futures-") //nolint:usetesting // see above
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { until(tb, "the directory is removed", func() bool { return os.RemoveAll(dir) == nil }) })
	return dir
}

// taken has the names of the pools that are open on servers of others. A pool that comes
// later under the same name finds the streams as the one before has left them.
var taken sync.Map

// shared gives a pool a name that no other one has at the time.
func shared(cfg clusterpool.Config) (clusterpool.Config, func() error) {
	for i := 0; ; i++ {
		cfg.Name = "pool" + strconv.Itoa(i)
		if _, there := taken.LoadOrStore(cfg.Name, true); !there {
			return cfg, func() error {
				taken.Delete(cfg.Name)
				return nil
			}
		}
	}
}

func conform(t *testing.T, servers func(testing.TB) (clusterpool.Config, func() error)) {
	executortest.Run(t, func(tb testing.TB, cfg executortest.Config) executor.Executor {
		switch {
		case strings.HasSuffix(tb.Name(), "/Stats/WorkersStartOnDemand"):
			tb.Skip("the workers of a cluster are there before the first call, and do not belong to the pool")
		case strings.HasSuffix(tb.Name(), "/MapUnordered/CtxEnds"):
			tb.Skip("an outcome is there when the servers have told of it, and the next call may begin before that")
		}
		pool, gone := servers(tb)
		pool.Lease = lease
		pool.QueueLimit, pool.RejectWhenFull, pool.Observer, pool.Logger = cfg.QueueLimit, cfg.RejectWhenFull, cfg.Observer, cfg.Logger
		p, err := clusterpool.New(tb.Context(), pool)
		if err != nil {
			_ = gone()
			tb.Fatal(err)
		}
		p.OnGone(gone)
		err = embed.Serve(tb.Context(), p, clusterpool.ServeConfig{
			URL: pool.URL, Options: pool.Options, Name: pool.Name, Lease: lease, Logger: cfg.Logger,
			Isolate: &processpool.Config{Workers: cfg.Workers, Initializer: cfg.Initializer, Logger: cfg.Logger},
		})
		if err != nil {
			_ = p.Close()
			tb.Fatal(err)
		}
		return p
	})
}
