//go:build linux

package processpool_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// Tests of calls that are sent to workers ahead of time. Most hold all workers, have many
// short calls lie before them, and see what becomes of those.

// A note is what a call writes when it runs: N, and its process.
type note struct {
	Path string
	N    int
}

// jot adds a line to a file, so that each run of it is seen.
var jot = executor.NewTask("jot", func(_ context.Context, n note) (int, error) {
	f, err := os.OpenFile(n.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%d %d\n", n.N, os.Getpid())
	return n.N, err
})

// A pad is the file that calls of jot write to.
type pad struct {
	t    *testing.T
	path string
	next int
}

func newPad(t *testing.T) *pad { return &pad{t: t, path: filepath.Join(t.TempDir(), "pad")} }

// submit submits n calls that count on from the last ones.
func (b *pad) submit(p *processpool.Pool, n int, opts ...executor.CallOption) (fs []*future.Future[int]) {
	for range n {
		fs = append(fs, executor.Submit(b.t.Context(), p, jot, note{b.path, b.next}, opts...))
		b.next++
	}
	return fs
}

// read returns the numbers of the calls that have run, in order, and their processes.
func (b *pad) read() (ran, pids []int) {
	b.t.Helper()
	text, err := os.ReadFile(b.path)
	if err != nil {
		require.ErrorIs(b.t, err, os.ErrNotExist)
	}
	for line := range strings.Lines(string(text)) {
		var n, pid int
		_, err := fmt.Sscanf(line, "%d %d\n", &n, &pid)
		require.NoError(b.t, err)
		ran, pids = append(ran, n), append(pids, pid)
	}
	return ran, pids
}

// ran asserts that the calls with the numbers from up to to have run, once each.
func (b *pad) ran(from, to int) {
	b.t.Helper()
	ran, _ := b.read()
	slices.Sort(ran)
	require.Equal(b.t, count(from, to), ran)
}

func count(from, to int) (all []int) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// held has n workers run a call each, until those are let go, and p believe that what
// comes is short.
func held(t *testing.T, p *processpool.Pool, n int) []*future.Future[string] {
	t.Helper()
	fs := hold(t, p, n)
	processpool.Quicken(p)
	return fs
}

// letGo lets calls end that held has returned.
func letGo(t *testing.T, fs ...*future.Future[string]) {
	t.Helper()
	for _, f := range fs {
		require.True(t, f.IsRunning())
		require.True(t, f.Interrupt(errReason))
		require.NoError(t, f.Exception(within(t)))
	}
}

// awaitAhead waits until n calls lie before workers.
func awaitAhead(t *testing.T, p *processpool.Pool, n int) {
	t.Helper()
	for ctx := within(t); processpool.Ahead(p) != n; runtime.Gosched() {
		require.NoError(t, ctx.Err(), "%d calls were sent ahead, want %d", processpool.Ahead(p), n)
	}
}

// values asserts that the calls have returned their numbers.
func values(t *testing.T, first int, fs []*future.Future[int]) {
	t.Helper()
	ctx := within(t)
	for i, f := range fs {
		n, err := f.Result(ctx)
		require.NoError(t, err)
		require.Equal(t, first+i, n)
	}
}

const many = 60 // calls, which are sent ahead to one worker together

// A call that was sent ahead and is cancelled is so at once, and never runs.
func TestCancelAhead(t *testing.T) {
	p, b := open(t, processpool.Config{Workers: 1}), newPad(t)
	h := held(t, p, 1)
	fs := b.submit(p, many)
	awaitAhead(t, p, many)
	for i, f := range fs {
		if i%3 > 0 {
			require.True(t, f.Cancel())
			require.True(t, f.IsCancelled())
			require.True(t, f.IsDone())
		}
	}
	require.Equal(t, many/3, processpool.Ahead(p))
	letGo(t, h...)
	var want []int
	for i, f := range fs {
		if i%3 == 0 {
			values(t, i, []*future.Future[int]{f})
			want = append(want, i)
		}
		require.NoError(t, executor.Submit(t.Context(), p, double, 1).Exception(within(t)))
	}
	ran, _ := b.read()
	require.Equal(t, want, ran) // in order
	require.Equal(t, executor.Stats{Submitted: 2*many + 1, Succeeded: many + many/3 + 1, Cancelled: 2 * many / 3}, counts(p))
}

// The end of a call's context, and an interrupt, cancel what was sent ahead.
func TestInterruptAhead(t *testing.T) {
	p, b := open(t, processpool.Config{Workers: 1}), newPad(t)
	h := held(t, p, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	f := executor.Submit(ctx, p, jot, note{b.path, 0})
	g := executor.Submit(t.Context(), p, jot, note{b.path, 1})
	awaitAhead(t, p, 2)
	cancel(errReason)
	require.True(t, g.Interrupt(errReason))
	for _, f := range []*future.Future[int]{f, g} {
		require.ErrorIs(t, f.Exception(within(t)), future.ErrCancelled)
		require.ErrorIs(t, f.Exception(within(t)), errReason)
	}
	letGo(t, h...)
	require.NoError(t, p.Shutdown(within(t)))
	b.ran(0, 0)
}

// Of thousands of calls that are cancelled at random, while workers run and steal them,
// each is cancelled or runs, and none does both.
func TestCancelAheadAtRandom(t *testing.T) {
	p, b := open(t, processpool.Config{Workers: 2}), newPad(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var want []int
	for range 40 {
		processpool.Quicken(p)
		first := b.next
		fs := b.submit(p, 100)
		for _, i := range r.Perm(len(fs))[:50] {
			if !fs[i].Cancel() {
				continue
			}
			require.True(t, fs[i].IsCancelled())
		}
		for i, f := range fs {
			if f.Exception(within(t)); !f.IsCancelled() {
				values(t, first+i, []*future.Future[int]{f})
				want = append(want, first+i)
			}
		}
	}
	require.NoError(t, p.Shutdown(within(t)))
	ran, _ := b.read()
	slices.Sort(ran)
	require.Equal(t, want, ran)
	require.Equal(t, executor.Stats{Submitted: 4000, Succeeded: uint64(len(want)), Cancelled: 4000 - uint64(len(want))}, p.Stats())
}

// What was sent ahead is pending until the worker takes it up; one call of a worker is
// running.
func TestAheadIsPending(t *testing.T) {
	p, ctx, dir := open(t, processpool.Config{Workers: 1}), within(t), t.TempDir()
	h := held(t, p, 1)
	path := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	var fs []*future.Future[string]
	for i := range 5 {
		fs = append(fs, executor.Submit(ctx, p, patient, path(i)))
	}
	awaitAhead(t, p, len(fs))
	letGo(t, h...)
	for i, f := range fs {
		_, err := await(ctx, path(i))
		require.NoError(t, err)
		s := p.Stats()
		require.Equal(t, []int{1, len(fs) - i - 1, 0}, []int{s.Running, s.Queued, s.Idle})
		for k, g := range fs {
			require.Equal(t, k == i, g.IsRunning(), "call %d while %d runs", k, i)
			require.Equal(t, k < i, g.IsDone())
		}
		require.Equal(t, []string{"patient"}, []string{p.Workers()[0].Task})
		require.False(t, f.Cancel()) // it runs
		letGo(t, f)
	}
}

// Short calls that lie behind a long one are run by whoever has nothing to do, also by a
// worker that comes later. With none, they wait.
func TestLongAmongShort(t *testing.T) {
	t.Run("a worker gets free", func(t *testing.T) {
		p, b := open(t, processpool.Config{Workers: 2}), newPad(t)
		h := held(t, p, 2)
		fs := b.submit(p, many)
		awaitAhead(t, p, many)
		letGo(t, h[1])
		values(t, 0, fs)
		b.ran(0, many)
		letGo(t, h[0])
	})
	t.Run("a worker starts", func(t *testing.T) {
		p, b := open(t, processpool.Config{Workers: 2}), newPad(t)
		h := held(t, p, 1)
		values(t, 0, b.submit(p, many))
		b.ran(0, many)
		letGo(t, h...)
	})
	t.Run("Resize", func(t *testing.T) {
		p, b := open(t, processpool.Config{Workers: 1}), newPad(t)
		h := held(t, p, 1)
		fs := b.submit(p, many)
		awaitAhead(t, p, many)
		b.ran(0, 0)
		require.NoError(t, p.Resize(2))
		values(t, 0, fs)
		b.ran(0, many)
		letGo(t, h...)
	})
	t.Run("one worker", func(t *testing.T) {
		p, b := open(t, processpool.Config{Workers: 1}), newPad(t)
		h := held(t, p, 1)
		fs := b.submit(p, many)
		awaitAhead(t, p, many)
		b.ran(0, 0)
		letGo(t, h...)
		values(t, 0, fs)
		ran, _ := b.read()
		require.Equal(t, count(0, many), ran) // in order
	})
}

// A call of higher priority goes before all that no worker has taken up, wherever that
// lies. The others keep their order.
func TestPriorityAhead(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			p, b := open(t, processpool.Config{Workers: workers}), newPad(t)
			h := held(t, p, workers)
			fs := b.submit(p, many)
			awaitAhead(t, p, many)
			fs = append(fs, b.submit(p, 1, executor.WithPriority(1))...)
			processpool.Quicken(p)
			fs = append(fs, b.submit(p, 1, executor.WithPriority(3))...)
			fs = append(fs, b.submit(p, 1, executor.WithPriority(2))...)
			fs = append(fs, b.submit(p, 1, executor.WithPriority(-1))...)
			letGo(t, h[0])
			values(t, 0, fs)
			letGo(t, h[1:]...)
			ran, _ := b.read()
			require.Equal(t, append([]int{many + 1, many + 2, many}, append(count(0, many), many+3)...), ran)
		})
	}
}

// What lies behind a long call is run although there are always others to be run, too.
func TestNoStarvationAhead(t *testing.T) {
	p, b, ctx := open(t, processpool.Config{Workers: 2}), newPad(t), within(t)
	h := held(t, p, 2)
	fs := b.submit(p, many)
	awaitAhead(t, p, many)
	done, produced := make(chan struct{}), make(chan *future.Future[int], 500)
	var producer sync.WaitGroup
	producer.Go(func() {
		defer close(produced)
		for i := 0; ; i++ {
			select {
			case produced <- executor.Submit(ctx, p, double, i): // there are 500, always
			case <-done:
				return
			}
		}
	})
	producer.Go(func() {
		for f := range produced {
			<-f.Done()
		}
	})
	for len(produced) < cap(produced) {
		runtime.Gosched()
	}
	letGo(t, h[1])
	values(t, 0, fs)
	require.True(t, h[0].IsRunning())
	close(done)
	producer.Wait()
	letGo(t, h[0])
	b.ran(0, many)
}

// An answer does not wait for the next one: while that call goes on, the one before is done,
// for whoever waits in whatever way.
func TestReplyIsNotHeldBack(t *testing.T) {
	for name, wait := range map[string]func(context.Context, *future.Future[int]) error{
		"Done": func(ctx context.Context, f *future.Future[int]) error {
			select {
			case <-f.Done():
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		"Result": func(ctx context.Context, f *future.Future[int]) error { return f.Exception(ctx) },
		"callback": func(ctx context.Context, f *future.Future[int]) error {
			done := make(chan struct{})
			f.AddDoneCallback(func(*future.Future[int]) { close(done) })
			select {
			case <-done:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		"a look": func(ctx context.Context, f *future.Future[int]) error {
			for !f.IsDone() && ctx.Err() == nil {
				runtime.Gosched()
			}
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			p := open(t, processpool.Config{Workers: 1})
			dir := t.TempDir()
			h := held(t, p, 1)[0]
			for i := range 20 {
				processpool.Quicken(p)
				var quick []*future.Future[int]
				for range 1 + i%5 {
					quick = append(quick, executor.Submit(ctx, p, double, i))
				}
				path := filepath.Join(dir, fmt.Sprint(i))
				long := executor.Submit(ctx, p, patient, path)
				awaitAhead(t, p, len(quick)+1)
				require.True(t, h.Interrupt(errReason))
				if i%2 == 0 { // it hangs by now, or nobody has looked yet
					_, err := await(ctx, path)
					require.NoError(t, err)
				}
				for _, f := range quick {
					require.NoError(t, wait(ctx, f))
				}
				_, err := await(ctx, path)
				require.NoError(t, err)
				require.True(t, long.IsRunning())
				h = long
			}
			letGo(t, h)
		})
	}
}

// A worker that is killed costs the call that it runs. What was sent ahead to it runs
// elsewhere, once.
func TestKilledWithManyAhead(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			p, b := open(t, processpool.Config{Workers: workers, Worker: hushed}), newPad(t)
			h := held(t, p, workers)
			fs := b.submit(p, many)
			awaitAhead(t, p, many)
			victim := p.Workers()[0].PID
			require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
			values(t, 0, fs)
			b.ran(0, many)
			lost := 0
			for _, f := range h {
				if f.IsDone() {
					require.True(t, isLost(f.Exception(t.Context())))
					lost++
				} else {
					letGo(t, f)
				}
			}
			require.Equal(t, 1, lost)
			require.Equal(t, executor.Stats{Submitted: uint64(many + workers), Succeeded: uint64(many + workers - 1), Failed: 1, WorkersLost: 1}, counts(p))
		})
	}
}

// Each of many workers that are killed while they run short calls costs one call at most,
// and no call runs twice.
func TestKilledAtRandomWithManyAhead(t *testing.T) {
	p, b := open(t, processpool.Config{Workers: 2, Worker: hushed}), newPad(t)
	lost, failed := uint64(0), 0
	for range 20 {
		processpool.Quicken(p)
		fs := b.submit(p, 150)
		require.NoError(t, fs[rand.IntN(50)].Exception(within(t)), "before anybody was killed")
		for _, w := range p.Workers() {
			if w.Ready {
				_ = syscall.Kill(w.PID, syscall.SIGKILL) // it may have ended
				break
			}
		}
		for _, f := range fs {
			if err := f.Exception(within(t)); err != nil {
				require.True(t, isLost(err), "%v", err)
				failed++
			}
		}
	}
	require.NoError(t, p.Shutdown(within(t)))
	lost = p.Stats().WorkersLost
	require.LessOrEqual(t, uint64(failed), lost)
	ran, _ := b.read()
	slices.Sort(ran)
	require.Len(t, slices.Compact(slices.Clone(ran)), len(ran))
	require.GreaterOrEqual(t, len(ran), b.next-failed)
}

// What becomes of calls that were sent ahead, when the pool ends in this way or that.
func TestEndWithManyAhead(t *testing.T) {
	for name, end := range map[string]func(context.Context, *processpool.Pool) error{
		"CancelPending": func(ctx context.Context, p *processpool.Pool) error { return p.Shutdown(ctx, executor.CancelPending()) },
		"Close":         func(_ context.Context, p *processpool.Pool) error { return p.Close() },
		"Terminate":     func(_ context.Context, p *processpool.Pool) error { return p.Terminate() },
		"Kill":          func(_ context.Context, p *processpool.Pool) error { return p.Kill() },
	} {
		for _, workers := range []int{1, 2} {
			t.Run(fmt.Sprint(name, workers), func(t *testing.T) {
				ctx := within(t)
				p, b := open(t, processpool.Config{Workers: workers, Worker: hushed}), newPad(t)
				h := held(t, p, workers)
				fs := b.submit(p, many)
				awaitAhead(t, p, many)
				ended := make(chan error, 1)
				go func() { ended <- end(ctx, p) }()
				for _, f := range fs {
					require.ErrorIs(t, f.Exception(ctx), executor.ErrShutdown)
					require.True(t, f.IsCancelled())
				}
				if name == "CancelPending" {
					letGo(t, h...)
				}
				require.NoError(t, <-ended)
				for _, f := range h {
					require.Equal(t, name == "Terminate" || name == "Kill", isLost(f.Exception(ctx)))
				}
				b.ran(0, 0)
				require.Equal(t, uint64(many), p.Stats().Cancelled)
				require.Equal(t, uint64(0), p.Stats().WorkersLost)
			})
		}
	}
	t.Run("Shutdown", func(t *testing.T) {
		ctx := within(t)
		p, b := open(t, processpool.Config{Workers: 2}), newPad(t)
		h := held(t, p, 2)
		fs := b.submit(p, many)
		awaitAhead(t, p, many)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, p.Shutdown(ended), context.Canceled)
		letGo(t, h[0])
		values(t, 0, fs)
		letGo(t, h[1])
		require.NoError(t, p.Shutdown(ctx))
		b.ran(0, many)
	})
	t.Run("Resize", func(t *testing.T) {
		p, b := open(t, processpool.Config{Workers: 3}), newPad(t)
		h := held(t, p, 3)
		fs := b.submit(p, many)
		awaitAhead(t, p, many)
		require.NoError(t, p.Resize(1))
		letGo(t, h...)
		values(t, 0, fs)
		b.ran(0, many)
		require.NoError(t, executor.Submit(t.Context(), p, double, 1).Exception(within(t)))
		for ctx := within(t); len(p.Workers()) > 1; runtime.Gosched() { // until they have gone
			require.NoError(t, ctx.Err())
		}
	})
}

// No worker runs more calls than it may, also where they are sent ahead.
func TestMaxTasksAhead(t *testing.T) {
	for _, most := range []int{1, 2, 7} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			p, b := open(t, processpool.Config{Workers: 2, MaxTasksPerChild: most}), newPad(t)
			h := held(t, p, 2)
			fs := b.submit(p, many)
			require.LessOrEqual(t, processpool.Ahead(p), 2*(most-1))
			letGo(t, h...)
			processpool.Quicken(p)
			values(t, 0, fs)
			b.ran(0, many)
			_, pids := b.read()
			by := map[int]int{}
			for _, n := range pids {
				by[n]++
				require.LessOrEqual(t, by[n], most)
			}
		})
	}
}

// A bounded queue holds as many calls as it says, wherever they lie.
func TestQueueLimitAhead(t *testing.T) {
	const limit = 5
	t.Run("refuses", func(t *testing.T) {
		p, b := open(t, processpool.Config{Workers: 1, QueueLimit: limit, RejectWhenFull: true}), newPad(t)
		h := held(t, p, 1)
		fs := b.submit(p, limit)
		awaitAhead(t, p, limit)
		require.ErrorIs(t, b.submit(p, 1)[0].Exception(t.Context()), executor.ErrQueueFull)
		require.True(t, fs[2].Cancel())
		again := b.submit(p, 2)
		require.ErrorIs(t, again[1].Exception(t.Context()), executor.ErrQueueFull)
		letGo(t, h...)
		for i, f := range append(fs, again[0]) {
			require.Equal(t, i == 2, f.Exception(within(t)) != nil)
		}
		ran, _ := b.read()
		require.Equal(t, []int{0, 1, 3, 4, limit + 1}, ran)
	})
	t.Run("waits", func(t *testing.T) {
		ctx, dir := within(t), t.TempDir()
		p := open(t, processpool.Config{Workers: 1, QueueLimit: limit})
		h := held(t, p, 1)
		path := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
		var fs []*future.Future[string]
		for i := range limit {
			fs = append(fs, executor.Submit(ctx, p, patient, path(i)))
		}
		awaitAhead(t, p, limit)
		comers := make(chan *future.Future[string], limit)
		go func() {
			defer close(comers)
			for i := range limit {
				comers <- executor.Submit(ctx, p, patient, path(limit+i))
			}
		}()
		running := h[0]
		for i, f := range fs {
			s := p.Stats()
			require.LessOrEqual(t, s.Queued, limit)
			require.LessOrEqual(t, s.Submitted, uint64(1+limit+i))
			letGo(t, running)
			_, err := await(ctx, path(i))
			require.NoError(t, err)
			fs = append(fs, <-comers) // as soon as it is taken up: it runs still
			require.True(t, f.IsRunning())
			running = f
		}
		for i, f := range fs[limit:] {
			letGo(t, running)
			_, err := await(ctx, path(limit+i))
			require.NoError(t, err)
			running = f
		}
		letGo(t, running)
	})
}

// A stories value is an Observer that keeps the stories of calls as they were told.
type stories struct {
	mu  sync.Mutex
	all map[uint64][]executor.Event
}

func (d *stories) Observe(e executor.Event) {
	if e.Call == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = map[uint64][]executor.Event{}
	}
	d.all[e.Call] = append(d.all[e.Call], e)
}

// kinds returns what was told of the calls of a task, and how often.
func (d *stories) kinds(t *testing.T, task string) map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := map[string]int{}
	for _, story := range d.all {
		if story[0].Task != task {
			continue
		}
		text := ""
		for i, e := range story {
			text += e.Kind.String() + " "
			require.False(t, i > 0 && e.Time.Before(story[i-1].Time), "%v", story)
		}
		m[text]++
	}
	return m
}

// An observer hears of each call that it started, while it runs, and then that it ended;
// of one that was taken back, that it was cancelled.
func TestObserverAhead(t *testing.T) {
	d := new(stories)
	p, b, ctx := open(t, processpool.Config{Workers: 2, Observer: d}), newPad(t), within(t)
	story := func(kinds ...executor.EventKind) (s string) {
		for _, k := range kinds {
			s += k.String() + " "
		}
		return s
	}
	runs := story(executor.EventSubmit, executor.EventStart)
	ends := story(executor.EventSubmit, executor.EventStart, executor.EventFinish)
	h := held(t, p, 2)
	for d.kinds(t, "patient")[runs] < 2 { // they go on meanwhile
		require.NoError(t, ctx.Err(), "%v", d.kinds(t, "patient"))
		runtime.Gosched()
	}
	fs := b.submit(p, many)
	awaitAhead(t, p, many)
	for i := range many / 2 {
		require.True(t, fs[2*i].Cancel())
	}
	require.Equal(t, map[string]int{
		story(executor.EventSubmit):                       many / 2,
		story(executor.EventSubmit, executor.EventCancel): many / 2,
	}, d.kinds(t, "jot"))
	letGo(t, h...)
	for i := range many / 2 {
		values(t, 2*i+1, fs[2*i+1:2*i+2])
	}
	require.Equal(t, map[string]int{ends: 2}, d.kinds(t, "patient"))
	require.Equal(t, map[string]int{ends: many / 2, story(executor.EventSubmit, executor.EventCancel): many / 2}, d.kinds(t, "jot"))

	// While workers steal from one another.
	for range 10 {
		processpool.Quicken(p)
		first := b.next
		values(t, first, b.submit(p, 100))
	}
	require.Equal(t, many/2+1000, d.kinds(t, "jot")[ends])
	require.Len(t, d.kinds(t, "jot"), 2)
}

// A selfish argument does something while it is encoded.
type selfish struct{ do func() }

func (s selfish) GobEncode() ([]byte, error) {
	if s.do != nil {
		s.do()
	}
	return []byte{1}, nil
}

func (s *selfish) GobDecode([]byte) error { return nil }

var beSelfish = executor.NewTask("beSelfish", func(_ context.Context, s selfish) (int, error) { return 1, nil })

// A chunk that is cancelled while its arguments are encoded leaves the worker in step.
func TestCancelWhileEncoding(t *testing.T) {
	byWay(t, func(t *testing.T) {
		p := open(t, processpool.Config{Workers: 1})
		for i := range 10 {
			ctx, cancel := context.WithCancelCause(within(t))
			args := make([]selfish, 5)
			args[i%5].do = func() {
				cancel(errReason)
				for p.Stats().Cancelled != uint64(5*(i+1)) {
					runtime.Gosched()
				}
			}
			for _, err := range executor.Map(ctx, p, beSelfish, slices.Values(args), executor.WithChunk(5)) {
				require.ErrorIs(t, err, errReason)
			}
			n, err := executor.Apply(within(t), p, double, i)
			require.NoError(t, err)
			require.Equal(t, 2*i, n)
			n, err = executor.Apply(within(t), p, beSelfish, selfish{})
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
		require.Zero(t, p.Stats().WorkersLost)
	})
}

// Whatever was left out, the calls before a worker are the same.
func TestAheadOfOne(t *testing.T) {
	for name := range processpool.Means {
		t.Run(name, func(t *testing.T) {
			processpool.Without(t, name)
			p, b := open(t, processpool.Config{Workers: 1, Worker: worker.Config{}}), newPad(t)
			h := held(t, p, 1)
			fs := b.submit(p, many)
			if name != "nothing ahead" && name != "no stealing" {
				awaitAhead(t, p, many)
			}
			require.True(t, fs[0].Cancel())
			require.True(t, fs[many-1].Cancel())
			letGo(t, h...)
			values(t, 1, fs[1:many-1])
			ran, _ := b.read()
			require.Equal(t, count(1, many-1), ran)
		})
	}
}
