package manager

import (
	"context"
	"errors"
	"fmt"
	"math"

	"example.com/futures/internal/remote"
	"example.com/futures/ipc"
)

// A Barrier lets parties in the processes that use a manager wait for one another, again and
// again. A party is a call of [Barrier.Wait].
//
// A party that dies while it waits, or gives up, breaks the barrier for all: they are answered
// [ipc.ErrBrokenBarrier], and whoever comes later is too, until [Barrier.Reset].
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost].
//
// A Barrier is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.Barrier (Python 3.14), which the death of a party blocks for ever.
type Barrier struct{ object }

// NewBarrier has the server of m make a barrier for as many parties as given, and returns a
// proxy of it.
//
// Errors: fewer parties than 1, or more than can be counted; [ipc.ErrClosed], [ErrLost].
func NewBarrier(ctx context.Context, m *Manager, parties int) (*Barrier, error) {
	if parties < 1 || parties > math.MaxInt32 {
		return nil, fmt.Errorf("manager: new Barrier: parties is %d, and must be from 1 to %d", parties, math.MaxInt32)
	}
	b := new(Barrier)
	if err := create(ctx, m, kindBarrier, b, func(w *writer) { w.int(parties) }); err != nil {
		return nil, err
	}
	return b, nil
}

// Wait waits until all parties wait, and returns the number of this one among them: each of
// 0 … parties-1 once a pass, in the order in which they came.
//
// Errors: [ipc.ErrBrokenBarrier]; when ctx ended first, one that matches that and ctx.Err();
// [ipc.ErrClosed], which breaks the barrier for the others.
func (b *Barrier) Wait(ctx context.Context) (index int, err error) {
	index, err = b.askInt(ctx, "barrier wait", opBarrierWait)
	if ctx.Err() != nil && errors.Is(err, ipc.ErrBrokenBarrier) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		// It was this party that gave up.
		err = fmt.Errorf("manager: barrier wait: %w: %w", ipc.ErrBrokenBarrier, remote.Ended(ctx))
	}
	return index, err
}

// Abort breaks the barrier. It is carried out under a ctx that has ended, too.
func (b *Barrier) Abort(ctx context.Context) error {
	return b.do(ctx, "barrier abort", opBarrierAbort, nil)
}

// Reset makes the barrier as new. Who waits is answered [ipc.ErrBrokenBarrier]. It is carried
// out under a ctx that has ended, too.
func (b *Barrier) Reset(ctx context.Context) error {
	return b.do(ctx, "barrier reset", opBarrierReset, nil)
}

// Waiting returns how many wait.
func (b *Barrier) Waiting(ctx context.Context) (int, error) {
	return b.askInt(ctx, "barrier waiting", opBarrierWaiting)
}

func (*Barrier) describe() string { return "Barrier" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (b *Barrier) GobEncode() ([]byte, error) { return encode(b) }

// GobDecode is for the decoders of this module.
func (b *Barrier) GobDecode(p []byte) error { return b.decode(b, p) }
