// Package ring is the memory that a parent and one of its worker processes share: two
// rings of records, one for each direction, a table that says of each call whose it is,
// and room for large values.
//
//	          calls ring     ──▶
//	parent    claims table  ◀─▶   worker
//	          answers ring  ◀──
//	          two arenas    ◀─▶
//
// # Rings
//
// A ring has one writer and one reader. Positions in it only grow; where one is in
// memory is its remainder. The writer fills in records behind what it has published, and
// then publishes them all by storing its position (head); the reader takes what is
// between its own position and head, and says by storing that (read) what may be written
// over. A record lies in one piece; where it would not, the rest of the ring is padding.
//
// Whoever finds nothing to do sleeps, and whoever publishes looks whether the other
// sleeps: a system call is made only to wake somebody. The one who goes to sleep says so
// and then looks at the ring once more, the other one publishes and then looks whether
// somebody sleeps; Go's atomics are sequentially consistent, so one of them sees the
// other. A worker sleeps on a futex. The parent's reader, which is a goroutine among
// many, sleeps in the runtime's poller: it is woken by a frame on the worker's socket.
//
// # Claims
//
// A call that lies in the ring of a worker is not yet that worker's. One word for each
// says whose it is, and only a compare-and-swap changes that:
//
//	                  Take
//	          ┌──────────────────▶ taken       by the worker: it runs
//	offered ──┤
//	          └──────────────────▶ withdrawn   by the parent: it is cancelled, or runs elsewhere
//	                Withdraw
//
// So whatever was sent ahead can be taken back until the very moment in which it begins.
// Beside the claim stands how many items of the call have begun. All of this outlives
// the worker: after its death the parent finds every answer that was published, and knows
// which call and which item the worker was at.
//
// # Trust
//
// The parent believes nothing that it reads here: positions, lengths and offsets are
// checked before they are used, each is read once, and what is decoded by gob is copied
// before it is checked, but for large []byte that gob does not see. A worker that writes nonsense is an error (ErrCorrupt), and is
// ended. The file behind the memory is sealed, so nobody can shrink it under the other.
package ring
