package futex_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/internal/futex"
	"example.com/futures/internal/proctest"
)

func TestMain(m *testing.M) { proctest.Main(m, play) }

const memoryFD = 3 // of a process that start has started

// play is what another process does, by its role.
func play(role string) {
	go func() { // the end of its parent is its own
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	switch role {
	case "pong":
		w := mapped(memoryFD)
		pong(&w[0], newSleep(os.Args[1]))
		os.Exit(0)
	case "take":
		w := mapped(memoryFD)
		direct, _ := strconv.Atoi(os.Args[1])
		futex.SetDirect(direct)
		take(w[1:1+semaphores], takers, 2*takers).Wait()
		os.Exit(0)
	case "many":
		many()
		os.Exit(0)
	}
}

func fatal(what string, v any) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, v)
	os.Exit(4)
}

const page = 4096 // bytes that are mapped; a divisor of every page size does as well

// words is a page, as words.
type words []atomic.Uint32

func mapped(fd int) words {
	b, err := unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fatal("mmap", err)
	}
	return unsafe.Slice((*atomic.Uint32)(unsafe.Pointer(&b[0])), page/4)
}

func (w words) unmap() error {
	return unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), page))
}

// memory returns a file of one page. Its name is one that proctest looks for in the end.
func memory(tb testing.TB) *os.File {
	tb.Helper()
	fd, err := unix.MemfdCreate("futures-worker", unix.MFD_CLOEXEC)
	require.NoError(tb, err)
	f := os.NewFile(uintptr(fd), "memory")
	tb.Cleanup(func() { f.Close() })
	require.NoError(tb, f.Truncate(page))
	return f
}

// shared returns words that another process has as well. They are unmapped in the end.
func shared(tb testing.TB, role string, args ...string) (words, *exec.Cmd) {
	tb.Helper()
	f := memory(tb)
	w := mapped(int(f.Fd()))
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	cmd := proctest.Self(ctx, role, args...)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	tb.Cleanup(func() {
		cancel()
		stdin.Close()
		_ = cmd.Wait() // it was killed, or has been waited for
		require.NoError(tb, w.unmap())
	})
	return w, cmd
}

// await waits until those who sleep are as ok wants it.
func await(tb testing.TB, ok func(futex.State) bool) {
	tb.Helper()
	ctx := proctest.Within(tb)
	for !ok(futex.Now()) {
		require.NoErrorf(tb, ctx.Err(), "%+v", futex.Now())
		time.Sleep(time.Millisecond) // between two looks
	}
}

// awaitNobody waits until nobody sleeps, and nothing is left of who did.
func awaitNobody(tb testing.TB) {
	tb.Helper()
	await(tb, func(s futex.State) bool { return s == futex.State{} })
}

// A sleep is a way to wait on a word.
type sleep func(word *atomic.Uint32, old uint32)

// newSleep returns a way by its name, and sets up this process for it.
func newSleep(how string) sleep {
	switch how {
	case "bare":
		runtime.LockOSThread()
		return func(word *atomic.Uint32, old uint32) {
			_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), 0, uintptr(old), 0, 0, 0)
		}
	case "poller":
		futex.SetDirect(0)
	case "direct":
	default:
		fatal("no such sleep", how)
	}
	return futex.Wait
}

// The values of a ball.
const (
	pingsTurn = iota
	pongsTurn
	gone
)

func ping(ball *atomic.Uint32, sleep sleep) {
	ball.Store(pongsTurn)
	futex.Wake(ball, 1)
	for ball.Load() == pongsTurn {
		sleep(ball, pongsTurn)
	}
}

func pong(ball *atomic.Uint32, sleep sleep) {
	for {
		switch ball.Load() {
		case pingsTurn:
			sleep(ball, pingsTurn)
		case pongsTurn:
			ball.Store(pingsTurn)
			futex.Wake(ball, 1)
		case gone:
			return
		}
	}
}
