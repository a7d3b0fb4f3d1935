package clusterpool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
)

// thawedSoon has the server stand still for a little longer than a client waits for an
// answer.
func thawedSoon(s *clustertest.Server) {
	s.Stop()
	time.AfterFunc(2300*time.Millisecond, s.Cont)
}

// Shutdown(CancelPending) of a server that answered too late left thousands of futures whose
// calls were cancelled, and that never ended.
func TestCancelPendingSlowServer(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	const calls = 2000
	fs := notes(t, p, note{Dir: j.Dir()}, 0, calls)
	awaitQueued(t, s.URL(), name, calls)
	thawedSoon(s)
	require.NoError(t, p.Shutdown(proctest.Within(t), executor.CancelPending()))
	for _, f := range fs {
		require.True(t, f.IsCancelled())
	}
}

// Close of such a server gave calls up that were cancelled: they had two final records.
func TestCloseSlowServer(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	follow := clustertest.Follow(t, s.URL(), name+"_STATE")
	const calls = 2000
	fs := notes(t, p, note{Dir: j.Dir()}, 0, calls)
	awaitQueued(t, s.URL(), name, calls)
	thawedSoon(s)
	require.NoError(t, p.Close())
	for _, f := range fs {
		require.True(t, f.IsCancelled())
	}
	follow.Sync()
	require.Empty(t, clustertest.Twice(follow.Finals()))
}

// Close of a pool that is connected to a cluster without a quorum took seconds for each few
// calls.
func TestCloseWithoutQuorum(t *testing.T) {
	notUnderRace(t)
	t.Parallel()
	c := clustertest.StartCluster(t, 3, clustertest.Options{})
	j := clustertest.NewJournal(t)
	name := poolName(t)
	p, err := clusterpool.New(t.Context(), clusterpool.Config{URL: c.URL(), Name: name, Replicas: 3, Lease: lease})
	require.NoError(t, err)
	const calls = 1000
	fs := notes(t, p, note{Dir: j.Dir()}, 0, calls, executor.WithRetries(1))
	awaitQueued(t, c.URL(), name, calls)
	c.Servers[1].Kill()
	c.Servers[2].Kill()
	began := time.Now()
	require.NoError(t, p.Close())
	require.Less(t, time.Since(began), 30*time.Second)
	for _, f := range fs {
		require.True(t, f.IsDone())
	}
}

// Streams that somebody removed under a live connection were never made again.
func TestStreamsRemoved(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	serve(t, job{URL: s.URL(), Name: name, Slots: 1})
	awaitWorkers(t, p, 1)
	js, err := jetstream.New(api(t, s.URL()))
	require.NoError(t, err)
	require.NoError(t, js.DeleteStream(t.Context(), name+"_TASKS"))
	require.NoError(t, js.DeleteStream(t.Context(), name+"_STATE"))
	v, err := executor.Apply(proctest.Within(t), p, noteTask, note{Dir: j.Dir(), Call: 1}, executor.WithRetries(2))
	require.NoError(t, err)
	require.Equal(t, noted(1), v)
}

// The records are removed, and the tasks are not: a call without retries that runs, or may have
// run, is not started by the next worker that its task is delivered to.
func TestRecordsRemoved(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	awaitWorkers(t, p, 1)
	gate := filepath.Join(t.TempDir(), "gate")
	once := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 1, Gate: gate})
	retried := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 2, Gate: gate}, executor.WithRetries(2))
	until(t, "both run", func() bool { return len(j.Starts()) == 2 })
	js, err := jetstream.New(api(t, s.URL()))
	require.NoError(t, err)
	require.NoError(t, js.DeleteStream(t.Context(), name+"_STATE"))
	proctest.Announce(gate)
	require.ErrorAs(t, once.Exception(proctest.Within(t)), new(*executor.WorkerLostError))
	v, err := retried.Result(proctest.Within(t))
	require.NoError(t, err)
	require.Equal(t, noted(2), v)
	requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 3, 10), 3)
	require.Equal(t, 1, j.Starts()[1])
}

// The program's own handlers for its connection replaced the pool's, which then never noticed
// that it was lost.
func TestOwnHandlers(t *testing.T) {
	t.Parallel()
	var lost, back atomic.Bool
	const long = time.Minute // nothing here waits for a lease
	s, j, name, p := serverAndPool(t, clusterpool.Config{Memory: true, Lease: long, Options: []nats.Option{
		nats.DisconnectErrHandler(func(*nats.Conn, error) { lost.Store(true) }),
		nats.ReconnectHandler(func(*nats.Conn) { back.Store(true) }),
	}})
	f := notes(t, p, note{Dir: j.Dir()}, 0, 1, executor.WithRetries(1))
	awaitQueued(t, s.URL(), name, 1)
	s.Kill()
	s.Restart()
	serve(t, job{URL: s.URL(), Name: name, Slots: 1, Lease: long})
	requireNotes(t, f, 0)
	require.True(t, lost.Load())
	require.True(t, back.Load())
}

// A call that was submitted while a server in memory was away could not be cancelled any
// more, and the client asked after it twenty times a second.
func TestCancelSubmittedWhileAway(t *testing.T) {
	t.Parallel()
	d := &deafDialer{}
	s, j, name, p := serverAndPool(t, clusterpool.Config{Memory: true, Options: []nats.Option{nats.SetCustomDialer(d)}})
	s.Kill()
	until(t, "the pool notices", d.closed.Load) // what it sends before that may have been run
	f := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 0}, executor.WithRetries(1))
	s.Restart()
	awaitQueued(t, s.URL(), name, 1)
	until(t, "it is cancelled", f.Cancel)
	require.True(t, f.IsCancelled())
}

// dyingTask kills its process once, the first time that item 0 runs.
var dyingTask = executor.NewTask("clustertest.dying", func(ctx context.Context, n note) (int64, error) {
	defer clustertest.Start(n.Dir, n.Call)()
	if n.Call != 0 {
		return 2, nil
	}
	if f, err := os.OpenFile(n.Gate+".first", os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		f.Close()
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	_, err := proctest.Await(ctx, n.Gate)
	return 1, err
})

// An item of a chunk whose process had died once began a third time when its worker died,
// with one retry, because another item of the chunk might begin again.
func TestItemIsSpent(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	m := serve(t, job{URL: s.URL(), Name: name, Slots: 1, Isolated: true})
	awaitWorkers(t, p, 1)
	gate := filepath.Join(t.TempDir(), "gate")
	args := []note{{Dir: j.Dir(), Call: 0, Gate: gate}, {Dir: j.Dir(), Call: 1}}
	errs := make(chan error, len(args))
	go func() {
		for _, err := range executor.Map(t.Context(), p, dyingTask, slices.Values(args), executor.WithRetries(1), executor.WithChunk(2)) {
			errs <- err
		}
	}()
	until(t, "item 0 has begun twice", func() bool { return j.Starts()[0] == 2 })
	m.kill()
	serve(t, job{URL: s.URL(), Name: name, Slots: 1, Isolated: true})
	require.ErrorAs(t, <-errs, new(*executor.WorkerLostError))
	require.NoError(t, <-errs)
	require.Equal(t, 2, j.Starts()[0])
}

var lenTask = executor.NewTask("clustertest.len", func(_ context.Context, b []byte) (int, error) { return len(b), nil })

// A large argument was gone when its call had waited for longer than the object store keeps
// it.
func TestLargeArgumentWaits(t *testing.T) {
	notUnderRace(t)
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Lease: 500 * time.Millisecond, KeepResults: 5 * time.Second})
	f := executor.Submit(t.Context(), p, lenTask, make([]byte, 2<<20), executor.WithRetries(3))
	awaitQueued(t, s.URL(), name, 1)
	time.Sleep(13 * time.Second) // what it is kept for without being put there again, and some
	serve(t, job{URL: s.URL(), Name: name, Slots: 1, Lease: 500 * time.Millisecond})
	v, err := f.Result(proctest.Within(t))
	require.NoError(t, err)
	require.Equal(t, 2<<20, v)
}

// The large argument of a call that was cancelled stayed.
func TestLargeArgumentCancelled(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	js, err := jetstream.New(api(t, s.URL()))
	require.NoError(t, err)
	store, err := js.ObjectStore(t.Context(), name+"_BLOBS")
	require.NoError(t, err)
	objects := func() int {
		all, err := store.List(t.Context())
		if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
			t.Error(err)
		}
		return len(all)
	}
	f := executor.Submit(t.Context(), p, lenTask, make([]byte, 2<<20))
	awaitQueued(t, s.URL(), name, 1)
	require.Equal(t, 1, objects())
	require.True(t, f.Cancel())
	until(t, "the argument is gone", func() bool { return objects() == 0 })
}

// Calls that ended with their pool's break stayed in the queue, and started when their
// records were not kept any more.
func TestBrokenDoesNotStart(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{Lease: 500 * time.Millisecond, KeepResults: 5 * time.Second})
	fs := notes(t, p, note{Dir: j.Dir()}, 0, 3)
	awaitQueued(t, s.URL(), name, 3)
	p.Break(errors.New("no workers"))
	for _, f := range fs {
		require.ErrorAs(t, f.Exception(proctest.Within(t)), new(*executor.BrokenError))
	}
	js, err := jetstream.New(api(t, s.URL()))
	require.NoError(t, err)
	until(t, "their records are gone", func() bool {
		in, err := js.Stream(t.Context(), name+"_STATE")
		return err == nil && in.CachedInfo().State.Msgs == 0
	})
	serve(t, job{URL: s.URL(), Name: name, Slots: 1})
	other := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	_, err = executor.Apply(proctest.Within(t), other, noteTask, note{Dir: j.Dir(), Call: 9}) // behind them
	require.NoError(t, err)
	require.Equal(t, map[int64]int{9: 1}, j.Starts())
}

var deafRuns atomic.Int32

// deafTask does not listen to its ctx, for a second. It returns how often it has run.
var deafTask = executor.NewTask("clustertest.deaf", func(context.Context, struct{}) (int, error) {
	n := deafRuns.Add(1)
	time.Sleep(time.Second) // as long as it takes
	return int(n), nil
})

// A call with retries that came to its value while its worker was ending was begun again.
func TestDoneIsNotGivenBack(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- clusterpool.Serve(ctx, clusterpool.ServeConfig{URL: s.URL(), Name: name, Slots: 1, Grace: -1, Lease: lease})
	}()
	awaitWorkers(t, p, 1)
	f := executor.Submit(t.Context(), p, deafTask, struct{}{}, executor.WithRetries(3))
	until(t, "it runs", func() bool { return deafRuns.Load() == 1 })
	stop()
	require.NoError(t, <-ended)
	v, err := f.Result(proctest.Within(t))
	require.NoError(t, err)
	require.Equal(t, 1, v)
}
