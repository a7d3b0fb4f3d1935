package threadpool

import (
	"cmp"
	"slices"

	"example.com/futures/executor"
)

// chunkLen is how many calls a chunk of a fifo holds: 2 KiB of them, so that one
// allocation serves many submits and a short queue stays small.
const chunkLen = 128

// A queue holds calls by priority, the highest first, and first come first served
// within one. The zero queue is empty. Whoever owns it guards it with a lock.
type queue struct {
	levels []level // by falling priority; none is empty, but for a lone one
	n      int     // calls in all levels
	spare  *chunk  // the next chunk to be used, so that a queue that stays short never allocates
}

// A level is the calls of one priority.
type level struct {
	priority int
	calls    fifo
}

// len returns the number of calls, cancelled ones included.
func (q *queue) len() int { return q.n }

// push adds c behind all of its priority.
func (q *queue) push(c executor.Call) {
	q.level(c.Priority()).push(c, &q.spare)
	q.n++
}

// unpop puts c before all of its priority.
func (q *queue) unpop(c executor.Call) {
	q.level(c.Priority()).unpop(c, &q.spare)
	q.n++
}

// priority returns the priority of the next call, or of the last one.
func (q *queue) priority() int {
	if len(q.levels) == 0 {
		return 0
	}
	return q.levels[0].priority
}

// level returns the calls of a priority.
func (q *queue) level(priority int) *fifo {
	if len(q.levels) == 1 { // the usual case: all calls have one priority
		l := &q.levels[0]
		if l.calls.empty() {
			l.priority = priority
		}
		if l.priority == priority {
			return &l.calls
		}
	}
	i, found := slices.BinarySearchFunc(q.levels, priority, func(l level, p int) int { return cmp.Compare(p, l.priority) })
	if !found {
		q.levels = slices.Insert(q.levels, i, level{priority: priority})
	}
	return &q.levels[i].calls
}

// pop takes the next call. The queue is not empty.
func (q *queue) pop() executor.Call {
	c := q.levels[0].calls.pop(&q.spare)
	q.n--
	q.trim(0)
	return c
}

// popSome takes the next calls, all of one priority, and returns how many: one at
// least, and as many as fit into calls at most. The queue is not empty.
func (q *queue) popSome(calls []executor.Call) int {
	n := q.levels[0].calls.popSome(calls, &q.spare)
	q.n -= n
	q.trim(0)
	return n
}

// trim removes level i if it is empty and not the only one.
func (q *queue) trim(i int) {
	if l := &q.levels[i]; l.calls.empty() && len(q.levels) > 1 {
		l.calls.release(&q.spare)
		q.levels = slices.Delete(q.levels, i, i+1)
	}
}

// sweep removes the calls that are done and returns how many those were. The order
// of the others stays.
func (q *queue) sweep() int {
	before := q.n
	q.n = 0
	for i := len(q.levels) - 1; i >= 0; i-- {
		q.n += q.levels[i].calls.sweep(&q.spare)
		q.trim(i)
	}
	return before - q.n
}

// take empties the queue and returns what was in it, in order.
func (q *queue) take() []executor.Call {
	calls := make([]executor.Call, 0, q.n)
	for q.n > 0 {
		calls = append(calls, q.pop())
	}
	*q = queue{}
	return calls
}

// A fifo is a list of chunks, read at its head and written at its tail. An empty
// one keeps its chunk, or has none yet.
type fifo struct {
	head, tail  *chunk
	read, write int // the next slots of head and of tail; read < chunkLen
}

// A chunk is a part of a fifo. Slots outside of what the fifo holds are nil, so
// that nothing that was taken out is kept alive.
type chunk struct {
	calls [chunkLen]executor.Call
	next  *chunk
}

func (f *fifo) empty() bool { return f.head == f.tail && f.read == f.write }

func (f *fifo) push(c executor.Call, spare **chunk) {
	if f.tail == nil || f.write == chunkLen {
		f.grow(spare)
	}
	f.tail.calls[f.write] = c
	f.write++
}

// grow adds a chunk at the tail.
func (f *fifo) grow(spare **chunk) {
	ch := *spare
	if ch == nil {
		ch = new(chunk)
	}
	*spare = nil
	if f.tail == nil {
		f.head = ch
	} else {
		f.tail.next = ch
	}
	f.tail, f.write = ch, 0
}

// pop takes the first call. The fifo is not empty.
func (f *fifo) pop(spare **chunk) executor.Call {
	c := f.head.calls[f.read]
	f.head.calls[f.read] = nil
	f.read++
	f.turn(spare)
	return c
}

// popSome takes the first calls, as far as they are in one chunk.
func (f *fifo) popSome(calls []executor.Call, spare **chunk) int {
	end := chunkLen
	if f.head == f.tail {
		end = f.write
	}
	n := copy(calls, f.head.calls[f.read:end])
	clear(f.head.calls[f.read : f.read+n])
	f.read += n
	f.turn(spare)
	return n
}

// turn goes on to the next chunk, if the first is read to its end.
func (f *fifo) turn(spare **chunk) {
	switch {
	case f.empty():
		f.read, f.write = 0, 0
	case f.read == chunkLen:
		used := f.head
		f.head, f.read = used.next, 0
		used.next = nil
		*spare = used
	}
}

// unpop puts c before the first call.
func (f *fifo) unpop(c executor.Call, spare **chunk) {
	if f.tail == nil {
		f.grow(spare)
	}
	switch {
	case f.empty():
		f.read, f.write = chunkLen/2, chunkLen/2 // with room on both sides
	case f.read == 0:
		ch := *spare
		if ch == nil {
			ch = new(chunk)
		}
		*spare = nil
		ch.next = f.head
		f.head, f.read = ch, chunkLen
	}
	f.read--
	f.head.calls[f.read] = c
}

// sweep removes the calls that are done and returns how many are left.
func (f *fifo) sweep(spare **chunk) int {
	var kept fifo
	left := 0
	for !f.empty() {
		if c := f.pop(spare); !c.IsDone() {
			kept.push(c, spare)
			left++
		}
	}
	f.release(spare)
	*f = kept
	return left
}

// release gives up the chunk of an empty fifo.
func (f *fifo) release(spare **chunk) {
	if f.head != nil {
		*spare = f.head
		*f = fifo{}
	}
}
