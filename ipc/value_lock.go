package ipc

import (
	"context"
	"sync/atomic"

	"example.com/futures/internal/segment"
)

// The bells of a Value and an Array.
const (
	updateBell segment.Bell = 0
	commitBell segment.Bell = 3
)

// An updateLock is held while the function of an Update runs.
//
//	      lock                 unlock
//	0 ───────────▶ slot+1 ──────────────────▶ 0
//	▲                 │ the holder dies
//	│ the next Update ▼
//	└──────────── ownerDied (an Array's; that of a Value is just free)
//
// Within this process it also orders the functions of two Updates, for the race detector,
// which does not see the word: it is no memory of Go's.
type updateLock struct {
	word   *atomic.Uint32
	before atomic.Uint32 // written before the word is let go of, read after it was taken
}

const ownerDied = 1 << 31

// spins is how often a lock is looked at before its caller waits in earnest. Most functions
// are done by then.
const spins = 64

// lock waits for the lock. The caller has called Use.
func (l *updateLock) lock(ctx context.Context, h *segment.Handle) error {
	me := uint32(h.Me) + 1
	if !l.word.CompareAndSwap(0, me) {
		if err := l.wait(ctx, h, me); err != nil {
			return err
		}
	}
	l.before.Load()
	return nil
}

func (l *updateLock) wait(ctx context.Context, h *segment.Handle, me uint32) error {
	for range spins {
		if l.word.Load() == 0 && l.word.CompareAndSwap(0, me) {
			return nil
		}
	}
	if ctx.Err() != nil {
		// Then nobody waits, and nobody watches: a lock whose holder is dead need not wait.
		h.Check(int(l.word.Load()) - 1)
	}
	err := h.Await(ctx, segment.Wait{Bell: updateBell, Try: func() (bool, error) {
		switch l.word.Load() {
		case 0:
			return l.word.CompareAndSwap(0, me), nil
		case ownerDied:
			if l.word.CompareAndSwap(ownerDied, 0) {
				segment.At("update: told")
				return false, ErrOwnerDied
			}
		}
		return false, nil
	}})
	if err == ErrOwnerDied { //nolint:errorlint // our own, from above
		h.Ring(updateBell, 1) // the lock is free now
	}
	return err
}

// unlock lets go of the lock.
func (l *updateLock) unlock(h *segment.Handle) {
	l.before.Store(0)
	l.word.Store(0)
	segment.At("update: let go")
	h.Ring(updateBell, 1)
}

// buryUpdate lets go of the lock at word if participant i has it; the word becomes free.
func buryUpdate(word *atomic.Uint32, i int, free uint32) { word.CompareAndSwap(uint32(i)+1, free) }
