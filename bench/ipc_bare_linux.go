package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/futures/bench/remote"
)

// What the system allows between processes that share something.
var ipcLimits = []namedOpener{
	{bareFutex, openFutex},
	{bareSocket, openBlocking},
	{barePolled, openPolled},
	{bareSpin, openSpinning},
	{bareFlood, openFlood},
	{bareCopies, openCopies},
	{bareAdd, sharing("adding", bareAdds)},
	{bareLock, sharing("locking", bareLocks)},
}

// ipcRoles are those of children.
var ipcRoles = map[string]func(args []string) error{
	"futex":   func([]string) error { return answerFutex() },
	"flood":   floodMain,
	"adding":  func(args []string) error { return shareMain(args, bareAdds) },
	"locking": func(args []string) error { return shareMain(args, bareLocks) },
}

// The operations of futex(2) on memory that processes share.
const (
	futexWait = 0
	futexWake = 1
)

// sleepOn and wake are raw system calls: Go's scheduler does not hear of them.
func sleepOn(word *atomic.Uint32, is uint32) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(is), 0, 0, 0) // who called looks again
}

func wake(word *atomic.Uint32) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1, 0, 0, 0) // nobody sleeps, maybe
}

// words are written by two processes, each by one, and are in cache lines of their own.
type words struct {
	call   atomic.Uint32
	_      [60]byte
	answer atomic.Uint32
}

// noCall ends the answering process.
const noCall = ^uint32(0)

// openFutex has both sides sleep until the other has written, and wake the other.
func openFutex(remote.Work) remote.Crew {
	f, mem := shared(pageSize)
	c := startChild("futex", f)
	p := (*words)(unsafe.Pointer(unsafe.SliceData(mem)))
	seq := uint32(0)
	runtime.LockOSThread() // the caller's, who closes too
	return remote.Crew{
		Call: func(arg int) int {
			last := seq
			seq++
			p.call.Store(seq)
			wake(&p.call)
			for p.answer.Load() != seq {
				sleepOn(&p.answer, last)
			}
			return arg + 1
		},
		Close: func() {
			runtime.UnlockOSThread()
			p.call.Store(noCall)
			wake(&p.call)
			c.end()
			check(unix.Munmap(mem))
		},
	}
}

func answerFutex() error {
	runtime.LockOSThread()
	p := (*words)(unsafe.Pointer(unsafe.SliceData(mapping(os.NewFile(3, "memory"), pageSize))))
	for last := uint32(0); ; {
		seq := p.call.Load()
		switch seq {
		case noCall:
			return nil
		case last:
			sleepOn(&p.call, last)
		default:
			p.answer.Store(seq)
			wake(&p.answer)
			last = seq
		}
	}
}

// openFlood takes what a child writes into a stream socket, a message at a time.
func openFlood(w remote.Work) remote.Crew {
	fd, theirs := pair()
	size := max(message, w.Bytes)
	c := startChildTo(nil, "flood", []string{strconv.Itoa(size)}, theirs)
	buf := make([]byte, size)
	runtime.LockOSThread() // the caller's, who closes too
	return remote.Crew{
		Take: func() int {
			check(readAll(fd, buf))
			return numberOf(buf)
		},
		Close: func() { runtime.UnlockOSThread(); check(syscall.Close(fd)); c.end() },
	}
}

func floodMain(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: bench %s flood SIZE", bareArg)
	}
	size, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	buf := make([]byte, size)
	for n := 0; ; n++ {
		number(buf, n)
		if writeAll(3, buf) != nil {
			return nil // the parent is done
		}
	}
}

// openCopies copies a payload in and out. All memory is warm, and there is no other process.
func openCopies(w remote.Work) remote.Crew {
	from, between, to := make([]byte, w.Bytes), make([]byte, w.Bytes), make([]byte, w.Bytes)
	n := 0
	return remote.Crew{
		Take: func() int {
			number(from, n)
			n++
			copy(between, from)
			copy(to, between)
			return numberOf(to)
		},
		Close: func() {},
	}
}

// A counter is a lock and what it guards.
type counter struct {
	lock  atomic.Uint32 // 0 free, 1 held, 2 held and somebody may sleep
	_     [60]byte
	count atomic.Uint64
}

func bareAdds(c *counter, n int) {
	for range n {
		c.count.Add(1)
	}
}

// bareLocks is the lock of Drepper's "Futexes Are Tricky", which knows nothing of a holder
// that dies; and an increment.
func bareLocks(c *counter, n int) {
	plain := (*uint64)(unsafe.Pointer(&c.count))
	for range n {
		if !c.lock.CompareAndSwap(0, 1) {
			for c.lock.Swap(2) != 0 {
				sleepOn(&c.lock, 2)
			}
		}
		*plain++
		if c.lock.Swap(0) == 2 {
			wake(&c.lock)
		}
	}
}

// sharing has this process and others do op to a counter.
func sharing(role string, op func(*counter, int)) opener {
	return func(w remote.Work) remote.Crew {
		f, mem := shared(pageSize)
		c := (*counter)(unsafe.Pointer(unsafe.SliceData(mem)))
		text := string(must(json.Marshal(w)))
		return remote.Crew{
			Op: func(n int) { op(c, n) },
			Party: func(address string) func() remote.Tally {
				var out bytes.Buffer
				own := os.NewFile(uintptr(must(unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0))), "memory")
				child := startChildTo(&out, role, []string{address, text}, own)
				return func() (t remote.Tally) {
					child.end()
					check(json.Unmarshal(out.Bytes(), &t))
					return t
				}
			},
			Count: func() int { return int(c.count.Load()) },
			Close: func() { check(f.Close()); check(unix.Munmap(mem)) },
		}
	}
}

func shareMain(args []string, op func(*counter, int)) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: bench %s ROLE ADDRESS WORK", bareArg)
	}
	var w remote.Work
	if err := json.Unmarshal([]byte(args[1]), &w); err != nil {
		return err
	}
	c := (*counter)(unsafe.Pointer(unsafe.SliceData(mapping(os.NewFile(3, "memory"), pageSize))))
	if err := remote.Attend(args[0]); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(w.Tally(func(n int) { op(c, n) }))
}
