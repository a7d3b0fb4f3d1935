package segment

import (
	"sync"
	"time"
	"weak"
)

// Whoever waits must learn when another participant dies: that one may hold what is waited
// for, or may have been about to wake the waiter. So the first thing that a waiter does,
// once others can see that it waits, is to watch the process of every other participant;
// and a new participant wakes whoever waits, to be watched as well. When a process ends,
// whoever watches it lets go of all it had, and looks again at what he waits for.
//
// The lock of the slot says whether a participant lives. The watch, which is a descriptor
// of the process, is the news of it: it is opened first, and then the lock is looked at
// again, so that it is not the watch of another process with the same ID.
//
// The lock may outlive the process by a moment: while somebody reads about the process in
// /proc, or when it was killed between fork and exec. It may also be that of another
// undertaker, who dies over it. So a dead process is watched until its slots are free.

// lookEvery is how often one is looked after who is in another namespace of process IDs, or
// dead and not yet let go of.
const lookEvery = 20 * time.Millisecond

// watching is what a handle watches.
type watching struct {
	mu    sync.Mutex      // guards what follows, and is held while peers.mu is locked
	seen  uint32          // of head.joins, when all participants were watched
	any   bool            // seen is true
	known map[uint64]bool // who is watched, or dead and not yet let go of
}

// peers has the watch of every process that somebody here watches.
var peers struct {
	mu sync.Mutex // guards by, and every peer's watchers
	by map[uint64]*peer
}

// A peer is another process.
type peer struct {
	token    uint64
	watch    watch
	watchers map[*Segment]weak.Pointer[Handle]
	joins    int // how often there was a new one
}

// watch has h watch all participants.
func (h *Handle) watch() {
	for again := true; again; {
		again = false
		for _, t := range h.watchNew() {
			if !h.reap(t) {
				again = true // another undertaker is at it, who can die too: he has to be watched
			}
		}
	}
}

// watchNew has h watch whoever has come since, and returns those who are dead.
func (h *Handle) watchNew() (dead []uint64) {
	w := &h.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	joins := h.head.joins.Load()
	if w.any && w.seen == joins {
		return nil
	}
	here := make(map[uint64]bool)
	for i := range h.High() {
		t := h.slots[i].token.Load()
		here[t] = true
		if t == 0 || t == token || w.known[t] {
			continue
		}
		if h.watchOne(i, t) {
			if w.known == nil {
				w.known = make(map[uint64]bool)
			}
			w.known[t] = true
		} else {
			dead = append(dead, t)
		}
	}
	for t := range w.known {
		if !here[t] { // it has left, so that there are never more watches than slots
			delete(w.known, t)
			unwatch(t, h.Segment)
		}
	}
	w.seen, w.any = joins, len(dead) == 0
	return dead
}

// unwatch ends the watch of process t for s.
func unwatch(t uint64, s *Segment) {
	peers.mu.Lock()
	defer peers.mu.Unlock()
	if p := peers.by[t]; p != nil {
		if _, ok := p.watchers[s]; ok {
			p.drop(s)
		}
	}
}

// watchOne watches the process t of participant i, and reports false if it is dead, or has
// left.
func (h *Handle) watchOne(i int, t uint64) bool {
	peers.mu.Lock()
	p := peers.by[t]
	if p == nil {
		p = &peer{token: t, watchers: make(map[*Segment]weak.Pointer[Handle])}
		var ok bool
		if p.watch, ok = openWatch(h.slots[i].where.Load(), p.alive); !ok {
			if !slotLocked(h.FD, i) {
				peers.mu.Unlock()
				return false
			}
			p.watch = pollWatch(p.alive)
		}
		if peers.by == nil {
			peers.by = make(map[uint64]*peer)
		}
		peers.by[t] = p
		go p.run()
	}
	p.watchers[h.Segment] = weak.Make(h)
	p.joins++
	peers.mu.Unlock()
	if h.alive(i, t) {
		return true
	}
	unwatch(t, h.Segment)
	return false
}

// alive reports whether participant i is there, and of process t.
func (h *Handle) alive(i int, t uint64) bool {
	return slotLocked(h.FD, i) && h.slots[i].token.Load() == t
}

// alive reports whether the process has a slot somewhere, for a watch that cannot tell.
func (p *peer) alive() bool {
	for _, h := range p.handles() {
		if !h.Use() {
			continue
		}
		defer h.Release()
		for i := range h.High() {
			if h.slots[i].token.Load() == p.token && slotLocked(h.FD, i) {
				return true
			}
		}
	}
	return false
}

// handles returns those who watch.
func (p *peer) handles() []*Handle {
	peers.mu.Lock()
	defer peers.mu.Unlock()
	var hs []*Handle
	for _, weakly := range p.watchers {
		if h := weakly.Value(); h != nil {
			hs = append(hs, h)
		}
	}
	return hs
}

// run waits for the end of the process, or of the watch, and has the watchers let go of what
// the process had. It ends with that, or with the watch.
func (p *peer) run() {
	if !p.watch.wait() {
		return
	}
	for pause := time.Millisecond; ; pause = min(2*pause, lookEvery) {
		peers.mu.Lock()
		joins := p.joins
		peers.mu.Unlock()
		left := false
		for _, h := range p.handles() {
			if h.Use() {
				left = !h.reap(p.token) || left
				h.Release()
			}
		}
		peers.mu.Lock()
		watched := peers.by[p.token] == p
		if watched && !left && joins == p.joins {
			delete(peers.by, p.token)
			p.watch.close()
			watched = false
		}
		peers.mu.Unlock()
		if !watched {
			return
		}
		if left {
			time.Sleep(pause)
		}
	}
}

// drop ends the watch of s, and of the process, if it was the last. peers.mu is locked.
func (p *peer) drop(s *Segment) {
	delete(p.watchers, s)
	if len(p.watchers) == 0 {
		delete(peers.by, p.token)
		p.watch.close()
	}
}

// forget ends all watches of s.
func forget(s *Segment) {
	peers.mu.Lock()
	defer peers.mu.Unlock()
	for _, p := range peers.by {
		if _, ok := p.watchers[s]; ok {
			p.drop(s)
		}
	}
}

// reap lets go of all that the dead process t had, and has everybody here look again. It
// reports false if a slot has to be let go of later.
func (h *Handle) reap(t uint64) bool {
	done := true
	for i := range h.High() {
		if h.slots[i].token.Load() == t {
			h.undertake(i, t)
			done = done && h.slots[i].token.Load() != t
		}
	}
	h.stirAll()
	if done {
		h.watching.mu.Lock()
		delete(h.watching.known, t)
		h.watching.mu.Unlock()
	}
	return done
}
