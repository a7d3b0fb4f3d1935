package threadpool

import (
	"context"
	"fmt"
	"runtime"
	"weak"

	"example.com/futures/executor"
)

// A Pool runs calls on a bounded number of goroutines. It is an
// [executor.Executor]: programs use it through executor.Submit, executor.Map and
// their like. It is made by [New].
//
// A Pool is safe for concurrent use. Whoever made it closes it, by Shutdown, Close
// or both. One that is dropped instead finishes what it was given; then its workers
// end, and it is collected.
type Pool struct {
	// The workers refer to the inner pool and never to this handle, so that the
	// garbage collector can tell when nobody will submit any more.
	inner *pool
}

var _ executor.Executor = (*Pool)(nil)

// New returns a pool with the given settings. It starts no worker: each is started
// when a call comes and all others are busy.
//
// Errors: a field of cfg that makes no sense, by name and value.
//
// Reference: concurrent.futures.ThreadPoolExecutor (Python 3.14), whose default is
// min(32, usable CPUs + 4) workers since its tasks mostly wait; ours do what
// goroutines do, so GOMAXPROCS of them fill the machine. Executors.newFixedThreadPool.
func New(cfg Config) (*Pool, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Pool{inner: newPool(cfg)}
	p.inner.handle = weak.Make(p)
	runtime.AddCleanup(p, (*pool).abandon, p.inner)
	return p, nil
}

// Execute takes a call; see [executor.Executor]. It waits only for room in a
// bounded queue: until the call's context ends, whose cause it then returns, or the
// pool is shut down. Among those who wait, a higher priority goes first, and equals
// in the order in which they came.
//
// Errors: [executor.ErrShutdown], [executor.ErrQueueFull], an
// [*executor.BrokenError], or the cause of the end of the call's context.
func (p *Pool) Execute(c executor.Call) error {
	err := p.inner.execute(c)
	runtime.KeepAlive(p) // not abandoned while somebody is in here
	return err
}

// ExecuteAll takes many calls as [Pool.Execute] takes one, in their order, at less
// cost. It returns how many it has accepted; the next was refused with err, and those
// behind it were not tried.
func (p *Pool) ExecuteAll(calls []executor.Call) (accepted int, err error) {
	accepted, err = p.inner.executeAll(calls)
	runtime.KeepAlive(p)
	return accepted, err
}

// Shutdown refuses new calls and waits until all that were accepted have ended and
// the workers are gone; see [executor.Executor].
func (p *Pool) Shutdown(ctx context.Context, opts ...executor.ShutdownOption) error {
	p.inner.end(draining, executor.NewShutdownOptions(opts...).CancelPending)
	select {
	case <-p.inner.over: // also under a ctx that has ended
	default:
		if executor.InTask(ctx, p) {
			return fmt.Errorf("threadpool: Shutdown: begun, but not waited for: %w", errOwnTask)
		}
		select {
		case <-p.inner.over:
		case <-ctx.Done():
			return fmt.Errorf("threadpool: Shutdown: calls are still running: %w", ended(ctx))
		}
	}
	p.inner.goroutines.Wait() // they have no more to do than to return
	return nil
}

// Close refuses new calls, cancels what is queued, interrupts what runs and waits
// until the workers are gone; see [executor.Executor]. A goroutine cannot be ended
// from outside: Close waits for a call that ignores its context. Inside a task of
// the pool itself it would wait for ever.
//
// Close returns nil.
func (p *Pool) Close() error {
	p.inner.end(closed, true)
	<-p.inner.over
	p.inner.goroutines.Wait()
	return nil
}

// Resize changes how many calls run at the same time at most. If there are more
// workers now, what is queued is taken up at once; if there are fewer, idle workers
// end now and others after their call.
//
// Errors: workers is below 1; [executor.ErrShutdown] or an [*executor.BrokenError]
// where the pool is that. Nothing has changed then.
//
// Reference: ThreadPoolExecutor.setCorePoolSize (Java 21).
func (p *Pool) Resize(workers int) error {
	if workers < 1 {
		return fmt.Errorf("threadpool: Resize to %d workers: want 1 or more", workers)
	}
	err := p.inner.resize(workers)
	runtime.KeepAlive(p)
	return err
}

// Capacity returns how many calls run at the same time at most: Config.Workers, or
// what [Pool.Resize] last said. By it executor.Map knows how much to take ahead.
func (p *Pool) Capacity() int {
	p.inner.mu.Lock()
	defer p.inner.unlock()
	return p.inner.limit
}

// Stats returns a snapshot of the pool's counters. It waits for nobody; a call
// whose future is done is counted as ended. Workers may be above the pool's number
// while calls wait for one another, see the package comment.
func (p *Pool) Stats() executor.Stats { return p.inner.stats() }
