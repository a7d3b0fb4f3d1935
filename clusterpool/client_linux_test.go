package clusterpool_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
	"example.com/futures/threadpool"
)

// clientRole is a program that submits three calls, of which the worker does the first while
// the second runs until there is a gate and the third waits. It says their IDs and stays.
// Its arguments are the URL, the names of the pool and of the client, the journal and the gate.
const clientRole = "clusterpool.client"

func init() { roles[clientRole] = playClient }

func playClient() {
	url, name, client, dir, gate := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	ctx := context.Background()
	p, err := clusterpool.New(ctx, clusterpool.Config{URL: url, Name: name, Client: client, Lease: lease})
	if err != nil {
		panic(err)
	}
	done := executor.Submit(ctx, p, noteTask, note{Dir: dir})
	if _, err := done.Result(ctx); err != nil {
		panic(err)
	}
	runs := executor.Submit(ctx, p, noteTask, note{Dir: dir, Call: 1, Gate: gate})
	waits := executor.Submit(ctx, p, noteTask, note{Dir: dir, Call: 2})
	for _, f := range []*future.Future[int64]{done, runs, waits} {
		fmt.Println(clusterpool.ID(f))
	}
	select {}
}

// startClient starts a client's program, and returns the IDs of its calls and what kills it.
func startClient(t testing.TB, args ...string) (ids []string, kill func()) {
	t.Helper()
	cmd := proctest.Self(t.Context(), clientRole, args...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ended := false
	kill = func() {
		if !ended {
			ended = true
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
		}
	}
	t.Cleanup(kill)
	for lines := bufio.NewScanner(out); len(ids) < 3 && lines.Scan(); {
		ids = append(ids, lines.Text())
	}
	require.Len(t, ids, 3)
	return ids, kill
}

// A client is killed. Its calls go on, and who knows their IDs has their outcomes: the same
// client, started again, and any other.
func TestClientKilled(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	j := clustertest.NewJournal(t)
	name := poolName(t)
	records := clustertest.Follow(t, s.URL(), name+"_STATE")
	serve(t, job{URL: s.URL(), Name: name, Slots: 1})
	gate := filepath.Join(t.TempDir(), "gate")
	ids, kill := startClient(t, s.URL(), name, "one", j.Dir(), gate)
	until(t, "the second runs", func() bool { return j.Starts()[1] == 1 })
	kill()
	var all [][]*future.Future[int64]
	for _, client := range []string{"one", "other", ""} {
		p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Client: client})
		var fs []*future.Future[int64]
		for _, id := range ids {
			f := clusterpool.Attach[int64](t.Context(), p, id)
			require.Equal(t, id, clusterpool.ID(f))
			fs = append(fs, f)
		}
		v, err := fs[0].Result(proctest.Within(t))
		require.NoError(t, err)
		require.Equal(t, noted(0), v)
		until(t, "the second is known to run", fs[1].IsRunning)
		require.Equal(t, future.Pending, fs[2].State())
		again := clusterpool.Attach[int64](t.Context(), p, ids[1]) // as often as one likes
		all = append(all, append(fs[1:], again))

		// The new client's own calls are others.
		own := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: int64(10 + len(all))})
		require.NotContains(t, ids, clusterpool.ID(own))
		t.Cleanup(func() { require.NoError(t, own.Exception(context.Background())) })
	}
	proctest.Announce(gate)
	for _, fs := range all {
		for i, call := range []int64{1, 2, 1} {
			v, err := fs[i].Result(proctest.Within(t))
			require.NoError(t, err)
			require.Equal(t, noted(call), v)
		}
	}
	until(t, "all have run", func() bool { return len(j.Ends()) == 6 })
	require.Empty(t, clustertest.Twice(j.Starts()))
	until(t, "all are recorded", func() bool { return len(records.Finals()) == 6 })
	requireFinals(t, records, 6)
}

// What Attach cannot attach to it says.
func TestAttachErrors(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{Client: "me"})
	other := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	f := notes(t, p, note{Dir: j.Dir()}, 0, 1)[0]
	requireNotes(t, []*future.Future[int64]{f}, 0)
	id := clusterpool.ID(f)
	require.NotEmpty(t, id)
	failed := executor.Submit(t.Context(), p, misdeedTask, misdeed{Dir: t.TempDir(), Times: 1})
	require.ErrorContains(t, failed.Exception(proctest.Within(t)), errNoMisdeed.Error())

	// A chunk of a map has an ID, too, but no future.
	var chunk string
	for v, err := range executor.Map(t.Context(), p, noteTask, slices.Values([]note{{Dir: j.Dir(), Call: 1}, {Dir: j.Dir(), Call: 2}}), executor.WithChunk(2)) {
		require.NoError(t, err)
		require.NotZero(t, v)
	}
	js, err := jetstream.New(api(t, s.URL()))
	require.NoError(t, err)
	st, err := js.Stream(t.Context(), name+"_STATE")
	require.NoError(t, err)
	info, err := st.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	require.NoError(t, err)
	for subject := range info.State.Subjects {
		if at, ok := strings.CutPrefix(subject, name+".s."); ok && at != id && at != clusterpool.ID(failed) {
			chunk = at
		}
	}
	require.NotEmpty(t, chunk)

	for _, p := range []*clusterpool.Pool{p, other} {
		exception := func(id string) error {
			return clusterpool.Attach[int64](t.Context(), p, id).Exception(proctest.Within(t))
		}
		require.NoError(t, exception(id))
		require.ErrorContains(t, exception(clusterpool.ID(failed)), errNoMisdeed.Error())
		require.ErrorContains(t, exception(chunk), "chunk")
		require.ErrorContains(t, exception(""), "not the ID of a call")
		require.ErrorContains(t, exception("me"), "not the ID of a call")
		require.ErrorContains(t, exception("me.>.1"), "not the ID of a call")
		require.ErrorContains(t, exception(id+".x"), "not the ID of a call")
		require.ErrorContains(t, exception(id+"x"), "know nothing of call")
		require.ErrorContains(t, exception("nobody.here.1"), "know nothing of call")

		err := clusterpool.Attach[string](t.Context(), p, id).Exception(proctest.Within(t))
		require.ErrorContains(t, err, "string")
		require.ErrorContains(t, err, id)
		err = clusterpool.Attach[struct{ X int }](t.Context(), p, id).Exception(proctest.Within(t))
		require.ErrorContains(t, err, id)
		err = clusterpool.Attach[func()](t.Context(), p, id).Exception(proctest.Within(t))
		require.ErrorContains(t, err, "func()")

		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errAsked)
		require.Error(t, clusterpool.Attach[int64](ctx, p, id+"y").Exception(proctest.Within(t)))
	}

	// Only futures of calls have an ID.
	require.Empty(t, clusterpool.ID(future.Resolved(1)))
	require.Empty(t, clusterpool.ID(future.NewPromise[int]().Future()))
	require.Empty(t, clusterpool.ID(future.Then(f, func(v int64) (int64, error) { return v, nil })))
	tp, err := threadpool.New(threadpool.Config{Workers: 1})
	require.NoError(t, err)
	local := executor.SubmitFunc(t.Context(), tp, func(context.Context) (int, error) { return 1, nil })
	require.Empty(t, clusterpool.ID(local))
	require.NoError(t, local.Exception(t.Context()))
	require.NoError(t, tp.Close())

	// Nor can one attach by a pool that is shut down; what hangs on it ends with it.
	runs := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 3, Sleep: time.Minute})
	until(t, "it runs", runs.IsRunning)
	waits := clusterpool.Attach[int64](t.Context(), other, clusterpool.ID(runs))
	require.NoError(t, other.Close())
	require.ErrorIs(t, waits.Exception(proctest.Within(t)), executor.ErrShutdown)
	require.ErrorIs(t, clusterpool.Attach[int64](t.Context(), other, id).Exception(t.Context()), executor.ErrShutdown)
	require.True(t, runs.Interrupt(errAsked))
	require.ErrorIs(t, runs.Exception(proctest.Within(t)), errAsked)
}

// One can attach to a call of one's own as soon as it has an ID.
func TestAttachAtOnce(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	var fs []*future.Future[int64]
	for _, f := range notes(t, p, note{Dir: j.Dir()}, 0, 300) {
		fs = append(fs, clusterpool.Attach[int64](t.Context(), p, clusterpool.ID(f)))
	}
	requireNotes(t, fs, 0)
}

// Cancel and Interrupt of an attached future are those of the call, whoever has submitted it.
func TestAttachCancel(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	other := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	records := clustertest.Follow(t, s.URL(), name+"_STATE")
	for i, by := range []*clusterpool.Pool{p, other} {
		fs := notes(t, p, note{Dir: j.Dir()}, 2*i, 2*i+2)
		awaitQueued(t, s.URL(), name, 2)
		id := clusterpool.ID(fs[0])
		a := clusterpool.Attach[int64](t.Context(), by, id)
		twin := clusterpool.Attach[int64](t.Context(), by, id)
		require.True(t, a.Cancel())
		require.True(t, a.IsCancelled())
		for _, f := range []*future.Future[int64]{fs[0], twin} {
			require.ErrorIs(t, f.Exception(proctest.Within(t)), future.ErrCancelled)
			require.True(t, f.Cancel() || f.IsDone())
		}
		require.True(t, fs[1].Cancel()) // and the other way round
		require.ErrorIs(t, clusterpool.Attach[int64](t.Context(), by, clusterpool.ID(fs[1])).Exception(proctest.Within(t)), future.ErrCancelled)
	}
	require.Equal(t, uint64(4), p.Stats().Cancelled)

	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	for i, by := range []*clusterpool.Pool{p, other} {
		f := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: int64(10 + i), Sleep: time.Minute})
		until(t, "it runs", f.IsRunning)
		a := clusterpool.Attach[int64](t.Context(), by, clusterpool.ID(f))
		until(t, "that is known", a.IsRunning)
		require.False(t, a.Cancel())
		require.True(t, a.Interrupt(errAsked))
		require.ErrorIs(t, a.Exception(proctest.Within(t)), errAsked)
		require.ErrorIs(t, f.Exception(proctest.Within(t)), errAsked)
	}
	require.Len(t, j.Starts(), 2)
	requireFinals(t, records, 6)
}
