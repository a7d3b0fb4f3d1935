package executor

import "time"

// How the goroutine of a range and the workers meet.
//
// A worker makes items visible by storing their number, chunk.prefix, and then looks
// whether anybody has to be told. The goroutine says that it waits, and then looks at
// what is visible before it sleeps. Go's atomics are sequentially consistent, so that
// one of them sees the other:
//
//	              the goroutine says           a worker looks after prefix
//	in order      want = c                     want == c: ring
//	unordered     c.queued = false             not c.queued: queue c, ring
//	hungry        hungry = true                hungry: do one of the above
//
// Waking somebody costs more than many a cheap item. So a worker looks at the first
// two only at the end of its chunk and every tellTime before that, by the pace that
// was measured. The next item may hang, with results before it that nobody was told
// of: the goroutine therefore sleeps for no longer than patience, then says that it is
// hungry, and looks at everything itself. From then on it is told at once.

// progress is called by a worker when items of c are done, or c was cancelled.
func (r *mapRun[A, R]) progress(c *chunk[A, R]) {
	if r.unordered {
		if c.queued.Load() || !c.queued.CompareAndSwap(false, true) {
			return // who queued it rings after that
		}
		r.mu.Lock()
		r.ready = append(r.ready, c)
		r.mu.Unlock()
	} else if r.want.Load() != c {
		return
	}
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// await waits until there is something to yield of c, and reports false if there will
// not be: c was cancelled, or ctx ended.
func (r *mapRun[A, R]) await(c *chunk[A, R]) bool {
	r.want.Store(c)
	defer r.want.Store(nil)
	r.wait(func() bool { return c.progressed() || c.gone.Load() })
	return c.progressed()
}

// next waits for a chunk with progress; nil says that ctx ended.
func (r *mapRun[A, R]) next() (c *chunk[A, R]) {
	r.wait(func() bool {
		c = r.pop()
		if c == nil && r.hungry.Load() {
			for _, f := range r.flight {
				if f.progressed() || f.gone.Load() {
					c = f
					break
				}
			}
		}
		return c != nil
	})
	return c
}

// pop takes a chunk from the ready list; nil says that there is none.
func (r *mapRun[A, R]) pop() *chunk[A, R] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ready) == 0 {
		return nil
	}
	c := r.ready[0]
	r.ready[0] = nil
	r.ready = r.ready[1:]
	c.queued.Store(false)
	return c
}

// until is what a helper is asked to bring on.
type until func() bool

func (u until) IsDone() bool { return u() }

// settle has the backend complete what its workers have answered.
func (r *mapRun[A, R]) settle() {
	if len(r.flight) > 0 {
		if h, ok := r.flight[0].host.(helper); ok {
			h.Settle()
		}
	}
}

// wait waits until found reports true, or ctx has ended. What is there when ctx ends
// is found.
func (r *mapRun[A, R]) wait(found func() bool) {
	if found() {
		return
	}
	if r.ctx.Err() != nil {
		r.settle()
		found()
		return
	}
	if len(r.flight) > 0 {
		if h, ok := r.flight[0].host.(helper); ok {
			come := false
			h.Help(r.ctx, r.flight[0], until(func() bool {
				come = come || found()
				return come
			}))
			if come {
				return
			}
		}
	}
	if r.lender != nil {
		r.lender.Lend()
		defer r.lender.Reclaim()
	}
	if r.timer == nil {
		r.timer = time.NewTimer(patience)
	} else {
		r.timer.Reset(patience)
	}
	defer r.timer.Stop()
	defer r.hungry.Store(false)
	for {
		select {
		case <-r.bell:
		case <-r.timer.C:
			r.hungry.Store(true)
		case <-r.ctx.Done():
			r.settle()
			found()
			return
		}
		if found() {
			return
		}
	}
}
