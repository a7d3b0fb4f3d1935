package segment

import "sync/atomic"

// step is called at every step of an algorithm on shared memory, with its name.
var step atomic.Pointer[func(name string)]

// SetStep has fn called at every step, or nothing, if it is nil. It is for tests, which end
// the process there; nobody else sets it.
func SetStep(fn func(name string)) {
	if fn == nil {
		step.Store(nil)
	} else {
		step.Store(&fn)
	}
}

// at marks a step.
func at(name string) {
	if fn := step.Load(); fn != nil {
		(*fn)(name)
	}
}

// At marks a step of a primitive.
func At(name string) { at(name) }
