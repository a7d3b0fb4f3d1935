package futex

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxWords is on how many words one thread can sleep: FUTEX_WAITV_MAX. One of them is the
// poller's bell.
const maxWords = 128

// A sleeper is struct futex_waitv.
type sleeper struct {
	val  uint64
	addr uint64
	flag uint32
	_    uint32
}

const size32 = 2 // FUTEX2_SIZE_U32, a flag of a sleeper

// waitv is futex_waitv(2). It returns the last of the first n sleepers that was woken;
// others before it may have been woken as well. The tests change it.
var waitv = func(on *[maxWords]sleeper, n int) (int, unix.Errno) {
	woken, _, errno := unix.Syscall6(unix.SYS_FUTEX_WAITV, uintptr(unsafe.Pointer(on)), uintptr(n), 0, 0, 0, 0)
	return int(woken), errno
}

// noPollers says that the kernel has no futex_waitv.
var noPollers atomic.Bool

// What goroutines wait for.
type wish struct {
	word *atomic.Uint32
	old  uint32
}

// An entry is what a poller watches, for all goroutines that wait for the same.
type entry struct {
	wish
	done chan struct{} // closed by the poller when it has dropped the entry
}

// A poller is a goroutine that sleeps on the words of up to maxWords-1 entries. It ends
// when it has none.
type poller struct {
	bell atomic.Uint32 // changed when there is something added; only that poller sleeps on it

	// Of the poller's goroutine.
	watched []*entry
	on      [maxWords]sleeper // the bell, then those of watched

	// Guarded by mu.
	added  []*entry
	room   int  // for how many more entries
	asleep bool // whether the bell has to be rung: the poller does not look at added before
}

var (
	// mu guards the fields below, and those of the pollers. It is not held while anybody
	// sleeps.
	mu      sync.Mutex
	pollers []*poller
	entries = map[wish]*entry{} // all that are watched or added
)

// park has a poller wait for the goroutine.
func park(word *atomic.Uint32, old uint32) {
	w := wish{word, old}
	mu.Lock()
	e := entries[w]
	var ring *poller
	if e == nil {
		e = &entry{w, make(chan struct{})}
		entries[w] = e
		ring = add(e)
	}
	mu.Unlock()
	if ring != nil {
		Wake(&ring.bell, 1)
	}
	<-e.done
}

// add gives e to a poller, and returns it if its bell is to be rung. mu is held.
func add(e *entry) *poller {
	i := slices.IndexFunc(pollers, func(p *poller) bool { return p.room > 0 })
	if i < 0 {
		p := &poller{room: maxWords - 2, added: []*entry{e}}
		pollers = append(pollers, p)
		go p.run() // until it has no entries
		return nil
	}
	p := pollers[i]
	p.added = append(p.added, e)
	p.room--
	if !p.asleep {
		return nil
	}
	p.asleep = false
	p.bell.Add(1)
	return p
}

// run is the life of a poller.
func (p *poller) run() {
	const none = -1
	woken, all := none, false
	var dropped []*entry
	for {
		var n int
		n, dropped = p.turn(woken, all, dropped[:0])
		for _, e := range dropped {
			close(e.done)
		}
		if n == 0 {
			return
		}
		if len(dropped) > 0 {
			clear(dropped)
			runtime.Gosched() // they are in the queue of this processor: see letOthersRun
		}
		i, errno := waitv(&p.on, n)
		woken, all = none, false
		switch errno {
		case 0:
			woken = i - 1 // the bell is before them
		case unix.EAGAIN, unix.EINTR: // a word had changed; a signal
		default:
			if errno == unix.ENOSYS || errno == unix.EPERM {
				noPollers.Store(true)
			}
			all = true // nobody can sleep here, so they are to look again
		}
	}
}

// turn drops the entries that are done with, which it appends to dropped, takes in those
// that were added, and returns on how many of p.on to sleep; 0: on none, p has ended.
func (p *poller) turn(woken int, all bool, dropped []*entry) (int, []*entry) {
	mu.Lock()
	defer mu.Unlock()
	p.asleep = false
	keep := p.watched[:0]
	for i, e := range p.watched {
		// The kernel names one that was woken, and there may be more. They have changed.
		if all || i == woken || e.word.Load() != e.old {
			delete(entries, e.wish)
			dropped = append(dropped, e)
		} else {
			keep = append(keep, e)
		}
	}
	clear(p.watched[len(keep):])
	p.watched = append(keep, p.added...)
	clear(p.added)
	p.added = p.added[:0]
	p.room += len(dropped)
	if len(p.watched) == 0 {
		pollers = slices.DeleteFunc(pollers, func(q *poller) bool { return q == p })
		return 0, dropped
	}
	p.on[0] = sleeper{val: uint64(p.bell.Load()), addr: address(&p.bell), flag: size32}
	for i, e := range p.watched {
		p.on[i+1] = sleeper{val: uint64(e.old), addr: address(e.word), flag: size32}
	}
	p.asleep = true
	return 1 + len(p.watched), dropped
}

// address returns what the kernel knows a word by. Entries and pollers keep the word itself.
func address(word *atomic.Uint32) uint64 { return uint64(uintptr(unsafe.Pointer(word))) }
