package ipc

import (
	"context"
	"sync/atomic"

	"example.com/futures/internal/segment"
)

// A complex128 is two words, which no machine that Go runs on stores at once. At and Set of
// them take a lock, which is held for a few instructions; and before Set writes the first
// word it notes what it is about to write, so that its undertaker can carry that out. Then
// the element is whole, whenever a process is killed.
//
//	note  +0 1: it counts   +8 the index   +16, +24 the words
const (
	noteCounts = arrayNoteAt + 8*iota
	noteIndex
	notePair
	_ // the second word
)

func pairOf(s *segment.Segment) segment.Mutex {
	return segment.Mutex{Word: s.Word32(arrayPairAt), Bell: commitBell}
}

// pairAt is the words of element i.
func pairAt(s *segment.Segment, i int) (first, second *atomic.Uint64) {
	return s.Word64(arrayAt + 16*i), s.Word64(arrayAt + 16*i + 8)
}

func loadPair(h *segment.Handle, i int) (w [2]uint64, err error) {
	lock := pairOf(h.Segment)
	if err := lock.Lock(context.Background(), h); err != nil {
		return w, err
	}
	first, second := pairAt(h.Segment, i)
	w = [2]uint64{first.Load(), second.Load()}
	lock.Unlock(h)
	return w, nil
}

func storePair(h *segment.Handle, i int, w [2]uint64) error {
	lock := pairOf(h.Segment)
	if err := lock.Lock(context.Background(), h); err != nil {
		return err
	}
	segment.At("set: locked")
	h.Word64(noteIndex).Store(uint64(i))
	h.Word64(notePair).Store(w[0])
	h.Word64(notePair + 8).Store(w[1])
	segment.At("set: noted")
	h.Word64(noteCounts).Store(1)
	segment.At("set: counts")
	first, second := pairAt(h.Segment, i)
	first.Store(w[0])
	segment.At("set: half")
	second.Store(w[1])
	segment.At("set: written")
	h.Word64(noteCounts).Store(0)
	segment.At("set: done")
	lock.Unlock(h)
	return nil
}

// carryOut writes what is noted, if it counts. It can be done twice. The lock is that of a
// dead participant.
func carryOut(s *segment.Segment) {
	if s.Word64(noteCounts).Load() != 1 {
		return
	}
	if i := s.Word64(noteIndex).Load(); i < uint64(len(s.Body)-arrayAt)/16 {
		first, second := pairAt(s, int(i))
		first.Store(s.Word64(notePair).Load())
		second.Store(s.Word64(notePair + 8).Load())
	}
	s.Word64(noteCounts).Store(0)
}
