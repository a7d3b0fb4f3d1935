package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// A Queue takes values from any number of goroutines in any processes to any others, each value
// to one of them, in the order in which they were put. It lives in a manager's server.
//
// What is in the queue stays there, whether or not the process that put it lives on, until
// somebody takes it or the last proxy is closed. Items may be, or hold, proxies of the same
// manager, unlike those of an [ipc.Queue], which is quicker.
//
// Each method is one round trip. Who waits is served in the order in which he came. What need
// not wait is done under a ctx that has ended, too.
//
// Errors, of all methods: [ipc.ErrClosed] after Close, [ErrLost].
//
// A Queue is a [Proxy], and safe for concurrent use, in and between processes.
//
// Reference: SyncManager.JoinableQueue (Python 3.14); queue.Queue.
type Queue[T any] struct{ object }

// NewQueue has the server of m make a Queue, which has room for capacity items, at least 1, and
// returns a proxy of it.
//
// Errors: a capacity below 1; a T that cannot be sent, whose field at fault the error names;
// [ipc.ErrClosed], [ErrLost].
func NewQueue[T any](ctx context.Context, m *Manager, capacity int) (*Queue[T], error) {
	q := new(Queue[T])
	if err := travels[T](q.describe()); err != nil {
		return nil, err
	}
	if capacity < 1 {
		return nil, fmt.Errorf("manager: new %s: the capacity is %d, and must be at least 1", q.describe(), capacity)
	}
	if err := create(ctx, m, kindQueue, q, func(w *writer) { w.int(capacity) }); err != nil {
		return nil, err
	}
	return q, nil
}

// Put waits until there is room, and puts v. When it returns, v is in the queue.
//
// Errors: what keeps v from being encoded; one that matches ctx.Err() when ctx ends first;
// [io.ErrClosedPipe] after [Queue.Shutdown]. With those nothing was put, and no room is taken.
func (q *Queue[T]) Put(ctx context.Context, v T) error {
	return q.ended(tellValue(ctx, &q.object, "queue put", opPut, v, nil))
}

// TryPut puts v, if there is room.
//
// Errors: [ipc.ErrFull] if there is none; those of [Queue.Put], but for that of a ctx.
func (q *Queue[T]) TryPut(ctx context.Context, v T) error {
	return q.ended(tellValue(ctx, &q.object, "queue try put", opTryPut, v, nil))
}

// ended makes of an error that it is an end that end itself, as in package ipc.
func (q *Queue[T]) ended(err error) error {
	switch {
	case errors.Is(err, ErrLost):
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, io.ErrClosedPipe):
		return io.ErrClosedPipe
	}
	return err
}

// Get waits until there is an item, and takes it.
//
// Errors: one that matches ctx.Err() when ctx ends first; [io.EOF] after [Queue.Shutdown], when
// nothing is left. With those nothing was taken. An item that cannot be decoded is an error,
// too, and gone.
func (q *Queue[T]) Get(ctx context.Context) (T, error) { return q.get(ctx, "queue get", opGet) }

// TryGet takes an item, if there is one.
//
// Errors: [ipc.ErrEmpty] if there is none; those of [Queue.Get], but for that of a ctx.
func (q *Queue[T]) TryGet(ctx context.Context) (T, error) {
	return q.get(ctx, "queue try get", opTryGet)
}

func (q *Queue[T]) get(ctx context.Context, what string, op uint8) (v T, err error) {
	var undecoded error
	err = q.call(ctx, op, nil, func(r *reader) error {
		d := r.datum()
		if err := r.end(); err != nil {
			return err
		}
		v, undecoded = unpack[T](d)
		return nil
	})
	if err != nil {
		return v, q.ended(failed(what, err))
	}
	return v, failed(what, undecoded)
}

// Len returns the number of items put and not taken.
func (q *Queue[T]) Len(ctx context.Context) (int, error) {
	return q.askInt(ctx, "queue len", opQueueLen)
}

// Shutdown says, for everybody, that no more items are put: from now on, and also if it waits
// already, [Queue.Put] answers [io.ErrClosedPipe], and [Queue.Get] does [io.EOF] when what is
// left has been taken. It may be called again.
func (q *Queue[T]) Shutdown(ctx context.Context) error {
	return q.do(ctx, "queue shutdown", opQueueShutdown, nil)
}

// TaskDone says that an item has been worked off, for [Queue.Join]. Whoever took it may say so,
// or any other process. It is carried out under a ctx that has ended, too.
//
// Errors: one more TaskDone than there were items put.
func (q *Queue[T]) TaskDone(ctx context.Context) error {
	return q.do(ctx, "queue task done", opTaskDone, nil)
}

// Join waits until each item that was put has had its [Queue.TaskDone].
//
// Errors: one that matches ctx.Err() when ctx ends first.
func (q *Queue[T]) Join(ctx context.Context) error { return q.do(ctx, "queue join", opJoin, nil) }

func (*Queue[T]) describe() string { return "Queue[" + typeText[T]() + "]" }

// GobEncode is for the encoders of this module.
//
// Errors: executor.ErrNotPortable from any other one.
func (q *Queue[T]) GobEncode() ([]byte, error) { return encode(q) }

// GobDecode is for the decoders of this module.
func (q *Queue[T]) GobDecode(b []byte) error { return q.decode(q, b) }
