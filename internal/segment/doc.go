// Package segment is shared memory that survives its users: what every primitive of
// package ipc is built on.
//
// An object is one file of memory, without a name, which every process that has a handle
// maps. It begins with a head and a table of participants, one slot for each open handle;
// the rest, the body, is the primitive's.
//
//	head    what it is; how often somebody joined; a hint for each bell: does anybody sleep?
//	slots   1,024 × 64 bytes: process, bells to sleep at, what the primitive keeps for each
//	body    the primitive's words
//	beyond  what is read and written by offset, and not mapped
//
// # Who lives
//
// A participant has the lock of a byte of the file that belongs to its slot. It is a lock of
// the open file description, which the kernel takes away when the process is gone, however
// it went; who gets the lock of a slot whose owner is dead is its undertaker: it lets go of
// what the dead one had, and frees the slot. So there are two rules for every primitive: its
// words tell which slot has what, and letting go can be done twice.
//
//	        lock                    Close: let go, unlock
//	free ─────────▶ taken, alive ──────────────────────────▶ free
//	                    │ dies                                ▲
//	                    ▼      the undertaker: let go, unlock  │
//	               taken, dead ────────────────────────────────┘
//
// # Waiting
//
// Who waits sets its bit in its slot, and the hint of the bell, watches every participant
// (see peers.go), looks once more, and sleeps at its own bell, a futex word in its slot. Who
// has changed something that is waited for looks at the hint, and if it is set rings the bell
// of one or of all that have their bit set. All words are sequentially consistent, so that
// one of the two sees the other.
//
// A ring is for one waiter, and this one may die, or give up: who gives up rings on; of a
// death every watcher hears, and looks again. A participant that joins later wakes the
// sleepers before it can do anything, so that they watch it too.
//
// Only one goroutine of a process sleeps at a bell; the others stand behind it in a line, and
// when it leaves, the next takes its place.
package segment
