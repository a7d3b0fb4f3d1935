package executortest

import (
	"slices"
	"sync"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var observerPromises = []promise{
	{"OneStoryPerCall", "", anywhere, observerStory},
	{"ItemsOfAMap", "", anywhere, observerMap},
	{"RefusedIsNotSeen", "", anywhere, observerRefused},
	{"Workers", "", anywhere, observerWorkers},
}

// A recorder is an Observer that keeps all events.
type recorder struct {
	mu     sync.Mutex
	events []executor.Event
}

// Observe keeps e.
func (r *recorder) Observe(e executor.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of returns the events of the given kinds, oldest first.
func (r *recorder) of(kinds ...executor.EventKind) []executor.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.events)
	all = slices.DeleteFunc(all, func(e executor.Event) bool { return !slices.Contains(kinds, e.Kind) })
	slices.SortStableFunc(all, func(a, b executor.Event) int { return a.Time.Compare(b.Time) })
	return all
}

// callKinds are the kinds of events that tell about a call.
var callKinds = []executor.EventKind{
	executor.EventSubmit, executor.EventStart, executor.EventFinish, executor.EventCancel, executor.EventRetry,
}

// stories returns the events of each call, oldest first.
func (r *recorder) stories() map[uint64][]executor.Event {
	m := make(map[uint64][]executor.Event)
	for _, e := range r.of(callKinds...) {
		m[e.Call] = append(m[e.Call], e)
	}
	return m
}

// Each call is told as submit, start, finish, or as submit, cancel, under an ID and a
// task's name of its own, with the error that it ended with.
func observerStory(c *check) {
	r := new(recorder)
	ex, g := c.open(Config{Workers: 1, Observer: r}), c.newGate()
	held, _ := c.hold(ex, g, 1)
	calls := []*future.Future[int]{held[0]}
	calls = append(calls, executor.Submit(c.ctx, ex, endTask, wellEnding))
	for _, e := range badEndings {
		calls = append(calls, executor.Submit(c.ctx, ex, endTask, e))
	}
	gone := executor.Submit(c.ctx, ex, doubleTask, 1)
	equal(c, "Interrupt", gone.Interrupt(errReason), true)
	g.openUp()
	failed := 0
	for _, f := range calls {
		if _, err := outcome(c, f); err != nil {
			failed++
		}
	}
	c.shutdown(ex)

	stories := r.stories()
	equal(c, "calls", len(stories), len(calls)+1)
	for id, story := range stories {
		var kinds []executor.EventKind
		for _, e := range story {
			kinds = append(kinds, e.Kind)
			equal(c, "Task", e.Task, story[0].Task)
			equal(c, "Items", e.Items, 1)
			equal(c, "Time is zero", e.Time.IsZero(), false)
		}
		if id == 0 {
			c.Fatalf("a call has the ID 0: %v", story)
		}
		last := story[len(story)-1]
		if last.Kind == executor.EventCancel {
			equalSlices(c, "the story of a call", kinds, []executor.EventKind{executor.EventSubmit, executor.EventCancel})
			equal(c, "Task", last.Task, doubleTask.Name())
			matches(c, "Err", last.Err, future.ErrCancelled, errReason)
			continue
		}
		equalSlices(c, "the story of a call", kinds, []executor.EventKind{executor.EventSubmit, executor.EventStart, executor.EventFinish})
		if last.Err != nil {
			failed--
		}
		if last.Ran < 0 {
			c.Fatalf("Ran = %v", last.Ran)
		}
	}
	equal(c, "calls that failed but were not told so", failed, 0)
}

// The events of a map speak for each of its items, once.
func observerMap(c *check) {
	for _, chunk := range []int{0, 1, 3, 100} {
		r := new(recorder)
		ex := c.open(Config{Workers: 2, Observer: r})
		equalSlices(c, "Map", c.collect(executor.Map(c.ctx, ex, doubleTask, slices.Values(numbers(20)), executor.WithChunk(chunk))), doubles(20))
		c.shutdown(ex)
		for _, kind := range []executor.EventKind{executor.EventSubmit, executor.EventStart, executor.EventFinish} {
			items := 0
			for _, e := range r.of(kind) {
				items += e.Items
				equal(c, "Task", e.Task, doubleTask.Name())
			}
			equal(c, "items of "+kind.String()+" events", items, 20)
		}
	}
}

// Of a call that was refused nothing is told.
func observerRefused(c *check) {
	r := new(recorder)
	ex := c.open(Config{Workers: 1, Observer: r})
	c.works(ex)
	c.shutdown(ex)
	before := len(r.of(callKinds...))
	failure(c, executor.Submit(c.ctx, ex, doubleTask, 1))
	equal(c, "events", len(r.of(callKinds...)), before)
}

// Each worker is told when it is ready and when it has ended.
func observerWorkers(c *check) {
	r := new(recorder)
	ex, g := c.open(Config{Workers: 2, Observer: r}), c.newGate()
	c.hold(ex, g, 2)
	g.openUp()
	c.shutdown(ex)
	var started, ended, used []int
	for _, e := range r.of(executor.EventWorkerStart) {
		started = append(started, e.Worker)
	}
	for _, e := range r.of(executor.EventWorkerEnd) {
		ended = append(ended, e.Worker)
	}
	for _, e := range r.of(executor.EventStart) {
		used = append(used, e.Worker)
	}
	slices.Sort(started)
	slices.Sort(ended)
	slices.Sort(used)
	equal(c, "workers that started", len(started), 2)
	equalSlices(c, "workers that ended", ended, started)
	equalSlices(c, "workers that took up the calls", used, started)
	equal(c, "workers lost", len(r.of(executor.EventWorkerLost)), 0)
}
