package segment

import "unsafe"

// The places of words of the memory, for tests that write to them.
const (
	MagicAt   = int(unsafe.Offsetof(head{}.magic))
	VersionAt = int(unsafe.Offsetof(head{}.version))
	KindAt    = int(unsafe.Offsetof(head{}.kind))
	SigAt     = int(unsafe.Offsetof(head{}.sig))
	ParamsAt  = int(unsafe.Offsetof(head{}.params))
	BodyAt    = bodyAt
)

// Memory returns all of the memory.
func Memory(h *Handle) []byte { return h.mem }

// Hint reports whether somebody may sleep at a bell.
func Hint(h *Handle, k Bell) bool { return h.head.hints[k].Load() != 0 }

// ClearHint takes a hint away, as one does who dies after it.
func ClearHint(h *Handle, k Bell) { h.head.hints[k].Store(0) }

// Sleeps reports whether participant i is about to sleep at a bell.
func Sleeps(h *Handle, i int, k Bell) bool { return h.slots[i].waits.Load()&(1<<k) != 0 }

// TakeBit is what one does who found a sleeper and dies before it rings.
func TakeBit(h *Handle, i int, k Bell) { h.slots[i].waits.And(^uint32(1 << k)) }

// Waiters returns how many wait at a bell in this process.
func Waiters(h *Handle, k Bell) (n int) {
	ln := &h.lines[k]
	ln.mu.Lock()
	defer ln.mu.Unlock()
	for w := ln.first; w != nil; w = w.next {
		n++
	}
	return n
}

// Taken reports whether slot i is somebody's, dead or alive.
func Taken(h *Handle, i int) bool { return h.slots[i].token.Load() != 0 }

// SetPID has participant i be found by another process ID.
func SetPID(h *Handle, i, pid int) {
	w := &h.slots[i].where
	w.Store(w.Load()&^0xffffffff | uint64(uint32(pid)))
}

// Watches returns how many processes this one watches, and how many of them it looks after
// from time to time.
func Watches() (all, polled int) {
	peers.mu.Lock()
	defer peers.mu.Unlock()
	for _, p := range peers.by {
		all++
		if p.watch.file == nil {
			polled++
		}
	}
	return all, polled
}

// Known returns how many processes h remembers.
func Known(h *Handle) int {
	h.watching.mu.Lock()
	defer h.watching.mu.Unlock()
	return len(h.watching.known)
}

// NoNamespace has this process find no other one by its ID, until the end.
func NoNamespace() (end func()) {
	was := namespace
	namespace = func() uint64 { return 0 }
	return func() { namespace = was }
}
