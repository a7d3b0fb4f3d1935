package futex

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The operations of futex(2). The word is shared between processes, so none is private.
const (
	futexWait = 0
	futexWake = 1
)

// maxDirect is how many goroutines sleep on a thread of their own. They take turns with
// another process in about the time of the bare system calls, and those that a poller
// watches for in five to ten times that (BenchmarkPingPong). A program has few that
// such turns matter to; the number itself is a guess, not a measured optimum.
const maxDirect = 8

var (
	directLimit int32        = maxDirect // the tests change it
	direct      atomic.Int32             // how many sleep on a thread of their own, or are about to
	brief       atomic.Bool              // somebody is in WaitBriefly
)

// Wake wakes up to n of those who sleep on word, in any process, and returns how many
// threads it has woken; all if n is negative or math.MaxInt32. It does not block. It
// follows a change of the word.
//
// What it returns is no count of goroutines: a thread may sleep for many, and one that is
// just about to look at the word again counts as awake.
//
// Wake is safe for concurrent use.
func Wake(word *atomic.Uint32, n int) int {
	if n == 0 {
		return 0
	}
	if n < 0 || n > math.MaxInt32 {
		n = math.MaxInt32
	}
	// It does not wait, so that the scheduler need not hear of it.
	woken, _, errno := unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, uintptr(n), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(woken)
}

// Wait blocks the goroutine while word is old, until somebody wakes it. It returns at once
// if word is something else. It may also return for no reason, so that its place is in a
// loop. The rules of the package say what a wake has to come with.
//
// Wait is safe for concurrent use, also on one word. The memory of word has to stay mapped
// until Wait has returned, and need not any longer.
func Wait(word *atomic.Uint32, old uint32) {
	if word.Load() != old {
		return
	}
	letOthersRun()
	if direct.Add(1) > directLimit && !noPollers.Load() {
		direct.Add(-1)
		park(word, old)
		return
	}
	// Whatever the error, a look at the word tells more.
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(old), 0, 0, 0)
	direct.Add(-1)
}

// WaitBriefly is Wait for d at most, for who expects to be woken before. It returns like Wait,
// for whatever reason.
//
// The scheduler does not hear of it: that would cost more than the wait, for it may have to
// wake another thread of its own, and who was woken has to ask it for a processor. So the
// goroutines in this processor's queue wait for d, too. One goroutine at a time does that;
// for others WaitBriefly returns at once.
func WaitBriefly(word *atomic.Uint32, old uint32, d time.Duration) {
	if !brief.CompareAndSwap(false, true) {
		return
	}
	defer brief.Store(false)
	letOthersRun()
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(old), uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// letOthersRun has those who are ready run before this goroutine blocks its thread. The
// system call holds up the queue of its processor until the runtime takes the processor
// away, which was 170 µs later where there is no other one to steal from that queue. Where
// there is one, it would wake up to look for work, and a turn took 1.3 to 2 times as long.
func letOthersRun() {
	if runtime.GOMAXPROCS(0) == 1 {
		runtime.Gosched()
	}
}
