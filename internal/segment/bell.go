package segment

import (
	"example.com/futures/internal/futex"
)

// A Bell is a kind of waiting: each participant has one word of each, to sleep at.
type Bell uint8

// arm says that this participant is about to sleep at bell k. It looks once more at what
// it waits for between this and going to sleep; whoever changes that calls Ring afterwards.
func (s *Segment) arm(k Bell) {
	s.slots[s.Me].waits.Or(1 << k)
	s.head.hints[k].Store(1)
}

// disarm takes that back, and reports whether a Ring had found it meanwhile.
func (s *Segment) disarm(k Bell) (rung bool) {
	return s.slots[s.Me].waits.And(^uint32(1<<k))&(1<<k) == 0
}

// Ring wakes up to n participants who sleep at bell k; all of them, if n is negative. A
// participant that is woken must look, and if it does not take what there is, Ring on.
//
// The first after this one goes first, so that they take turns.
func (s *Segment) Ring(k Bell, n int) {
	if s.head.hints[k].Load() == 0 {
		return // the most frequent case, and all that it costs
	}
	s.ring(k, n)
}

func (s *Segment) ring(k Bell, n int) {
	if s.found(k, n) {
		return
	}
	// Nobody sleeps any more, as it seems. Who lies down now says so before he looks
	// at the hint's cause again, and is seen by a second look.
	hint := &s.head.hints[k]
	if !hint.CompareAndSwap(1, 0) {
		return // somebody else does this, or the memory is no good
	}
	at("ring: hint cleared")
	if s.anyone(k) {
		// Others may have found the hint cleared, and have not rung. There is no third look:
		// who comes after the hint is set again is seen by those who ring.
		hint.Store(1)
		s.found(k, -1)
	}
}

// found rings the bells of up to n who sleep, all of them if n is negative, and reports
// whether there were n.
func (s *Segment) found(k Bell, n int) bool {
	high := s.High()
	for j := range high {
		i := (s.Me + 1 + j) % high
		if s.slots[i].waits.Load()&(1<<k) == 0 || s.slots[i].waits.And(^uint32(1<<k))&(1<<k) == 0 {
			continue
		}
		at("ring: found")
		s.RingOne(i, k)
		if n--; n == 0 {
			return true
		}
	}
	return false
}

func (s *Segment) anyone(k Bell) bool {
	for i := range s.High() {
		if s.slots[i].waits.Load()&(1<<k) != 0 {
			return true
		}
	}
	return false
}

// RingOne wakes participant i if it sleeps at bell k.
func (s *Segment) RingOne(i int, k Bell) {
	bell := &s.slots[i].bells[k]
	bell.Add(1)
	futex.Wake(bell, -1)
}

// stir has everybody in this process who waits at bell k look again at what they wait for.
func (s *Segment) stir(k Bell) {
	s.head.hints[k].Store(1) // whoever died may have taken it away
	s.RingOne(s.Me, k)
}
