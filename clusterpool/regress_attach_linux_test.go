package clusterpool_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
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

// A client says hello while a worker waits for its last call, and after that has said that it
// goes. The worker answered as one that stays, and was counted as lost when it had ended.
func TestHelloWhileDraining(t *testing.T) {
	t.Parallel()
	s, j, name, p := serverAndPool(t, clusterpool.Config{Lease: 10 * time.Second})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { // until stop
		ended <- clusterpool.Serve(ctx, clusterpool.ServeConfig{URL: s.URL(), Name: name, Slots: 2, Lease: 10 * time.Second})
	}()
	awaitWorkers(t, p, 1)
	gate := filepath.Join(t.TempDir(), "gate")
	f := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Gate: gate})
	until(t, "it runs", func() bool { return len(j.Starts()) == 1 })
	stop()
	awaitWorkers(t, p, 0)
	nc := api(t, s.URL())
	greetings, err := nc.SubscribeSync(name + ".w.*")
	require.NoError(t, err)
	require.NoError(t, nc.Publish(name+".hi", nil))
	m, err := greetings.NextMsg(10 * time.Second)
	require.NoError(t, err)
	require.Contains(t, string(m.Data), `"bye":true`)
	require.Empty(t, p.Workers())
	proctest.Announce(gate)
	require.NoError(t, f.Exception(proctest.Within(t)))
	require.NoError(t, <-ended)
	require.Empty(t, p.Workers())
}

// A greeting under the subject of one worker with the name of another in it counts for
// neither: credentials that permit a worker its own subject alone would be of no use.
func TestGreetingOfAnother(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Lease: 10 * time.Second})
	nc := api(t, s.URL())
	require.NoError(t, nc.Publish(name+".w.one", []byte(`{"worker":"two","slots":1}`)))
	require.NoError(t, nc.Publish(name+".w.one", []byte(`{"worker":"one","slots":1}`)))
	awaitWorkers(t, p, 1)
	require.Equal(t, "one", p.Workers()[0].Name)
	require.NoError(t, nc.Publish(name+".w.two", []byte(`{"worker":"one","slots":1,"bye":true}`)))
	require.NoError(t, nc.Publish(name+".w.three", []byte(`{"worker":"three","slots":1}`)))
	awaitWorkers(t, p, 2)
}

// New and Serve dial servers that accept connections and say nothing. Both went on for as
// long as the dialling did, 5 s for each server, although their ctx had ended.
func TestDialUnderCtx(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	url := "nats://" + l.Addr().String()
	why := errors.New("why")
	for _, wait := range []time.Duration{0, 100 * time.Millisecond} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(wait, func() { cancel(why) })
		began := time.Now()
		_, err = clusterpool.New(ctx, clusterpool.Config{URL: url})
		require.ErrorIs(t, err, why)
		require.NoError(t, clusterpool.Serve(ctx, clusterpool.ServeConfig{URL: url}))
		require.Less(t, time.Since(began), 3*time.Second)
	}
	_, err = clusterpool.New(t.Context(), clusterpool.Config{URL: url, Options: []nats.Option{nats.Timeout(50 * time.Millisecond)}})
	require.ErrorContains(t, err, "connecting to")
}

// The ctx of Attach ends for a cause. It was rejected with context.Canceled, and if the
// servers had denied anything lately the credentials were at fault.
func TestAttachCause(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: poolName(t)})
	own := executor.Submit(t.Context(), p, noteTask, note{})
	for _, id := range []string{"other.a1.b", clusterpool.ID(own)} {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		err := clusterpool.Attach[int64](ctx, p, id).Exception(t.Context())
		require.ErrorIs(t, err, why)

		late, cancelLate := context.WithDeadlineCause(t.Context(), time.Now(), why)
		err = clusterpool.Attach[int64](late, p, id).Exception(t.Context())
		require.ErrorIs(t, err, why)
		cancelLate()
	}
}

// Close of an idle pool with futures attached, while the servers have no quorum. To stop
// following a call waits for as long as its consumer is being made anew: up to 20 s, and that
// for one future after another.
func TestCloseAttachedWithoutQuorum(t *testing.T) {
	notUnderRace(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("the consumers notice after half a minute that nobody answers")
	}
	c := clustertest.StartCluster(t, 3, clustertest.Options{})
	j := clustertest.NewJournal(t)
	name := poolName(t)
	cfg := clusterpool.Config{URL: c.URL(), Name: name, Replicas: 3, Lease: lease}
	p, err := clusterpool.New(t.Context(), cfg)
	require.NoError(t, err)
	q := dial(t, cfg)
	for _, f := range notes(t, q, note{Dir: j.Dir()}, 0, 8) {
		clusterpool.Attach[int64](t.Context(), p, clusterpool.ID(f))
	}
	awaitQueued(t, c.URL(), name, 8)
	c.Servers[1].Kill()
	c.Servers[2].Kill()
	proctest.Blocked(t, 4, "jetstream.(*orderedConsumer).reset(")
	began := time.Now()
	require.NoError(t, p.Close())
	require.Less(t, time.Since(began), 15*time.Second)
	c.Servers[1].Launch() // for q
	c.Servers[2].Launch()
	c.Await()
}

// A call whose client has died is cancelled by another program. Its task stayed in the queue,
// and was started once the record of the cancellation had passed its time to live.
func TestAttachCancelRemovesTask(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	j := clustertest.NewJournal(t)
	name := poolName(t)
	m := serve(t, job{URL: s.URL(), Name: name, Slots: 1})
	gate := filepath.Join(t.TempDir(), "gate")
	ids, kill := startClient(t, s.URL(), name, "one", j.Dir(), gate)
	until(t, "the second runs", func() bool { return j.Starts()[1] == 1 })
	kill()
	m.kill() // the third waits
	const keep = 5 * time.Second
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Lease: 500 * time.Millisecond, KeepResults: keep})
	f := clusterpool.Attach[int64](t.Context(), p, ids[2])
	require.True(t, f.Cancel())
	require.True(t, f.IsCancelled())
	awaitQueued(t, s.URL(), name, 1) // the second
	js, err := jetstream.New(api(t, s.URL()))
	require.NoError(t, err)
	state, err := js.Stream(t.Context(), name+"_STATE")
	require.NoError(t, err)
	until(t, "the record is gone", func() bool {
		_, err := state.GetLastMsgForSubject(t.Context(), name+".s."+ids[2])
		return errors.Is(err, jetstream.ErrMsgNotFound)
	})
	proctest.Announce(gate)
	serve(t, job{URL: s.URL(), Name: name, Slots: 1})
	requireQueueEmpty(t, s.URL(), name)
	require.NotContains(t, j.Starts(), int64(2))
}

// A call is cancelled by another program while the servers do not answer in time, but do
// hear it. The future is cancelled when the record comes, and the task is deleted.
func TestAttachCancelUnanswered(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	q := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	own := executor.Submit(t.Context(), q, noteTask, note{})
	awaitQueued(t, s.URL(), name, 1)
	f := clusterpool.Attach[int64](t.Context(), p, clusterpool.ID(own))
	s.Stop()
	time.AfterFunc(2300*time.Millisecond, s.Cont)
	f.Cancel()
	until(t, "it is cancelled", f.IsCancelled)
	until(t, "its client knows it", own.IsCancelled)
	requireQueueEmpty(t, s.URL(), name)
}

// The pool's streams are there, made by somebody else with other settings. Calls waited for
// ever, since no record of one could be stored, or got lost: New says so at once.
func TestStreamsOfOthers(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	js, err := jetstream.New(api(t, s.URL()))
	require.NoError(t, err)
	name := poolName(t)
	tasks := jetstream.StreamConfig{Name: name + "_TASKS", Subjects: []string{name + ".q.>"}, Retention: jetstream.WorkQueuePolicy}
	state := jetstream.StreamConfig{Name: name + "_STATE", Subjects: []string{name + ".s.>"}, MaxMsgsPerSubject: 1, AllowMsgTTL: true, AllowDirect: true}
	for setting, change := range map[string]func(tasks, state *jetstream.StreamConfig){
		"Retention":         func(tasks, _ *jetstream.StreamConfig) { tasks.Retention = jetstream.LimitsPolicy },
		"AllowMsgTTL":       func(_, state *jetstream.StreamConfig) { state.AllowMsgTTL = false },
		"MaxAge":            func(_, state *jetstream.StreamConfig) { state.MaxAge = time.Hour },
		"MaxMsgsPerSubject": func(_, state *jetstream.StreamConfig) { state.MaxMsgsPerSubject = 2 },
		"":                  func(_, _ *jetstream.StreamConfig) {}, // what must be, and no more
	} {
		t.Run(setting, func(t *testing.T) {
			tasks, state := tasks, state
			change(&tasks, &state)
			for _, c := range []jetstream.StreamConfig{tasks, state} {
				_, err := js.CreateStream(t.Context(), c)
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, js.DeleteStream(context.Background(), c.Name)) })
			}
			p, err := clusterpool.New(t.Context(), clusterpool.Config{URL: s.URL(), Name: name})
			if setting == "" {
				require.NoError(t, err)
				require.NoError(t, p.Close())
				return
			}
			require.ErrorContains(t, err, "its "+setting+" is ")
			require.ErrorContains(t, err, name+"_")
			t.Log(err)
		})
	}
}
