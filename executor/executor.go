package executor

import (
	"context"
	"fmt"
	"time"
)

// An Executor runs calls: on goroutines, on worker processes, or on a cluster. A
// program picks one by its constructor and uses it through the functions of this
// package: [Submit], [Map] and the rest.
//
// An Executor is safe for concurrent use. Whoever made it closes it: by Shutdown,
// by Close, or by both.
//
// An implementation may have a further method Capacity() int, the largest number of
// workers that it may have: a Map takes inputs ahead for so many. Without it, that is
// runtime.GOMAXPROCS(0). And it may have a method ExecuteAll([]Call) (int, error),
// which [SubmitAll] uses: Execute for many calls, in their order. It returns how many
// were accepted, and if those are not all, why the next was not, and does not keep the
// slice.
type Executor interface {
	// Execute takes a call and returns without waiting for it to run. It is for
	// Submit, Map and their like; programs do not call it.
	//
	// It waits while a bounded queue is full, unless the backend refuses calls then,
	// for as long as the call's context lasts; under the context of a task that
	// runs here ([InTask]) it lends that task's place out while it waits.
	//
	// Errors: the call was not accepted and will not run. [ErrShutdown],
	// [ErrQueueFull], what [Call.Portable] answers, a [*BrokenError], or the cause of
	// the call's context.
	Execute(Call) error

	// Shutdown refuses new calls from now on and waits until all that were accepted
	// have ended and the workers with them. With [CancelPending] it first cancels
	// those that have not started. It does not wait for callbacks.
	//
	// Errors: when ctx ends first, one that matches ctx.Err(); the calls go on, and
	// Shutdown may be called again, or Close. Under the context of a task of the
	// same executor it begins, and answers with an error instead of waiting for
	// itself.
	//
	// Shutdown is idempotent and safe for concurrent use.
	//
	// Reference: concurrent.futures.Executor.shutdown (Python 3.14), whose wait=False
	// is a ctx that has ended; ExecutorService.shutdown and awaitTermination.
	Shutdown(ctx context.Context, opts ...ShutdownOption) error

	// Close refuses new calls, cancels those that are queued, interrupts those that
	// run (both with [ErrShutdown] as cause) and waits until all have ended and the
	// workers with them. It does not wait for callbacks. A goroutine cannot be ended
	// from outside, so a call in this process that ignores its context is waited
	// for; inside a task of its own pool, Close would wait for ever.
	//
	// Close is idempotent and safe for concurrent use, also with Shutdown.
	//
	// Reference: ExecutorService.shutdownNow and close (Java 21).
	Close() error

	// Stats returns a snapshot of the executor's counters.
	Stats() Stats
}

// ShutdownOptions is what the options of a Shutdown add up to. Backends make one
// with [NewShutdownOptions].
type ShutdownOptions struct {
	CancelPending bool // calls that have not started are cancelled, with ErrShutdown as cause
}

// A ShutdownOption changes how [Executor.Shutdown] goes about it.
type ShutdownOption func(*ShutdownOptions)

// CancelPending makes Shutdown cancel what has not started.
//
// Reference: cancel_futures=True of concurrent.futures.Executor.shutdown.
func CancelPending() ShutdownOption {
	return func(o *ShutdownOptions) { o.CancelPending = true }
}

// NewShutdownOptions returns what opts add up to. It is for backends.
func NewShutdownOptions(opts ...ShutdownOption) ShutdownOptions {
	var o ShutdownOptions
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
}

// Stats counts what an executor did since it was made, and what it does now. Each
// item of a map counts as a call; a call that was refused does not count. At rest
// Submitted is the sum of Succeeded, Failed and Cancelled.
type Stats struct {
	Workers int // workers that exist now, those being started included
	Idle    int // workers that wait for a call
	Queued  int // calls that were accepted and have not started
	Running int // calls that run

	Submitted   uint64 // calls accepted
	Succeeded   uint64 // calls that ended with a value
	Failed      uint64 // calls that ended with an error
	Cancelled   uint64 // calls cancelled before they started, and items of a chunk that was interrupted before it came to them
	Retried     uint64 // runs beyond the first, after a worker was lost
	WorkersLost uint64 // workers that died without being asked to
}

// An Observer is told what an executor does, for logs, metrics and traces.
//
// Observe is called in the flow of the pool, from many goroutines at once, without
// locks held: it should be quick, for the call is not done before Observe returns. It
// must not wait for calls of the same executor, nor cancel or interrupt the call that
// it is told of. A panic in it is not caught.
type Observer interface{ Observe(Event) }

// EventKind says what an [Event] reports.
type EventKind int

const (
	EventSubmit      EventKind = iota + 1 // a call was accepted
	EventStart                            // a call was taken up by a worker
	EventFinish                           // a call ended, with a value or with Err
	EventCancel                           // a call was cancelled before it started
	EventRetry                            // a call goes back to the queue after its worker was lost; Err says how
	EventWorkerStart                      // a worker is ready
	EventWorkerEnd                        // a worker ended because it was asked to
	EventWorkerLost                       // a worker died; Err says how
)

var eventKinds = [...]string{
	EventSubmit: "submit", EventStart: "start", EventFinish: "finish", EventCancel: "cancel", EventRetry: "retry",
	EventWorkerStart: "worker start", EventWorkerEnd: "worker end", EventWorkerLost: "worker lost",
}

// String returns the kind as a word or two, such as "worker lost".
func (k EventKind) String() string {
	if k > 0 && int(k) < len(eventKinds) {
		return eventKinds[k]
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// An Event is one thing that happened in an executor. Fields that have nothing to
// say for a Kind are zero. The struct may grow.
type Event struct {
	Kind   EventKind
	Time   time.Time     // when it happened
	Call   uint64        // Call.ID
	Task   string        // the task's name, "" for a closure
	Items  int           // the calls that the event speaks for: 1, but for chunks of a map
	Worker int           // the worker: its index in a pool of goroutines, the process ID of a worker process
	Ran    time.Duration // of EventFinish: from start to end
	Err    error         // why a call failed or was cancelled, how a worker was lost
}
