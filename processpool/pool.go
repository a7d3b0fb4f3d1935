package processpool

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
)

// A Pool runs calls in worker processes. It is an [executor.Executor]: programs use
// it through executor.Submit, executor.Map and their like. It is made by [New].
//
// A Pool is safe for concurrent use. Whoever made it closes it, by Shutdown, Close,
// Terminate, Kill or several of them. One that is dropped instead keeps its idle
// workers until the program ends.
type Pool struct {
	cfg     Config    // fixed by New, but for Workers, which is max
	spec    proc.Spec // how a worker is started; fixed by New
	log     *slog.Logger
	done    chan struct{} // closed when the pool refuses calls, all have ended, and no worker is left
	refuses chan struct{} // closed when the pool begins to refuse calls
	cores   int           // workers that can run at a time; fixed by New
	nobody  *nobody       // has the calls that were cancelled
	spin    time.Duration // how long somebody looks for an answer before he sleeps
	means                 // fixed by New

	// mu guards the fields below, and those of workers that say so. It is not held
	// while anything waits, nor while user code or a Call's methods run, but for
	// Accept, IsDone and what only tells. Lock order: Pool.mu, then worker.mu.
	mu        sync.Mutex
	state     state
	broken    error             // why the pool cannot work, once it cannot
	max       int               // workers
	workers   map[int]*process  // by index: those that have a place
	others    map[*process]bool // those that have none yet, or none any more
	idle      []*process        // that wait for a call; the last one has waited least
	ready     int               // workers that have served, or can
	starting  int               // workers that are not ready
	coming    int               // workers that will ask for a call very soon
	leaving   int               // workers that will not ask again
	owners    int               // goroutines of workers, which outlive their place in workers
	queue     queue
	rooms     []*room                 // who waits for room, in the order in which they get it
	list      []*process              // that may be given calls
	working   []*process              // those of list that have calls
	turn      int                     // who of them was asked last
	taken     int                     // calls that workers have taken up and not ended
	each      time.Duration           // how long a call took, of late
	relieved  time.Time               // when it was looked for calls that go on for long
	lowest    int                     // no call of a lower priority was sent ahead
	order     uint64                  // of the call that left the queue last
	limbo     map[executor.Call]error // calls that no worker has any more, and not yet the queue; and why their contexts have ended
	spareJobs []*job                  // to be used again

	server    *proc.Server // nil unless they are started by one; fixed until nothing else is left
	releasing bool         // and that is being given up

	watchesCrowd bool          // somebody looks at workers that idle beside calls that wait
	watching     bool          // a goroutine looks at the workers' memory
	unwatch      chan struct{} // one token, for when it has no more to do

	failures int  // starts in a row that failed
	resting  bool // between two starts

	pending int // items that were accepted and have not started
	stats   executor.Stats
	began   map[executor.Call]beginning // with an observer: of calls that run

	// These are changed without mu.
	live      atomic.Int64 // items that were accepted and have not ended
	idlers    atomic.Int32 // len(idle)
	pace      atomic.Int64 // each, in nanoseconds
	helped    atomic.Bool  // somebody who waits attends to workers, see Help
	closes    atomic.Bool  // state is not open
	succeeded atomic.Uint64
	failed    atomic.Uint64
	cancelled atomic.Uint64 // of calls that had started
}

// A beginning is when an item of a call began, and how many of it have not ended.
type beginning struct {
	at   time.Time
	left int
}

// A state says what becomes of calls.
//
//	open ──▶ draining ──▶ closing ──▶ killing
//
// A pool goes to the right only, and may leave states out.
type state int

const (
	open     state = iota
	draining       // refuses new calls
	closing        // and has cancelled and interrupted the others
	killing        // and runs none of them again
)

var _ executor.Executor = (*Pool)(nil)

// New returns a pool with the given settings. It starts no worker: each is started
// when a call comes and all others are busy. A fork server, where it is to be used, is
// started at once, and makes a few workers ready.
//
// Errors: a field of cfg that makes no sense or is not supported, by name; one that
// matches errors.ErrUnsupported on systems other than Linux; one that says what to do
// if this program never called worker.Main, for its workers would run the program
// instead of serving it.
//
// Reference: concurrent.futures.ProcessPoolExecutor (Python 3.14).
func New(cfg Config) (*Pool, error) {
	if err := proc.CheckSystem(); err != nil {
		return nil, fmt.Errorf("processpool: %w", err)
	}
	spec, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	if err := proc.MayStart(len(cfg.Worker.Command) == 0); err != nil {
		return nil, fmt.Errorf("processpool: %w", err)
	}
	p := &Pool{
		cfg: cfg, spec: spec, log: cfg.Worker.Logger, max: cfg.Workers,
		done: make(chan struct{}), refuses: make(chan struct{}), unwatch: make(chan struct{}, 1),
		workers: map[int]*process{}, others: map[*process]bool{}, began: map[executor.Call]beginning{}, limbo: map[executor.Call]error{}, means: seam, lowest: math.MaxInt,
	}
	p.nobody = &nobody{p}
	p.cores = cores()
	if p.spinning {
		p.spin = spinsFor()
	}
	if cfg.Worker.MemoryLimit > 0 {
		p.sendsAhead = false // a worker is looked at after each call
	}
	if !p.steals {
		p.sendsAhead = false // a call could lie behind one that waits for it
	}
	if spec.ForkServer {
		p.server = proc.OpenServer(spec)
	}
	return p, nil
}

// Execute takes a call; see [executor.Executor]. It waits only for room in a bounded
// queue: until the call's context ends, whose cause it then returns, or the pool is
// shut down.
//
// Errors: [executor.ErrShutdown], [executor.ErrQueueFull], [executor.ErrNotPortable],
// an [*executor.BrokenError], or the cause of the end of the call's context.
func (p *Pool) Execute(c executor.Call) error {
	if err := c.Portable(); err != nil {
		return err
	}
	if err := p.enter(c); err != nil {
		return err
	}
	c.Accept(host{p})
	p.observe(executor.Event{Kind: executor.EventSubmit, Items: c.Len()}, c)
	p.mu.Lock()
	if p.broken != nil || p.state >= closing {
		p.mu.Unlock()
		p.refuse(c) // it came in before; others were cancelled meanwhile
		return nil
	}
	p.queue.push(c)
	w := p.engage(c.Priority(), 1)
	p.mu.Unlock()
	if w != nil {
		p.deliver(w, false)
	}
	return nil
}

// ExecuteAll takes several calls of one task and one context, as [Pool.Execute] takes one
// after another: for executor.SubmitAll.
func (p *Pool) ExecuteAll(calls []executor.Call) (accepted int, err error) {
	if len(calls) == 0 {
		return 0, nil
	}
	if p.cfg.Observer != nil || p.cfg.QueueLimit > 0 {
		for i, c := range calls {
			if err := p.Execute(c); err != nil {
				return i, err
			}
		}
		return len(calls), nil
	}
	first := calls[0]
	if err := first.Portable(); err != nil {
		return 0, err
	}
	if ctx := first.Context(); ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	p.mu.Lock()
	if err := p.usable(); err != nil {
		p.mu.Unlock()
		return 0, err
	}
	for _, c := range calls {
		p.accept(c.Len())
		c.Accept(host{p})
		p.queue.push(c)
	}
	var ws []*process
	for w := p.engage(first.Priority(), len(calls)); w != nil; w = p.engage(first.Priority(), len(calls)) {
		ws = append(ws, w)
	}
	p.mu.Unlock()
	for _, w := range ws {
		p.deliver(w, false)
	}
	return len(calls), nil
}

// engage gives what was just queued, n calls of the given priority, to a worker that may
// have some, and returns that: the caller is to deliver it. If there is none, it returns
// nil. mu is held.
func (p *Pool) engage(priority, n int) *process {
	if len(p.idle) == 0 {
		p.dispatch() // another worker takes what it finds, also where it was sent ahead
	}
	p.overtake(priority)
	w := p.candidate(n)
	if w != nil {
		p.assign(w, false)
	}
	return w
}

// refuse ends an accepted call that will not run.
func (p *Pool) refuse(c executor.Call) {
	p.mu.Lock()
	broken := p.broken
	p.mu.Unlock()
	if broken == nil {
		c.Cancel(executor.ErrShutdown)
		return
	}
	p.fail(part{call: c, to: c.Len()}, func() error { return &executor.BrokenError{Cause: broken} })
}

// fail ends all items of what has been taken out of the queue, each with an error of
// its own.
func (p *Pool) fail(r part, err func() error) {
	if !r.started && !p.start(r.call) {
		return
	}
	for i := r.from; i < r.to; i++ {
		if !r.absent[i] {
			r.call.Fail(i, err())
		}
	}
}

// start moves a call to running, and reports false if it was cancelled.
func (p *Pool) start(c executor.Call) bool {
	if !c.Start() {
		return false
	}
	p.mu.Lock()
	p.pending -= c.Len()
	p.makeRoom()
	p.mu.Unlock()
	return true
}

// spawn adds a worker. mu is held.
func (p *Pool) spawn() {
	index := 0
	for p.workers[index] != nil {
		index++
	}
	w := newProcess(p, index)
	p.workers[index] = w
	p.starting++
	p.own(w)
}

// own has w live its life. mu is held.
func (p *Pool) own(w *process) {
	p.owners++
	p.needsWatch()
	go w.run() // ends with the process; the pool's done waits for it
}

// all yields the workers that there are. mu is held.
func (p *Pool) all(yield func(*process) bool) {
	for _, w := range p.workers {
		if !yield(w) {
			return
		}
	}
	for w := range p.others {
		if !yield(w) {
			return
		}
	}
}

// over reports whether workers have no more to do. mu is held.
func (p *Pool) over() bool { return p.broken != nil || p.state >= draining && p.live.Load() == 0 }

// settle ends the workers when there is no more to do. It is called when live has
// fallen, when a worker is gone, and when the pool goes on to another state. mu is
// held.
func (p *Pool) settle() {
	if !p.over() {
		return
	}
	for w := range p.all {
		w.call()
		w.stop()
		w.expire()
	}
	if p.state >= draining && p.live.Load() == 0 && p.owners == 0 && p.alone() {
		select {
		case <-p.done:
		default:
			close(p.done)
		}
	}
}

// advance moves the pool to state s, unless it is there, and reports whether it did.
// mu is held.
func (p *Pool) advance(s state) bool {
	if p.state >= s {
		return false
	}
	if p.state == open && p.broken == nil {
		close(p.refuses)
	}
	p.state = s
	p.closes.Store(true)
	return true
}

// Shutdown refuses new calls and waits until all that were accepted have ended and
// the workers are gone; see [executor.Executor].
func (p *Pool) Shutdown(ctx context.Context, opts ...executor.ShutdownOption) error {
	p.mu.Lock()
	p.advance(draining)
	var calls []executor.Call
	if executor.NewShutdownOptions(opts...).CancelPending {
		p.recallAll()
		calls = p.queue.takeCalls()
	}
	p.settle()
	p.mu.Unlock()
	for _, c := range calls {
		c.Cancel(executor.ErrShutdown)
	}
	select {
	case <-p.done: // also under a ctx that has ended
		return nil
	default:
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("processpool: Shutdown: calls are still running: %w", remote.Ended(ctx))
	}
}

// Close refuses new calls, cancels what is queued, interrupts what runs and waits
// until the workers are gone; see [executor.Executor]. The worker of a call that goes
// on for longer than Config.Worker.KillGrace is killed.
//
// Close returns nil.
func (p *Pool) Close() error {
	p.close(closing)
	p.mu.Lock()
	var running []executor.Call
	for w := range p.all {
		p.look(w)
		for _, j := range w.window.all() {
			if !j.ghost {
				running = append(running, j.call)
			}
		}
		w.stop()
	}
	p.mu.Unlock()
	for _, c := range running {
		c.Interrupt(executor.ErrShutdown)
	}
	<-p.done
	return nil
}

// close moves the pool to s and ends what is queued.
func (p *Pool) close(s state) {
	p.mu.Lock()
	p.advance(s)
	p.recallAll()
	calls, front := p.queue.takeCalls(), p.queue.takeFront()
	p.settle()
	p.mu.Unlock()
	for _, c := range calls {
		c.Cancel(executor.ErrShutdown)
	}
	for _, r := range front {
		p.fail(r, func() error { return cancelled(executor.ErrShutdown) })
	}
}

// Capacity returns the largest number of workers that the pool may have. A Map takes
// inputs ahead for so many.
func (p *Pool) Capacity() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.max
}

// Resize changes the largest number of workers. If there may be more now, what is
// queued is taken up at once; if fewer, idle workers end now and others after their
// call.
//
// Errors: workers is below 1; [executor.ErrShutdown] or an [*executor.BrokenError]
// where the pool is that. Nothing has changed then.
func (p *Pool) Resize(workers int) error {
	if workers < 1 {
		return fmt.Errorf("processpool: Resize to %d workers: want 1 or more", workers)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	p.max = workers
	for len(p.idle) > 0 && len(p.workers)-p.leaving > p.max {
		w := p.idle[0] // it has waited longest
		p.unidle(w)
		p.leave(w)
		w.call()
	}
	p.makeRoom()
	p.spread()
	p.dispatch()
	return nil
}

// leave notes that w will not ask for a call again. Its heir, if it has one, takes its
// place. mu is held.
func (p *Pool) leave(w *process) {
	if w.leaving {
		return
	}
	w.leaving = true
	switch {
	case p.workers[w.index] != w:
	case w.heir != nil:
		p.others[w] = true
		p.succeed(w)
	default:
		p.leaving++
	}
}

// usable returns why the pool takes no calls, or nil. mu is held.
func (p *Pool) usable() error {
	switch {
	case p.broken != nil:
		return &executor.BrokenError{Cause: p.broken}
	case p.state != open:
		return executor.ErrShutdown
	}
	return nil
}
