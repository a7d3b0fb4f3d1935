package ipc

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/segment"
)

// A Cond is a condition variable between processes: a place to wait for a change of what
// its lock guards, and to tell of one.
//
// The memory of a Cond is that of its lock, so that it costs no descriptor of its own.
//
// A Cond is safe for concurrent use, in and between processes. It is a handle; L travels
// with it, and what [Cond.Close] does to L depends on that.
//
// Reference: sync.Cond; multiprocessing.Condition (Python 3.14), where a waiter that died
// takes a notification with it.
type Cond struct {
	// L is the lock that is held to wait and to notify. It is not changed.
	L *Lock

	id     uint32
	came   bool // from another process, with an L of its own
	closed atomic.Bool
}

// The conds of a lock share one table of those who wait. It is changed under the lock, but
// for what the undertaker of a waiter does.
//
//	free 0 ── Wait, under L ──▶ waiting ── Notify, under L ──▶ notified ── under L ──▶ free
//	   ▲                            │                              │
//	   └──── gives up, or dies ─────┘        dies: notified passes ┘ to another that waits
type conds struct {
	made *atomic.Uint32 // how many conds the lock has had
	next *atomic.Uint64 // numbers those who wait
	high *atomic.Uint32 // no entry from this one on was ever used
	all  *[condWaiters]condEntry
}

// condWaiters is how many goroutines, of all processes, can wait for the conds of a lock.
const condWaiters = 16384

type condEntry struct {
	state atomic.Uint32 // one of those below, and the slot above
	cond  atomic.Uint32
	turn  atomic.Uint64 // the order in which they came
}

const (
	condFree = iota
	condWaiting
	condNotified
)

func condState(state uint32, slot int) uint32 { return uint32(slot)<<2 | state }

const condsLen = 64 + condWaiters*int(unsafe.Sizeof(condEntry{}))

func condsAt(s *segment.Segment) conds {
	return conds{
		made: s.Word32(64),
		high: s.Word32(68),
		next: s.Word64(72),
		all:  (*[condWaiters]condEntry)(unsafe.Pointer(&s.Body[128 : 128+condWaiters*int(unsafe.Sizeof(condEntry{}))][0])),
	}
}

// used returns the entries that may be in use.
func (c conds) used() []condEntry { return c.all[:min(c.high.Load(), condWaiters)] }

// enter takes an entry. The lock is held.
func (c conds) enter(cond uint32, slot int) (*condEntry, error) {
	i := 0
	for used := c.used(); i < len(used) && used[i].state.Load() != condFree; {
		i++
	}
	if i == condWaiters {
		return nil, fmt.Errorf("%d goroutines wait for the conditions of this lock, and there can be no more", condWaiters)
	}
	if high := c.high.Load(); uint32(i) >= high {
		c.high.Store(uint32(i) + 1)
	}
	e := &c.all[i]
	e.cond.Store(cond)
	e.turn.Store(c.next.Add(1))
	e.state.Store(condState(condWaiting, slot))
	return e, nil
}

// notify wakes up to n who wait for cond, those first who came first; all, if n is negative.
func (c conds) notify(s *segment.Segment, cond uint32, n int) {
	if n == 0 {
		return
	}
	var waiting []*condEntry
	used := c.used()
	for i := range used {
		if e := &used[i]; e.cond.Load() == cond && e.state.Load()&3 == condWaiting {
			waiting = append(waiting, e)
		}
	}
	slices.SortFunc(waiting, func(a, b *condEntry) int { return cmp.Compare(a.turn.Load(), b.turn.Load()) })
	var slots []int
	for _, e := range waiting {
		if n == 0 {
			break
		}
		w := e.state.Load()
		if w&3 != condWaiting || !e.state.CompareAndSwap(w, w+condNotified-condWaiting) {
			continue // it has just died
		}
		segment.At("notify: marked")
		n--
		if slot := int(w >> 2); slot < segment.Slots && !slices.Contains(slots, slot) {
			slots = append(slots, slot)
		}
	}
	for _, slot := range slots {
		s.RingOne(slot, bellCond)
	}
}

// bury frees the entries of a participant that died, and passes its notifications on.
func (c conds) bury(s *segment.Segment, slot int) {
	used := c.used()
	for i := range used {
		e := &used[i]
		if e.state.CompareAndSwap(condState(condWaiting, slot), condFree) {
			continue
		}
		if e.state.Load() == condState(condNotified, slot) {
			c.notify(s, e.cond.Load(), 1)
			segment.At("bury: passed on")
			e.state.Store(condFree)
		}
	}
}

// NewCond returns a new condition of l, which is its L.
//
// Errors: [ErrClosed].
func NewCond(l *Lock) (*Cond, error) {
	if l == nil {
		return nil, errors.New("ipc: new cond: the lock is nil")
	}
	if !l.use() {
		return nil, ErrClosed
	}
	defer l.h.Release()
	return &Cond{L: l, id: l.conds.made.Add(1)}, nil
}

// Wait lets go of L, waits until it is notified, and takes L again. As with any condition
// variable the caller looks again, in a loop, at what it waits for.
//
// Whoever is notified while it gives up has either been notified, and the error is nil, or
// leaves the notification to somebody else.
//
// Errors: [ErrNotHeld] unless this process holds L; one that matches ctx.Err() when ctx ended
// first; [ErrOwnerDied] and [ErrClosed], which come without L. With any other answer L is
// held, however long that takes.
func (c *Cond) Wait(ctx context.Context) error {
	if c.L == nil || c.closed.Load() || !c.L.use() {
		return ErrClosed
	}
	l := c.L
	defer l.h.Release()
	if !l.robust.mine(l.h) {
		return ErrNotHeld
	}
	e, err := l.conds.enter(c.id, l.h.Me)
	if err != nil {
		return failed("cond wait", err)
	}
	segment.At("cond: entered")
	if err := l.robust.unlock(l.h); err != nil { // by another goroutine
		c.leave(e)
		return err
	}
	waited := l.h.Await(ctx, segment.Wait{Bell: bellCond, All: true, Try: func() (bool, error) {
		switch {
		case c.closed.Load():
			return false, ErrClosed
		case e.state.Load()&3 == condNotified:
			return true, nil
		case l.robust.word.Load() == marked:
			return false, ErrOwnerDied
		default:
			return false, nil
		}
	}})
	segment.At("cond: woken")
	if errors.Is(waited, ErrClosed) || errors.Is(waited, ErrOwnerDied) {
		c.leave(e)
		return waited
	}
	if err := l.robust.lock(context.WithoutCancel(ctx), l.h); err != nil {
		c.leave(e)
		return failed("cond wait", err)
	}
	if waited != nil && !e.state.CompareAndSwap(condState(condWaiting, l.h.Me), condFree) {
		waited = nil // it was notified before it gave up
	}
	e.state.Store(condFree)
	return failed("cond wait", waited)
}

// leave frees an entry without L, and passes a notification on.
func (c *Cond) leave(e *condEntry) {
	s := c.L.h.Segment
	if !e.state.CompareAndSwap(condState(condWaiting, s.Me), condFree) {
		c.L.conds.notify(s, c.id, 1)
		e.state.Store(condFree)
	}
}

// Notify wakes n of those who wait, or all, if there are fewer. Nothing of it is kept for
// who comes later.
//
// Errors: [ErrNotHeld] unless this process holds L, [ErrClosed]; an n below 0.
func (c *Cond) Notify(n int) error {
	if n < 0 {
		return fmt.Errorf("ipc: notify: n is %d, and must not be negative", n)
	}
	return c.notify(n)
}

// NotifyAll wakes all who wait.
//
// Errors: [ErrNotHeld] unless this process holds L, [ErrClosed].
func (c *Cond) NotifyAll() error { return c.notify(-1) }

func (c *Cond) notify(n int) error {
	if c.L == nil || c.closed.Load() || !c.L.use() {
		return ErrClosed
	}
	defer c.L.h.Release()
	if !c.L.robust.mine(c.L.h) {
		return ErrNotHeld
	}
	c.L.conds.notify(c.L.h.Segment, c.id, n)
	return nil
}

// Close ends what this handle is used for: who waits by it is answered [ErrClosed]. L stays
// open, but for the L of a Cond that came from another process, which nobody else has: it is
// closed too. It may be called again; the error is always nil.
func (c *Cond) Close() error {
	if c.L == nil || !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	if c.L.use() {
		c.L.h.RingOne(c.L.h.Me, bellCond)
		c.L.h.Release()
	}
	if c.came {
		return c.L.Close()
	}
	return nil
}

// CarryID, Export and Exported are for the encoders of this module: a Cond is carried by the
// descriptors of its lock.
func (c *Cond) CarryID() carry.ID {
	if c.L == nil {
		return carry.ID{}
	}
	return c.L.CarryID()
}

// Export is for the encoders of this module.
func (c *Cond) Export() ([]int, error) {
	if c.L == nil || c.closed.Load() {
		return nil, ErrClosed
	}
	return c.L.Export()
}

// Exported is for the encoders of this module.
func (c *Cond) Exported() { c.L.Exported() }

// MarshalText answers executor.ErrNotPortable, for encoders to text, such as encoding/json.
func (c *Cond) MarshalText() ([]byte, error) { return nil, errForeign("ipc.Cond") }

// GobEncode is for the encoders of this module, which take descriptors along.
//
// Errors: executor.ErrNotPortable from any other one.
func (c *Cond) GobEncode() ([]byte, error) {
	switch {
	case c == nil:
		return nil, errNil("Cond")
	case c.L == nil:
		return new(object).encode("Cond")
	}
	b, err := c.L.encode("Cond")
	if err != nil {
		return nil, err
	}
	return binary.LittleEndian.AppendUint32(b, c.id), nil
}

// GobDecode is for the decoders of this module.
func (c *Cond) GobDecode(b []byte) error {
	l := new(Lock)
	rest, err := l.open("cond", b, kindLock, 0, fixed(lockSpec))
	if err != nil {
		return err
	}
	if len(rest) != 4 {
		l.Close()
		return fmt.Errorf("ipc: an encoded cond has %d bytes after its ID, not 4", len(rest))
	}
	l.bind()
	c.L, c.id, c.came = l, binary.LittleEndian.Uint32(rest), true
	return nil
}
