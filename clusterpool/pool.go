package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"example.com/futures/executor"
	"example.com/futures/future"
)

// A Pool is an [executor.Executor] whose workers are on other machines: programs that run
// [Serve] for a pool of the same name. It is made by [New] and safe for concurrent use.
// Whoever made it closes it.
type Pool struct {
	cfg Config
	link
	quit  chan struct{}      // closed when all calls have ended and the pool goes
	stop  context.CancelFunc // ends base
	base  context.Context    // of requests; ends with quit
	side  sync.WaitGroup     // the goroutines that quit ends
	gone  chan struct{}      // closed after side was waited for and the connection closed
	check chan struct{}      // holds one: look at all calls, soon

	linked atomic.Bool // link is there

	unpurged []string // generations whose records are to go; reconcile's own

	seen [2]atomic.Uint64 // the highest sequence number of each stream

	// sending orders the sending of calls: of those whose encoding runs nobody else's code,
	// in the goroutine that submits them, as long as no others wait for the sender. It is
	// held while such a call is encoded and given to the connection. Lock order: sending,
	// then mu.
	sending sync.Mutex

	// mu guards the fields below. It is not held while a call, a future, an observer or the
	// connection is told anything, for they may answer by calling the pool.
	mu        sync.Mutex
	calls     map[string]*call // by ID; those that have not ended
	attached  map[string][]*attachment
	changed   *future.Promise[struct{}] // nil, or resolved when somebody who waits may go on
	unacked   int                       // calls that are on their way to the queue
	toSend    []*call                   // for the sender
	sender    bool                      // there is one
	stopping  bool
	closed    bool  // by Close: what runs is interrupted
	broken    error // why no call can run any more
	closing   bool  // quit was, or is about to be, closed
	stats     executor.Stats
	gens      generations
	peers     map[string]*peer // workers, by name
	made      [2]time.Time     // when the streams were made
	suspect   bool             // they may be others by now
	inspected uint64           // the connection by which they were last seen to be the same, or others
	lossAt    time.Time        // when it was found that the servers have lost something; zero: never
	lostUnder bool             // they have lost that under a connection that went on
	watching  jetstream.ConsumeContext
	onGone    []func() error
}

// window is how many calls may be on their way to the queue, unconfirmed: Submit waits then.
const window = 4096

// New returns a Pool on the servers that cfg names, and makes the pool's streams there if
// need be. ctx is for that alone. Calls wait in the queue until there is a worker.
//
// Errors: a field of cfg that makes no sense; servers that cannot be reached, refuse the
// credentials, or have no JetStream; streams of the pool's names with settings by which calls
// would get lost; the cause of ctx.
func New(ctx context.Context, cfg Config) (*Pool, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	p := &Pool{
		cfg: cfg, quit: make(chan struct{}), gone: make(chan struct{}), check: make(chan struct{}, 1),
		calls: map[string]*call{}, attached: map[string][]*attachment{}, peers: map[string]*peer{},
	}
	p.gens.life = cfg.KeepResults / 4
	p.base, p.stop = context.WithCancel(context.Background())
	denied := new(denials)
	nc, err := connect(ctx, cfg.URL, "client "+cfg.Client, cfg.Logger, p.quit, p.reconnected, denied, cfg.Options)
	if err != nil {
		return nil, err
	}
	if p.link, err = newLink(nc, cfg.Name, cfg.Logger, denied, p.doubt); err == nil {
		p.linked.Store(true)
		opening, cancel := denied.during(ctx, "")
		err = denied.explainUnder(ctx, p.open(opening))
		cancel()
	}
	if err != nil {
		p.stop()
		if p.link.pub != nil {
			p.link.pub.close()
		}
		nc.Close()
		return nil, err
	}
	return p, nil
}

func (p *Pool) open(ctx context.Context) (err error) {
	if err = p.makeStreams(ctx); err != nil {
		return err
	}
	if err := p.watch(ctx, false); err != nil {
		return err
	}
	if _, err := p.nc.Subscribe(p.names.progress(p.cfg.Client), p.progress); err != nil { // until the connection is closed
		p.watching.Stop()
		return fmt.Errorf("clusterpool: %w", err)
	}
	if err := p.watchWorkers(); err != nil {
		p.watching.Stop()
		return err
	}
	if err := p.permitted(ctx); err != nil {
		p.watching.Stop()
		return err
	}
	p.side.Go(p.reconcile) // ends with quit
	return nil
}

// setupPatience is how long the servers may take to make the streams: those of a cluster that
// has only now come together do not answer at first.
const setupPatience = 30 * time.Second

func (p *Pool) makeStreams(ctx context.Context) (err error) {
	began := time.Now()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		p.made, err = p.streams(try, &p.cfg)
		cancel()
		var api *jetstream.APIError
		passing := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &api) && (api.ErrorCode == 10008 || api.ErrorCode == 10004) // unavailable, incomplete
		if err == nil || !passing || ctx.Err() != nil || time.Since(began) > setupPatience {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Capacity is how many calls the workers that are known can run at the same time.
func (p *Pool) Capacity() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.slots(), runtime.GOMAXPROCS(0))
}

// Execute takes a call. It is for package executor.
func (p *Pool) Execute(c executor.Call) error {
	if err := c.Portable(); err != nil {
		return err
	}
	e := &call{Call: c, pool: p}
	p.mu.Lock()
	for {
		if p.stopping {
			p.mu.Unlock()
			return executor.ErrShutdown
		}
		if p.broken != nil {
			p.mu.Unlock()
			return &executor.BrokenError{Cause: p.broken}
		}
		crowded := p.cfg.QueueLimit > 0 && p.stats.Queued >= p.cfg.QueueLimit
		if !crowded && p.unacked < window {
			break
		}
		if crowded && p.cfg.RejectWhenFull && !c.WaitsForRoom() {
			p.mu.Unlock()
			return executor.ErrQueueFull
		}
		err := p.wait(c.Context())
		if err != nil {
			p.mu.Unlock()
			return context.Cause(c.Context())
		}
	}
	e.gen, e.id = p.gens.next(p.cfg.Client)
	e.heard = time.Now()
	e.left = c.Len()
	p.calls[e.id] = e
	e.inWindow = true
	p.unacked++
	p.stats.Queued += c.Len()
	p.stats.Submitted += uint64(c.Len())
	c.Accept(host{p})
	c.Assign(e)
	p.mu.Unlock()
	p.observe(e, executor.Event{Kind: executor.EventSubmit, Items: c.Len()})
	p.dispatch(e)
	return nil
}

// wait waits until something has changed, or ctx ends. mu is held before and after. It
// waits for a future, so that the place of a task of this program is lent while it does.
func (p *Pool) wait(ctx context.Context) error {
	if p.changed == nil {
		p.changed = future.NewPromise[struct{}]()
	}
	f := p.changed.Future()
	p.mu.Unlock()
	_, err := f.Result(ctx)
	p.mu.Lock()
	return err
}

// wake lets everybody who waits look again. mu is held.
func (p *Pool) wake() {
	if p.changed != nil {
		go p.changed.Resolve(struct{}{}) //nolint:errcheck // nobody else resolves it; others' code may run in it
		p.changed = nil
	}
}

// Shutdown takes no more calls and waits until all that were accepted have ended: see
// [executor.Executor]. Workers go on, for they may have other clients. If ctx ends first,
// calls go on too; a program that ends then finds their outcomes by [Attach].
func (p *Pool) Shutdown(ctx context.Context, opts ...executor.ShutdownOption) error {
	calls := p.refuse()
	if executor.NewShutdownOptions(opts...).CancelPending {
		p.cancelAll(calls)
	}
	if executor.InTask(ctx, p) {
		return errors.New("clusterpool: Shutdown inside a task of the same pool does not wait")
	}
	p.mu.Lock()
	for len(p.calls) > 0 {
		if err := p.wait(ctx); err != nil {
			n := len(p.calls)
			p.mu.Unlock()
			return fmt.Errorf("clusterpool: Shutdown: %d calls have not ended: %w", n, err)
		}
	}
	p.mu.Unlock()
	settle(calls)
	return p.leave(ctx)
}

// settle waits until calls that have left the pool are done, which takes them a few steps. An
// observer is told among these, and may wait for the pool's end itself: so not for long.
func settle(calls []*call) {
	end := time.Now().Add(time.Second)
	for _, e := range calls {
		for !e.IsDone() && time.Now().Before(end) {
			runtime.Gosched()
		}
	}
}

// closePatience is how long Close waits for what it has interrupted: longer than a worker
// takes to kill the process of a call that does not listen.
const closePatience = 10 * time.Second

// Close takes no more calls, cancels those that wait, interrupts those that run, and waits
// until all have ended: see [executor.Executor]. A call that goes on nevertheless, on a
// worker that does not isolate its calls, or behind servers that cannot be reached, is given
// up after some 15 s: it ends as lost.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true // what starts from now on is interrupted by carryOut
	p.mu.Unlock()
	calls := p.refuse()
	p.cancelAll(calls)
	for _, e := range calls {
		if p.runs(e) {
			e.Interrupt(executor.ErrShutdown)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	err := p.Shutdown(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	p.endAll(p.unfinished(), func(e *call) error { return p.lostError(e, errClosedUnder) })
	return p.Shutdown(context.Background())
}

var errClosedUnder = errors.New("it went on after it was interrupted, or the servers did not answer, and the pool was closed")

// each calls fn for all calls, some at a time.
func (p *Pool) each(calls []*call, fn func(*call)) {
	var group errgroup.Group
	group.SetLimit(checkers)
	for _, e := range calls {
		group.Go(func() error {
			fn(e)
			return nil
		})
	}
	_ = group.Wait() // nil
}

// Break says that no worker can come any more, and why: calls that have not ended fail with
// an [*executor.BrokenError], and so does every one that is submitted from now on. It is for
// who has started the pool's only workers and learns that they cannot work.
func (p *Pool) Break(cause error) {
	p.mu.Lock()
	if p.broken == nil {
		p.broken = cause
	}
	p.wake()
	p.mu.Unlock()
	p.endAll(p.unfinished(), func(*call) error { return &executor.BrokenError{Cause: cause} })
}

// refuse takes no more calls and returns those that have not ended.
func (p *Pool) refuse() []*call {
	p.mu.Lock()
	p.stopping = true
	p.wake()
	p.mu.Unlock()
	return p.unfinished()
}

// unfinished returns the calls that have not ended, the oldest first.
func (p *Pool) unfinished() []*call {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*call, 0, len(p.calls))
	for _, e := range p.calls {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *call) int { return a.heard.Compare(b.heard) })
	return all
}

// leave lets go of the connection. Whoever comes later waits for the first, or for ctx.
func (p *Pool) leave(ctx context.Context) error {
	p.mu.Lock()
	first := !p.closing
	p.closing = true
	onGone := p.onGone
	p.mu.Unlock()
	if first {
		go func() {
			defer close(p.gone)
			p.disconnect(onGone)
		}()
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		select {
		case <-p.gone:
			return nil
		default:
			return fmt.Errorf("clusterpool: Shutdown: %w", ctx.Err())
		}
	}
}

func (p *Pool) disconnect(onGone []func() error) {
	p.rejectAttached(executor.ErrShutdown)
	close(p.quit)
	p.mu.Lock()
	watching := p.watching
	p.mu.Unlock()
	go watching.Stop() // where servers do not answer it waits for up to 10 s, beyond the end of the connection
	// What the servers were asked to forget is to reach them; nothing else is missing.
	ctx, cancel := context.WithTimeout(p.base, time.Second)
	_ = p.nc.FlushWithContext(ctx)
	cancel()
	p.stop()
	p.side.Wait()
	for _, fn := range slices.Backward(onGone) {
		if err := fn(); err != nil {
			p.log.Warn("clusterpool: closing", "err", err)
		}
	}
	p.endPeers()
	p.pub.close()
	p.nc.Close()
}

// OnGone has fn called when the pool has shut down, the last one first, before Shutdown or
// Close returns, and before the connection is closed. It is for what was started together
// with the pool. What fn returns is logged. After that it is called at once.
func (p *Pool) OnGone(fn func() error) {
	p.mu.Lock()
	closing := p.closing
	if !closing {
		p.onGone = append(p.onGone, fn)
	}
	p.mu.Unlock()
	if closing {
		_ = fn()
	}
}

// Stats returns a snapshot of the pool's counters. Workers is how many calls the workers
// that are known can run at the same time, Idle how many more they could run if this were
// the only client; a worker process that died in the hands of a worker that isolates its
// calls counts as lost, and a worker that was silent for longer than its lease with all of
// its slots.
func (p *Pool) Stats() executor.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Workers = p.slots()
	s.Idle = max(0, s.Workers-s.Running)
	return s
}

// observe tells the observer about e, or about a worker if e is nil.
func (p *Pool) observe(e *call, ev executor.Event) {
	if p.cfg.Observer == nil {
		return
	}
	ev.Time = time.Now()
	if e != nil {
		ev.Call, ev.Task = e.ID(), e.Task()
	}
	p.cfg.Observer.Observe(ev)
}
