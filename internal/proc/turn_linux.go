package proc

import (
	"runtime"
	"sync"
	"time"
)

// starting has a token for each process that is on its way from its start to its greeting.
// All that takes is processor time, so many more of them than there are processors would
// only have the first one come later. And who starts a process keeps one of the runtime's
// Ps from looking who has greeted. The one more is there while a token changes hands.
var starting = make(chan struct{}, runtime.NumCPU()+1)

// startingTime is how long one may keep others from being started. After that it waits
// for something else than a processor, in the init functions of its program perhaps.
const startingTime = 10 * time.Millisecond

// takeTurn waits until a process may be started, and returns what is to be called when it
// has greeted or ended, or ErrQuit once quit is closed.
func takeTurn(quit <-chan struct{}) (func(), error) {
	select {
	case starting <- struct{}{}:
	case <-quit:
		return nil, ErrQuit
	}
	done := sync.OnceFunc(func() { <-starting })
	time.AfterFunc(startingTime, done)
	return done, nil
}
