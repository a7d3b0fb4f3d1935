package manager

import (
	"context"
	"fmt"
)

// A Semaphore counts between the clients of a manager. There are two kinds: that of
// [NewSemaphore] counts signals, and may be released above what it began with; that of
// [NewBoundedSemaphore] counts what is held, and what a process holds comes back when it dies or
// closes its last proxy.
//
// Each method is one round trip. Who waits is served in the order in which he came, but that
// one for whom there is enough does not wait for one for whom there is not.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost], an n below 0.
//
// A Semaphore is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.Semaphore and BoundedSemaphore (Python 3.14), which keep what a dead
// process held.
type Semaphore struct{ object }

// NewSemaphore has the server of m make a semaphore of which n can be had at first, and returns
// a proxy of it.
//
// Errors: an n below 0; [ipc.ErrClosed], [ErrLost].
func NewSemaphore(ctx context.Context, m *Manager, n int) (*Semaphore, error) {
	return newSemaphore(ctx, m, n, false)
}

// NewBoundedSemaphore has the server of m make a semaphore of which n can be had at a time, and
// returns a proxy of it.
//
// Errors: an n below 0; [ipc.ErrClosed], [ErrLost].
func NewBoundedSemaphore(ctx context.Context, m *Manager, n int) (*Semaphore, error) {
	return newSemaphore(ctx, m, n, true)
}

func newSemaphore(ctx context.Context, m *Manager, n int, bounded bool) (*Semaphore, error) {
	if n < 0 {
		return nil, fmt.Errorf("manager: new Semaphore: n is %d, and must not be negative", n)
	}
	s := new(Semaphore)
	err := create(ctx, m, kindSemaphore, s, func(w *writer) {
		w.int(n)
		w.bool(bounded)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Acquire waits until it can take n, all or none.
//
// Errors: one that matches ctx.Err() when ctx ended first; an n above what a bounded semaphore
// has. With an error nothing was taken. What is there is taken also under a ctx that has ended.
func (s *Semaphore) Acquire(ctx context.Context, n int) error {
	return s.do(ctx, "acquire", opAcquire, func(w *writer) { w.int(n) })
}

// TryAcquire takes n if they can be had, all or none, and reports whether it did.
//
// Errors: an n above what a bounded semaphore has.
func (s *Semaphore) TryAcquire(ctx context.Context, n int) (bool, error) {
	return s.askBool(ctx, "try acquire", opTryAcquire, func(w *writer) { w.int(n) })
}

// Release gives n back, or, of a semaphore that is not bounded, more than there were. It is
// carried out under a ctx that has ended, too.
//
// Errors: [ipc.ErrNotHeld] if this process does not hold n of a bounded semaphore: then nothing
// is released; so many that they cannot be counted.
func (s *Semaphore) Release(ctx context.Context, n int) error {
	return s.do(ctx, "release", opRelease, func(w *writer) { w.int(n) })
}

func (*Semaphore) describe() string { return "Semaphore" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (s *Semaphore) GobEncode() ([]byte, error) { return encode(s) }

// GobDecode is for the decoders of this module.
func (s *Semaphore) GobDecode(b []byte) error { return s.decode(s, b) }
