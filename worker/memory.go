package worker

import (
	"os"
	"runtime/debug"
)

// spareCollector has the garbage collector run less often, unless the program's environment
// says how often: a worker has a small heap, which a call soon doubles. It is not for a
// worker with a memory limit, where garbage is to go early.
func spareCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// limitMemory has the garbage collector keep this process well below the resident size
// at which its parent kills it: what is garbage then hardly ever makes it pass the limit.
// A lower limit, as GOMEMLIMIT sets it, stays.
func limitMemory(limit int64) {
	if limit > 0 {
		debug.SetMemoryLimit(min(softLimit(limit), debug.SetMemoryLimit(-1)))
	}
}

const (
	// textSize is about what the text and data of a program have resident, in bytes.
	textSize = 4 << 20

	// overshoot is about what a process allocates, in bytes, while a collection is on its
	// way, which the collector does not wait for: a few milliseconds of touching fresh
	// pages, more on a machine with too much to do. It does not grow with the limit.
	overshoot = 32 << 20
)

// softLimit returns the memory limit of the runtime for a limit of the resident size.
// What is left is for the overshoot, and for what the collector does not see: text,
// memory of C, and stacks on the way to be returned.
func softLimit(limit int64) int64 {
	spare := min(max(limit/8, overshoot), limit/4) + textSize
	return max(limit-spare, limit/2)
}
