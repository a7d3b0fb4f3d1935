package ipc

import (
	"context"
	"fmt"
	"io"

	"example.com/futures/internal/segment"
)

// A Queue takes values from any number of goroutines in any processes to any others, each
// value to one of them, in the order in which they were put.
//
// What is in the queue stays there, whether or not the process that put it lives on, until
// somebody takes it or the last handle is closed. Nothing has to be flushed, and no process
// is kept alive by what it has put.
//
// Values travel as those of a task's argument do. One that holds a handle cannot be put: send
// it through a [Conn].
//
// A Queue is safe for concurrent use, in and between processes. It is a handle: see the
// package on how it travels and who closes it.
//
// Reference: multiprocessing.JoinableQueue (Python 3.14), whose put hands the item to a
// thread that writes it to a pipe later: there an item that cannot be encoded is dropped, a
// process that ends waits for its readers, and one that is killed over it breaks the queue.
type Queue[T any] struct {
	object
	codec codec[T]
	ring  ring
}

// The bells of a Queue.
const (
	bellItem segment.Bell = iota
	bellRoom
	bellDone
)

// NewQueue returns a new queue, which has room for capacity items, at least 1 and at most
// 2,147,483,648.
//
// Memory is taken when items are put. Up to 256 bytes an item stay taken, and some 50 MiB of
// what larger items needed are kept for the next.
//
// Errors: a capacity that is out of range; a T that cannot be sent, whose field at fault the
// error names; what the system answers when there is no memory or no descriptor left.
func NewQueue[T any](capacity int) (*Queue[T], error) {
	if capacity < 1 {
		return nil, fmt.Errorf("ipc: new queue: a capacity of %d is less than 1", capacity)
	}
	q := new(Queue[T])
	var err error
	if q.codec, err = newCodec[T](false); err != nil {
		return nil, fmt.Errorf("ipc: new queue: %w", err)
	}
	spec, err := queueSpec([segment.Params]uint64{uint64(capacity)})
	if err != nil {
		return nil, fmt.Errorf("ipc: new queue: %w", err)
	}
	spec.Sig = q.codec.sig
	if err := q.create("queue", spec, nil); err != nil {
		return nil, err
	}
	q.bind(uint64(capacity))
	return q, nil
}

func queueSpec(params [segment.Params]uint64) (segment.Spec, error) {
	body, beyond, err := ringLen(params[0])
	return segment.Spec{Kind: kindQueue, Params: params, Body: body, Beyond: beyond, Bury: buryQueue}, err
}

func buryQueue(s *segment.Segment, i int) { buryRing(s, i, 0) }

func (q *Queue[T]) bind(n uint64) {
	q.ring = newRing(q.h, n, 0, q.h.Beyond())
	q.ring.getters, q.ring.putters = bellItem, bellRoom
}

// Put waits until there is room, and puts v. When it returns, v is in the queue, whatever
// its size, up to 1 GiB.
//
// Errors: what keeps v from being encoded, the panic of its own methods among it;
// [executor.ErrNotPortable] if it holds a handle; one that matches ctx.Err() when ctx ends
// first; [io.ErrClosedPipe] after [Queue.Shutdown]; [ErrClosed]; no memory left. With an error
// nothing was put, and no room is taken. Where there is room, v is put also under a ctx that
// has ended.
func (q *Queue[T]) Put(ctx context.Context, v T) error { return q.put(ctx, v, nil) }

func (q *Queue[T]) put(ctx context.Context, v T, now error) error {
	if !q.use() {
		return ErrClosed
	}
	defer q.h.Release()
	var p parcel
	if err := q.codec.pack(v, &p); err != nil {
		return failed("queue put", err)
	}
	o, err := q.ring.tryPut(&p)
	if o != done && err == nil {
		if err = now; o == busy || now == nil {
			err = q.ring.put(ctx, &p, now)
		}
	}
	return ended("queue put", err)
}

// ended is failed, but for the errors of an end, which stay as they are.
func ended(what string, err error) error {
	if err == io.EOF || err == io.ErrClosedPipe { //nolint:errorlint // they come as they are
		return err
	}
	return failed(what, err)
}

// TryPut puts v, if there is room.
//
// Errors: [ErrFull] if there is none; those of [Queue.Put], but for that of a ctx.
func (q *Queue[T]) TryPut(v T) error { return q.put(context.Background(), v, ErrFull) }

// Get waits until there is an item, and takes it.
//
// Errors: one that matches ctx.Err() when ctx ends first; [io.EOF] after [Queue.Shutdown],
// when nothing is left; [ErrClosed]. With those nothing was taken. An item that cannot be
// decoded is an error, too, and gone. Where there is an item, it is taken also under a ctx
// that has ended.
func (q *Queue[T]) Get(ctx context.Context) (T, error) { return q.get(ctx, nil) }

func (q *Queue[T]) get(ctx context.Context, now error) (v T, err error) {
	if !q.use() {
		return v, ErrClosed
	}
	var p parcel
	from := &p
	o, err := q.ring.tryGet(&p)
	if o != done && err == nil {
		if err = now; o == busy || now == nil {
			from, err = q.ring.get(ctx, now)
		}
	}
	q.h.Release()
	if err == nil {
		v, err = q.codec.unpack(from)
	}
	return v, ended("queue get", err)
}

// TryGet takes an item, if there is one.
//
// Errors: [ErrEmpty] if there is none; those of [Queue.Get], but for that of a ctx.
func (q *Queue[T]) TryGet() (T, error) { return q.get(context.Background(), ErrEmpty) }

// Len returns the number of items put and not taken. It panics with [ErrClosed] on a closed
// handle.
func (q *Queue[T]) Len() int {
	q.mustUse()
	defer q.h.Release()
	return q.ring.length()
}

// Cap returns the number of items that there is room for. It panics with [ErrClosed] on a
// closed handle.
func (q *Queue[T]) Cap() int {
	q.mustUse()
	defer q.h.Release()
	return int(q.ring.n)
}

// Shutdown says, for everybody, that no more items are put: from now on [Queue.Put] answers
// [io.ErrClosedPipe], and [Queue.Get] does [io.EOF] when what is left has been taken. It may
// be called again.
//
// Errors: [ErrClosed].
func (q *Queue[T]) Shutdown() error {
	if !q.use() {
		return ErrClosed
	}
	q.ring.shutDown()
	q.h.Release()
	return nil
}

// TaskDone says that an item has been worked off, for [Queue.Join]. Whoever took it may say
// so, or any other process.
//
// Errors: one more TaskDone than there were items put; [ErrClosed].
func (q *Queue[T]) TaskDone() error {
	if !q.use() {
		return ErrClosed
	}
	defer q.h.Release()
	for {
		done := q.ring.done.Load()
		if done >= q.ring.tail.Load()&^shut {
			return fmt.Errorf("ipc: queue task done: all %d items that were put are done already", done)
		}
		if q.ring.done.CompareAndSwap(done, done+1) {
			break
		}
	}
	segment.At("done: counted")
	if q.joined() {
		q.h.Ring(bellDone, -1)
	}
	return nil
}

// Join waits until each item that was put has had its [Queue.TaskDone].
//
// Errors: one that matches ctx.Err() when ctx ends first, [ErrClosed].
func (q *Queue[T]) Join(ctx context.Context) error {
	if !q.use() {
		return ErrClosed
	}
	err := q.h.Await(ctx, segment.Wait{
		Bell: bellDone,
		Try:  func() (bool, error) { return q.joined(), nil },
		All:  true,
	})
	q.h.Release()
	return ended("queue join", err)
}

func (q *Queue[T]) joined() bool {
	done := q.ring.done.Load()
	return done == q.ring.tail.Load()&^shut
}

// Close lets go of this process's handle and wakes who waits on it. What is in the queue
// stays there for the others. It may be called again.
func (q *Queue[T]) Close() error { return q.close() }

// GobEncode is for the encoders of this module.
func (q *Queue[T]) GobEncode() ([]byte, error) {
	if q == nil {
		return nil, errNil("Queue")
	}
	return q.encode("Queue")
}

// GobDecode is for the decoders of this module.
func (q *Queue[T]) GobDecode(b []byte) error {
	c, err := newCodec[T](false)
	if err != nil {
		return fmt.Errorf("ipc: a Queue that came from another process: %w", err)
	}
	var got Queue[T]
	var n uint64
	_, err = got.open("Queue", b, kindQueue, c.sig, func(params [segment.Params]uint64) (segment.Spec, error) {
		n = params[0]
		return queueSpec(params)
	})
	if err != nil {
		return err
	}
	q.object, q.codec = got.object, c
	q.bind(n)
	return nil
}
