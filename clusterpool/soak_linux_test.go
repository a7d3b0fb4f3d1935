package clusterpool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/future"
)

// echoTask returns its argument.
var echoTask = executor.NewTask("clustertest.echo", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })

// Mixed load with random faults, for FUTURES_CLUSTER_SOAK, 10 s by default: small calls, calls
// that take long, large ones, maps, cancelled and interrupted ones; workers are killed, frozen
// and started again, and the server is killed. Nothing is lost, the memory of all processes
// stays what it was, and the streams are empty in the end.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := 10 * time.Second
	if s := os.Getenv("FUTURES_CLUSTER_SOAK"); s != "" {
		var err error
		length, err = time.ParseDuration(s)
		require.NoError(t, err)
	}
	name := poolName(t)
	s := clustertest.StartServer(t, clustertest.Options{})
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, KeepResults: 10 * lease})
	var mu sync.Mutex // guards crew
	crew := make([]*member, 3)
	hire := func(i int) { crew[i] = serve(t, job{URL: s.URL(), Name: name, Slots: 4, Isolated: i == 0}) }
	for i := range crew {
		hire(i)
	}
	awaitWorkers(t, p, len(crew))
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()

	var wg sync.WaitGroup
	var calls, cancelled, interrupted, once, faults atomic.Int64
	j := clustertest.NewJournal(t)
	each := func(pause time.Duration, fn func(n int64) error) {
		wg.Go(func() {
			for n := int64(0); ctx.Err() == nil; n++ {
				calls.Add(1)
				if err := fn(n); err != nil {
					t.Errorf("call %d: %v", n, err)
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(rand.Int64N(int64(2 * pause)))): // its pace
				}
			}
		})
	}
	bg := context.Background()
	retries := executor.WithRetries(20)
	for range 8 {
		each(4*time.Millisecond, func(n int64) error {
			v, err := executor.Apply(bg, p, doubleTask, n, retries)
			if err == nil && v != 2*n {
				err = fmt.Errorf("%d", v)
			}
			return err
		})
	}
	each(20*time.Millisecond, func(n int64) error { // without retries: done, or lost
		_, err := executor.Apply(bg, p, noteTask, note{Dir: j.Dir(), Call: n})
		if errors.As(err, new(*executor.WorkerLostError)) {
			once.Add(1)
			err = nil
		}
		return err
	})
	each(100*time.Millisecond, func(int64) error {
		_, err := executor.Apply(bg, p, noteTask, note{Dir: j.Dir(), Call: -1, Sleep: 300 * time.Millisecond}, retries)
		return err
	})
	each(500*time.Millisecond, func(n int64) error {
		b := make([]byte, 2<<20)
		b[n%int64(len(b))] = 1
		got, err := executor.Apply(bg, p, echoTask, b, retries)
		if err == nil && string(got) != string(b) {
			err = errors.New("other bytes came back")
		}
		return err
	})
	each(200*time.Millisecond, func(int64) error {
		i := int64(0)
		for v, err := range executor.Map(bg, p, doubleTask, func(yield func(int64) bool) {
			for k := range int64(2000) {
				if !yield(k) {
					return
				}
			}
		}, retries) {
			if err != nil || v != 2*i {
				return fmt.Errorf("item %d: %d, %w", i, v, err)
			}
			i++
		}
		calls.Add(i - 1)
		return nil
	})
	each(20*time.Millisecond, func(n int64) error {
		f := executor.Submit(bg, p, doubleTask, n, retries)
		time.Sleep(time.Duration(rand.Int64N(int64(time.Millisecond)))) // the race
		if f.Cancel() {
			cancelled.Add(1)
			if _, err := f.Result(bg); !errors.Is(err, future.ErrCancelled) {
				return fmt.Errorf("it was cancelled, and ends with %w", err)
			}
			return nil
		}
		_, err := f.Result(bg)
		if errors.Is(err, future.ErrCancelled) { // the servers were away, and had heard of it
			err = nil
		}
		return err
	})
	each(50*time.Millisecond, func(int64) error {
		f := executor.Submit(bg, p, noteTask, note{Dir: j.Dir(), Call: -2, Sleep: time.Minute}, retries)
		time.Sleep(time.Duration(rand.Int64N(int64(20 * time.Millisecond)))) // the race
		for !f.Interrupt(errors.New("enough")) && !f.IsDone() {
			time.Sleep(10 * time.Millisecond) // between two tries, while the server is away
		}
		_, err := f.Result(bg)
		if err == nil {
			return errors.New("it ran for a minute")
		}
		interrupted.Add(1)
		return nil
	})
	wg.Go(func() { // faults
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(2*time.Second + time.Duration(rand.Int64N(int64(4*time.Second)))): // their pace
			}
			faults.Add(1)
			mu.Lock()
			switch i := rand.IntN(len(crew)); rand.IntN(4) {
			case 0, 1:
				crew[i].kill()
				hire(i)
			case 2:
				crew[i].freeze()
				time.Sleep(time.Duration(rand.Int64N(int64(3 * lease)))) // as long as it is frozen
				crew[i].thaw()
			default:
				s.Kill()
				time.Sleep(time.Duration(rand.Int64N(int64(lease)))) // as long as it is away
				s.Restart()
			}
			mu.Unlock()
		}
	})
	began := time.Now()
	report := func() {
		mu.Lock()
		defer mu.Unlock()
		var rss []string
		for _, m := range crew {
			rss = append(rss, fmt.Sprint(resident(m.PID())))
		}
		var mem runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&mem)
		t.Logf("%v: %d calls, %d faults; MiB: client %d (%d live), server %d, workers %s", time.Since(began).Round(time.Second), calls.Load(), faults.Load(), resident(os.Getpid()), mem.HeapAlloc>>20, resident(s.PID()), strings.Join(rss, " "))
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(max(length/15, 5*time.Second)):
			report()
		}
	}
	wg.Wait()
	report()
	require.NotZero(t, cancelled.Load())
	require.NotZero(t, interrupted.Load())
	st := p.Stats()
	require.Equal(t, st.Submitted, st.Succeeded+st.Failed+st.Cancelled)
	twice := j.Starts()
	delete(twice, -1)
	delete(twice, -2)
	require.Empty(t, clustertest.Twice(twice), "calls without retries that started twice")
	js, err := jetstream.New(api(t, s.URL()))
	require.NoError(t, err)
	for _, stream := range []string{name + "_TASKS", name + "_STATE", "OBJ_" + name + "_BLOBS"} {
		requireEmpties(t, js, stream)
	}
	t.Logf("cancelled %d, interrupted %d, lost without retries %d; %+v", cancelled.Load(), interrupted.Load(), once.Load(), st)
}

// resident returns the resident memory of a process, in MiB.
func resident(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if f := strings.Fields(string(b)); len(f) > 1 {
		n, _ := strconv.Atoi(f[1])
		return n * os.Getpagesize() >> 20
	}
	return 0
}

// requireEmpties waits until a stream is empty, and says what is left if it does not get so.
func requireEmpties(t *testing.T, js jetstream.JetStream, stream string) {
	t.Helper()
	var left *jetstream.StreamInfo
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // between two looks
		s, err := js.Stream(t.Context(), stream)
		if err != nil {
			continue // the server has only now come back
		}
		if left, err = s.Info(t.Context(), jetstream.WithSubjectFilter(">")); err == nil && left.State.Msgs == 0 {
			return
		}
	}
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	for subject := range left.State.Subjects {
		m, err := s.GetLastMsgForSubject(t.Context(), subject)
		if err == nil {
			t.Logf("%s: %d of %v, headers %v, begins with %.40q", subject, m.Sequence, m.Time, m.Header, m.Data)
		}
	}
	t.Fatalf("%d messages are left in %s: %+v", left.State.Msgs, stream, left.State)
}
