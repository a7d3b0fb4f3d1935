package manager

// less counts an object n times less. mu is held.
func (s *server) less(e *entry, n int) {
	if e.count -= n; e.count == 0 {
		s.doom(e)
	}
}

// doom has an object dropped. mu is held.
func (s *server) doom(e *entry) {
	if s.objects[e.id] != e {
		return
	}
	delete(s.objects, e.id)
	for _, name := range e.names {
		delete(s.names, name)
	}
	s.doomed = append(s.doomed, e)
	if !s.reaping {
		s.reaping = true
		s.wg.Go(s.reap) // ends when nothing is doomed
	}
}

// reap drops what is doomed. What that held may be doomed by that.
func (s *server) reap() {
	for {
		s.mu.Lock()
		if len(s.doomed) == 0 {
			s.reaping = false
			s.mu.Unlock()
			return
		}
		e := s.doomed[0]
		s.doomed = s.doomed[1:]
		s.mu.Unlock()
		for _, d := range e.thing.drop() {
			s.release(d)
		}
	}
}

// keep and release are for things: see keeper.
func (s *server) keep(d datum) bool {
	if len(d.refs) == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range d.refs {
		if s.objects[id] == nil {
			return false
		}
	}
	for _, id := range d.refs {
		s.objects[id].count++
	}
	return true
}

// hold is keep for what a request of p names.
func (s *server) hold(p *guest, refs []uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range refs {
		if err := s.has(p, id); err != nil {
			return err
		}
	}
	for _, id := range refs {
		s.objects[id].count++
	}
	return nil
}

// has returns nil if p may name an object: it has a proxy of it, or its process has one by
// another connection, or it is the server's own. mu is held.
func (s *server) has(p *guest, id uint64) error {
	switch {
	case id == 0 || id > s.last:
		return errNever
	case s.objects[id] == nil:
		return errNotHeld
	case p.methods || p.held[id] > 0:
		return nil
	}
	for other := range s.guests {
		if other.pid == p.pid && other.held[id] > 0 {
			return nil
		}
	}
	return errNotHeld
}

func (s *server) release(d datum) { s.releaseRefs(d.refs) }

func (s *server) releaseRefs(refs []uint64) {
	if len(refs) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range refs {
		if e := s.objects[id]; e != nil {
			s.less(e, 1)
		}
	}
}

// find is for things that are made of others.
func (s *server) find(id uint64) (thing, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.objects[id]; e != nil {
		return e.thing, true
	}
	return nil, false
}

// add adds an object, counted once for the one who gets it.
func (s *server) add(t thing, name string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.objects[s.last] = &entry{id: s.last, thing: t, name: name, count: 1}
	return s.last
}

// give makes counts holds of p, which it returns, or takes them back if p has gone.
func (s *server) give(p *guest, refs []uint64) (given []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range refs {
		e := s.objects[id]
		switch {
		case e == nil: // its last proxy was closed while it was written
		case p.held == nil:
			s.less(e, 1)
		default:
			p.held[id]++
			given = append(given, id)
		}
	}
	return given
}

// takeBack takes holds back from p.
func (s *server) takeBack(p *guest, id, n uint64) error {
	s.mu.Lock()
	has := p.held[id]
	if n == 0 || n > has {
		s.mu.Unlock()
		return errBadRequest
	}
	e := s.objects[id]
	if n == has {
		delete(p.held, id)
	} else {
		p.held[id] -= n
	}
	var t thing
	if e != nil {
		if n == has && e.count > int(n) {
			t = e.thing
		}
		s.less(e, int(n))
	}
	s.mu.Unlock()
	if t != nil {
		p.closed(t)
	}
	return nil
}

// sweep has p let go of what a call has given it that went on while p closed its last proxy.
func (s *server) sweep(p *guest, e *entry) {
	s.mu.Lock()
	has := p.held[e.id]
	s.mu.Unlock()
	if has == 0 {
		e.thing.gone(&p.client)
	}
}
