package segment_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
)

// waitFor has h wait for the mutex that another process has.
func waitFor(t *testing.T, h *segment.Handle) <-chan error {
	t.Helper()
	locking := goes(func() error { return lock(proctest.Within(t), h) })
	sleeping(t, h, mutexBell)
	return locking
}

func TestHolderDies(t *testing.T) {
	for _, poll := range []bool{false, true} {
		t.Run(fmt.Sprintf("poll=%t", poll), func(t *testing.T) {
			if poll {
				defer segment.NoNamespace()()
			}
			h := newBox(t)
			p := start(t, h, "lock", "")
			p.hear("locked")
			locking := waitFor(t, h)
			eventually(t, func() bool {
				all, polled := segment.Watches()
				return all == 1 && poll == (polled == 1)
			})
			q := start(t, h, "open", "") // one more, who lives
			q.hear("open")
			eventually(t, func() bool { all, _ := segment.Watches(); return all == 2 })
			require.Empty(t, locking)
			p.kill()
			require.NoError(t, <-locking)
			require.EqualValues(t, 1, h.Word32(diedAt).Load())
			unlock(h)
			q.ends()
			eventually(t, func() bool { all, _ := segment.Watches(); return all == 0 && segment.Known(h) == 0 })
		})
	}
}

// The process whose ID is that of a dead one lives, and is no participant.
func TestProcessIDIsUsedAgain(t *testing.T) {
	for _, watched := range []bool{false, true} {
		t.Run(fmt.Sprintf("watched=%t", watched), func(t *testing.T) {
			h := newBox(t)
			p := start(t, h, "lock", "")
			p.hear("locked")
			p.kill()
			segment.SetPID(h, 1, os.Getpid())
			if watched { // by another handle, for another reason
				q := start(t, h, "open", "")
				q.hear("open")
				segment.SetPID(h, 1, q.cmd.Process.Pid)
			}
			require.NoError(t, lock(proctest.Within(t), h))
			require.EqualValues(t, 1, h.Word32(diedAt).Load())
			unlock(h)
		})
	}
}

// There is no process of the ID of one who lives: it is in a namespace of its own.
func TestProcessIsNotFound(t *testing.T) {
	h := newBox(t)
	p := start(t, h, "lock", "")
	p.hear("locked")
	segment.SetPID(h, 1, 1<<30)
	locking := waitFor(t, h)
	eventually(t, func() bool { _, polled := segment.Watches(); return polled == 1 })
	time.Sleep(50 * time.Millisecond) // time for a mistake: that nothing happens has no event
	require.Empty(t, locking)
	p.kill()
	require.NoError(t, <-locking)
	require.EqualValues(t, 1, h.Word32(diedAt).Load())
}

// Somebody else has the open file of one who died, as a child does before it becomes another
// program. Once it is gone, who waits goes on.
func TestLockOutlivesItsProcess(t *testing.T) {
	for _, watched := range []bool{true, false} {
		t.Run(fmt.Sprintf("watched=%t", watched), func(t *testing.T) {
			h := newBox(t)
			fds, err := h.Export()
			require.NoError(t, err)
			h.Exported()
			f := os.NewFile(uintptr(fds[0]), "box")
			keeper := launch(t, f, "nothing", "")
			keeper.hear("on")
			p := launch(t, f, "lock", "")
			f.Close()
			p.hear("locked")
			var locking <-chan error
			if watched {
				locking = waitFor(t, h)
			}
			p.kill()
			if !watched {
				locking = waitFor(t, h)
			}
			time.Sleep(30 * time.Millisecond) // so that it is seen that the lock is still there
			require.Empty(t, locking)
			keeper.kill()
			require.NoError(t, <-locking)
			require.EqualValues(t, 1, h.Word32(diedAt).Load())
			unlock(h)
			eventually(t, func() bool { all, _ := segment.Watches(); return all == 0 })
		})
	}
}

// An undertaker dies while others, who have heard of the death as well, leave it to him.
func TestUndertakerDies(t *testing.T) {
	for _, step := range []string{"bury: begun", "bury: let go", "bury: done"} {
		for _, watched := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/watched=%t", step, watched), func(t *testing.T) {
				h := newBox(t)
				p := start(t, h, "lock", "")
				p.hear("locked")
				undertaker := start(t, h, "lock", step+"?") // it waits for the mutex
				eventually(t, func() bool { return segment.Sleeps(h, 2, mutexBell) })
				var locking <-chan error
				if watched {
					// What this process hears of, it hears when the other has the slot.
					locking = waitFor(t, h)
					end := holdSeats(t)
					p.kill()
					undertaker.hear("at the step")
					end()
				} else {
					p.kill()
					undertaker.hear("at the step")
					locking = goes(func() error { return lock(proctest.Within(t), h) })
				}
				time.Sleep(30 * time.Millisecond) // so that it is seen that the slot is taken
				undertaker.tell("die")
				undertaker.killed()
				require.NoError(t, <-locking)
				require.Positive(t, h.Word32(diedAt).Load())
				unlock(h)
				eventually(t, func() bool { all, _ := segment.Watches(); return all == 0 })
			})
		}
	}
}

// holdSeats keeps this process from burying anybody, until what it returns is called.
func holdSeats(t *testing.T) (end func()) {
	t.Helper()
	held, done := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stepping(t, func(at string) {
		if at == "take: locked" {
			once.Do(func() { close(held); <-done })
		}
	})
	var joined sync.WaitGroup
	joined.Go(func() { newBox(t) })
	<-held
	return func() {
		close(done)
		joined.Wait()
	}
}
