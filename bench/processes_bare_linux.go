package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/futures/bench/remote"
)

// What the system allows, by hand: a child of the same binary, one message and its answer, no
// futures, no errors, no queue. They are limits, not pools.
var bareLimits = []bareLimit{
	{bareSocket, []remote.Shape{remote.One, remote.Mixed}, openBlocking},
	{barePolled, []remote.Shape{remote.One}, openPolled},
	{bareSpin, []remote.Shape{remote.One}, openSpinning},
	{"memcpy, four times", []remote.Shape{remote.Echo}, openMemcpy},
	{"pooled memfd, copied out", []remote.Shape{remote.Echo}, openMemfd},
	{"split by hand", []remote.Shape{remote.Fan}, openHalves},
	{bareStart, []remote.Shape{remote.Start, remote.StartAll}, openBareStart},
	{"processes that wait", []remote.Shape{remote.Idle}, openWaiting},
}

// bareArg, as the first argument, makes this program a child of one of them:
//
//	bench bare ROLE ...
//
// Its descriptors from 3 are what it talks through.
const bareArg = "bare"

// bareMain is what such a child does. It ends when its parent closes the other end, or dies.
func bareMain(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: bench %s ROLE ...", bareArg)
	}
	if play := ipcRoles[args[0]]; play != nil {
		return play(args[1:])
	}
	switch args[0] {
	case "blocking":
		answerBlocking(3)
	case "polled":
		answerPolled()
	case "spinning":
		go endWithParent()
		return answerSpinning()
	case "memfd":
		return answerMemfd()
	case "start":
		if _, err := syscall.Write(3, []byte{1}); err != nil {
			return err
		}
		_, _ = syscall.Read(3, make([]byte, 1)) // the end, in any case
	default:
		return fmt.Errorf("there is no role %q", args[0])
	}
	return nil
}

// endWithParent ends this process when its standard input does, which the parent holds.
func endWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin) // however it ends
	os.Exit(0)
}

// A child is a process that is its parent's to end.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// startChild starts one with the given files from 3 on, which are closed here.
func startChild(role string, files ...*os.File) child { return startChildTo(nil, role, nil, files...) }

// startChildTo starts one that has arguments, and may write something to out.
func startChildTo(out io.Writer, role string, args []string, files ...*os.File) child {
	cmd := exec.Command(must(os.Executable()), append([]string{bareArg, role}, args...)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // what the library gives its workers, too
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, os.Stderr, files
	stdin := must(cmd.StdinPipe())
	check(cmd.Start())
	for _, f := range files {
		check(f.Close())
	}
	return child{cmd, stdin}
}

// end waits for the child, whose other descriptors were closed.
func (c child) end() {
	_ = c.stdin.Close()
	check(c.cmd.Wait())
}

// pair returns the ends of a stream socket.
func pair() (ours int, theirs *os.File) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	return fds[0], os.NewFile(uintptr(fds[1]), "socket")
}

// message is the size of what goes each way: a number.
const message = 8

// openBlocking has both sides in blocking reads and writes, each on a thread of its own.
// In mixed work nobody runs the long calls, and the short ones always find the child free.
func openBlocking(w remote.Work) remote.Crew {
	fd, theirs := pair()
	c := startChild("blocking", theirs)
	var buf [message]byte
	call := func(arg int) int {
		binary.LittleEndian.PutUint64(buf[:], uint64(arg))
		check(writeAll(fd, buf[:]))
		check(readAll(fd, buf[:]))
		return int(binary.LittleEndian.Uint64(buf[:]))
	}
	runtime.LockOSThread() // the caller's, who closes too
	return remote.Crew{
		Call: call,
		Submit: func(arg int) func() int {
			if arg > 0 {
				end := time.Now().Add(time.Duration(arg) * time.Millisecond)
				return func() int { time.Sleep(time.Until(end)); return arg + 1 }
			}
			got := call(arg)
			return func() int { return got }
		},
		Close: func() { runtime.UnlockOSThread(); check(syscall.Close(fd)); c.end() },
	}
}

func answerBlocking(fd int) {
	runtime.LockOSThread()
	var buf [message]byte
	for readAll(fd, buf[:]) == nil {
		binary.LittleEndian.PutUint64(buf[:], binary.LittleEndian.Uint64(buf[:])+1)
		if writeAll(fd, buf[:]) != nil {
			return
		}
	}
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func readAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Read(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		b = b[n:]
	}
	return nil
}

// connOf returns the socket of f as Go's network poller has it.
func connOf(f *os.File) net.Conn {
	c := must(net.FileConn(f))
	check(f.Close())
	return c
}

// openPolled has both sides in goroutines that wait in the network poller.
func openPolled(remote.Work) remote.Crew {
	fd, theirs := pair()
	c := startChild("polled", theirs)
	conn := connOf(os.NewFile(uintptr(fd), "socket"))
	var buf [message]byte
	return remote.Crew{
		Call: func(arg int) int {
			binary.LittleEndian.PutUint64(buf[:], uint64(arg))
			must(conn.Write(buf[:]))
			must(io.ReadFull(conn, buf[:]))
			return int(binary.LittleEndian.Uint64(buf[:]))
		},
		Close: func() { check(conn.Close()); c.end() },
	}
}

func answerPolled() {
	conn := connOf(os.NewFile(3, "socket"))
	var buf [message]byte
	for {
		if _, err := io.ReadFull(conn, buf[:]); err != nil {
			return
		}
		binary.LittleEndian.PutUint64(buf[:], binary.LittleEndian.Uint64(buf[:])+1)
		if _, err := conn.Write(buf[:]); err != nil {
			return
		}
	}
}

// shared returns memory that has no name, and its mapping.
func shared(size int) (*os.File, []byte) {
	f := os.NewFile(uintptr(must(unix.MemfdCreate("bench", unix.MFD_CLOEXEC))), "memory")
	check(f.Truncate(int64(size)))
	return f, mapping(f, size)
}

func mapping(f *os.File, size int) []byte {
	return must(unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED))
}

// A page is two numbers that two processes write, each one of them, in a cache line of its own.
type page struct {
	call   atomic.Uint64
	_      [56]byte
	answer atomic.Uint64
}

const pageSize = 4096

// openSpinning has both sides spin for as long as it takes: what no pool may do.
func openSpinning(remote.Work) remote.Crew {
	f, mem := shared(pageSize)
	c := startChild("spinning", f)
	p := (*page)(unsafe.Pointer(unsafe.SliceData(mem)))
	seq := uint64(0)
	return remote.Crew{
		Call: func(arg int) int {
			seq++
			p.call.Store(seq)
			for p.answer.Load() != seq {
				continue
			}
			return arg + 1
		},
		Close: func() { c.end(); check(unix.Munmap(mem)) },
	}
}

func answerSpinning() error {
	p := (*page)(unsafe.Pointer(unsafe.SliceData(mapping(os.NewFile(3, "memory"), pageSize))))
	for last := uint64(0); ; {
		if seq := p.call.Load(); seq != last {
			p.answer.Store(seq)
			last = seq
		}
	}
}

// openMemcpy copies a payload as often as an echo must where each receiver owns what he
// gets: in, out, in again, out. All memory is warm, and there is no other process.
func openMemcpy(w remote.Work) remote.Crew {
	buffers := make([][]byte, w.Flying)
	backs := make([][]byte, w.Flying)
	for i := range buffers {
		buffers[i], backs[i] = make([]byte, w.Bytes), make([]byte, w.Bytes)
	}
	i := 0
	return remote.Crew{
		Echo: func(payload []byte) func() []byte {
			buffer, back := buffers[i%w.Flying], backs[i%w.Flying]
			i++
			return func() []byte {
				copy(buffer, payload)
				copy(back, buffer)
				copy(buffer, back)
				copy(back, buffer)
				return back
			}
		},
		Close: func() {},
	}
}

// openMemfd does what openMemcpy does through memory that is shared with children and is mapped
// once; both sides copy out into fresh slices of their own. A payload that is under way has
// its part of the memory, and a socket that says whose turn it is.
func openMemfd(w remote.Work) remote.Crew {
	type lane struct {
		memory []byte
		conn   net.Conn
		turns  chan []byte
		backs  chan []byte
	}
	lanes := make([]lane, w.Flying)
	children := make([]child, w.Flying)
	var wg sync.WaitGroup
	for i := range lanes {
		f, mem := shared(w.Bytes)
		fd, theirs := pair()
		children[i] = startChild("memfd", theirs, f)
		l := lane{memory: mem, conn: connOf(os.NewFile(uintptr(fd), "socket")), turns: make(chan []byte), backs: make(chan []byte, 1)}
		lanes[i] = l
		wg.Go(func() {
			var buf [message]byte
			for payload := range l.turns {
				copy(l.memory, payload)
				must(l.conn.Write(buf[:]))
				must(io.ReadFull(l.conn, buf[:]))
				back := make([]byte, len(l.memory))
				copy(back, l.memory)
				l.backs <- back
			}
		})
	}
	i := 0
	return remote.Crew{
		Echo: func(payload []byte) func() []byte {
			l := lanes[i%len(lanes)]
			i++
			l.turns <- payload
			return func() []byte { return <-l.backs }
		},
		Close: func() {
			for i, l := range lanes {
				close(l.turns)
				check(l.conn.Close())
				children[i].end()
				check(unix.Munmap(l.memory))
			}
			wg.Wait()
		},
	}
}

func answerMemfd() error {
	conn := connOf(os.NewFile(3, "socket"))
	f := os.NewFile(4, "memory")
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mem := mapping(f, int(info.Size()))
	var buf [message]byte
	for {
		if _, err := io.ReadFull(conn, buf[:]); err != nil {
			return nil // the parent is done
		}
		own := make([]byte, len(mem))
		copy(own, mem)
		copy(mem, own)
		if _, err := conn.Write(buf[:]); err != nil {
			return err
		}
	}
}

// openHalves splits the calls among goroutines at the start, and has nothing to do with
// them until they are done: all that the processors could give.
func openHalves(w remote.Work) remote.Crew {
	return remote.Crew{
		Fan: func(args, out []int) {
			var wg sync.WaitGroup
			for i := range w.Workers {
				from, to := i*len(args)/w.Workers, (i+1)*len(args)/w.Workers
				wg.Go(func() { loop(w.Body.Call, args[from:to], out[from:to]) })
			}
			wg.Wait()
		},
		Close: func() {},
	}
}

// openBareStart starts this binary, which says one byte as the first thing in its
// main. There is one process for the first result of a pool, and as many as workers for all. It
// returns before they have started, as a pool does.
func openBareStart(w remote.Work) remote.Crew {
	n := w.Workers
	if w.Shape == remote.Start {
		n = 1
	}
	sockets, children, heard := make([]net.Conn, n), make([]child, n), make([]chan struct{}, n)
	for i := range heard {
		heard[i] = make(chan struct{})
	}
	go func() { // ends when all have been started; Close is called after that
		for i := range n {
			fd, theirs := pair()
			children[i] = startChild("start", theirs)
			sockets[i] = connOf(os.NewFile(uintptr(fd), "socket"))
			go func() { // ends when its child has spoken
				var one [1]byte
				must(io.ReadFull(sockets[i], one[:]))
				close(heard[i])
			}()
		}
	}()
	all := func() {
		for i := range n {
			<-heard[i]
		}
	}
	return remote.Crew{
		Call: func(arg int) int { <-heard[0]; return arg + 1 },
		Submit: func(arg int) func() int {
			return func() int { <-heard[arg]; return arg + 1 }
		},
		All: all,
		Close: func() {
			all()
			for i := range n {
				check(sockets[i].Close())
				children[i].end()
			}
		},
	}
}

// openWaiting starts this binary as often as a pool has workers. None of them does
// anything.
func openWaiting(w remote.Work) remote.Crew {
	w.Shape = remote.StartAll
	c := openBareStart(w)
	c.All()
	return c
}
