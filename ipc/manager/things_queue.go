package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"example.com/futures/ipc"
)

// The operations of a Queue.
const (
	opPut      uint8 = iota + 1 // datum
	opTryPut                    // datum
	opGet                       // → datum
	opTryGet                    // → datum
	opQueueLen                  // → int
	opQueueShutdown
	opTaskDone
	opJoin
)

// A queueThing hands an item to the first who waits for one, and room to the first who waits
// for that: nobody waits for what there is. It keeps an item until that is written to whoever
// gets it.
type queueThing struct {
	keeper   keeper
	capacity int

	mu      sync.Mutex // guards what follows
	items   []datum    // from head on
	head    int
	shut    bool
	undone  int  // how many items were put that have had no TaskDone
	getters line // empty if there is an item
	putters line // empty if there is room
	joiners line // empty if nothing is undone
}

func newQueueThing(k keeper, capacity int) (*queueThing, error) {
	if capacity < 1 {
		return nil, fmt.Errorf("the capacity is %d, and must be at least 1", capacity)
	}
	return &queueThing{keeper: k, capacity: capacity}, nil
}

func (q *queueThing) do(ctx context.Context, by *client, op uint8, in *reader, out *writer) error {
	var d datum
	if op == opPut || op == opTryPut {
		d = in.datum()
	}
	if err := in.end(); err != nil {
		return err
	}
	switch op {
	case opPut:
		return q.put(ctx, by, d)
	case opTryPut:
		q.mu.Lock()
		defer q.mu.Unlock()
		if ok, err := q.tryPut(by, d); ok || err != nil {
			return err
		}
		return ipc.ErrFull
	case opGet:
		d, err := q.get(ctx, by)
		if err == nil {
			out.datum(d)
			let(q.keeper, d)
		}
		return err
	case opTryGet:
		q.mu.Lock()
		d, ok, err := q.tryGet(by)
		q.mu.Unlock()
		switch {
		case ok:
			out.datum(d)
			let(q.keeper, d)
		case err == nil:
			err = ipc.ErrEmpty
		}
		return err
	case opQueueLen:
		q.mu.Lock()
		out.int(q.len())
		q.mu.Unlock()
		return nil
	case opQueueShutdown:
		q.shutdown()
		return nil
	case opTaskDone:
		return q.taskDone()
	case opJoin:
		return q.join(ctx, by)
	default:
		return errBadRequest
	}
}

func (q *queueThing) len() int { return len(q.items) - q.head }

// tryPut puts d if there is room. mu is held.
func (q *queueThing) tryPut(by *client, d datum) (bool, error) {
	switch {
	case by.left.Load():
		return false, ipc.ErrClosed
	case q.shut:
		return false, io.ErrClosedPipe
	case q.len() == q.capacity:
		return false, nil
	}
	q.add(stored(q.keeper, d))
	return true, nil
}

// add puts d, for which there is room. mu is held.
func (q *queueThing) add(d datum) {
	q.undone++
	for w := q.getters.head; w != nil; w = q.getters.head {
		if w.by.left.Load() {
			w.end(ipc.ErrClosed)
			continue
		}
		if err := w.by.takes(d); err != nil {
			w.end(err)
			continue
		}
		w.item = d
		w.end(nil)
		return
	}
	q.items = append(q.items, d)
}

func (q *queueThing) put(ctx context.Context, by *client, d datum) error {
	q.mu.Lock()
	if ok, err := q.tryPut(by, d); ok || err != nil {
		q.mu.Unlock()
		return err
	}
	if ctx.Err() != nil {
		q.mu.Unlock()
		return ctx.Err()
	}
	w := newWaiter(by)
	w.item = d
	q.putters.push(w)
	q.mu.Unlock()
	return w.await(ctx, &q.mu, nil)
}

// tryGet takes an item, if there is one. mu is held.
func (q *queueThing) tryGet(by *client) (d datum, ok bool, err error) {
	switch {
	case by.left.Load():
		return datum{}, false, ipc.ErrClosed
	case q.len() == 0 && q.shut:
		return datum{}, false, io.EOF
	case q.len() == 0:
		return datum{}, false, nil
	}
	if err := by.takes(q.items[q.head]); err != nil {
		return datum{}, false, err
	}
	d, q.items[q.head] = q.items[q.head], datum{}
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	} else if q.head > 64 && q.head > len(q.items)/2 {
		q.items, q.head = slices.Delete(q.items, 0, q.head), 0
	}
	for w := q.putters.head; w != nil; w = q.putters.head {
		if w.by.left.Load() {
			w.end(ipc.ErrClosed)
			continue
		}
		q.add(stored(q.keeper, w.item))
		w.item = datum{}
		w.end(nil)
		break
	}
	return d, true, nil
}

func (q *queueThing) get(ctx context.Context, by *client) (datum, error) {
	q.mu.Lock()
	if d, ok, err := q.tryGet(by); ok || err != nil {
		q.mu.Unlock()
		return d, err
	}
	if ctx.Err() != nil {
		q.mu.Unlock()
		return datum{}, ctx.Err()
	}
	w := newWaiter(by)
	q.getters.push(w)
	q.mu.Unlock()
	if err := w.await(ctx, &q.mu, nil); err != nil {
		return datum{}, err
	}
	return w.item, nil
}

func (q *queueThing) shutdown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut = true
	q.putters.endAll(io.ErrClosedPipe)
	q.getters.endAll(io.EOF) // who waits for an item: there is none
}

func (q *queueThing) taskDone() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.undone == 0 {
		return errors.New("all items that were put are done already")
	}
	if q.undone--; q.undone == 0 {
		q.joiners.endAll(nil)
	}
	return nil
}

func (q *queueThing) join(ctx context.Context, by *client) error {
	q.mu.Lock()
	if q.undone == 0 || ctx.Err() != nil {
		defer q.mu.Unlock()
		if q.undone == 0 {
			return nil
		}
		return ctx.Err()
	}
	w := newWaiter(by)
	q.joiners.push(w)
	q.mu.Unlock()
	return w.await(ctx, &q.mu, nil)
}

func (q *queueThing) gone(by *client) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.getters.gone(by)
	q.putters.gone(by)
	q.joiners.gone(by)
}

func (q *queueThing) drop() []datum {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := slices.Clone(q.items[q.head:])
	q.items, q.head = nil, 0
	return left
}
