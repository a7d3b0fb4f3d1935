package promise

import (
	"context"
	"sync"

	"example.com/futures/internal/lend"
)

// A Group waits for many futures at once. Its members are numbered; Next gives
// the numbers in the order in which their futures were done.
type Group struct {
	mu    sync.Mutex // guards ready
	ready []int      // done and not yet taken, in order
	bell  chan struct{}
}

// NewGroup returns an empty group.
func NewGroup() *Group { return &Group{bell: make(chan struct{}, 1)} }

// Add makes c the member with number i, through n, which is zero. It reports false
// if c is done already: then it is no member.
func (g *Group) Add(c *Core, n *Node, i int) bool {
	n.group, n.index = g, i
	return c.add(n)
}

// Wake counts member i as done. Futures that are not of this module call it.
func (g *Group) Wake(i int) { g.wake(i) }

func (g *Group) wake(i int) {
	g.mu.Lock()
	g.ready = append(g.ready, i)
	g.mu.Unlock()
	select {
	case g.bell <- struct{}{}:
	default:
	}
}

// Poll returns the next member that is done, if there is one.
func (g *Group) Poll() (i int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.ready) == 0 {
		return 0, false
	}
	i = g.ready[0]
	g.ready = g.ready[1:]
	return i, true
}

// Next waits for the next member that is done, or for the end of ctx. What is done
// when ctx ends is still returned. Under a task's context it lends the task's
// place while it waits.
func (g *Group) Next(ctx context.Context) (i int, ok bool) {
	if i, ok := g.Poll(); ok {
		return i, true
	}
	if ctx.Err() != nil {
		return g.Poll()
	}
	if l := lend.From(ctx); l != nil {
		l.Lend()
		defer l.Reclaim()
	}
	for {
		select {
		case <-g.bell:
			if i, ok := g.Poll(); ok {
				return i, true
			}
		case <-ctx.Done():
			return g.Poll()
		}
	}
}
