package futex

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"
)

// SetDirect sets how many goroutines may sleep on a thread of their own, and returns what
// sets it back. Nobody waits meanwhile.
func SetDirect(n int) func() {
	old := directLimit
	directLimit = int32(min(n, math.MaxInt32))
	return func() { directLimit = old }
}

// RefuseWaitv has futex_waitv fail, and returns what makes it work again. Nobody waits
// meanwhile.
func RefuseWaitv(errno unix.Errno) func() {
	old := waitv
	waitv = func(*[maxWords]sleeper, int) (int, unix.Errno) { return 0, errno }
	return func() {
		waitv = old
		noPollers.Store(false)
	}
}

// WatchWaitv returns a function that returns the errors of futex_waitv that are none of a
// poller's life, and sets it back. Nobody waits meanwhile.
func WatchWaitv() func() []error {
	old := waitv
	var mu sync.Mutex
	var errs []error
	waitv = func(on *[maxWords]sleeper, n int) (int, unix.Errno) {
		i, errno := old(on, n)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
			mu.Lock()
			errs = append(errs, errno)
			mu.Unlock()
		}
		return i, errno
	}
	return func() []error {
		waitv = old
		return errs
	}
}

// A State says who sleeps.
type State struct {
	Direct  int // goroutines on threads of their own, or about to be
	Entries int // what pollers watch
	Awake   int // pollers that are about to look at what they watch, or to end
	Pollers int
}

// Now returns who sleeps.
func Now() State {
	mu.Lock()
	defer mu.Unlock()
	s := State{Direct: int(direct.Load()), Entries: len(entries), Pollers: len(pollers)}
	for _, p := range pollers {
		if !p.asleep {
			s.Awake++
		}
	}
	return s
}
