package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"unsafe"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/segment"
)

// A ring is a bounded line of items in shared memory, for any number of putters and takers
// in any processes. A Queue has one, a Pipe one for each direction.
//
//	              getLock                       putLock
//	                 ▼                             ▼
//	┌──────┬──────┬──────┬──────┬──────┬──────┬──────┬──────┐
//	│      │      │ item │ item │ item │ item │      │      │   n slots
//	└──────┴──────┴──────┴──────┴──────┴──────┴──────┴──────┘
//	                head: taken so far            tail: put so far
//
// A putter has putLock, writes its item, and publishes it by one store, to tail; a taker has
// getLock, copies the item, and lets go of the slot by one store, to head. So whoever dies
// has done it or has not, and what his undertaker has to do is to let go of the lock. Nobody
// waits for a lock as such: who finds it taken waits as if there were no room, or no item,
// and who lets go of it rings for the next.
//
// A small item is in its slot, one of up to a page in a page of its own, if the ring has no
// more slots than have pages. The others are in the file behind the mapped memory, in areas of
// the size of the largest item, which are read and written by offset: what nobody ever wrote to
// takes no memory, and nothing of it has to be mapped anywhere.
//
//	body    ringWords, n slots, pages: those of the pool, then one for each slot
//	beyond  areas:  those of the pool, then one for each slot
//
// Of the pool's the lowest free one is taken, so that what is used is what was used last and
// is in the processor's cache. If there is none, there is that of the slot. A table says, for
// each of the pool, for which item it was last used: it is free if that item has been taken,
// or was never published. After an item was taken, what is worth keeping of the area's memory
// is kept.
type ring struct {
	h       *segment.Handle
	n       uint64
	base    int   // in the body
	pages   int   // likewise; 0: there are none
	beyond  int64 // in the file
	pipe    bool
	getters segment.Bell // those who wait for an item
	putters segment.Bell // those who wait for room
	line    *lifeline    // what descriptors go over; nil: they do not
	*ringWords
}

// ringWords is how a ring begins. What putters, takers and waiters write to is on lines of
// cache of its own.
type ringWords struct {
	putLock atomic.Uint32
	sought  atomic.Uint32 // of a pipe: somebody has found putLock taken
	_       [120]byte
	tail    atomic.Uint64 // items put; shut is added to it at the end
	_       [120]byte
	getLock atomic.Uint32
	_       [124]byte
	head    atomic.Uint64 // items taken
	_       [120]byte
	done    atomic.Uint64 // items worked off
	_       [120]byte
	pool    [poolLen]poolArea
	_       [64]byte
}

// A poolArea is what is known of a page or an area of the pool. Putters write to it, under
// putLock.
type poolArea struct {
	item   atomic.Uint64 // the item that it was last used for, and one more; 0: none
	size   atomic.Uint64 // of that
	extent atomic.Uint64 // so far into the area there may be memory
}

// A slotHead is how a slot begins.
type slotHead struct {
	where  uint64 // the length of the item, and above 32 bits the area, counted from 1; 0: here
	about  uint64 // flags, and above 8 bits the tag of its descriptors; 0: none
	extent uint64 // of the slot's own area, as that of a poolArea
}

const (
	slotLen     = 256
	slotHeadLen = int(unsafe.Sizeof(slotHead{}))
	inlineLen   = slotLen - slotHeadLen
	ringHeadLen = int(unsafe.Sizeof(ringWords{}))

	// shut is the bit of tail that says that nothing more is put.
	shut = 1 << 63

	maxItem  = 1 << 30 // the largest item, and the length of an area
	maxSlots = 1 << 31 // so many areas are less than what a file can have
	pageLen  = 4 << 10
	maxPaged = 4096 // the slots of a ring that has pages

	// The pool is pages, if there are any, and areas.
	poolPages = 8
	poolLen   = poolPages + 16

	// pipeBudget is how many bytes there are at most in the areas of a pipe, unless of two
	// items. It uses those of the pool only. With more of them messages of 1 MiB travel at half
	// the speed: they find their way through memory then, and not the processor's cache.
	pipeBudget = 4 << 20
)

var _ [0]byte = [ringHeadLen % slotLen]byte{}

// ringLen returns what a ring of n slots takes, in the body and beyond.
func ringLen(n uint64) (body int, beyond int64, err error) {
	if n < 1 || n > maxSlots || n > (math.MaxInt-1<<30)/(2*slotLen) {
		return 0, 0, fmt.Errorf("a capacity of %d is not from 1 to %d", n, min(maxSlots, (math.MaxInt-1<<30)/(2*slotLen)))
	}
	body = roundUp(ringHeadLen + int(n)*slotLen)
	if n <= maxPaged {
		body += (poolLen + int(n)) * pageLen
	}
	return body, int64(poolLen+n) * maxItem, nil
}

func roundUp(n int) int { return (n + pageLen - 1) &^ (pageLen - 1) }

// newRing returns the ring of n slots at base in the body of h.
func newRing(h *segment.Handle, n uint64, base int, beyond int64) ring {
	r := ring{h: h, n: n, base: base, beyond: beyond, ringWords: wordsAt(h.Segment, base)}
	if n <= maxPaged {
		r.pages = base + roundUp(ringHeadLen+int(n)*slotLen)
	}
	return r
}

func wordsAt(s *segment.Segment, base int) *ringWords {
	return (*ringWords)(unsafe.Pointer(&s.Body[base : base+ringHeadLen][0]))
}

// buryRing lets go of the locks that participant i has of the ring at base.
func buryRing(s *segment.Segment, i, base int) {
	w := wordsAt(s, base)
	segment.Mutex{Word: &w.putLock}.Bury(i)
	segment.Mutex{Word: &w.getLock}.Bury(i)
}

// A parcel is an item as it travels.
type parcel struct {
	flags uint8
	n     int // its length, if it is small
	small [inlineLen]byte
	data  []byte      // nil: it is in small
	load  *carry.Load // the descriptors that go along
}

var errDamaged = errors.New("the shared memory is damaged")

// slot returns the memory of the slot for item i.
func (r *ring) slot(i uint64) (*slotHead, []byte) {
	at := r.base + ringHeadLen + int(i%r.n)*slotLen
	b := r.h.Body[at : at+slotLen]
	return (*slotHead)(unsafe.Pointer(&b[0])), b[slotHeadLen:]
}

// An outcome is what came of a try.
type outcome uint8

const (
	nothing outcome = iota // there is no room, or no item
	busy                   // somebody else is at it, for some steps
	done
)

// wait returns what a Try of Await answers for what came of one. now, if it is not nil, is
// the error of who does not wait.
func (o outcome) wait(err, now error) (bool, error) {
	if o == nothing && err == nil {
		err = now
	}
	return o == done, err
}

// put waits for room, and puts p; or only for who is at it, if now is not nil: that is its
// error when there is no room. The caller has called Use, and tryPut, in vain.
func (r *ring) put(ctx context.Context, p *parcel, now error) error {
	q := *p // or every p would have to be allocated
	ctx, now = patient(ctx, now)
	return r.h.Await(ctx, segment.Wait{
		Bell: r.putters,
		Try: func() (bool, error) {
			if r.line != nil && r.line.hungUp() {
				return false, io.ErrClosedPipe
			}
			o, err := r.tryPut(&q)
			return o.wait(err, now)
		},
		Glance: r.open,
		More:   r.open,
	})
}

// patient has who does not wait, or whose ctx has ended, wait for those that are at it.
func patient(ctx context.Context, now error) (context.Context, error) {
	if now == nil && ctx.Err() != nil {
		now = segment.Ended(ctx)
	}
	if now != nil {
		ctx = context.Background()
	}
	return ctx, now
}

// open reports whether there is room, or will never be.
func (r *ring) open() bool { return !r.full() }

func (r *ring) full() bool {
	t := r.tail.Load()
	return t&shut == 0 && t-r.head.Load() == r.n
}

// tryPut puts p, if there is room and nobody else is about to put. With an error it has not.
func (r *ring) tryPut(p *parcel) (outcome, error) {
	t := r.tail.Load()
	switch {
	case t&shut != 0:
		return nothing, io.ErrClosedPipe
	case t-r.head.Load() == r.n:
		return nothing, nil
	case !r.takePut():
		return busy, nil
	}
	segment.At("put: locked")
	o, err := r.store(p)
	r.unlockPut()
	if o == done {
		r.h.Ring(r.getters, 1)
	}
	return o, err
}

// In a pipe there may be room for a small message and not for a large one. So whoever waits
// there is woken, and not only one of them; and who lets go of putLock wakes the others only
// if one of them has come meanwhile, or two who find no room would wake each other for ever.

func (r *ring) takePut() bool {
	if r.take(&r.putLock) {
		return true
	}
	if r.pipe {
		r.sought.Store(1)
		return r.take(&r.putLock) // if not, who has it will see that it is sought
	}
	return false
}

func (r *ring) unlockPut() {
	r.putLock.Store(0)
	segment.At("put: unlocked")
	switch {
	case !r.pipe:
		if !r.full() {
			r.h.Ring(r.putters, 1) // who came while we had the lock
		}
	case r.sought.Load() != 0 && r.sought.Swap(0) != 0:
		r.h.Ring(r.putters, -1)
	}
}

// ringPutters wakes who may have room now.
func (r *ring) ringPutters() {
	if r.pipe {
		r.h.Ring(r.putters, -1)
	} else {
		r.h.Ring(r.putters, 1)
	}
}

func (r *ring) take(lock *atomic.Uint32) bool {
	return segment.Mutex{Word: lock}.TryLock(r.h)
}

// store puts p if there is room. The caller has putLock.
func (r *ring) store(p *parcel) (outcome, error) {
	t, h := r.tail.Load(), r.head.Load()
	switch {
	case t&shut != 0:
		return nothing, io.ErrClosedPipe
	case t-h > r.n:
		return nothing, errDamaged
	case t-h == r.n:
		return nothing, nil
	}
	head, inline := r.slot(t)
	where, about := uint64(p.n), uint64(p.flags)
	if p.data == nil {
		copy(inline, p.small[:p.n])
	} else {
		area, o, err := r.storeLarge(p.data, t, h)
		if o != done || err != nil {
			return o, err
		}
		where = uint64(len(p.data)) | area<<32
	}
	if p.load != nil {
		tag := newTag()
		if sent, err := r.line.send(t, tag, p.load); !sent {
			return nothing, err
		}
		segment.At("put: sent")
		about |= tag << 8
	}
	head.where, head.about = where, about
	segment.At("put: written")
	if !r.tail.CompareAndSwap(t, t+1) {
		return nothing, io.ErrClosedPipe // nobody but Shutdown changes it
	}
	segment.At("put: published")
	return done, nil
}

// get waits for an item and returns it; or only for who is at it, as put does. The caller
// has called Use, and tryGet, in vain.
func (r *ring) get(ctx context.Context, now error) (*parcel, error) {
	p := new(parcel)
	ctx, now = patient(ctx, now)
	err := r.h.Await(ctx, segment.Wait{
		Bell: r.getters,
		Try: func() (bool, error) {
			o, err := r.tryGet(p)
			return o.wait(err, now)
		},
		Glance: r.filled,
		More:   r.filled,
	})
	return p, err
}

// filled reports whether there is an item, or will never be.
func (r *ring) filled() bool { return !r.empty() }

func (r *ring) empty() bool {
	h := r.head.Load()
	return r.tail.Load() == h
}

// tryGet takes the next item into p, if there is one and nobody else is about to take it. An
// error may be that of the item, which then is gone.
func (r *ring) tryGet(p *parcel) (outcome, error) {
	h := r.head.Load()
	t := r.tail.Load()
	switch {
	case t&^shut == h && t != h:
		return nothing, io.EOF
	case t == h && r.line != nil:
		return r.ended()
	case t == h:
		return nothing, nil
	case !r.take(&r.getLock):
		return busy, nil
	}
	segment.At("get: locked")
	o, err := r.load(p)
	r.getLock.Store(0)
	segment.At("get: unlocked")
	if o == done {
		r.ringPutters()
	}
	if !r.empty() {
		r.h.Ring(r.getters, 1) // who came while we had the lock
	}
	return o, err
}

// ended reports the end of a pipe: nothing is in it, and nobody can put any more. Before, it
// clears away the descriptors that somebody has left who died over them, for one of them may
// be of the very end that nobody has any more.
func (r *ring) ended() (outcome, error) {
	gone := r.line.hungUp()
	if r.line.littered() && r.take(&r.getLock) {
		if r.take(&r.putLock) {
			if r.empty() {
				r.line.clear()
			}
			r.unlockPut()
			r.ringPutters() // there is room for descriptors
		}
		r.getLock.Store(0)
		if !r.empty() {
			r.h.Ring(r.getters, 1)
		}
	}
	switch {
	case !r.empty():
		return busy, nil // it came just now
	case gone:
		return nothing, io.EOF
	}
	return nothing, nil
}

// load takes the next item into p. If it has, an error is that of the item. The caller has
// getLock.
func (r *ring) load(p *parcel) (outcome, error) {
	h, t := r.head.Load(), r.tail.Load()
	switch left := t&^shut - h; {
	case left > r.n:
		return nothing, errDamaged
	case left == 0 && t != h:
		return nothing, io.EOF
	case left == 0:
		return nothing, nil
	}
	head, inline := r.slot(h)
	where, about := atomic.LoadUint64(&head.where), atomic.LoadUint64(&head.about)
	n, area := where&math.MaxUint32, where>>32
	var err error
	switch {
	case area == 0 && n <= uint64(inlineLen):
		p.n, p.data = int(n), nil
		copy(p.small[:n], inline)
	case area > 0 && area <= poolLen+r.n && n > uint64(inlineLen) && n <= maxItem:
		if r.paged(int(n)) {
			p.data = bytes.Clone(r.page(area)[:n])
			break
		}
		p.data, err = readAt(r.h.FD, int(n), r.offset(area))
		if err != nil && !errors.Is(err, errDamaged) {
			return nothing, fmt.Errorf("an item of %d bytes: %w", n, err)
		}
	default:
		err = errDamaged
	}
	p.flags, p.load = uint8(about), nil
	segment.At("get: copied")
	r.head.Store(h + 1)
	segment.At("get: published")
	// From here on the item is ours; if we die its descriptors are left, and found to be old.
	if tag := about >> 8; tag != 0 && err == nil {
		if r.line == nil {
			return done, errDamaged
		}
		p.load, err = r.line.receive(h, tag, t&^shut)
	}
	if area > 0 && !r.paged(int(n)) && err == nil {
		extent := (*atomic.Uint64)(unsafe.Pointer(&head.extent))
		if area <= poolLen {
			extent = &r.pool[area-1].extent
		}
		if extent.Load() > r.keep(area) {
			r.trim(area, extent)
		}
	}
	return done, err
}

// length returns how many items there are.
func (r *ring) length() int {
	h := r.head.Load()
	return int(min(r.tail.Load()&^shut-h, r.n))
}

// shutDown says that nothing more is put.
func (r *ring) shutDown() {
	r.tail.Or(shut)
	r.h.Ring(r.getters, -1)
	r.h.Ring(r.putters, -1)
}
