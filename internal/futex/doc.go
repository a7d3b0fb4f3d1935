// Package futex lets goroutines sleep on a word of memory that processes share, until
// another one, of this process or not, changes the word and wakes them.
//
// A lock, for example, is a word that is 0 while it is free:
//
//	for !word.CompareAndSwap(0, 1) {
//		asleep.Add(1)
//		futex.Wait(word, 1)
//		asleep.Add(^uint32(0))
//	}
//	…
//	word.Store(0)
//	if asleep.Load() > 0 {
//		futex.Wake(word, 1)
//	}
//
// # Rules
//
// Change the word, then wake. Whoever waits looks at the word, sleeps only while it is
// what he saw, and looks again after each Wait, which may return for no reason. A wake
// that comes with no change of the word may go unnoticed, and so may a change that is
// undone before anybody has looked: the word is then again what the sleeper waits to see
// the end of. What ends a wait early, a context or a Close, changes the word as well.
//
// A wake of one wakes one thread, which may sleep for several goroutines of its process.
// All those that it has asleep on this word then return from Wait, and look again. So a
// wake is never lost between the goroutines of a process, and it may rouse more of them
// than it was meant for.
//
// The race detector sees no atomic operation on memory outside of Go's heap. To it, a lock
// whose word lies in a shared mapping orders nothing; whoever guards variables of Go with
// one has to tell it so (runtime.RaceAcquire, runtime.RaceReleaseMerge).
//
// # Who sleeps
//
//	Wait ──▶ fewer than 8 sleep ─ yes ─▶ futex(FUTEX_WAIT)     on a thread of its own
//	                │
//	                no ─▶ entry {word, old} ─▶ a poller        a thread for 127 entries
//	                        the goroutine parks                in futex_waitv
//
// A goroutine in a system call holds a thread. The first few have one each, for that is
// the fastest way to be woken. The others park, and a poller sleeps on their words. It is
// a goroutine that
//
//	takes in what was added ─▶ none left: ends
//	      ▲                 └▶ futex_waitv on its bell and on the words
//	      │                                │ a word was woken, or had changed;
//	      │                                │ or somebody added one and rang the bell
//	      └── drops the entries of the words that changed or were woken, and only
//	          then lets go of the goroutines that wait for them
//
// That order matters: as soon as Wait has returned, the memory of the word may be
// unmapped, and no poller looks at it any more, nor does the kernel on its behalf.
//
// A wake through a poller takes longer, by the switch from its goroutine to the one that
// waits, and by about 0.3 µs for each word that it watches beside (BenchmarkPingPong).
//
// Where the kernel has no futex_waitv, before Linux 5.16 or under a filter of system calls
// that does not know it, each goroutine that waits holds a thread. Other systems than Linux
// have nothing of this.
//
// Reference: futex(2); futex_waitv in Documentation/userspace-api/futex2.rst of Linux.
package futex
