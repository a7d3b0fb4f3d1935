package ipc

import (
	"encoding/gob"
	"errors"

	"example.com/futures/executor"
	"example.com/futures/internal/segment"
)

// What callers branch on. They keep errors.Is when they come back from another process.
var (
	// ErrClosed reports that this process has closed the handle, or never had one.
	ErrClosed = segment.ErrClosed

	// ErrFull and ErrEmpty report that a queue has no room, or nothing in it.
	ErrFull  = errors.New("ipc: the queue is full")
	ErrEmpty = errors.New("ipc: the queue is empty")

	// ErrNotHeld reports that this process does not hold what it wants to let go of.
	ErrNotHeld = errors.New("ipc: this process does not hold it")

	// ErrOwnerDied reports that whoever held a lock died, or closed its handle, over it. What
	// the lock guards may be half-written. The lock stays as it is, until somebody takes it
	// by Recover.
	ErrOwnerDied = errors.New("ipc: the holder of the lock died")

	// ErrBrokenBarrier reports that a party of a barrier died or gave up, or that the barrier
	// was aborted or reset.
	ErrBrokenBarrier = errors.New("ipc: the barrier is broken")
)

func init() {
	executor.RegisterError("ipc.ErrClosed", ErrClosed)
	executor.RegisterError("ipc.ErrFull", ErrFull)
	executor.RegisterError("ipc.ErrEmpty", ErrEmpty)
	executor.RegisterError("ipc.ErrNotHeld", ErrNotHeld)
	executor.RegisterError("ipc.ErrOwnerDied", ErrOwnerDied)
	executor.RegisterError("ipc.ErrBrokenBarrier", ErrBrokenBarrier)

	// So that an interface can hold a handle. Of the types with a parameter, the program
	// registers those that it wants there.
	gob.Register(new(Lock))
	gob.Register(new(RLock))
	gob.Register(new(Semaphore))
	gob.Register(new(Event))
	gob.Register(new(Cond))
	gob.Register(new(Barrier))
}
