package executor

import (
	"context"
	"time"
)

// A Call is one submission as a backend sees it: a task, its argument, its
// context and the future that waits for it, in one object. [Submit], [Map] and
// their like make Calls and hand them to [Executor.Execute]; nobody else does.
//
// A Call holds one item, or, when it comes from [Map], a chunk of Len items that
// share a context and options. Items are numbered from 0 and each is completed on
// its own, in any order; a chunk may be cut anywhere by giving its items to
// different workers.
//
// A backend takes a Call through these steps:
//
//	Accept  once, before anybody else can see the call; then queue it
//	Start   before the first item runs; false means cancelled: drop the call
//	Run     runs every item here, in this goroutine, and completes them
//	   or   for a worker elsewhere, item by item: Encode the argument and send it,
//	        then Complete with the result that came back, or Fail with an error
//
// Every accepted call must end in one of Run, Complete, Fail, Cancel, or a
// refused Start. The package's own futures take care of the rest: waiters,
// callbacks (which run on a goroutine of their own and delay no backend), and
// the context that a running task sees.
//
// A Call is safe for concurrent use, with these limits: Accept comes first, Start
// is for one goroutine at a time, and an item is completed once.
type Call interface {
	// ID returns a number that no other call of this process has. It is made
	// when first asked for, so a backend without an observer never pays for it.
	ID() uint64

	// Context returns the context that the call was submitted under. It is not the
	// one that the task sees, which also ends by an interrupt or a time limit.
	Context() context.Context

	// Task returns the name of the task, "" for a closure.
	Task() string

	// Portable returns nil if the call can leave this process, and otherwise an
	// error that says why not: one that matches [ErrNotPortable] for a closure, or
	// one that names the field that the wire format would lose.
	Portable() error

	// Direct reports that to encode the argument, and to decode the result, runs no code
	// but this module's and that of encoding/gob: neither type is, or has in it at any
	// depth, an interface or a type that encodes itself. A backend may do both where it
	// would have nobody else's code run, which can panic, hang or end the goroutine. Of a
	// call that is not portable it is false.
	Direct() bool

	// Len returns the number of items: 1, but for a chunk of a Map.
	Len() int

	// Timeout returns the limit on the running time of one item; 0 is none. Run
	// enforces it; a backend that sends a call elsewhere must do so itself.
	Timeout() time.Duration

	// Retries returns how often an item may run again after its worker was lost.
	Retries() int

	// Priority returns the call's priority: higher first, first come first served
	// among equals.
	Priority() int

	// WaitsForRoom reports that Execute must wait for room in a bounded queue even
	// if the backend is set to refuse calls when it is full, as [Map] wants it.
	WaitsForRoom() bool

	// Accept ties the call to the backend that will run it; h hears what happens to
	// the call from then on. Execute calls it before the call can be seen by a worker;
	// it only notes h. Until a worker can see the call, Execute may still refuse it.
	Accept(h Host)

	// Start moves the call from pending to running and reports whether the caller
	// may run it: false if it was cancelled, or started before.
	Start() bool

	// StartAt is Start at the time t, from which a chunk measures how long it took: a
	// backend that starts many calls looks at the clock once. Start is StartAt(time.Now()).
	StartAt(t time.Time) bool

	// Ran tells how long a worker elsewhere took to run the items, before the last of them
	// is completed. A chunk whose way there and back takes long in comparison would otherwise
	// pass for one of slow items.
	Ran(d time.Duration)

	// Assign notes the worker elsewhere that has the call, or nil, and Assigned returns
	// it. From then on l hears how items end, and not the Host, as if the call were in
	// Run; its other methods are not called. The two are guarded by the backend's own
	// lock, or whatever else orders them among one another, and before and after Complete,
	// CompletePlain and Fail.
	Assign(l Lender)
	Assigned() Lender

	// Cancel completes a pending call as cancelled, for the given cause (nil for
	// none), and reports whether it is cancelled now. It asks Host.Withdraw first.
	Cancel(cause error) bool

	// Interrupt is what a backend's Close does to a call: it cancels a pending call
	// and ends the context of a running one, both with cause, which is not nil.
	Interrupt(cause error)

	// Run runs every item in the calling goroutine and completes it. Panics are
	// caught. A task that calls runtime.Goexit ends the calling goroutine, after the
	// call was completed; a worker loop notices by a deferred function and replaces
	// itself. l is told when the task waits for a future, and how items end; it may be
	// nil: then the Host hears of the latter. A Lender with a method Share(Call) bool may
	// be asked to have another worker Run the same chunk at the same time; they divide it.
	Run(l Lender)

	// Encode writes the argument of item i with enc. With the Encoder of package
	// internal/wire, and so for the backends of this module, one whose type is plain (a
	// bool, a number, a string, a []byte, a struct{}, or a type made of one of them that
	// does not encode itself) travels as its bytes, not as gob's, and so does a large
	// []byte inside of a struct. Encode fails without side effects
	// if the argument cannot be encoded, and with a panic's error if it panics. It
	// answers an error that matches future.ErrCancelled if the call is cancelled by then.
	Encode(i int, enc Encoder) error

	// Complete reads the result of item i from dec and completes the item with it.
	// If that fails, the item fails with the reason, which is also returned. Of a result
	// that comes too late, since the item is complete, the handles are closed.
	Complete(i int, dec Decoder) error

	// PackPlain adds the arguments of the items from, from+1 and so on, before to, to b,
	// as long as that adds no more than room bytes, and returns it, and the item that it
	// stopped at. Each is plain, see Encode, with its length before it, as a uvarint. It
	// stops at from if the argument's type is not plain, if the call is over or cancelled
	// by then, and if not even one argument has room: that may be for Encode to refuse.
	PackPlain(b []byte, from, to, room int) (out []byte, next int)

	// CompletePlain completes the items i, i+1 and so on with the plain results of the
	// same task, one for each, as Complete does one by one: an item whose result does not
	// decode fails with the reason. But who hears of it, the Host or the worker, hears
	// once, of all. Nothing of results is kept. It returns how many items it has
	// completed: all, but for those from the first on that was complete before, and none
	// if the result's type is not plain.
	CompletePlain(i int, results [][]byte) (n int)

	// Fail completes item i with err, which must not be nil. A pending call fails
	// too: without ever having run.
	Fail(i int, err error)

	// IsDone reports whether every item is complete or the call is cancelled.
	IsDone() bool

	sealed()
}

// A Host is a backend's side of the calls that it accepted: what it hears about
// them. Its methods are called from any goroutine, without locks of this package
// held, and must not block for long. A backend usually has one Host for all calls.
type Host interface {
	// Withdraw is asked before the pending call c is cancelled, and must make sure
	// that c will not start after it answered true. A backend whose workers must
	// Start a call in this process, before it runs, answers true always: Start
	// then decides. False keeps the call pending, or running elsewhere.
	Withdraw(c Call) bool

	// Cancelled reports that c was cancelled before it started; the backend forgets
	// it. err is what the future answers: it matches future.ErrCancelled and the
	// cause. It is called before anybody sees that the call is done.
	Cancelled(c Call, err error)

	// Interrupt asks the backend to end the context of the running call c with
	// cause: its context ended, or somebody called Future.Interrupt. It may come more
	// than once, and for a call that is in Run: that ends its context itself, so there
	// is nothing to do.
	Interrupt(c Call, cause error)

	// Finished reports how items of c ended: by Complete or Fail, or by a Run without
	// a Lender (all at once, or a part of a chunk). It is called before anybody sees that they are
	// done, so that a statistic read after Future.Result counts them. A chunk that
	// is interrupted also reports here the items that never ran.
	Finished(c Call, o Outcome)
}

// An Outcome counts items of a call that ended.
type Outcome struct {
	Succeeded, Failed, Cancelled int
	Err                          error // of the last item that failed, if any did
}

// A Lender is the worker under a running call, as the call sees it: a place that
// can be lent to others while the call waits, and who hears of its end.
type Lender interface {
	// Finished is [Host.Finished] for what ends in Run: it is told to the worker, which
	// can count for itself, and not to the Host. No two such reports come at a time.
	Finished(c Call, o Outcome)

	// Lend is called when the task begins to wait for a future or for room in a
	// queue under its own context, Reclaim when it goes on. A pool may run another
	// call meanwhile. Reclaim must not wait: the calls may need one another.
	Lend()
	Reclaim()

	// Executor returns the executor whose worker this is, for [InTask].
	Executor() Executor
}

// An Encoder writes one value after another: a *gob.Encoder, for example. A call
// gives it pointers to struct types of this module with one exported field.
type Encoder interface{ Encode(v any) error }

// A Decoder reads what an [Encoder] wrote: a *gob.Decoder, for example.
type Decoder interface{ Decode(v any) error }

// InTask reports whether ctx is, or is derived from, the context of a call that
// runs on ex in this process. A backend asks it before it waits for all of its
// calls to end: a call cannot wait for itself.
func InTask(ctx context.Context, ex Executor) bool {
	in, _ := ctx.Value(inTaskKey{ex}).(bool)
	return in
}

// inTaskKey asks a task's context whether its worker belongs to ex.
type inTaskKey struct{ ex Executor }
