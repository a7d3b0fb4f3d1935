package segment

import (
	"sync/atomic"
	"unsafe"
)

// The layout of a segment. All words are little machine words of the processes that
// share it: they run on one machine.
const (
	slotsAt = 256
	slotLen = 64
	bodyAt  = 17 * 4096 // the first page after the slots

	// Slots is how many handles of one object can be open at a time, in all processes.
	Slots = 1024

	magic   = 0x5345_5255_5455_4600 // "\0FUTURES"
	version = 1
)

// Bells is how many kinds of waiting a primitive can tell apart.
const Bells = 4

// head is the first bytes of a segment. What stands before joins never changes after
// the segment was made, and is looked at once, when it is opened.
type head struct {
	magic   uint64
	version uint32
	kind    uint32
	sig     uint64
	params  [Params]uint64
	_       [128 - 24 - 8*Params]byte

	joins atomic.Uint32 // how often a slot was taken
	high  atomic.Uint32 // no slot from this one on was ever taken
	_     [56]byte
	hints [Bells]atomic.Uint32 // 0: nobody waits; 1: somebody may
	_     [48]byte
}

// Params is how many numbers the maker of a segment can leave for who opens it.
const Params = 4

// A slot is the place of one open handle: a participant. Whoever has locked the byte of
// the slot (see lockSlot) is its owner, or, when the owner is dead, its undertaker.
type slot struct {
	token atomic.Uint64 // of the process; 0: free
	where atomic.Uint64 // its process ID, and above it, its namespace of process IDs
	bells [Bells]atomic.Uint32
	waits atomic.Uint32 // a bit for each bell that somebody sleeps at
	_     uint32
	notes [2]atomic.Uint64 // what the primitive keeps for each participant
	_     [8]byte
}

var (
	_ [slotsAt]byte = [unsafe.Sizeof(head{})]byte{}
	_ [slotLen]byte = [unsafe.Sizeof(slot{})]byte{}
	_ [bodyAt - slotsAt - Slots*slotLen]byte
)

func headOf(mem []byte) *head { return (*head)(unsafe.Pointer(&mem[0])) }

func slotsOf(mem []byte) *[Slots]slot { return (*[Slots]slot)(unsafe.Pointer(&mem[slotsAt])) }

// Word32 returns the 32-bit word at off in the body.
func (s *Segment) Word32(off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&s.Body[off : off+4][0]))
}

// Word64 returns the 64-bit word at off in the body.
func (s *Segment) Word64(off int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&s.Body[off : off+8][0]))
}

// Note returns the n-th word that the primitive keeps for participant i.
func (s *Segment) Note(i, n int) *atomic.Uint64 { return &s.slots[i].notes[n] }

// High returns a number that is above that of every participant.
func (s *Segment) High() int { return int(min(s.head.high.Load(), Slots)) }

// Beyond returns where in the file that begins which lies beyond the body.
func (s *Segment) Beyond() int64 { return int64(len(s.mem)) }
