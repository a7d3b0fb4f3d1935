package processpool

import "example.com/futures/internal/ring"

// means are what makes calls fast. Each can be left out: a pool without it is slower, and
// otherwise the same, which tests check.
type means struct {
	rings      bool // calls travel through shared memory, otherwise through the socket
	sendsAhead bool // a worker is given calls before it has done with the one before
	steals     bool // what was sent ahead goes to who has nothing to do; otherwise nothing is
	spinning   bool // who waits looks for a while before he sleeps
	mostLarge  int  // the largest argument that goes through the arena, in bytes
}

// seam is what pools are made with.
var seam = means{rings: true, sendsAhead: true, steals: true, spinning: true, mostLarge: ring.ArenaLen / 2}
