package clusterpool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
)

// callsVariable says how many calls a test of a fault makes in each round, and that it makes
// all its rounds. Without it there are few of both.
const callsVariable = "FUTURES_CLUSTER_CALLS"

// sizes returns how many calls a round has, and how many rounds there are.
func sizes(calls, few, many int) (int, int) {
	if n, err := strconv.Atoi(os.Getenv(callsVariable)); err == nil && n > 0 {
		return n, many
	}
	return calls, few
}

// totals are what all tests of faults have seen together.
var totals struct{ calls, lost, twice atomic.Int64 }

// A load is a flow of calls through a pool, and what became of each.
type load struct {
	t       testing.TB
	pool    *clusterpool.Pool
	name    string // of the pool
	journal *clustertest.Journal
	follow  *clustertest.Follower
	retries int
	sleep   time.Duration // of a call

	// recreated says that the streams may be lost: then what they had of a call, its outcome
	// included, may be seen twice from outside, and not at all.
	recreated bool

	done atomic.Int64 // calls that are done

	mu    sync.Mutex // guards the fields below
	calls []*flowing
	last  time.Time // when a call was done
	pause time.Duration
}

// A flowing call is one of a load.
type flowing struct {
	*future.Future[int64]
	told      atomic.Int32 // how often its callback was called
	asked     bool         // Cancel was called; set, as cancelled is, before its flow ends
	cancelled bool         // and has said so
}

// newLoad returns a load for a pool whose streams url has.
func newLoad(t testing.TB, p *clusterpool.Pool, url, name string) *load {
	return &load{t: t, pool: p, name: name, journal: clustertest.NewJournal(t), follow: clustertest.Follow(t, url, name+"_STATE")}
}

// flow submits n calls, of which no more than window are under way at a time, and cancels
// one of 16 of them, a moment later. The function that it returns waits until all have been
// submitted and those have been cancelled.
func (l *load) flow(n, window int) (submitted func()) {
	room := make(chan struct{}, window)
	var all, cancels sync.WaitGroup
	ctx := context.WithoutCancel(l.t.Context()) // of the calls: they end with the pool
	all.Go(func() {
		for range n {
			room <- struct{}{}
			l.submit(ctx, &cancels, func() { <-room })
		}
	})
	return func() {
		all.Wait()
		cancels.Wait()
	}
}

func (l *load) submit(ctx context.Context, cancels *sync.WaitGroup, done func()) {
	c := &flowing{}
	l.mu.Lock()
	n := len(l.calls)
	l.calls = append(l.calls, c)
	l.mu.Unlock()
	arg := note{Dir: l.journal.Dir(), Call: int64(n), Sleep: l.sleep}
	c.Future = executor.Submit(ctx, l.pool, noteTask, arg, executor.WithRetries(l.retries))
	c.AddDoneCallback(func(*future.Future[int64]) {
		c.told.Add(1)
		l.ended()
		done()
	})
	if n%16 == 7 {
		cancels.Go(func() {
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // any moment will do
			c.asked = true
			c.cancelled = c.Cancel()
		})
	}
}

// ended notes when calls are done: how long was none?
func (l *load) ended() {
	l.done.Add(1)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() {
		l.pause = max(l.pause, now.Sub(l.last))
	}
	l.last = now
}

// await waits until n calls are done.
func (l *load) await(n int) {
	l.t.Helper()
	until(l.t, strconv.Itoa(n)+" calls are done", func() bool { return l.done.Load() >= int64(n) })
}

// settle waits until all calls are done, and checks each from outside.
func (l *load) settle() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	values, lost, cancelled, hung := 0, 0, 0, 0
	for n, c := range l.calls {
		v, err := c.Result(ctx)
		var gone *executor.WorkerLostError
		switch {
		case !c.IsDone():
			if hung++; hung < 4 {
				l.t.Errorf("call %d, %s, hangs: %v", n, clusterpool.ID(c.Future), c)
			}
		case errors.Is(err, future.ErrCancelled):
			// Where the servers had not answered in time Cancel was false.
			assert.True(l.t, c.asked, "call %d is cancelled, and nobody asked for that: %v", n, err)
			cancelled++
		case errors.As(err, &gone) && l.retries == 0:
			if lost++; lost < 4 {
				l.t.Logf("call %d: %v", n, err)
			}
		case err != nil:
			if lost++; lost < 10 {
				l.t.Errorf("call %d, %s: %v", n, clusterpool.ID(c.Future), err)
			}
		default:
			assert.Equal(l.t, noted(int64(n)), v)
			values++
		}
		assert.False(l.t, c.cancelled && !c.IsCancelled(), "call %d is not cancelled, and Cancel said so: %v", n, err)
	}
	require.Zero(l.t, hung, "calls hang: %+v", l.pool.Stats())
	for n, c := range l.calls {
		until(l.t, "the callback was called", func() bool { return c.told.Load() > 0 })
		assert.EqualValues(l.t, 1, c.told.Load(), "callbacks of call %d", n)
	}
	twice := l.checkStarts()
	again := l.checkFinals()
	calls, all := int64(len(l.calls)), &totals
	all.calls.Add(calls)
	all.lost.Add(int64(lost))
	all.twice.Add(int64(twice))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("%d calls: %d with a value, %d cancelled, %d lost, %d started twice, %d completed twice; the longest pause was %v; %+v; in all %d calls, %d lost, %d started twice",
		calls, values, cancelled, lost, twice, again, l.pause.Round(time.Millisecond), l.pool.Stats(), all.calls.Load(), all.lost.Load(), all.twice.Load())
}

// checkStarts looks how often each call has started, and returns how many did twice.
func (l *load) checkStarts() int {
	l.t.Helper()
	starts := l.journal.Starts()
	for n, c := range l.calls {
		if c.IsCancelled() {
			assert.Zero(l.t, starts[int64(n)], "call %d, %s, is cancelled and has started", n, clusterpool.ID(c.Future))
		} else if !errorOf(c) {
			assert.Positive(l.t, starts[int64(n)], "call %d has a value and has not started", n)
		}
	}
	twice := clustertest.Twice(starts)
	if l.retries == 0 {
		assert.Empty(l.t, twice, "calls without retries started twice")
	}
	return len(twice)
}

func errorOf(c *flowing) bool {
	_, err := c.Result(context.Background())
	return err != nil
}

// checkFinals looks how many final records each call has had, and returns how many had two.
func (l *load) checkFinals() int {
	l.t.Helper()
	l.follow.Sync()
	finals := l.follow.Finals()
	again := clustertest.Twice(finals)
	if l.recreated {
		return len(again)
	}
	assert.Empty(l.t, again, "calls completed twice")
	none := 0
	for n, c := range l.calls {
		if finals[l.name+".s."+clusterpool.ID(c.Future)] != 1 {
			if none++; none < 10 {
				_, err := c.Result(context.Background())
				l.t.Errorf("call %d, %s, is done without a final record: %v", n, clusterpool.ID(c.Future), err)
			}
		}
	}
	return len(again)
}

// outage is how long a server is away that comes back: that is what is tested, not waited
// for.
func outage() { time.Sleep(500 * time.Millisecond) } // the fault

// A server that is killed and comes back costs no call that may run twice, whether or not it
// kept the streams. A call that may not has its value or is lost, and no call starts once
// more.
func TestServerKilled(t *testing.T) {
	for _, storage := range []string{"File", "Memory"} {
		for _, policy := range []string{"Retries", "Once"} {
			for _, shape := range []string{"Flow", "Backlog"} {
				t.Run(storage+policy+shape, func(t *testing.T) {
					t.Parallel()
					serverKilled(t, storage == "Memory", policy == "Once", shape == "Backlog")
				})
			}
		}
	}
}

func serverKilled(t *testing.T, memory, once, backlog bool) {
	calls, rounds := sizes(2000, 1, 2)
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Memory: memory})
	slots, window := 16, 512
	if backlog {
		slots, window = 4, calls
	}
	for range 2 {
		serve(t, job{URL: s.URL(), Name: name, Slots: slots})
	}
	awaitWorkers(t, p, 2)
	l := newLoad(t, p, s.URL(), name)
	l.recreated = memory
	l.sleep = 2 * time.Millisecond
	if !once {
		l.retries = 3
	}
	for round := range rounds {
		submitted := l.flow(calls, window)
		l.await(round*calls + calls/4)
		s.Kill()
		outage()
		s.Restart()
		submitted()
		if round+1 < rounds {
			l.await((round + 1) * calls)
		}
	}
	l.settle()
}

// A deafDialer makes connections by which nothing is heard any more, once it is deaf: what
// is sent arrives. And it knows whether one was closed.
type deafDialer struct {
	deaf, closed atomic.Bool
}

type deafConn struct {
	net.Conn
	d *deafDialer
}

func (d *deafDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return nil, err
	}
	return &deafConn{c, d}, nil
}

func (c *deafConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.d.deaf.Load() {
			return n, err
		}
	}
}

func (c *deafConn) Close() error {
	c.d.closed.Store(true)
	return c.Conn.Close()
}

// The servers' answers to calls are lost, and then the servers: the client cannot know which
// calls were queued, and so might have started.
func TestAnswersLost(t *testing.T) {
	for _, storage := range []string{"File", "Memory"} {
		for _, policy := range []string{"Retries", "Once"} {
			t.Run(storage+policy, func(t *testing.T) {
				t.Parallel()
				answersLost(t, storage == "Memory", policy == "Once")
			})
		}
	}
}

func answersLost(t *testing.T, memory, once bool) {
	const calls = 200
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	d := &deafDialer{}
	p := dial(t, clusterpool.Config{
		URL: s.URL(), Name: name, Memory: memory,
		Options: []nats.Option{nats.SetCustomDialer(d), nats.MaxPingsOutstanding(1000)},
	})
	serve(t, job{URL: s.URL(), Name: name, Slots: 16})
	awaitWorkers(t, p, 1)
	l := newLoad(t, p, s.URL(), name)
	l.recreated = memory
	if !once {
		l.retries = 3
	}
	d.deaf.Store(true)
	submitted := l.flow(calls, calls)
	until(t, "all calls but those that are cancelled have ended on the worker", func() bool { return len(l.journal.Ends()) >= calls-calls/16-1 })
	s.Kill()
	d.deaf.Store(false)
	submitted()
	var cancels sync.WaitGroup
	for n, c := range l.calls {
		if n%16 != 7 && n%2 == 0 {
			cancels.Go(func() {
				c.asked = true
				c.cancelled = c.Cancel()
			})
		}
	}
	s.Restart()
	cancels.Wait()
	l.settle()
}

// A server that is away for longer than a lease cannot hear workers. They have their calls
// nevertheless, and none is lost, or starts again.
func TestServerAwayForLong(t *testing.T) {
	t.Parallel()
	s := clustertest.StartServer(t, clustertest.Options{})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	serve(t, job{URL: s.URL(), Name: name, Slots: 16})
	awaitWorkers(t, p, 1)
	j := clustertest.NewJournal(t)
	gate := t.TempDir() + "/gate"
	var fs []*future.Future[int64]
	for i := range int64(12) {
		fs = append(fs, executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: i, Gate: gate}, executor.WithRetries(int(i%2))))
	}
	until(t, "all calls run", func() bool { return len(j.Starts()) == len(fs) })
	s.Kill()
	time.Sleep(2 * lease) // the length of the outage is the fault
	s.Restart()
	v, err := executor.Apply(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 100}) // the worker takes calls again
	require.NoError(t, err)
	require.Equal(t, noted(100), v)
	proctest.Announce(gate)
	for i, f := range fs {
		v, err := f.Result(proctest.Within(t))
		require.NoError(t, err)
		require.Equal(t, noted(int64(i)), v)
	}
	require.Empty(t, clustertest.Twice(j.Starts()))
}
