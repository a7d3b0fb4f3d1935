package processpool

import (
	"cmp"
	"slices"

	"example.com/futures/executor"
)

// A part is what of a call is to be run: all of it, or the items that are left after
// a worker was lost or had its fill. There is one part of a call at a time.
type part struct {
	call     executor.Call
	from, to int
	tries    int          // how often the first item was lost
	refused  int          // how many workers died with it before they had taken it up
	started  bool         // the call is running: a worker has taken it up
	told     bool         // the observer knows
	absent   map[int]bool // items that have ended: their arguments did not encode
}

// A queue holds what waits for a worker: first parts of calls that had started, then
// calls by priority, and first come first served within one. The zero queue is
// empty. The pool's lock guards it.
type queue struct {
	front  []part  // of calls that run; few
	levels []level // by falling priority
	n      int     // calls in levels, cancelled ones included
	dead   int     // calls cancelled since the last sweep, most of them in levels
}

// A level is the calls of one priority: a slice that is read at head.
type level struct {
	priority int
	calls    []executor.Call
	head     int
}

// waiting returns how many workers what is queued could use, or more: a worker that
// finds nothing but cancelled calls does no harm.
func (q *queue) waiting() int { return len(q.front) + q.n }

// back adds what was taken out before: it goes before all of its kind.
func (q *queue) back(p part) {
	if p.started || p.from > 0 || p.to < p.call.Len() || p.refused > 0 {
		q.front = slices.Insert(q.front, 0, p)
		return
	}
	l := q.level(p.call.Priority())
	if l.head == 0 {
		calls := make([]executor.Call, backRoom+len(l.calls), backRoom+cap(l.calls))
		copy(calls[backRoom:], l.calls)
		l.calls, l.head = calls, backRoom
	}
	l.head--
	l.calls[l.head] = p.call
	q.n++
}

// backRoom is room for calls that come back, made when there is none.
const backRoom = 64

// push adds c behind all of its priority.
func (q *queue) push(c executor.Call) {
	l := q.level(c.Priority())
	l.calls = append(l.calls, c)
	q.n++
}

// level returns the level of a priority, made now if need be.
func (q *queue) level(priority int) *level {
	if len(q.levels) > 0 && q.levels[0].priority == priority {
		return &q.levels[0]
	}
	i, found := slices.BinarySearchFunc(q.levels, priority, func(l level, p int) int { return cmp.Compare(p, l.priority) })
	if !found {
		q.levels = slices.Insert(q.levels, i, level{priority: priority})
	}
	return &q.levels[i]
}

// peek returns the call of the next part, nil if there is none.
func (q *queue) peek() executor.Call {
	for len(q.front) > 0 {
		if p := &q.front[0]; p.started || !over(p.call) {
			return p.call
		}
		q.front = slices.Delete(q.front, 0, 1)
	}
	for len(q.levels) > 0 {
		l := &q.levels[0]
		for l.head < len(l.calls) {
			c := l.calls[l.head]
			if !over(c) {
				return c
			}
			q.dead = max(0, q.dead-1)
			q.drop(l)
		}
		q.levels = slices.Delete(q.levels, 0, 1)
	}
	q.dead = 0
	return nil
}

// over reports whether c was cancelled, or is about to be.
func over(c executor.Call) bool {
	if c.IsDone() {
		return true
	}
	_, is := c.Assigned().(*nobody)
	return is
}

// drop removes the first call of l.
func (q *queue) drop(l *level) {
	l.calls[l.head] = nil
	l.head++
	q.n--
	if l.head > 64 && l.head > len(l.calls)/2 {
		n := copy(l.calls, l.calls[l.head:])
		clear(l.calls[n:])
		l.calls, l.head = l.calls[:n], 0
	}
}

// pop takes the next part.
func (q *queue) pop() (part, bool) {
	c := q.peek()
	if c == nil {
		return part{}, false
	}
	if len(q.front) > 0 {
		p := q.front[0]
		q.front = slices.Delete(q.front, 0, 1)
		return p, true
	}
	q.drop(&q.levels[0])
	return part{call: c, to: c.Len()}, true
}

// cancelled notes that a call in the queue was cancelled, and now and then removes
// those that were, so that they do not fill it.
func (q *queue) cancelled() {
	q.dead++
	if q.dead < 64 || q.dead < q.n/2 {
		return
	}
	q.n, q.dead = 0, 0
	for i := range q.levels {
		l := &q.levels[i]
		calls := make([]executor.Call, 0, len(l.calls)-l.head)
		for _, c := range l.calls[l.head:] {
			if !over(c) {
				calls = append(calls, c)
			}
		}
		l.calls, l.head = calls, 0
		q.n += len(calls)
	}
	q.levels = slices.DeleteFunc(q.levels, func(l level) bool { return len(l.calls) == 0 })
}

// takeCalls removes all calls that have not started and returns them in order.
func (q *queue) takeCalls() []executor.Call {
	var all []executor.Call
	for _, l := range q.levels {
		all = append(all, l.calls[l.head:]...)
	}
	q.levels, q.n, q.dead = nil, 0, 0
	return all
}

// takeFront removes all parts of calls that run.
func (q *queue) takeFront() []part {
	all := q.front
	q.front = nil
	return all
}

// takePart removes the part of a call that runs.
func (q *queue) takePart(c executor.Call) (part, bool) {
	for i, p := range q.front {
		if p.call == c {
			q.front = slices.Delete(q.front, i, i+1)
			return p, true
		}
	}
	return part{}, false
}
