package ipc

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"example.com/futures/internal/segment"
)

// A Semaphore counts between processes. There are two kinds: that of [NewSemaphore] counts
// signals, and may be released above what it began with; that of [NewBoundedSemaphore] counts
// what is held, and what a process holds comes back when it dies or closes the handle.
//
// A Semaphore is safe for concurrent use, in and between processes. It is a handle: see the
// package on how it travels and who closes it.
//
// Reference: multiprocessing.Semaphore and BoundedSemaphore (Python 3.14), which keep what a
// dead process held; golang.org/x/sync/semaphore.
type Semaphore struct {
	object
	limit int            // of a bounded one; -1: it has none
	count *atomic.Uint64 // of an unbounded one: what can be had
	large *atomic.Uint32 // 1: somebody has waited for more than one
	mutex segment.Mutex  // of a bounded one: guards that nobody takes what another has just taken
}

// The note of a bounded semaphore's participants.
const noteHeld = 0

func semaphoreSpec(params [segment.Params]uint64) (segment.Spec, error) {
	if params[0] > math.MaxInt64 || params[1] > 1 {
		return segment.Spec{}, fmt.Errorf("it is for %d", params[0])
	}
	return segment.Spec{Kind: kindSemaphore, Params: params, Body: 64, Bury: func(s *segment.Segment, i int) {
		segment.Mutex{Word: s.Word32(8)}.Bury(i)
		s.Note(i, noteHeld).Store(0)
	}}, nil
}

// NewSemaphore returns a semaphore of which n can be had at first.
//
// Errors: an n below 0; what the system answers when there is no memory or no descriptor left.
func NewSemaphore(n int) (*Semaphore, error) { return newSemaphore(n, false) }

// NewBoundedSemaphore returns a semaphore of which n can be had at a time.
//
// Errors: an n below 0; what the system answers when there is no memory or no descriptor left.
func NewBoundedSemaphore(n int) (*Semaphore, error) { return newSemaphore(n, true) }

func newSemaphore(n int, bounded bool) (*Semaphore, error) {
	if n < 0 {
		return nil, fmt.Errorf("ipc: new semaphore: n is %d, and must not be negative", n)
	}
	params := [segment.Params]uint64{uint64(n)}
	if bounded {
		params[1] = 1
	}
	spec, err := semaphoreSpec(params)
	if err != nil {
		return nil, failed("new semaphore", err)
	}
	s := new(Semaphore)
	if err := s.create("semaphore", spec, func(s *segment.Segment) { s.Word64(0).Store(uint64(n)) }); err != nil {
		return nil, err
	}
	s.bind(params)
	return s, nil
}

func (s *Semaphore) bind(params [segment.Params]uint64) {
	s.limit = -1
	if params[1] == 1 {
		s.limit = int(params[0])
	}
	s.count, s.large = s.h.Word64(0), s.h.Word32(12)
	s.mutex = segment.Mutex{Word: s.h.Word32(8), Bell: 1}
}

// Acquire waits until it can take n, all or none.
//
// Errors: one that matches ctx.Err() when ctx ended first, [ErrClosed]; an n below 0, or
// above what a bounded semaphore has. With an error nothing was taken.
func (s *Semaphore) Acquire(ctx context.Context, n int) error {
	if !s.use() {
		return ErrClosed
	}
	defer s.h.Release()
	if err := s.possible(n); err != nil {
		return failed("acquire", err)
	}
	if s.limit < 0 && s.take(n) {
		return nil
	}
	if n > 1 {
		s.large.Store(1)
	}
	return failed("acquire", s.h.Await(ctx, segment.Wait{
		All:  s.large.Load() != 0, // then the first who waits may not be the first who can have it
		Try:  func() (bool, error) { return s.try(n) },
		More: func() bool { return s.free() > 0 },
	}))
}

// TryAcquire takes n if they can be had, all or none, and reports whether it did.
//
// Errors: [ErrClosed]; an n below 0, or above what a bounded semaphore has.
func (s *Semaphore) TryAcquire(n int) (bool, error) {
	if !s.use() {
		return false, ErrClosed
	}
	defer s.h.Release()
	if err := s.possible(n); err != nil {
		return false, failed("try acquire", err)
	}
	ok, err := s.try(n)
	if !ok && err == nil && s.limit >= 0 {
		s.h.CheckAll() // who has the rest may be dead
		ok, err = s.try(n)
	}
	return ok, failed("try acquire", err)
}

func (s *Semaphore) possible(n int) error {
	switch {
	case n < 0:
		return fmt.Errorf("n is %d, and must not be negative", n)
	case s.limit >= 0 && n > s.limit:
		return fmt.Errorf("n is %d, and the semaphore has %d", n, s.limit)
	default:
		return nil
	}
}

func (s *Semaphore) try(n int) (bool, error) {
	if s.limit < 0 {
		return s.take(n), nil
	}
	if s.free() < n {
		return false, nil
	}
	// What can be had is what no participant holds. Only one at a time looks, and takes;
	// that is one store to a word of its own.
	if err := s.mutex.Lock(context.Background(), s.h); err != nil {
		return false, err
	}
	defer s.mutex.Unlock(s.h)
	if s.free() < n {
		return false, nil
	}
	segment.At("acquire: free")
	s.h.Note(s.h.Me, noteHeld).Add(uint64(n))
	segment.At("acquire: taken")
	return true, nil
}

// take takes n of an unbounded semaphore.
func (s *Semaphore) take(n int) bool {
	for {
		count := s.count.Load()
		if count < uint64(n) {
			return false
		}
		if s.count.CompareAndSwap(count, count-uint64(n)) {
			return true
		}
	}
}

// free returns how many can be had.
func (s *Semaphore) free() int {
	if s.limit < 0 {
		return int(min(s.count.Load(), math.MaxInt64))
	}
	free := s.limit
	for i := range s.h.High() {
		free -= int(min(s.h.Note(i, noteHeld).Load(), uint64(free)))
	}
	return free
}

// Release gives n back, or, of a semaphore that is not bounded, more than there were.
//
// Errors: [ErrNotHeld] if this process does not hold n of a bounded semaphore: then nothing
// is released; [ErrClosed]; an n below 0, or so many that they cannot be counted.
func (s *Semaphore) Release(n int) error {
	if !s.use() {
		return ErrClosed
	}
	defer s.h.Release()
	if n < 0 {
		return fmt.Errorf("ipc: release: n is %d, and must not be negative", n)
	}
	if err := s.give(n); err != nil {
		return failed("release", err)
	}
	segment.At("release: given")
	large := s.large.Load() != 0
	if large {
		n = -1
	}
	s.h.Ring(0, n)
	if !large && s.large.Load() != 0 {
		s.h.Ring(0, -1) // somebody who wants more may just have been rung for
	}
	return nil
}

func (s *Semaphore) give(n int) error {
	if s.limit >= 0 {
		return s.giveBack(n)
	}
	for {
		count := s.count.Load()
		if count > math.MaxInt64-uint64(n) {
			return fmt.Errorf("%d and %d more are too many to count", count, n)
		}
		if s.count.CompareAndSwap(count, count+uint64(n)) {
			return nil
		}
	}
}

// giveBack gives back n of a bounded semaphore: what this handle has taken, and then what
// others of this process have.
func (s *Semaphore) giveBack(n int) error {
	mine := s.h.Note(s.h.Me, noteHeld)
	for {
		if held := mine.Load(); held < uint64(n) {
			break
		} else if mine.CompareAndSwap(held, held-uint64(n)) {
			return nil
		}
	}
	if err := s.mutex.Lock(context.Background(), s.h); err != nil {
		return err
	}
	defer s.mutex.Unlock(s.h)
	held := uint64(0)
	for i := range s.h.High() {
		if s.h.Mine(i) {
			held += s.h.Note(i, noteHeld).Load()
		}
	}
	if held < uint64(n) {
		return ErrNotHeld
	}
	for i := 0; i < s.h.High() && n > 0; i++ {
		if !s.h.Mine(i) {
			continue
		}
		note := s.h.Note(i, noteHeld)
		for n > 0 {
			held := note.Load()
			part := min(held, uint64(n))
			if note.CompareAndSwap(held, held-part) {
				n -= int(part)
				break
			}
		}
	}
	return nil
}

// Close lets go of this process's handle, and of what was taken of a bounded semaphore by
// this handle. Who waits by it is answered [ErrClosed]. It may be called again; the error is
// always nil.
func (s *Semaphore) Close() error { return s.close() }

// GobEncode is for the encoders of this module, which take descriptors along.
//
// Errors: executor.ErrNotPortable from any other one.
func (s *Semaphore) GobEncode() ([]byte, error) {
	if s == nil {
		return nil, errNil("Semaphore")
	}
	return s.encode("Semaphore")
}

// GobDecode is for the decoders of this module.
func (s *Semaphore) GobDecode(b []byte) error {
	var params [segment.Params]uint64
	_, err := s.open("semaphore", b, kindSemaphore, 0, func(p [segment.Params]uint64) (segment.Spec, error) {
		params = p
		return semaphoreSpec(p)
	})
	if err != nil {
		return err
	}
	s.bind(params)
	return nil
}
