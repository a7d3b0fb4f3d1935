package ipc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"example.com/futures/internal/segment"
)

// A Barrier lets parties of several processes wait for one another, again and again.
//
// A party that dies while it waits, or gives up, breaks the barrier for all: they are answered
// [ErrBrokenBarrier], and whoever comes later is too, until [Barrier.Reset].
//
// A Barrier is safe for concurrent use, in and between processes. It is a handle: see the
// package on how it travels and who closes it.
//
// Reference: multiprocessing.Barrier (Python 3.14), which the death of a party blocks for
// ever; java.util.concurrent.CyclicBarrier.
type Barrier struct {
	object
	parties int
	state   *atomic.Uint64 // the number of the pass, and in the lowest bit whether it is broken
	mutex   segment.Mutex  // guards that one party at a time counts
}

// Who waits is counted by participant: a note has the pass, its lower 32 bits, and how many
// of the participant wait for it. A note of another pass counts nobody, so that one store to
// state lets all pass, and one store to a note lets somebody come.
const noteWaiting = 0

// How a pass ended is kept for as many passes as somebody may be late to learn of it: its
// number, doubled, and 1 if all parties came.
const (
	barrierEnds  = 1024
	barrierBody  = 64 + 8*barrierEnds
	bellBarrier  = segment.Bell(0)
	bellCounting = segment.Bell(1)
)

func barrierSpec(params [segment.Params]uint64) (segment.Spec, error) {
	if params[0] < 1 || params[0] > math.MaxInt32 {
		return segment.Spec{}, fmt.Errorf("it is for %d parties", params[0])
	}
	return segment.Spec{Kind: kindBarrier, Params: params, Body: barrierBody, Bury: buryParty}, nil
}

// buryParty breaks the barrier if participant i waits.
func buryParty(s *segment.Segment, i int) {
	segment.Mutex{Word: s.Word32(8)}.Bury(i)
	state, note := s.Word64(0), s.Note(i, noteWaiting)
	if w, n := state.Load(), note.Load(); n>>32 == w>>1&math.MaxUint32 && uint32(n) != 0 {
		state.CompareAndSwap(w, w|1)
	}
	segment.At("bury: broken")
	note.Store(0)
}

// NewBarrier returns a barrier for as many parties as given.
//
// Errors: fewer parties than 1, or more than can be counted; what the system answers when
// there is no memory or no descriptor left.
func NewBarrier(parties int) (*Barrier, error) {
	if parties < 1 || parties > math.MaxInt32 {
		return nil, fmt.Errorf("ipc: new barrier: parties is %d, and must be from 1 to %d", parties, math.MaxInt32)
	}
	spec, err := barrierSpec([segment.Params]uint64{uint64(parties)})
	if err != nil {
		return nil, failed("new barrier", err)
	}
	b := new(Barrier)
	if err := b.create("barrier", spec, nil); err != nil {
		return nil, err
	}
	b.bind(parties)
	return b, nil
}

func (b *Barrier) bind(parties int) {
	b.parties = parties
	b.state = b.h.Word64(0)
	b.mutex = segment.Mutex{Word: b.h.Word32(8), Bell: bellCounting}
}

// Wait waits until all parties wait, and returns the number of this one among them: each of
// 0 … Parties-1 once a pass, in the order in which they came.
//
// Errors: [ErrBrokenBarrier]; when ctx ended first, one that matches that and ctx.Err();
// [ErrClosed], which breaks the barrier for the others.
func (b *Barrier) Wait(ctx context.Context) (index int, err error) {
	if !b.use() {
		return 0, ErrClosed
	}
	defer b.h.Release()
	index, pass, last, err := b.arrive()
	if err != nil || last {
		return index, failed("barrier wait", err)
	}
	segment.At("barrier: arrived")
	err = b.h.Await(ctx, segment.Wait{Bell: bellBarrier, All: true, Try: func() (bool, error) {
		return b.over(pass)
	}})
	if err == nil {
		return index, nil
	}
	if !errors.Is(err, ErrBrokenBarrier) {
		// It gives up, unless the pass has ended meanwhile.
		b.state.CompareAndSwap(pass<<1, pass<<1|1)
		segment.At("barrier: gave up")
		if passed, _ := b.over(pass); passed {
			return index, nil
		}
		b.h.Ring(bellBarrier, -1)
		err = fmt.Errorf("%w: %w", ErrBrokenBarrier, err)
	}
	b.depart(pass)
	return 0, failed("barrier wait", err)
}

// arrive counts this party; the last one lets all pass.
func (b *Barrier) arrive() (index int, pass uint64, last bool, err error) {
	if err := b.mutex.Lock(context.Background(), b.h); err != nil {
		return 0, 0, false, err
	}
	defer b.mutex.Unlock(b.h)
	w := b.state.Load()
	if w&1 != 0 {
		return 0, 0, false, ErrBrokenBarrier
	}
	pass, index = w>>1, b.waiting(w>>1)
	if index+1 < b.parties {
		note := b.h.Note(b.h.Me, noteWaiting)
		n := note.Load()
		if n>>32 != pass&math.MaxUint32 {
			n = pass << 32
		}
		note.Store(n + 1)
		return index, pass, false, nil
	}
	segment.At("barrier: all here")
	b.check(pass)
	if !b.end(pass, w, 1) {
		return 0, 0, false, ErrBrokenBarrier // a party has died or given up, just now
	}
	return index, pass, true, nil
}

// check breaks the barrier if one of those who wait is dead, which nobody else may have noticed.
func (b *Barrier) check(pass uint64) {
	for i := range b.h.High() {
		if n := b.h.Note(i, noteWaiting).Load(); n>>32 == pass&math.MaxUint32 && uint32(n) != 0 {
			b.h.Check(i)
		}
	}
}

// end ends the pass: how is 1 if all parties came. The mutex is held. It reports false if the
// state is not w any more.
func (b *Barrier) end(pass, w, how uint64) bool {
	b.ended(pass).Store(pass<<1 | how)
	if !b.state.CompareAndSwap(w, (pass+1)<<1) {
		return false
	}
	segment.At("barrier: passed")
	b.h.Ring(bellBarrier, -1)
	return true
}

func (b *Barrier) ended(pass uint64) *atomic.Uint64 {
	return b.h.Word64(64 + 8*int(pass%barrierEnds))
}

// over reports whether the pass has ended well; an error, if it has not and will not.
func (b *Barrier) over(pass uint64) (bool, error) {
	w := b.state.Load()
	switch {
	case w == pass<<1:
		return false, nil
	case w>>1 == pass:
		return false, ErrBrokenBarrier
	case b.ended(pass).Load() == pass<<1|1:
		return true, nil
	default:
		return false, ErrBrokenBarrier // it was reset
	}
}

// depart takes back that this party waits.
func (b *Barrier) depart(pass uint64) {
	note := b.h.Note(b.h.Me, noteWaiting)
	for {
		n := note.Load()
		if n>>32 != pass&math.MaxUint32 || uint32(n) == 0 || note.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// waiting returns how many wait for the pass.
func (b *Barrier) waiting(pass uint64) int {
	count := 0
	for i := range b.h.High() {
		if n := b.h.Note(i, noteWaiting).Load(); n>>32 == pass&math.MaxUint32 {
			count += int(uint32(n))
		}
	}
	return count
}

// Abort breaks the barrier.
//
// Errors: [ErrClosed].
func (b *Barrier) Abort() error {
	if !b.use() {
		return ErrClosed
	}
	defer b.h.Release()
	b.state.Or(1)
	segment.At("abort: broken")
	b.h.Ring(bellBarrier, -1)
	return nil
}

// Reset makes the barrier as new. Who waits is answered [ErrBrokenBarrier].
//
// Errors: [ErrClosed].
func (b *Barrier) Reset() error {
	if !b.use() {
		return ErrClosed
	}
	defer b.h.Release()
	if err := b.mutex.Lock(context.Background(), b.h); err != nil {
		return failed("barrier reset", err)
	}
	defer b.mutex.Unlock(b.h)
	for {
		w := b.state.Load()
		if b.end(w>>1, w, 0) {
			return nil
		}
	}
}

// Parties returns how many parties it takes to pass.
//
// Parties panics with [ErrClosed] on a closed handle.
func (b *Barrier) Parties() int {
	b.mustUse()
	b.h.Release()
	return b.parties
}

// Waiting returns how many wait.
//
// Waiting panics with [ErrClosed] on a closed handle.
func (b *Barrier) Waiting() int {
	b.mustUse()
	defer b.h.Release()
	return b.waiting(b.state.Load() >> 1)
}

// Close lets go of this process's handle. Who waits by it is answered [ErrClosed], and has
// broken the barrier. It may be called again; the error is always nil.
func (b *Barrier) Close() error { return b.close() }

// GobEncode is for the encoders of this module, which take descriptors along.
//
// Errors: executor.ErrNotPortable from any other one.
func (b *Barrier) GobEncode() ([]byte, error) {
	if b == nil {
		return nil, errNil("Barrier")
	}
	return b.encode("Barrier")
}

// GobDecode is for the decoders of this module.
func (b *Barrier) GobDecode(p []byte) error {
	parties := 0
	_, err := b.open("barrier", p, kindBarrier, 0, func(params [segment.Params]uint64) (segment.Spec, error) {
		parties = int(params[0])
		return barrierSpec(params)
	})
	if err != nil {
		return err
	}
	b.bind(parties)
	return nil
}
