// Package ipc is what processes talk through: pipes and queues, locks, semaphores, events,
// conditions and barriers, and memory that they share.
//
// A worker process has a memory of its own. What it gets is an argument, what it gives is a
// result; in between it can talk to others through the handles of this package, which
// are arguments like any other:
//
//	type Part struct {
//		From, To int64
//		Found    *ipc.Value[int64]
//		Log      *ipc.Queue[string]
//	}
//
//	var search = executor.NewTask("search", func(ctx context.Context, p Part) (struct{}, error) {
//		for n := p.From; n < p.To; n++ {
//			if isPrime(n) {
//				ipc.Add(p.Found, 1)
//			}
//		}
//		return struct{}{}, p.Log.Put(ctx, fmt.Sprintf("%d to %d are searched", p.From, p.To))
//	})
//
// # Which one
//
//	Pipe         two ends, messages; what a process and its child say to one another
//	Queue        many who put, many who get, each item for one of them
//	Lock, RLock  one at a time
//	Semaphore    so many at a time; or a count of signals
//	Event        it has happened
//	Cond         something that a lock guards has changed
//	Barrier      all are here
//	Value        one variable; Add for counters
//	Array        many of them, and room for large data that need not be copied
//
// In one process channels and package sync are quicker, and fit goroutines better.
//
// # What goes wrong
//
// A process can be killed at any time, between any two instructions. Nothing here hangs or
// is torn by that: a message is whole or not there, an item that was put stays in its queue, a
// value is the old or the new one, and a lock is let go; see [Lock] for what that means to
// the next one. It is noticed when it happens, not by looking from time to time.
//
// # Waiting
//
// Whatever waits has a ctx, and if that ends first the error matches ctx.Err(), and
// nothing was done. What need not wait is done, also under a ctx that has ended: that is how
// to poll. A thousand goroutines may wait without a thread each.
//
// # Handles
//
// An object lives as long as some process has a handle of it. It has no name in the file
// system, so that nothing is left when the last process is gone, however it went.
//
// A handle can be an argument of a task, a field of one, a result, and a message of a [Conn].
// A thread pool passes it as it is. To a worker process its descriptor travels along; any
// encoder that is not this module's answers executor.ErrNotPortable. Keep yours open until
// the call runs.
//
// A handle that a worker process got as an argument is closed there when the call ends (of an
// initializer: when the worker ends). One that came as a result or in a message is the
// receiver's. Close lets go of this process's handle, and wakes who waits by it; what others
// have is untouched. After it every call answers [ErrClosed], and what has no error to answer
// with panics with it. A handle that is dropped without Close is collected.
//
// All handles are safe for concurrent use, in and between processes.
//
// # Where
//
// On Linux. Elsewhere every constructor answers an error that matches errors.ErrUnsupported.
// A process that wants to send a handle on needs /proc.
//
// Whoever has a handle can write to the whole memory of the object. What is found there that
// cannot be is an error, not a fault; but give no handle to a process that must not be able
// to spoil the object for its other users.
package ipc
