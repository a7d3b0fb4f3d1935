package clusterpool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// serveHere runs a worker in this process, until the function that it returns is called, or
// the test ends.
func serveHere(t testing.TB, cfg clusterpool.ServeConfig) (stop func()) {
	t.Helper()
	if cfg.Lease == 0 {
		cfg.Lease = lease
	}
	if cfg.Grace == 0 {
		cfg.Grace = -1
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- clusterpool.Serve(ctx, cfg) }() // until stop
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// leave ends the worker in order, and waits for it.
func (m *member) leave() {
	m.t.Helper()
	m.Future().Interrupt(errors.New("the worker is not needed any more"))
	require.NoError(m.t, m.Join(context.Background()))
	require.NoError(m.t, m.Future().Exception(context.Background()))
}

// notes submits the calls from up to end.
func notes(t testing.TB, p *clusterpool.Pool, n note, from, end int, opts ...executor.CallOption) []*future.Future[int64] {
	t.Helper()
	fs := make([]*future.Future[int64], 0, end-from)
	for i := from; i < end; i++ {
		n.Call = int64(i)
		fs = append(fs, executor.Submit(t.Context(), p, noteTask, n, opts...))
	}
	return fs
}

// requireNotes requires of each call from from on that it ends with its own value.
func requireNotes(t testing.TB, fs []*future.Future[int64], from int) {
	t.Helper()
	for i, f := range fs {
		v, err := f.Result(proctest.Within(t))
		require.NoError(t, err, "call %d", from+i)
		require.Equal(t, noted(int64(from+i)), v)
	}
}

// startedBy returns the calls that process pid has started and not ended.
func startedBy(j *clustertest.Journal, pid int) (open map[int64]bool) {
	open = map[int64]bool{}
	for _, r := range j.Records() {
		if r.PID == pid {
			if r.End {
				delete(open, r.Call)
			} else {
				open[r.Call] = true
			}
		}
	}
	return open
}

// requireFinals requires one final record of each of n calls.
func requireFinals(t testing.TB, f *clustertest.Follower, n int) {
	t.Helper()
	f.Sync()
	require.Empty(t, clustertest.Twice(f.Finals()))
	require.Len(t, f.Finals(), n)
}

// A worker that is killed costs no call that may run twice: others run what it had.
func TestWorkerKilled(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	victim := serve(t, job{URL: s.URL(), Name: name, Slots: 16})
	serve(t, job{URL: s.URL(), Name: name, Slots: 16})
	awaitWorkers(t, p, 2)
	const calls = 1500
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	var fs []*future.Future[int64]
	for i := range int64(calls) {
		fs = append(fs, executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: i, Sleep: 5 * time.Millisecond}, executor.WithRetries(3)))
	}
	until(t, "the victim has calls", func() bool { return len(j.Ends()) > 300 })
	victim.kill()
	for i, f := range fs {
		v, err := f.Result(t.Context())
		require.NoError(t, err)
		require.Equal(t, noted(int64(i)), v)
	}
	f.Sync()
	require.Empty(t, clustertest.Twice(f.Finals()))
	twice := clustertest.Twice(j.Starts())
	require.LessOrEqual(t, len(twice), 16)
	t.Logf("%d of %d calls started twice; %+v", len(twice), calls, p.Stats())
}

// lostOrDone requires of calls without retries that each has started at most once, and ended
// with its value, or as lost with that worker. It returns how many were lost.
func lostOrDone(t testing.TB, j *clustertest.Journal, fs []*future.Future[int64], from, pid int) (lost int) {
	t.Helper()
	starts := j.Starts()
	for i, f := range fs {
		call := int64(from + i)
		v, err := f.Result(proctest.Within(t))
		require.LessOrEqual(t, starts[call], 1, "call %d", call)
		if err == nil {
			require.Equal(t, noted(call), v)
			continue
		}
		var e *executor.WorkerLostError
		require.ErrorAs(t, err, &e)
		require.Equal(t, pid, e.PID, err)
		require.Equal(t, noteTask.Name(), e.Task)
		require.Positive(t, len(e.Error()))
		lost++
	}
	return lost
}

// Without retries what a killed worker ran is lost, and nothing else.
func TestWorkerKilledOnce(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	victim := serve(t, job{URL: s.URL(), Name: name, Slots: 8})
	serve(t, job{URL: s.URL(), Name: name, Slots: 8})
	awaitWorkers(t, p, 2)
	const calls = 600
	fs := notes(t, p, note{Dir: j.Dir(), Sleep: 5 * time.Millisecond}, 0, calls)
	until(t, "the victim has calls", func() bool { return len(j.Ends()) > 100 && len(startedBy(j, victim.PID())) > 0 })
	victim.kill()
	held := len(startedBy(j, victim.PID()))
	for _, f := range fs {
		_ = f.Exception(proctest.Within(t))
	}
	lost := lostOrDone(t, j, fs, 0, victim.PID())
	require.GreaterOrEqual(t, lost, held-8)
	require.LessOrEqual(t, lost, 8)
	requireFinals(t, f, calls)
	until(t, "the worker is missed", func() bool { return p.Stats().WorkersLost == 8 && len(p.Workers()) == 1 })
	t.Logf("%d calls were lost, %d were begun; %+v", lost, held, p.Stats())
}

// A worker that stands still for longer than its lease loses its calls to others, and brings
// nothing any more when it goes on.
func TestWorkerFrozen(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	victim := serve(t, job{URL: s.URL(), Name: name, Slots: 8})
	serve(t, job{URL: s.URL(), Name: name, Slots: 8})
	awaitWorkers(t, p, 2)
	const half = 300
	gate := filepath.Join(t.TempDir(), "gate")
	n := note{Dir: j.Dir(), Gate: gate}
	var again, once []*future.Future[int64]
	for i := 0; i < half; i += 2 { // each worker gets some of both
		again = append(again, notes(t, p, n, i, i+1, executor.WithRetries(2))...)
		once = append(once, notes(t, p, n, half+i, half+i+2)...)
		again = append(again, notes(t, p, n, i+1, i+2, executor.WithRetries(2))...)
	}
	until(t, "the victim has calls", func() bool { return len(startedBy(j, victim.PID())) == 8 })
	victim.freeze()
	proctest.Announce(gate)
	requireNotes(t, again, 0)
	for _, f := range once {
		_ = f.Exception(proctest.Within(t))
	}
	held := len(startedBy(j, victim.PID()))
	until(t, "the victim is missed", func() bool { return p.Stats().WorkersLost == 8 })
	victim.thaw()
	until(t, "the victim has ended what it had", func() bool { return len(startedBy(j, victim.PID())) == 0 })
	awaitWorkers(t, p, 2)
	victim.leave() // its last words have been said
	lost := lostOrDone(t, j, once, half, victim.PID())
	twice := clustertest.Twice(j.Starts())
	require.Equal(t, 8, lost+len(twice))
	requireFinals(t, f, 2*half)
	t.Logf("%d calls were begun, %d were lost, %d ran twice; %+v", held, lost, len(twice), p.Stats())
}

// A misdeed is a call that does not end well, the first times that it runs.
type misdeed struct {
	Dir   string // for a file of each run
	How   string
	Times int
}

var errNoMisdeed = errors.New("no such misdeed")

var misdeedTask = executor.NewTask("clustertest.misdeed", func(ctx context.Context, m misdeed) (int, error) {
	f, err := os.CreateTemp(m.Dir, "run")
	if err != nil {
		return 0, err
	}
	f.Close()
	runs, err := filepath.Glob(filepath.Join(m.Dir, "run*"))
	if err != nil || len(runs) > m.Times {
		return len(runs), err
	}
	switch m.How {
	case "exit":
		os.Exit(3)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hang":
		for {
			time.Sleep(time.Hour) // whatever its context says
		}
	case "eat":
		var all [][]byte
		for ctx.Err() == nil {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = byte(i)
			}
			all = append(all, b)
			time.Sleep(time.Millisecond) // so that the limit, and not the machine, is what it meets
		}
		return len(all), ctx.Err()
	}
	return 0, errNoMisdeed
})

// A recorder keeps the events of a pool.
type recorder struct {
	mu     sync.Mutex
	events []executor.Event
}

func (r *recorder) Observe(e executor.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) of(kind executor.EventKind) (some []executor.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			some = append(some, e)
		}
	}
	return some
}

// With worker processes a misdeed costs the call that does it, at once, and nothing else.
func TestIsolated(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	j := clustertest.NewJournal(t)
	name := poolName(t)
	const long = time.Minute // nothing here waits for a lease
	var events recorder
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Lease: long, Observer: &events})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	serveHere(t, clusterpool.ServeConfig{URL: s.URL(), Name: name, Lease: long, Isolate: &processpool.Config{
		Workers: 4,
		Worker:  worker.Config{MemoryLimit: 256 << 20, KillGrace: 100 * time.Millisecond, Output: func(int, string, []byte) {}},
	}})
	awaitWorkers(t, p, 1)
	const calls = 300
	fs := notes(t, p, note{Dir: j.Dir(), Sleep: 5 * time.Millisecond}, 0, calls)

	finals := calls
	lost := uint64(0)
	do := func(how string, times int, opts ...executor.CallOption) (int, error) {
		began := time.Now()
		v, err := executor.Apply(proctest.Within(t), p, misdeedTask, misdeed{t.TempDir(), how, times}, opts...)
		require.Less(t, time.Since(began), 20*time.Second, how)
		finals++
		lost += uint64(times)
		require.Equal(t, lost, p.Stats().WorkersLost, how)
		return v, err
	}
	var e *executor.WorkerLostError

	_, err := do("exit", 1)
	require.ErrorAs(t, err, &e)
	require.Equal(t, 3, e.ExitCode)
	require.Equal(t, misdeedTask.Name(), e.Task)
	require.NotEqual(t, os.Getpid(), e.PID)

	_, err = do("kill", 1)
	require.ErrorAs(t, err, &e)
	require.Equal(t, syscall.SIGKILL, e.Signal)

	_, err = do("hang", 1, executor.WithTimeout(200*time.Millisecond), executor.WithRetries(3))
	require.ErrorIs(t, err, executor.ErrTimeout)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorAs(t, err, &e)

	_, err = do("eat", 1)
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, err, "memory")

	require.Zero(t, p.Stats().Retried)
	runs, err := do("exit", 2, executor.WithRetries(2))
	require.NoError(t, err)
	require.Equal(t, 3, runs)
	require.Equal(t, uint64(2), p.Stats().Retried)

	runs, err = do("kill", 1, executor.WithRetries(1))
	require.NoError(t, err)
	require.Equal(t, 2, runs)
	require.Equal(t, uint64(3), p.Stats().Retried)

	_, err = do("exit", 2, executor.WithRetries(1))
	require.ErrorAs(t, err, &e)
	require.Equal(t, uint64(4), p.Stats().Retried)

	requireNotes(t, fs, 0)
	require.Empty(t, clustertest.Twice(j.Starts()))
	requireFinals(t, f, finals)
	retries, losses := events.of(executor.EventRetry), events.of(executor.EventWorkerLost)
	require.Len(t, retries, 4)
	require.Len(t, losses, int(lost))
	for _, ev := range append(retries, losses...) {
		require.ErrorAs(t, ev.Err, &e, "%v", ev.Kind)
		require.Equal(t, misdeedTask.Name(), e.Task, "%v", ev.Kind)
	}
}

// A worker that goes in order leaves nothing undone.
func TestWorkerLeaves(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{Lease: time.Minute})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	first := serve(t, job{URL: s.URL(), Name: name, Slots: 3, Lease: time.Minute, Grace: time.Second})
	awaitWorkers(t, p, 1)
	gate := filepath.Join(t.TempDir(), "gate")
	back := notes(t, p, note{Dir: j.Dir(), Gate: gate}, 0, 1, executor.WithRetries(1))
	interrupted := notes(t, p, note{Dir: j.Dir(), Sleep: time.Minute}, 1, 2)
	ends := notes(t, p, note{Dir: j.Dir(), Sleep: 300 * time.Millisecond}, 2, 3)
	until(t, "three run", func() bool { return len(j.Starts()) == 3 })
	waiting := notes(t, p, note{Dir: j.Dir()}, 3, 50)
	began := time.Now()
	first.Future().Interrupt(errors.New("the worker is not needed any more"))
	until(t, "it has said so", func() bool { return len(p.Workers()) == 0 })
	second := serve(t, job{URL: s.URL(), Name: name, Slots: 2, Lease: time.Minute})
	requireNotes(t, waiting, 3)
	requireNotes(t, ends, 2)
	require.ErrorIs(t, interrupted[0].Exception(proctest.Within(t)), executor.ErrShutdown)
	first.leave()
	until(t, "the call that was given back runs", func() bool { return startedBy(j, second.PID())[0] })
	require.Less(t, time.Since(began), 10*time.Second) // and not after a lease
	proctest.Announce(gate)
	requireNotes(t, back, 0)
	require.Zero(t, p.Stats().Retried)
	require.Zero(t, p.Stats().WorkersLost)
	require.Equal(t, []int64{0}, clustertest.Twice(j.Starts()))
	for _, r := range j.Records() {
		if r.Call >= 3 {
			require.Equal(t, second.PID(), r.PID)
		}
	}
	requireFinals(t, f, 50)
}

// A worker that is terminated, as by its system's own manager, is one that dies: SIGTERM ends
// a program that does not ask for it.
func TestWorkerTerminated(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{})
	first := serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	awaitWorkers(t, p, 1)
	fs := notes(t, p, note{Dir: j.Dir(), Sleep: 50 * time.Millisecond}, 0, 20, executor.WithRetries(1))
	until(t, "calls run", func() bool { return len(j.Starts()) > 4 })
	require.NoError(t, first.Terminate())
	serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	requireNotes(t, fs, 0)
	require.NoError(t, first.Join(t.Context()))
}

// Workers are replaced one after another under load, and no call notices, although none may
// run twice.
func TestRollingRestart(t *testing.T) {
	s, j, name, p := serverAndPool(t, clusterpool.Config{Lease: time.Minute, QueueLimit: 100})
	f := clustertest.Follow(t, s.URL(), name+"_STATE")
	ms := make([]*member, 2)
	for i := range ms {
		ms[i] = serve(t, job{URL: s.URL(), Name: name, Slots: 4, Lease: time.Minute})
	}
	awaitWorkers(t, p, 2)
	var fs []*future.Future[int64]
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			i := len(fs)
			fs = append(fs, executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: int64(i), Sleep: 3 * time.Millisecond}))
		}
	}()
	for i := range 6 {
		next := serve(t, job{URL: s.URL(), Name: name, Slots: 4, Lease: time.Minute})
		awaitWorkers(t, p, 3)
		ms[i%2].leave()
		awaitWorkers(t, p, 2)
		ms[i%2] = next
	}
	close(stop)
	<-ended
	requireNotes(t, fs, 0)
	require.Len(t, j.Starts(), len(fs))
	require.Empty(t, clustertest.Twice(j.Starts()))
	requireFinals(t, f, len(fs))
	t.Logf("%d calls over 6 restarts; %+v", len(fs), p.Stats())
}
