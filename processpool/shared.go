package processpool

// alone reports whether nothing is left of what the pool has beside its workers: who
// watches their memory, and its share of the fork server. Otherwise it sees to their
// end, after which it is asked again. mu is held.
func (p *Pool) alone() bool {
	switch {
	case p.watching:
		select {
		case p.unwatch <- struct{}{}:
		default:
		}
		return false
	case p.server != nil && !p.releasing:
		p.releasing = true
		go p.releaseServer() // ends when the server is released; the pool's done waits for it
	}
	return p.server == nil
}

func (p *Pool) releaseServer() {
	p.server.Release()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = nil
	p.settle()
}
