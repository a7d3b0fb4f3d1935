package worker

import (
	"fmt"
	"os"

	"example.com/futures/internal/proc"
)

// index is this worker's place in its pool, set before the first call runs.
var index = -1

// inWorker is set by Main, before the first call runs.
var inWorker bool

// Main makes a worker process serve calls, and a fork server start workers. It is
// called first in main, and in TestMain. In such a process it does not return: the
// process ends inside. In any other it notes that it was called, so that pools may start workers, and returns at
// once.
//
// Reference: multiprocessing.freeze_support, and the guard around a Python program's
// main that its spawned processes need.
func Main() {
	proc.SetMainCalled()
	proc.ServeForks()
	socket, mem, ok := proc.Inherited()
	if !ok {
		return
	}
	inWorker = true
	if err := serve(socket, mem); err != nil {
		fmt.Fprintf(os.Stderr, "worker: %v\n", err)
	}
	proc.Die()
}

// InWorker reports whether this process is a worker that serves calls.
func InWorker() bool { return inWorker }

// Index returns the place of this worker in its pool: 0 up to the number of workers
// less one. A worker that takes the place of another has its index, and may be starting
// while that one still runs its last call. It is -1 outside of a worker.
func Index() int { return index }
