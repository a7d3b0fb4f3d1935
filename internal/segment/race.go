//go:build race

package segment

import (
	"runtime"
	"unsafe"
)

// The race detector does not see what is done to shared memory, and would call two
// goroutines' use of a variable that a Lock guards a race. So each use of a handle is for it
// a release of one word for each object when it begins, and an acquire when it ends.

const raceEnabled = true

// words has one word for each object, or for several.
var words [1024]uint64

func released(object uint64) {
	runtime.RaceReleaseMerge(unsafe.Pointer(&words[object%uint64(len(words))]))
}

func acquired(object uint64) {
	runtime.RaceAcquire(unsafe.Pointer(&words[object%uint64(len(words))]))
}
