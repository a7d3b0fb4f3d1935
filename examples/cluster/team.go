package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"example.com/futures/executor"
	"example.com/futures/worker"
)

// A team is the worker processes that this program has started. It observes the pool, to
// kill one of them when that has just taken up a call.
type team struct {
	report *report
	stderr io.Writer
	stop   context.CancelFunc // ends the calls by which they serve
	ended  sync.WaitGroup     // the goroutines that wait for them

	mu        sync.Mutex // guards the fields below
	members   map[int]*worker.Process[struct{}]
	killing   bool // the next one that takes up a call
	killed    bool
	dismissed bool
}

// hire starts the worker processes. When the last of them has ended before it was dismissed,
// alone is told why.
func (t *team) hire(c config, alone func(error)) error {
	ctx, stop := context.WithCancel(context.Background()) // not the caller's: they end after the pool
	t.stop = stop
	t.mu.Lock()
	defer t.mu.Unlock()
	t.members = map[int]*worker.Process[struct{}]{}
	for range c.workers {
		p, err := worker.Start(ctx, serveTask, c.job(), worker.Config{GOMAXPROCS: c.slots})
		if err != nil {
			return err
		}
		t.members[p.PID()] = p
		t.ended.Go(func() { t.follow(p, alone) }) // ends with the process
	}
	return nil
}

// follow says how a worker process has ended, unless it was dismissed.
func (t *team) follow(p *worker.Process[struct{}], alone func(error)) {
	<-p.Done()
	_, err := p.Future().Result(context.Background())
	t.mu.Lock()
	delete(t.members, p.PID())
	dismissed, left := t.dismissed, len(t.members)
	t.mu.Unlock()
	if dismissed {
		return
	}
	fmt.Fprintf(t.stderr, "worker process %d has ended: %v\n", p.PID(), err)
	if left == 0 {
		alone(fmt.Errorf("there is no worker left: %w", err))
	}
}

// dismiss ends the worker processes and waits for them.
func (t *team) dismiss() {
	t.mu.Lock()
	t.dismissed = true
	t.mu.Unlock()
	if t.stop != nil {
		t.stop()
	}
	t.ended.Wait()
}

// killOne has the next worker killed that takes up a call, once.
func (t *team) killOne() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killing = !t.killed
}

// Observe hears what happens in the pool.
func (t *team) Observe(e executor.Event) {
	if e.Kind != executor.EventStart {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	victim := t.members[e.Worker]
	if !t.killing || victim == nil {
		return
	}
	t.killing, t.killed = false, true
	t.report.killed(e.Worker)
	t.ended.Go(func() { // ends with the process
		if err := victim.Kill(); err != nil {
			fmt.Fprintln(t.stderr, "cluster:", err)
		}
	})
}

var _ executor.Observer = (*team)(nil)
