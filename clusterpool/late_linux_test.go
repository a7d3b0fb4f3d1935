package clusterpool_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
)

// A call that was delivered to workers, and cancelled before one took it up, does not start
// when nobody knows of its cancellation any more: the servers had it in their memory and were
// killed, its record was let go of while the workers stood still, or somebody has removed the
// streams.
func TestLateDelivery(t *testing.T) {
	killed := func(_ *testing.T, s *clustertest.Server, _ jetstream.JetStream, _, _ string) {
		s.Kill()
		s.Restart()
	}
	purged := func(t *testing.T, _ *clustertest.Server, js jetstream.JetStream, name, subject string) {
		state, err := js.Stream(t.Context(), name+"_STATE")
		require.NoError(t, err)
		require.NoError(t, state.Purge(t.Context(), jetstream.WithPurgeSubject(subject)))
		time.Sleep(2 * lease) // how long they stand still, which is the fault
	}
	removed := func(t *testing.T, _ *clustertest.Server, js jetstream.JetStream, name, _ string) {
		require.NoError(t, js.DeleteStream(t.Context(), name+"_TASKS"))
		require.NoError(t, js.DeleteStream(t.Context(), name+"_STATE"))
	}
	for _, tt := range []struct {
		name    string
		lose    func(t *testing.T, s *clustertest.Server, js jetstream.JetStream, name, subject string)
		memory  bool
		lease   time.Duration
		workers int
	}{
		{"MemoryLost", killed, true, lease, 1},
		{"MemoryLostTwoHaveIt", killed, true, lease, 2},
		{"RecordGone", purged, false, lease, 1},
		{"RecordGoneTwoHaveIt", purged, false, lease, 2},
		{"StreamsRemoved", removed, false, 30 * time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, j, name, p := serverAndPool(t, clusterpool.Config{Memory: tt.memory, Lease: tt.lease})
			var workers []*member
			for range tt.workers {
				workers = append(workers, serve(t, job{URL: s.URL(), Name: name, Slots: 1, Lease: tt.lease}))
			}
			awaitWorkers(t, p, tt.workers)
			js, err := jetstream.New(api(t, s.URL()))
			require.NoError(t, err)
			resting := func() bool { // each asks for a call of each class
				_, held, asked := deliveries(t, js, name)
				return held == 0 && asked == 3*tt.workers
			}
			until(t, "the workers wait for calls", resting)
			for _, w := range workers {
				w.freeze()
			}
			f := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 1}, executor.WithRetries(1))
			until(t, "all have it", func() bool {
				times, _, _ := deliveries(t, js, name)
				return times == tt.workers
			})
			require.True(t, f.Cancel())
			until(t, "its task is gone", func() bool {
				_, held, _ := deliveries(t, js, name)
				return held == 0
			})
			tt.lose(t, s, js, name, name+".s."+clusterpool.ID(f))
			notes(t, p, note{Dir: j.Dir()}, 2, 3, executor.WithRetries(1)) // has the pool see to the streams
			until(t, "there are streams", func() bool {
				_, err := js.Stream(t.Context(), name+"_STATE")
				return err == nil
			})
			for _, w := range workers {
				w.thaw()
			}
			requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 3, 10, executor.WithRetries(1)), 3)
			until(t, "the workers wait for calls", resting)
			require.Zero(t, j.Starts()[1])
		})
	}
}

// deliveries returns how often calls of a pool were delivered, how many are and were not acked,
// and how many more the workers ask for.
func deliveries(t *testing.T, js jetstream.JetStream, pool string) (times, held, asked int) {
	t.Helper()
	s, err := js.Stream(t.Context(), pool+"_TASKS")
	if err != nil {
		return -1, -1, -1
	}
	all := s.ListConsumers(t.Context())
	for c := range all.Info() {
		times += int(c.Delivered.Consumer)
		held += c.NumAckPending
		asked += c.NumWaiting
	}
	if all.Err() != nil {
		return -1, -1, -1
	}
	return times, held, asked
}
