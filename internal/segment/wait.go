package segment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/internal/futex"
	"example.com/futures/internal/ring"
)

// A Wait says how to wait.
type Wait struct {
	Bell Bell

	// Try takes what is waited for, if it is there. An error ends the wait.
	Try func() (bool, error)

	// Glance reports whether Try may be worth its price, for who looks again and again. It
	// may be nil: Try costs little.
	Glance func() bool

	// All says that everybody waits for the same, as for an event, and all look when the
	// bell rings. Otherwise they take turns, those of this process in the order in which
	// they came, and a ring is for one.
	All bool

	// More, for those who take turns, reports whether there is something left for the
	// next when one has taken.
	More func() bool

	// Local reports whether what is waited for is in the hands of this very handle, whose
	// Nudge will tell of it. Then nobody needs to sleep at the bell. It may be nil.
	Local func() bool
}

// Await waits until Try has taken, or fails, ctx ends, or h is closed. The caller has
// called Use.
//
// What need not wait is done, also under a ctx that has ended.
func (h *Handle) Await(ctx context.Context, w Wait) error {
	if done, err := w.Try(); done || err != nil {
		return err
	}
	if ctx.Err() != nil {
		// What is waited for may be in the hands of somebody who is dead, of which nobody has
		// heard who does not wait.
		h.CheckAll()
		if done, err := w.Try(); done || err != nil {
			return err
		}
		return Ended(ctx)
	}
	now := time.Since(epoch)
	if done, err := h.spin(w, now); done || err != nil {
		return err
	}
	return h.queue(ctx, w, now)
}

// Ended returns the error of a wait whose ctx has ended.
func Ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

const (
	// spinFor is how long a wait looks for what it waits for before it sleeps. A sleeper that
	// must be woken costs 10 to 70 µs.
	spinFor = 20 * time.Microsecond

	// briefSleep is how long a sleep may be of which the scheduler does not hear.
	briefSleep = 50 * time.Microsecond

	// longRest is more than it takes to wake somebody, who then does some steps.
	longRest = 200 * time.Microsecond
)

var alone = runtime.NumCPU() == 1

// A pulse is what is known of the waits of a line, for whether to look before a sleep. What
// goroutines write at the same time may get lost, and does no harm.
type pulse struct {
	last  atomic.Int64 // when the last wait ended, or nearly; 0: there was none
	short atomic.Bool  // it was short
	miss  atomic.Int32 // how often in a row looking was of no use
}

// epoch is when the clock of pulses began.
var epoch = time.Now()

// spins reports whether looking makes sense for a wait that begins now. It does not where
// the line rests between its waits, or waits long: then those who are waited for sleep, or
// do something else, and who looks keeps his processor from one that he has just woken.
// Where it was of no use of late it is left out most of the time.
func (p *pulse) spins(now time.Duration) bool {
	switch {
	case alone, !p.short.Load(), now-time.Duration(p.last.Load()) > longRest:
		return false
	case p.miss.Load() > 4:
		return rand.Uint32()&1 == 0
	}
	return true
}

// slept notes a wait that has slept.
func (p *pulse) slept(began time.Duration) {
	now := time.Since(epoch)
	p.last.Store(int64(now))
	p.short.Store(now-began < longRest)
}

// spin looks for a while, from start on, which is now. Nobody spins behind one who sleeps.
func (h *Handle) spin(w Wait, start time.Duration) (bool, error) {
	ln := &h.lines[w.Bell]
	if !ln.pulse.spins(start) || !ln.empty() {
		return false, nil
	}
	for {
		for range 16 {
			for range 8 {
				pause()
			}
			if w.Glance != nil && !w.Glance() {
				continue
			}
			if done, err := w.Try(); done || err != nil {
				ln.pulse.last.Store(int64(start))
				ln.pulse.miss.Store(0)
				return done, err
			}
		}
		spun := time.Since(epoch) - start
		if h.Closing() || spun > spinFor {
			ln.pulse.miss.Add(1)
			return false, nil
		}
		if spun > ring.Rude { // who is waited for may need this processor
			ring.Yield()
		}
	}
}

// pause takes a moment of somebody who spins.
//
//go:noinline
func pause() {}

// A waiter is one goroutine in a line.
type waiter struct {
	wake       chan struct{} // has room for one; full: look
	all        bool          // it looks whenever the bell has been rung, see Wait.All
	next, prev *waiter
}

// queue waits in the line of the bell: the first in it, the leader, sleeps at the word of
// the bell, for all of this process; the others have channels. When the leader leaves, the
// next one leads.
//
// Of those who look at each ring nobody misses one: who enters the line looks once, and
// whatever changes after that is followed by a ring, of which the leader of that time, or the
// one after it, has everybody look.
func (h *Handle) queue(ctx context.Context, w Wait, began time.Duration) (err error) {
	ln := &h.lines[w.Bell]
	me := &waiter{wake: make(chan struct{}, 1), all: w.All}
	leads := ln.enter(me)
	taken := false
	brief := !alone && ln.pulse.short.Load()
	var stop func() bool
	defer func() {
		ln.pulse.slept(began)
		if stop != nil {
			stop()
		}
		h.leave(w, me, taken)
	}()
	for entered := true; ; entered = false {
		if !leads && !entered { // who has just come looks: it was not there to be roused before
			select {
			case <-me.wake:
			case <-ctx.Done():
			}
			leads = ln.leads(me)
		}
		bell := h.slots[h.Me].bells[w.Bell].Load()
		if leads {
			ln.rouse(bell)
			h.arm(w.Bell)
			at("wait: armed")
			h.watch()
		}
		if done, err := w.Try(); done || err != nil {
			taken = done
			return err
		}
		if h.Closing() {
			return ErrClosed
		}
		if ctx.Err() != nil {
			return Ended(ctx)
		}
		if !leads {
			continue
		}
		if stop == nil && ctx.Done() != nil {
			stop = context.AfterFunc(ctx, func() {
				if h.Use() {
					h.RingOne(h.Me, w.Bell)
					h.Release()
				}
			})
		}
		if w.Local == nil || !h.park(ctx, w, me) {
			h.sleep(w.Bell, bell, &brief)
		}
	}
}

// sleep sleeps at bell k, unless that was rung since it read was. brief says that the wait is likely to be
// short, and is cleared when it turns out not to be.
func (h *Handle) sleep(k Bell, was uint32, brief *bool) {
	bell := &h.slots[h.Me].bells[k]
	if !*brief {
		futex.Wait(bell, was)
		return
	}
	*brief = false
	futex.WaitBriefly(bell, was, briefSleep)
	if bell.Load() == was {
		futex.Wait(bell, was)
	}
}

// park waits for a Nudge while what the leader waits for is in this handle's own hands. It
// reports false if it is not.
func (h *Handle) park(ctx context.Context, w Wait, me *waiter) bool {
	ln := &h.lines[w.Bell]
	parking.Store(h, true)
	ln.parked.Store(true)
	defer parking.Delete(h)
	defer ln.parked.Store(false)
	if !w.Local() { // or its Nudge has not seen that somebody is parked
		return false
	}
	select {
	case <-me.wake:
	case <-ctx.Done():
	}
	return true
}

// parking has the handles of this process whose leaders have parked.
var parking sync.Map

// NudgeAll is Nudge for all handles of this process, for one that lets go of what another one
// has taken.
func NudgeAll(k Bell) {
	parking.Range(func(h, _ any) bool {
		h.(*Handle).Nudge(k)
		return true
	})
}

// Nudge tells the leader of the line, if it has parked, that this handle has let go.
func (h *Handle) Nudge(k Bell) {
	if ln := &h.lines[k]; ln.parked.Load() {
		ln.mu.Lock()
		if ln.first != nil {
			ln.first.look()
		}
		ln.mu.Unlock()
	}
}

// leave takes me out of its line, and passes on what came for it and it did not take.
func (h *Handle) leave(w Wait, me *waiter, taken bool) {
	ln := &h.lines[w.Bell]
	ln.mu.Lock()
	led := ln.first == me
	ln.remove(me)
	next := ln.first
	rung := false
	if led {
		if next != nil {
			next.look()
		} else {
			rung = h.disarm(w.Bell)
		}
	}
	ln.mu.Unlock()
	if w.All || next != nil {
		return
	}
	if rung && !taken || taken && w.More != nil && w.More() {
		h.Ring(w.Bell, 1)
	}
}

func (ln *line) enter(w *waiter) (leads bool) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if w.prev = ln.last; w.prev == nil {
		ln.first = w
	} else {
		w.prev.next = w
	}
	ln.last = w
	return ln.first == w
}

func (ln *line) empty() bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.first == nil
}

func (ln *line) leads(w *waiter) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.first == w
}

func (ln *line) remove(w *waiter) {
	if w.prev == nil {
		ln.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		ln.last = w.prev
	} else {
		w.next.prev = w.prev
	}
}

// rouse has those behind the leader look who look at each ring, if there was one since the
// last time. Each leader begins with it, and so does each of its looks: a ring that a leader
// did not live to pass on is the next one's to do.
func (ln *line) rouse(bell uint32) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.roused == bell && ln.rousedOnce {
		return
	}
	ln.roused, ln.rousedOnce = bell, true
	for w := ln.first; w != nil; w = w.next {
		if w.all && w != ln.first {
			w.look()
		}
	}
}

func (w *waiter) look() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
