package threadpool

import (
	"sync"
	"time"

	"example.com/futures/executor"
)

// events tells an observer what happens. Only a pool with an observer has one: it
// looks at the clock and asks calls for their number, which others never pay for.
type events struct {
	observer executor.Observer

	mu      sync.Mutex // guards running
	running map[executor.Call]taken
}

// taken says who runs a call since when.
type taken struct {
	worker int
	at     time.Time
}

func newEvents(o executor.Observer) *events {
	return &events{observer: o, running: map[executor.Call]taken{}}
}

func (e *events) submitted(c executor.Call, items int) {
	e.observer.Observe(executor.Event{
		Kind: executor.EventSubmit, Time: time.Now(), Call: c.ID(), Task: c.Task(), Items: items,
	})
}

func (e *events) cancelled(c executor.Call, items int, err error) {
	e.observer.Observe(executor.Event{
		Kind: executor.EventCancel, Time: time.Now(), Call: c.ID(), Task: c.Task(), Items: items, Err: err,
	})
}

func (e *events) started(c executor.Call, items, worker int) {
	now := time.Now()
	e.mu.Lock()
	e.running[c] = taken{worker, now}
	e.mu.Unlock()
	e.observer.Observe(executor.Event{
		Kind: executor.EventStart, Time: now, Call: c.ID(), Task: c.Task(), Items: items, Worker: worker,
	})
}

func (e *events) finished(c executor.Call, o executor.Outcome) {
	now := time.Now()
	e.mu.Lock()
	t, ran := e.running[c]
	e.mu.Unlock()
	ev := executor.Event{
		Kind: executor.EventFinish, Time: now, Call: c.ID(), Task: c.Task(),
		Items: o.Succeeded + o.Failed + o.Cancelled, Worker: t.worker, Err: o.Err,
	}
	if ran {
		ev.Ran = now.Sub(t.at)
	}
	e.observer.Observe(ev)
}

// forget drops what started noted.
func (e *events) forget(c executor.Call) {
	e.mu.Lock()
	delete(e.running, c)
	e.mu.Unlock()
}

func (e *events) worker(kind executor.EventKind, worker int) {
	e.observer.Observe(executor.Event{Kind: kind, Time: time.Now(), Worker: worker})
}
