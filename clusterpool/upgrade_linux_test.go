package clusterpool_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
)

// oldName is the variable that makes the test binary an older program: it does not have
// newTask yet, and changedTask has another type in it.
const oldName = "FUTURES_TEST_OLD"

var newTask, changedTask = newTasks()

func newTasks() (added, changed executor.Task[int64, int64]) {
	if os.Getenv(oldName) != "" {
		executor.NewTask("clustertest.changed", func(_ context.Context, text string) (string, error) { return text, nil })
		return added, changed
	}
	fn := func(_ context.Context, n int64) (int64, error) { return noted(n), nil }
	return executor.NewTask("clustertest.new", fn), executor.NewTask("clustertest.changed", fn)
}

// oldRole is a worker of an older program, which ends in order when it is asked to by SIGTERM.
// Its arguments are the URL, the pool's name, the build, the worker's name.
const oldRole = "clusterpool.old"

func init() { roles[oldRole] = playOld }

func playOld() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := clusterpool.Serve(ctx, clusterpool.ServeConfig{
		URL: os.Args[1], Name: os.Args[2], Build: os.Args[3], Worker: os.Args[4], Slots: 2, Lease: lease,
	})
	if err != nil {
		panic(err)
	}
	os.Exit(0)
}

// serveOld starts a worker process of an older program, and returns what ends it.
func serveOld(t testing.TB, url, name, build, as string) (leave func()) {
	t.Helper()
	cmd := proctest.Self(context.Background(), oldRole, url, name, build, as)
	cmd.Env = append(cmd.Env, oldName+"=1")
	require.NoError(t, cmd.Start())
	leave = sync.OnceFunc(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
	})
	t.Cleanup(leave)
	return leave
}

// A worker whose program lacks a task, or has it with other types, says so after some tries,
// and does its other work meanwhile.
func TestUnknownTask(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	serveOld(t, s.URL(), name, "", "old-one")
	awaitWorkers(t, p, 1)
	began := time.Now()
	unknown := executor.Submit(t.Context(), p, newTask, 1)
	again := executor.Submit(t.Context(), p, newTask, 2, executor.WithRetries(3))
	changed := executor.Submit(t.Context(), p, changedTask, 3)
	requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 0, 200), 0)
	require.False(t, unknown.IsDone())
	for _, f := range []*future.Future[int64]{unknown, again} {
		err := f.Exception(proctest.Within(t))
		require.ErrorContains(t, err, `no task "clustertest.new"`)
		require.ErrorContains(t, err, "old-one")
	}
	err := changed.Exception(proctest.Within(t))
	require.ErrorContains(t, err, `task "clustertest.changed"`)
	require.ErrorContains(t, err, "other types")
	require.ErrorContains(t, err, "string")
	took := time.Since(began)
	require.Less(t, took, 30*time.Second)
	requireFinals(t, f, 203)
	requireQueueEmpty(t, s.URL(), name)
	t.Logf("they said so after %v", took)
}

// Among workers that lack it there is one that has the task, and it finds that.
func TestUnknownToSome(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	for _, as := range []string{"old-one", "old-two"} {
		serveOld(t, s.URL(), name, "", as)
	}
	serve(t, job{URL: s.URL(), Name: name, Slots: 4})
	awaitWorkers(t, p, 3)
	var fs []*future.Future[int64]
	for i := range int64(40) {
		fs = append(fs, executor.Submit(t.Context(), p, newTask, i))
	}
	requireNotes(t, fs, 0)
}

// Calls of a build run on workers of that build alone.
func TestBuilds(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	builds := []string{"b1", "b2", ""}
	pids := map[string]int{}
	for _, b := range builds[:2] {
		pids[b] = serve(t, job{URL: s.URL(), Name: name, Build: b, Slots: 3}).PID()
	}
	journals := map[string]*clustertest.Journal{}
	calls := map[string][]*future.Future[int64]{}
	for _, b := range builds {
		journals[b] = clustertest.NewJournal(t)
		p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Build: b})
		awaitWorkers(t, p, 2) // it knows of all
		slots := 3
		if b == "" {
			slots = 0
		}
		require.Equal(t, slots, p.Stats().Workers) // and counts on its own
		calls[b] = notes(t, p, note{Dir: journals[b].Dir()}, 0, 100)
	}
	requireNotes(t, calls["b1"], 0)
	requireNotes(t, calls["b2"], 0)
	require.Empty(t, journals[""].Starts())
	pids[""] = serve(t, job{URL: s.URL(), Name: name, Slots: 3}).PID()
	requireNotes(t, calls[""], 0)
	for _, b := range builds {
		all := journals[b].Records()
		require.Len(t, all, 200)
		for _, r := range all {
			require.Equal(t, pids[b], r.PID, "build %q", b)
		}
	}
}

// A new version of the program comes beside the old one, which goes when its calls are done:
// with a task that the old one lacks, and one that has changed.
func TestRollingUpgrade(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	j := clustertest.NewJournal(t)
	name := poolName(t)
	records := clustertest.Follow(t, s.URL(), name+"_STATE")
	before := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Build: "v1"})
	leaveOne := serveOld(t, s.URL(), name, "v1", "old-one")
	leaveTwo := serveOld(t, s.URL(), name, "v1", "old-two")
	awaitWorkers(t, before, 2)
	n := note{Dir: j.Dir(), Sleep: 2 * time.Millisecond}
	fs := notes(t, before, n, 0, 300)

	after := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Build: "v2"})
	for range 2 {
		serve(t, job{URL: s.URL(), Name: name, Build: "v2", Slots: 2})
	}
	awaitWorkers(t, after, 4)
	fs = append(fs, notes(t, after, n, 300, 600)...)
	var fresh []*future.Future[int64]
	for i := range int64(50) {
		fresh = append(fresh, executor.Submit(t.Context(), after, newTask, i), executor.Submit(t.Context(), after, changedTask, i))
	}
	leaveOne()
	require.NoError(t, before.Shutdown(t.Context()))
	leaveTwo()
	awaitWorkers(t, after, 2)
	requireNotes(t, fs, 0)
	for i, f := range fresh {
		v, err := f.Result(proctest.Within(t))
		require.NoError(t, err)
		require.Equal(t, noted(int64(i/2)), v)
	}
	require.Empty(t, clustertest.Twice(j.Starts()))
	requireFinals(t, records, 700)
	requireQueueEmpty(t, s.URL(), name)
}

// The three classes of priorities share a slot by their weights, and in each the first comes
// first.
func TestPriorities(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	serve(t, job{URL: s.URL(), Name: name, Slots: 1})
	awaitWorkers(t, p, 1)
	gate := filepath.Join(t.TempDir(), "gate")
	first := notes(t, p, note{Dir: j.Dir(), Gate: gate}, 0, 1)
	until(t, "the slot is taken", first[0].IsRunning)
	const each = 60 // of the class p, calls from 100*(p+2) on
	var fs [3][]*future.Future[int64]
	for i := range each {
		for c, priority := range []int{-7, 0, 3} {
			fs[c] = append(fs[c], notes(t, p, note{Dir: j.Dir()}, 100*(c+1)+i, 100*(c+1)+i+1, executor.WithPriority(priority))...)
		}
	}
	awaitQueued(t, s.URL(), name, 3*each+1)
	proctest.Announce(gate)
	for c := range fs {
		requireNotes(t, fs[c], 100*(c+1))
	}
	requireNotes(t, first, 0)
	var classes []int64 // in the order of the starts
	for _, r := range j.Records() {
		if !r.End && r.Call > 0 {
			classes = append(classes, r.Call/100)
		}
	}
	require.Len(t, classes, 3*each)
	count := func(part []int64, class int64) (n int) {
		for _, c := range part {
			if c == class {
				n++
			}
		}
		return n
	}
	begin := classes[:63]
	shares := [3]int{count(begin, 3), count(begin, 2), count(begin, 1)}
	t.Logf("of the first 63 %v are high, normal, low", shares)
	require.InDelta(t, 48, shares[0], 4)
	require.InDelta(t, 12, shares[1], 3)
	require.InDelta(t, 3, shares[2], 2)
	last := slices.Index(classes, 1)
	require.Less(t, last, 42) // a round and a bit
	for class := range int64(3) {
		var order []int64
		for _, r := range j.Records() {
			if !r.End && r.Call/100 == class+1 {
				order = append(order, r.Call)
			}
		}
		for i, call := range order { // one that came when no slot was free may be behind the next ones
			require.InDelta(t, slices.Min(order)+int64(i), call, 3)
		}
	}
}

// One call of a lower class waits for its turn, and not for the end of the others, at whatever
// moment it comes. One of a higher class is next.
func TestPrioritiesDoNotStarve(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	serve(t, job{URL: s.URL(), Name: name, Slots: 1})
	awaitWorkers(t, p, 1)
	for round, priorities := range [][2]int{{1, -1}, {1, 0}, {0, -1}, {-1, 0}, {-1, 1}, {0, 1}} {
		j := clustertest.NewJournal(t)
		n := note{Dir: j.Dir(), Sleep: time.Millisecond}
		fs := notes(t, p, n, 0, 200, executor.WithPriority(priorities[0]))
		var came [3]int // how many had started by then
		for i := range came {
			until(t, "others run", func() bool { return len(j.Starts()) > 30*(i+1) })
			came[i] = len(j.Starts())
			fs = append(fs, notes(t, p, n, 200+i, 201+i, executor.WithPriority(priorities[1]))...)
		}
		requireNotes(t, fs, 0)
		var all []int64
		for _, r := range j.Records() {
			if !r.End {
				all = append(all, r.Call)
			}
		}
		var after [3]int
		for i := range came {
			after[i] = slices.Index(all, int64(200+i)) - came[i]
			require.Less(t, after[i], 50, "round %d, %v: %v", round, priorities, after)
		}
		t.Logf("some of priority %d among many of %d began %v calls later", priorities[1], priorities[0], after)
	}
}
