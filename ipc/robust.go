package ipc

import (
	"context"
	"sync/atomic"

	"example.com/futures/internal/segment"
)

// A robust is a lock that a program holds while its own code runs. If the holder dies it
// leaves a mark, for what the lock guards may be half-written.
//
//	        ┌──────────── lock ────────────▶┐
//	free 0 ─┤                               ├─ held slot+1 ── holder dies ──▶ marked
//	   ▲    └◀──────────── unlock ──────────┘       ▲                           │
//	   │                                            └───────── recover ─────────┘
//
// All of it is one word, so that there is no state in between.
type robust struct {
	word *atomic.Uint32
	bell segment.Bell
}

// marked is the word of a lock whose holder died.
const marked = 1 << 31

// quick takes the lock if it is free: one atomic step.
func (r robust) quick(h *segment.Handle) bool {
	return r.word.CompareAndSwap(0, uint32(h.Me)+1)
}

// try takes the lock if it is free.
func (r robust) try(h *segment.Handle) (bool, error) {
	switch w := r.word.Load(); w {
	case 0:
		return r.quick(h), nil
	case marked:
		return false, ErrOwnerDied
	default:
		return false, nil
	}
}

// lock waits for the lock. The caller has called Use.
func (r robust) lock(ctx context.Context, h *segment.Handle) error {
	if r.quick(h) {
		segment.At("lock: taken")
		return nil
	}
	return h.Await(ctx, segment.Wait{Bell: r.bell, Local: r.local(h), Try: func() (bool, error) { return r.try(h) }})
}

// tryLock takes the lock if it is free, and finds out about a holder who is dead.
func (r robust) tryLock(h *segment.Handle) (bool, error) {
	if r.quick(h) {
		return true, nil
	}
	r.check(h)
	return r.try(h)
}

// check lets go of the lock if its holder is dead.
func (r robust) check(h *segment.Handle) {
	if i, held := r.holder(); held {
		h.Check(i)
	}
}

// recover waits for the lock, and takes it also if it is marked.
func (r robust) recover(ctx context.Context, h *segment.Handle) error {
	return h.Await(ctx, segment.Wait{Bell: r.bell, Local: r.local(h), Try: func() (bool, error) {
		w := r.word.Load()
		return (w == 0 || w == marked) && r.word.CompareAndSwap(w, uint32(h.Me)+1), nil
	}})
}

// local reports whether h itself holds the lock.
func (r robust) local(h *segment.Handle) func() bool {
	return func() bool { return r.word.Load() == uint32(h.Me)+1 }
}

// holder returns the slot that holds the lock.
func (r robust) holder() (i int, held bool) {
	w := r.word.Load()
	return int(w) - 1, w != 0 && w != marked
}

// mine reports whether this process holds the lock.
func (r robust) mine(h *segment.Handle) bool {
	i, held := r.holder()
	return held && h.Mine(i)
}

// unlock lets go of the lock, by whichever handle of this process it was taken.
func (r robust) unlock(h *segment.Handle) error {
	if !r.word.CompareAndSwap(uint32(h.Me)+1, 0) {
		i, held := r.holder()
		if !held || !h.Mine(i) || !r.word.CompareAndSwap(uint32(i)+1, 0) {
			return ErrNotHeld
		}
		// It was taken by another handle of this process, whose line waits for its Nudge.
		segment.NudgeAll(r.bell)
	}
	segment.At("unlock: let go")
	h.Ring(r.bell, 1)
	h.Nudge(r.bell)
	return nil
}

// bury leaves the mark if participant i holds the lock.
func (r robust) bury(i int) { r.word.CompareAndSwap(uint32(i)+1, marked) }
