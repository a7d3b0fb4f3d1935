package clusterpool_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
)

// A parcel is an argument, or a result, that no message can carry.
type parcel struct {
	Journal string
	Call    int64
	Gate    string // see note
	Data    []byte
}

// parcelTask returns its argument's data with every bit flipped.
var parcelTask = executor.NewTask("clustertest.parcel", func(ctx context.Context, p parcel) ([]byte, error) {
	defer clustertest.Start(p.Journal, p.Call)()
	if p.Gate != "" {
		if _, err := proctest.Await(ctx, p.Gate); err != nil {
			return nil, err
		}
	}
	return flipped(p.Data), nil
})

func flipped(b []byte) []byte {
	c := make([]byte, len(b))
	for i := range b {
		c[i] = ^b[i]
	}
	return c
}

// random returns n bytes that cannot be compressed, and are others for each seed.
func random(seed, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b) // never fails
	return b
}

// Arguments and results of 8 MiB go by way of the object store, also if the server is killed
// while they are on their way, while they wait, and while their calls run; and also if it
// loses them, as long as the calls may run twice.
func TestLargeServerKilled(t *testing.T) {
	for _, storage := range []string{"File", "Memory"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			largeServerKilled(t, storage == "Memory")
		})
	}
}

func largeServerKilled(t *testing.T, memory bool) {
	const size = 8 << 20
	_, kills := sizes(0, 3, 10)
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Memory: memory})
	for range 2 {
		serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	}
	awaitWorkers(t, p, 2)
	j := clustertest.NewJournal(t)
	gate := t.TempDir() + "/gate"
	var fs []*future.Future[[]byte]
	submit := func(gate string) {
		n := len(fs)
		arg := parcel{Journal: j.Dir(), Call: int64(n), Gate: gate, Data: random(n, size)}
		fs = append(fs, executor.Submit(t.Context(), p, parcelTask, arg, executor.WithRetries(3)))
	}
	for range 4 { // these run, or their workers fetch what they run with
		submit(gate)
	}
	until(t, "some calls run", func() bool { return len(j.Starts()) >= 2 })
	for kill := range kills {
		for range 3 {
			submit("")
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // any moment of all that is going on
		s.Kill()
		outage()
		s.Restart()
		if kill == 0 {
			proctest.Announce(gate)
		}
		until(t, strconv.Itoa(len(fs)-2)+" calls are done", func() bool {
			done := 0
			for _, f := range fs {
				if f.IsDone() {
					done++
				}
			}
			return done >= len(fs)-2
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for n, f := range fs {
		v, err := f.Result(ctx)
		require.NoError(t, err, "call %d, %s", n, clusterpool.ID(f))
		assert.True(t, bytes.Equal(flipped(random(n, size)), v), "call %d has another result", n)
	}
	t.Logf("%d calls of 8 MiB, %d kills: %d started twice; %+v", len(fs), kills, len(clustertest.Twice(j.Starts())), p.Stats())
}
