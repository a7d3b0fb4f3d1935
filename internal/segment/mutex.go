package segment

import (
	"context"
	"sync/atomic"
)

// A Mutex is a lock in shared memory that is held for a few steps, and never while
// somebody else's code runs. Nobody but those who want it sleeps at its bell: a ring for
// somebody who waits for something else would be lost. What it guards is changed by one store at the end, so that
// it is good whenever the holder dies, and the lock is just let go.
//
//	0 ── lock ──▶ slot+1 ── unlock, or the holder's undertaker ──▶ 0
type Mutex struct {
	Word *atomic.Uint32
	Bell Bell
}

// TryLock takes the lock if it is free.
func (m Mutex) TryLock(h *Handle) bool {
	return m.Word.Load() == 0 && m.Word.CompareAndSwap(0, uint32(h.Me)+1)
}

// Lock waits for the lock, until ctx ends or h is closed. The caller has called Use.
func (m Mutex) Lock(ctx context.Context, h *Handle) error {
	if m.Word.CompareAndSwap(0, uint32(h.Me)+1) {
		return nil
	}
	// Two goroutines of this process contend for it under one name. That does no harm: only
	// the one that took it unlocks.
	return h.Await(ctx, Wait{
		Bell:  m.Bell,
		Try:   func() (bool, error) { return m.TryLock(h), nil },
		Local: func() bool { return m.Word.Load() == uint32(h.Me)+1 },
	})
}

// Unlock lets go of the lock.
func (m Mutex) Unlock(h *Handle) {
	m.Word.Store(0)
	at("unlock: let go")
	h.Ring(m.Bell, 1)
	h.Nudge(m.Bell)
}

// Bury lets go of the lock if participant i has it.
func (m Mutex) Bury(i int) { m.Word.CompareAndSwap(uint32(i)+1, 0) }
