package processpool

import (
	"context"
	"slices"

	"example.com/futures/executor"
	"example.com/futures/internal/lend"
)

// A room is a submit that waits for room in the queue.
type room struct {
	items, priority int
	granted         chan struct{} // closed when the call is counted as accepted
}

// enter counts c as accepted, after waiting for room if need be, or says why not.
func (p *Pool) enter(c executor.Call) error {
	if ctx := c.Context(); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.mu.Lock()
	if err := p.usable(); err != nil {
		p.mu.Unlock()
		return err
	}
	if len(p.rooms) == 0 && p.hasRoom(c.Len()) {
		p.accept(c.Len())
		p.mu.Unlock()
		return nil
	}
	if p.cfg.RejectWhenFull && !c.WaitsForRoom() {
		p.mu.Unlock()
		return executor.ErrQueueFull
	}
	r := &room{items: c.Len(), priority: c.Priority(), granted: make(chan struct{})}
	i := slices.IndexFunc(p.rooms, func(o *room) bool { return o.priority < r.priority })
	if i < 0 {
		i = len(p.rooms)
	}
	p.rooms = slices.Insert(p.rooms, i, r)
	p.mu.Unlock()
	return p.await(c, r)
}

// await waits for r. A task of this process that submits lends its place meanwhile.
func (p *Pool) await(c executor.Call, r *room) error {
	ctx := c.Context()
	if l := lend.From(ctx); l != nil {
		l.Lend()
		defer l.Reclaim()
	}
	var err error
	select {
	case <-r.granted:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-p.refuses:
		err = executor.ErrShutdown
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-r.granted: // in the same moment: it counts
		return nil
	default:
	}
	if p.broken != nil {
		err = p.usable()
	}
	if i := slices.Index(p.rooms, r); i >= 0 {
		p.rooms = slices.Delete(p.rooms, i, i+1)
		p.makeRoom() // a smaller one behind it may fit
	}
	return err
}

// hasRoom reports whether a call of n items may come in. A call that finds a free
// worker does not wait, and a chunk larger than the queue gets in when that is empty.
// mu is held.
func (p *Pool) hasRoom(n int) bool {
	if p.cfg.QueueLimit == 0 {
		return true
	}
	free := p.max - p.taken
	waiting := p.pending - max(0, free)
	return p.pending == 0 || waiting < 0 || waiting+n <= p.cfg.QueueLimit
}

// accept counts n items as accepted. mu is held.
func (p *Pool) accept(n int) {
	p.pending += n
	p.live.Add(int64(n))
	p.stats.Submitted += uint64(n)
}

// makeRoom lets in who waits, as far as there is room. mu is held.
func (p *Pool) makeRoom() {
	for len(p.rooms) > 0 && p.state == open && p.broken == nil && p.hasRoom(p.rooms[0].items) {
		r := p.rooms[0]
		p.rooms = slices.Delete(p.rooms, 0, 1)
		p.accept(r.items)
		close(r.granted)
	}
}
