package processpool

import (
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/internal/ring"
)

// A store is the arena of a worker's arguments: who feeds the worker allocates, and who
// reads its answers frees. Both take place in the order of the calls.
type store struct {
	held atomic.Int32 // so many are there

	mu    sync.Mutex // guards the fields below
	keys  []stored   // the oldest first
	trim  *time.Timer
	ended bool // the memory is not ours any more
}

// A stored argument is that of item item of call seq.
type stored struct {
	seq  uint64
	item int
}

// trimTime is how long memory is kept that large arguments needed.
const trimTime = time.Second

// alloc returns room for an argument.
func (s *store) alloc(a *ring.Arena, key stored, n int) (ring.Ref, []byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref, room, ok := a.Alloc(n)
	if ok {
		s.keys = append(s.keys, key)
		s.held.Store(int32(len(s.keys)))
		if s.trim != nil {
			s.trim.Stop()
		}
	}
	return ref, room, ok
}

// free lets go of the arguments of items up to key.
func (s *store) free(a *ring.Arena, key stored) {
	if s.held.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.keys) && (s.keys[n].seq < key.seq || s.keys[n].seq == key.seq && s.keys[n].item <= key.item) {
		a.Free()
		n++
	}
	s.keys = append(s.keys[:0], s.keys[n:]...)
	s.held.Store(int32(len(s.keys)))
	if len(s.keys) > 0 || !a.Excess() || s.ended {
		return
	}
	if s.trim == nil {
		s.trim = time.AfterFunc(trimTime, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.ended {
				a.Trim()
			}
		})
	} else {
		s.trim.Reset(trimTime)
	}
}

// end says that the arena goes away.
func (s *store) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.trim != nil {
		s.trim.Stop()
	}
}
