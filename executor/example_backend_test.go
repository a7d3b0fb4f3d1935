package executor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"example.com/futures/executor"
	"example.com/futures/executor/executortest"
	"example.com/futures/future"
)

// A pool is a backend written with nothing but what package executor exports: a few
// goroutines behind one queue. It runs calls here or, if carry is set, through bytes,
// as a backend must whose workers are elsewhere; carry.go's part is in
// example_carry_test.go. It keeps every promise that executortest checks, and is
// otherwise plain: one lock, one queue, no thought of speed.
type pool struct {
	cfg   executortest.Config
	carry bool
	base  context.Context         // of initializers and carried calls; Close ends it
	stop  context.CancelCauseFunc // ends base

	// mu guards the fields below. It is not held while a call, a future or an
	// observer is told anything, for they may answer by calling the pool.
	mu       sync.Mutex
	work     sync.Cond // for workers: the queue has a call, or it is time to go
	queue    []executor.Call
	calls    map[executor.Call]*entry
	changed  *future.Promise[struct{}] // resolved, and made anew, when somebody outside may go on
	lent     int                       // workers whose tasks wait
	nextID   int
	stopping bool
	broken   error
	stats    executor.Stats
}

// An entry is what the pool knows of a call that it accepted and that has not ended.
type entry struct {
	left    int // items that have not ended
	started time.Time
	worker  int
	cancel  context.CancelCauseFunc // of a carried call
}

func newPool(cfg executortest.Config, carry bool) (*pool, error) {
	switch {
	case cfg.Workers < 0:
		return nil, fmt.Errorf("pool: Workers is %d", cfg.Workers)
	case cfg.QueueLimit < 0:
		return nil, fmt.Errorf("pool: QueueLimit is %d", cfg.QueueLimit)
	case carry && cfg.Initializer.Portable() != nil:
		return nil, fmt.Errorf("pool: Initializer: %w", cfg.Initializer.Portable())
	case cfg.Workers == 0:
		cfg.Workers = 2
	}
	p := &pool{cfg: cfg, carry: carry, calls: map[executor.Call]*entry{}, changed: future.NewPromise[struct{}]()}
	p.work.L = &p.mu
	p.base, p.stop = context.WithCancelCause(context.Background())
	return p, nil
}

// Capacity tells Map how many workers it can keep busy.
func (p *pool) Capacity() int { return p.cfg.Workers }

// Execute takes a call, or says why not.
func (p *pool) Execute(c executor.Call) error {
	if p.carry {
		if err := c.Portable(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	for {
		switch {
		case p.stopping:
			p.mu.Unlock()
			return executor.ErrShutdown
		case p.broken != nil:
			p.mu.Unlock()
			return &executor.BrokenError{Cause: p.broken}
		}
		if p.cfg.QueueLimit == 0 || p.stats.Queued < p.cfg.QueueLimit {
			break
		}
		if p.cfg.RejectWhenFull && !c.WaitsForRoom() {
			p.mu.Unlock()
			return executor.ErrQueueFull
		}
		if err := p.wait(c.Context()); err != nil {
			p.mu.Unlock()
			return context.Cause(c.Context())
		}
	}
	p.calls[c] = &entry{left: c.Len()}
	p.stats.Queued += c.Len()
	p.stats.Submitted += uint64(c.Len())
	c.Accept(p)
	p.mu.Unlock()

	p.observe(c, executor.Event{Kind: executor.EventSubmit, Items: c.Len()})

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls[c] == nil { // cancelled, or failed, in the meantime
		return nil
	}
	at, _ := slices.BinarySearchFunc(p.queue, c, func(in, c executor.Call) int {
		if in.Priority() >= c.Priority() {
			return -1
		}
		return 1
	})
	p.queue = slices.Insert(p.queue, at, c)
	p.hire()
	return nil
}

// wait waits until something has changed, or ctx ends. mu is held before and after.
// It waits for a future, so that a task's worker is lent while it does.
func (p *pool) wait(ctx context.Context) error {
	f := p.changed.Future()
	p.mu.Unlock()
	_, err := f.Result(ctx)
	p.mu.Lock()
	return err
}

// wake lets everybody who waits look again. mu is held.
func (p *pool) wake() {
	changed := p.changed
	p.changed = future.NewPromise[struct{}]()
	_ = changed.Resolve(struct{}{})
}

// hire sees to it that somebody will run what is queued. mu is held.
func (p *pool) hire() {
	if p.stats.Idle > 0 {
		p.work.Signal()
	}
	if len(p.queue) > p.stats.Idle && p.stats.Workers-p.lent < p.cfg.Workers {
		p.stats.Workers++
		w := &worker{pool: p, id: p.nextID}
		p.nextID++
		go w.start()
	}
}

// Shutdown refuses calls from now on and waits for those that were accepted.
func (p *pool) Shutdown(ctx context.Context, opts ...executor.ShutdownOption) error {
	queued := p.refuse()
	if executor.NewShutdownOptions(opts...).CancelPending {
		for _, c := range queued {
			c.Cancel(executor.ErrShutdown)
		}
	}
	if executor.InTask(ctx, p) {
		return errors.New("pool: Shutdown inside a task of the same pool does not wait")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.calls) > 0 || p.stats.Workers > 0 {
		if err := p.wait(ctx); err != nil {
			return fmt.Errorf("pool: Shutdown: %d calls have not ended: %w", len(p.calls), err)
		}
	}
	return nil
}

// Close refuses calls from now on and ends those that were accepted.
func (p *pool) Close() error {
	calls := p.refuse()
	for _, c := range calls { // before those that run end, and their workers take the next
		c.Cancel(executor.ErrShutdown)
	}
	p.stop(executor.ErrShutdown)
	for _, c := range calls {
		c.Interrupt(executor.ErrShutdown)
	}
	return p.Shutdown(context.Background())
}

// refuse takes no more calls and returns those that have not ended.
func (p *pool) refuse() []executor.Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	p.work.Broadcast()
	p.wake()
	var all []executor.Call
	for c := range p.calls {
		all = append(all, c)
	}
	return all
}

func (p *pool) Stats() executor.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// observe tells the observer about c, or about a worker if c is nil.
func (p *pool) observe(c executor.Call, e executor.Event) {
	if p.cfg.Observer == nil {
		return
	}
	e.Time = time.Now()
	if c != nil {
		e.Call, e.Task = c.ID(), c.Task()
	}
	p.cfg.Observer.Observe(e)
}

// The pool is the Host of its calls.

// Withdraw agrees to every cancellation: a call does not run without Start.
func (p *pool) Withdraw(executor.Call) bool { return true }

// Cancelled forgets a call that will not run.
func (p *pool) Cancelled(c executor.Call, err error) {
	p.mu.Lock()
	p.stats.Queued -= c.Len()
	p.stats.Cancelled += uint64(c.Len())
	if i := slices.Index(p.queue, c); i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
	}
	p.forget(c)
	p.mu.Unlock()
	p.observe(c, executor.Event{Kind: executor.EventCancel, Items: c.Len(), Err: err})
}

// forget drops c and lets others have its room. mu is held.
func (p *pool) forget(c executor.Call) {
	delete(p.calls, c)
	p.wake()
}

// Interrupt ends the context of a carried call. One in Run does that itself.
func (p *pool) Interrupt(c executor.Call, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.calls[c]; e != nil && e.cancel != nil {
		e.cancel(cause)
	}
}

// Finished counts how items of c ended.
func (p *pool) Finished(c executor.Call, o executor.Outcome) {
	n := o.Succeeded + o.Failed + o.Cancelled
	p.mu.Lock()
	e := p.calls[c]
	ran := time.Duration(0)
	if e.started.IsZero() { // it failed before it ran
		p.stats.Queued -= n
	} else {
		p.stats.Running -= n
		ran = time.Since(e.started)
	}
	p.stats.Succeeded += uint64(o.Succeeded)
	p.stats.Failed += uint64(o.Failed)
	p.stats.Cancelled += uint64(o.Cancelled)
	if e.left -= n; e.left == 0 {
		p.forget(c)
	}
	p.mu.Unlock()
	p.observe(c, executor.Event{Kind: executor.EventFinish, Items: n, Worker: e.worker, Ran: ran, Err: o.Err})
}

// A worker is a goroutine that runs calls, and the Lender of those that it runs.
type worker struct {
	pool *pool
	id   int
}

// start runs the initializer, and then calls.
func (w *worker) start() {
	p := w.pool
	err := errors.New("pool: the initializer called runtime.Goexit")
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = p.initialize()
	}()
	<-done
	if err != nil {
		p.breakDown(err)
	} else {
		p.observe(nil, executor.Event{Kind: executor.EventWorkerStart, Worker: w.id})
	}
	w.loop()
}

// breakDown fails all that is queued, each call with an error of its own, and
// refuses whatever comes.
func (p *pool) breakDown(err error) {
	p.mu.Lock()
	p.broken = err
	queued := p.queue
	p.queue = nil
	p.work.Broadcast()
	p.wake()
	p.mu.Unlock()
	for _, c := range queued {
		for i := range c.Len() {
			c.Fail(i, &executor.BrokenError{Cause: err})
		}
	}
}

// loop runs calls until there is no use for the worker any more.
func (w *worker) loop() {
	p := w.pool
	over := false
	defer func() {
		if !over { // a task called runtime.Goexit, which ends this goroutine
			go w.loop()
		}
	}()
	for c := w.take(); c != nil; c = w.take() {
		if p.carry {
			w.carry(c)
		} else if w.begin(c, nil) {
			c.Run(w)
		}
	}
	over = true
	if p.err() == nil {
		p.observe(nil, executor.Event{Kind: executor.EventWorkerEnd, Worker: w.id})
	}
	p.mu.Lock()
	p.stats.Workers--
	p.hire()
	p.wake()
	p.mu.Unlock()
}

// err returns why the pool is broken.
func (p *pool) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// take waits for a call. It returns nil if the worker has to go: the pool is shut down
// or broken, or there are too many since a task stopped waiting.
func (w *worker) take() executor.Call {
	p := w.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.broken != nil, p.stats.Workers-p.lent > p.cfg.Workers:
			return nil
		case len(p.queue) > 0:
			c := p.queue[0]
			p.queue = slices.Delete(p.queue, 0, 1)
			return c
		case p.stopping && p.stats.Queued == 0:
			p.work.Broadcast()
			return nil
		}
		p.stats.Idle++
		p.work.Wait()
		p.stats.Idle--
	}
}

// begin starts c, unless it was cancelled.
func (w *worker) begin(c executor.Call, cancel context.CancelCauseFunc) bool {
	p := w.pool
	p.mu.Lock()
	e := p.calls[c]
	if e == nil {
		p.mu.Unlock()
		return false
	}
	e.cancel = cancel
	p.mu.Unlock()
	if !c.Start() {
		return false
	}
	p.mu.Lock()
	e.started, e.worker = time.Now(), w.id
	p.stats.Queued -= c.Len()
	p.stats.Running += c.Len()
	p.wake()
	p.mu.Unlock()
	p.observe(c, executor.Event{Kind: executor.EventStart, Items: c.Len(), Worker: w.id})
	return true
}

// Finished hears of the calls that it runs, and the pool of others: those count alike.
func (w *worker) Finished(c executor.Call, o executor.Outcome) { w.pool.Finished(c, o) }

// Lend lets another worker run while this one's task waits.
func (w *worker) Lend() {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	w.pool.lent++
	w.pool.hire()
}

// Reclaim takes the place back. A worker too many goes when it has ended its call.
func (w *worker) Reclaim() {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	w.pool.lent--
	w.pool.work.Broadcast()
}

func (w *worker) Executor() executor.Executor { return w.pool }

// A backend of one's own is used like any other.
func Example_backend() {
	p, err := newPool(executortest.Config{Workers: 2}, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	ctx := context.Background()
	f := executor.SubmitFunc(ctx, p, func(context.Context) (string, error) { return "from a goroutine of the pool", nil })
	fmt.Println(f.Result(ctx))
	// Output: from a goroutine of the pool <nil>
}
