package segment

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// A Spec says what a segment is made of.
type Spec struct {
	Kind   uint32         // of primitive
	Sig    uint64         // of its type parameter
	Params [Params]uint64 // what Layout needs to know

	// Body is the length of the memory that the primitive has for itself, and Beyond
	// that of what follows in the file and is not mapped.
	Body   int
	Beyond int64

	// Bury lets go of all that participant i has: it died, or closes its handle. It is
	// called under the lock of the slot, must not wait, and may be called again, if its
	// caller dies over it.
	Bury func(s *Segment, i int)
}

// A Segment is one mapping of the memory of an object, and the slot that it has there.
type Segment struct {
	Body []byte
	FD   int // the file; for what lies beyond the body
	Me   int // the number of the slot

	mem    []byte
	head   *head
	slots  *[Slots]slot
	bury   func(*Segment, int)
	refs   atomic.Int64 // uses under way; closing is added to it by Close
	closed sync.Once    // guards the end
	seized bool         // the slot is ours
}

// closing is what Close takes off a Segment's refs.
const closing = 1 << 40

// ErrClosed reports that a handle is closed.
var ErrClosed = errors.New("ipc: the handle is closed")

// token tells this process from all others, also from those that had its ID before.
var token = func() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if t := binary.LittleEndian.Uint64(b[:]); t != 0 {
			return t
		}
	}
}()

// seats orders, in this process, the taking and giving up of slots. Two handles may have
// one open file between them, which the system would not tell apart.
var seats sync.Mutex

// take finds a slot for s.
func (s *Segment) take() error {
	seats.Lock()
	defer seats.Unlock()
	for _, freeOnly := range []bool{true, false} { // the others are most likely alive
		for i := range Slots {
			t := s.slots[i].token.Load()
			if t == token || freeOnly && t != 0 {
				continue
			}
			locked, err := lockSlot(s.FD, i)
			if err != nil {
				return fmt.Errorf("lock of slot %d: %w", i, err)
			}
			if locked {
				s.settle(i)
				return nil
			}
		}
	}
	return fmt.Errorf("%d handles of this object are open, and there can be no more: close some", Slots)
}

// settle makes slot i, whose lock s has, that of s.
func (s *Segment) settle(i int) {
	at("take: locked")
	sl := &s.slots[i]
	if sl.token.Load() != 0 { // of one who died
		s.clear(i)
	}
	at("take: cleared")
	for n := range sl.notes {
		sl.notes[n].Store(0)
	}
	sl.where.Store(here())
	for high := s.head.high.Load(); high < uint32(i)+1; high = s.head.high.Load() {
		s.head.high.CompareAndSwap(high, uint32(i)+1)
	}
	sl.token.Store(token)
	s.Me, s.seized = i, true
	at("take: done")
	s.head.joins.Add(1)
	// Who waits must watch the new one too.
	for k := range Bell(Bells) {
		s.Ring(k, -1)
	}
}

// clear empties slot i, whose lock s has.
func (s *Segment) clear(i int) {
	at("bury: begun")
	s.bury(s, i)
	at("bury: let go")
	s.slots[i].waits.Store(0)
	s.slots[i].token.Store(0)
}

// undertake lets go of what the participant of the slot i had, if that is of process t and
// does not live any more.
func (s *Segment) undertake(i int, t uint64) {
	if t == 0 || t == token {
		return
	}
	seats.Lock()
	locked, err := lockSlot(s.FD, i)
	if locked && err == nil {
		if s.slots[i].token.Load() == t {
			s.clear(i)
		}
		at("bury: done")
		unlockSlot(s.FD, i)
	}
	seats.Unlock()
	if locked {
		for k := range Bell(Bells) {
			s.Ring(k, -1)
		}
	}
}

// Check lets go of what participant i has if it is dead.
func (s *Segment) Check(i int) {
	if i < 0 || i >= Slots {
		return
	}
	if t := s.slots[i].token.Load(); t != 0 && t != token && !slotLocked(s.FD, i) {
		s.undertake(i, t)
	}
}

// CheckAll does it for every participant.
func (s *Segment) CheckAll() {
	for i := range s.High() {
		s.Check(i)
	}
}

// Mine reports whether participant i is of this process.
func (s *Segment) Mine(i int) bool {
	return i >= 0 && i < Slots && s.slots[i].token.Load() == token
}

// PID returns the process ID of participant i, 0 if there is none.
func (s *Segment) PID(i int) int {
	if i < 0 || i >= Slots || s.slots[i].token.Load() == 0 {
		return 0
	}
	return int(uint32(s.slots[i].where.Load()))
}

// use keeps the memory from being unmapped until release, and reports false if the handle
// is closed.
func (s *Segment) use() bool {
	if s.refs.Add(1) < 0 {
		s.release()
		return false
	}
	return true
}

func (s *Segment) release() {
	if s.refs.Add(-1) == -closing {
		s.end()
	}
}

// end gives up the slot and the memory. Nobody uses them any more.
func (s *Segment) end() {
	s.closed.Do(func() {
		if s.seized {
			seats.Lock()
			s.clear(s.Me)
			at("close: cleared")
			unlockSlot(s.FD, s.Me)
			seats.Unlock()
			at("close: let go")
			for k := range Bell(Bells) {
				s.Ring(k, -1)
			}
		}
		forget(s) // one who came to wait while the handle was being closed may have watched
		unmap(s.mem)
		closeFile(s.FD)
	})
}
