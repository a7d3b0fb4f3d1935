package clusterpool_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/executor"
)

// A call that was delivered to a worker, and cancelled before that took it up, does not start
// when nobody knows of its cancellation any more: the servers had it in their memory and were
// killed, or its record was let go of while the worker stood still.
func TestLateDelivery(t *testing.T) {
	for _, killed := range []bool{true, false} {
		what := "RecordGone"
		if killed {
			what = "MemoryLost"
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, j, name, p := serverAndPool(t, clusterpool.Config{Memory: killed})
			w := serve(t, job{URL: s.URL(), Name: name, Slots: 1})
			js, err := jetstream.New(api(t, s.URL()))
			require.NoError(t, err)
			requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 0, 1), 0)
			until(t, "it asks for the next call, of each class", func() bool {
				held, asked := deliveries(t, js, name)
				return held == 0 && asked == 3
			})
			w.freeze()
			f := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 1}, executor.WithRetries(1))
			until(t, "it is delivered", func() bool {
				held, _ := deliveries(t, js, name)
				return held == 1
			})
			require.True(t, f.Cancel())
			subject := name + ".s." + clusterpool.ID(f)
			until(t, "its task is gone", func() bool {
				held, _ := deliveries(t, js, name)
				return held == 0
			})
			if killed {
				s.Kill()
				s.Restart()
				until(t, "the streams are made anew", func() bool {
					_, err := js.Stream(t.Context(), name+"_STATE")
					return err == nil
				})
			} else {
				state, err := js.Stream(t.Context(), name+"_STATE")
				require.NoError(t, err)
				require.NoError(t, state.Purge(t.Context(), jetstream.WithPurgeSubject(subject)))
				time.Sleep(2 * lease) // how long it stands still, which is the fault
			}
			w.thaw()
			// It has one slot, which the late call would have.
			requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 2, 3, executor.WithRetries(1)), 2)
			require.Zero(t, j.Starts()[1])
		})
	}
}

// deliveries returns how many calls of a pool are delivered and not acked, and how many
// requests for more there are.
func deliveries(t *testing.T, js jetstream.JetStream, pool string) (held, asked int) {
	t.Helper()
	s, err := js.Stream(t.Context(), pool+"_TASKS")
	require.NoError(t, err)
	all := s.ListConsumers(t.Context())
	for c := range all.Info() {
		held += c.NumAckPending
		asked += c.NumWaiting
	}
	require.NoError(t, all.Err())
	return held, asked
}
