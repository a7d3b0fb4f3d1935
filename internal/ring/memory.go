package ring

import (
	"errors"
	"sync/atomic"
	"time"
	"unsafe"

	"example.com/futures/internal/futex"
)

// Rude is for how long who spins keeps a processor without asking whether somebody else
// needs it: a quick answer comes in that time.
const Rude = 2 * time.Microsecond

// The layout, in bytes. Words that one side writes while the other one polls its own are
// on cache lines of their own.
const (
	pageLen = 4096

	// Slots is how many calls may be under way to one worker. It is a power of two.
	Slots   = 1024
	slotLen = 16

	// Len is the size of a ring. It is a power of two.
	Len = 256 << 10

	// ArenaLen is the size of an arena. Nothing backs it until it is used.
	ArenaLen = 256 << 20

	slotsAt   = pageLen
	callsAt   = slotsAt + Slots*slotLen
	answersAt = callsAt + Len
	arenasAt  = (answersAt + Len + 1<<21 - 1) &^ (1<<21 - 1)

	// Size is that of the whole memory.
	Size = arenasAt + 2*ArenaLen
)

// The words of the first page, by their index in uint64s.
const (
	callsHead    = 0 * 8 // the parent's: calls are published up to here
	answersRead  = 1 * 8 // the parent's: answers up to here may be written over
	answersBig   = answersRead + 1
	answersHead  = 2 * 8         // the worker's: answers are published up to here
	callsRead    = 3 * 8         // the worker's: calls up to here may be written over
	callPace     = callsRead + 1 // the worker's: nanoseconds that a call takes, of late
	workerAsleep = 4 * 8         // 1: the worker sleeps, or is about to
	parentAsleep = 5 * 8         // 1: the parent wants to be woken by an answer
)

// ErrCorrupt reports memory that holds what no side writes that follows the rules.
var ErrCorrupt = errors.New("ring: the shared memory holds what cannot be")

// A Memory is what both sides share, mapped into one of them. Its own methods are the
// claims table, which the two use at the same time.
type Memory struct{ mem []byte }

func (m *Memory) word(i int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&m.mem[i*8]))
}

func (m *Memory) flag(i int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&m.mem[i*8]))
}

// The states of a claim, in the lowest bits of its word. The number of the call is above
// them, so that what is left of one call is not taken for the next in its slot.
const (
	offered = iota + 1
	taken
	withdrawn
)

func (m *Memory) claim(seq uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&m.mem[slotsAt+int(seq%Slots)*slotLen]))
}

func (m *Memory) begun(seq uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&m.mem[slotsAt+int(seq%Slots)*slotLen+8]))
}

// Offer is the parent's: call seq is about to be sent. Of the call that had the slot
// before, nothing more is to be known.
//
// These are no atomic stores: the worker looks at them when the call was published, and
// that is one.
func (m *Memory) Offer(seq uint64) {
	*(*uint64)(unsafe.Pointer(m.begun(seq))) = 0
	*(*uint64)(unsafe.Pointer(m.claim(seq))) = seq<<2 | offered
}

// Take is the worker's: it takes call seq up, and reports false if the parent has
// withdrawn it.
func (m *Memory) Take(seq uint64) bool {
	return m.claim(seq).CompareAndSwap(seq<<2|offered, seq<<2|taken)
}

// Withdraw is the parent's: it takes call seq back, and reports false if the worker has
// taken it up.
func (m *Memory) Withdraw(seq uint64) bool {
	return m.claim(seq).CompareAndSwap(seq<<2|offered, seq<<2|withdrawn)
}

// Taken reports whether the worker took call seq up.
func (m *Memory) Taken(seq uint64) bool { return m.claim(seq).Load() == seq<<2|taken }

// Begin is the worker's: it takes up item i, counted from 0, of call seq.
//
// It is no atomic store, which would cost a cheap item a good part of its time: the parent
// asks after the worker's death, when all stores are there, or about a worker that seems to
// stand still, when a moment makes no difference.
func (m *Memory) Begin(seq uint64, i int) {
	*(*uint64)(unsafe.Pointer(m.begun(seq))) = seq<<32 | uint64(uint32(i+1))
}

// Begun returns how many items of call seq the worker has taken up.
func (m *Memory) Begun(seq uint64) int {
	w := m.begun(seq).Load()
	if w>>32 != seq&(1<<32-1) {
		return 0
	}
	return int(uint32(w))
}

// A Parent is the parent's half.
type Parent struct {
	*Memory
	Calls   Writer
	Answers Reader
	Arena   Arena // of calls
}

// Parent returns the parent's half. It is called once.
func (m *Memory) Parent() *Parent {
	return &Parent{
		Memory:  m,
		Calls:   Writer{buf: m.mem[callsAt:][:Len:Len], head: m.word(callsHead), read: m.word(callsRead)},
		Answers: Reader{buf: m.mem[answersAt:][:Len:Len], head: m.word(answersHead), read: m.word(answersRead)},
		Arena:   Arena{mem: m.mem[arenasAt:][:ArenaLen:ArenaLen]},
	}
}

// Rouse wakes the worker if it sleeps. It follows a Publish of calls, and a Release of
// answers.
func (p *Parent) Rouse() {
	asleep := p.flag(workerAsleep)
	if asleep.Load() == 1 && asleep.CompareAndSwap(1, 0) {
		futex.Wake(asleep, 1)
	}
}

// Listen says whether an answer is to wake the parent's reader. Whoever says so looks at
// the answers once more before it sleeps.
func (p *Parent) Listen(wanted bool) {
	v := uint32(0)
	if wanted {
		v = 1
	}
	p.flag(parentAsleep).Store(v)
}

// FreeBig tells the worker that n large answers, the oldest ones, are not needed any more.
func (p *Parent) FreeBig(n int) { p.word(answersBig).Add(uint64(n)) }

// Pace returns how long a call takes of late, as the worker has measured it; 0: not known.
func (p *Parent) Pace() time.Duration {
	return time.Duration(min(p.word(callPace).Load(), uint64(time.Hour)))
}

// Large returns the bytes of a large answer, which the worker can change while they are
// read; nil if there can be none.
func (p *Parent) Large(r Ref) []byte { return r.in(p.mem[arenasAt+ArenaLen:][:ArenaLen:ArenaLen]) }

// A Worker is the worker's half.
type Worker struct {
	*Memory
	Calls   Reader
	Answers Writer
	Arena   Arena // of answers
	freed   uint64
}

// Worker returns the worker's half. It is called once.
func (m *Memory) Worker() *Worker {
	return &Worker{
		Memory:  m,
		Calls:   Reader{buf: m.mem[callsAt:][:Len:Len], head: m.word(callsHead), read: m.word(callsRead), lazy: true},
		Answers: Writer{buf: m.mem[answersAt:][:Len:Len], head: m.word(answersHead), read: m.word(answersRead)},
		Arena:   Arena{mem: m.mem[arenasAt+ArenaLen:][:ArenaLen:ArenaLen]},
	}
}

// WantsBell reports whether the parent's reader sleeps and is to be woken, and says once
// only.
func (w *Worker) WantsBell() bool {
	asleep := w.flag(parentAsleep)
	return asleep.Load() == 1 && asleep.CompareAndSwap(1, 0)
}

// SetPace tells the parent how long a call takes.
func (w *Worker) SetPace(d time.Duration) { w.word(callPace).Store(uint64(max(d, 1))) }

// Alloc returns room for a large answer of n bytes, or false while there is none.
func (w *Worker) Alloc(n int) (Ref, []byte, bool) {
	w.Collect()
	return w.Arena.Alloc(n)
}

// Collect frees the large answers that the parent does not need any more.
func (w *Worker) Collect() {
	for freed := w.word(answersBig).Load(); w.freed != freed; w.freed++ {
		w.Arena.Free()
	}
}

// Large returns the bytes of a large argument.
func (w *Worker) Large(r Ref) []byte { return r.in(w.mem[arenasAt:][:ArenaLen:ArenaLen]) }
