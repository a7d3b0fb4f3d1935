package segment_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
)

func TestMain(m *testing.M) {
	segment.SetStep(func(at string) {
		if fn := step.Load(); fn != nil {
			(*fn)(at)
		}
	})
	proctest.Main(m, play)
}

// step is called at each step in the test's own process, if it is set.
var step atomic.Pointer[func(at string)]

// stepping has fn called at each step until the end.
func stepping(tb testing.TB, fn func(at string)) {
	step.Store(&fn)
	tb.Cleanup(func() { step.Store(nil) })
}

// The objects of these tests are boxes: a mutex, a count of those who died over it, and a
// number of things that can be taken.
const (
	boxKind = 77
	boxSig  = 0x5166
	boxLen  = 4096

	mutexAt  = 0
	diedAt   = 4
	thingsAt = 64
)

// The bells of a box.
const (
	mutexBell segment.Bell = iota
	thingsBell
	allBell
)

func boxSpec(params [segment.Params]uint64) (segment.Spec, error) {
	if params[0] != 5 {
		return segment.Spec{}, fmt.Errorf("a box of %d", params[0])
	}
	return segment.Spec{Kind: boxKind, Sig: boxSig, Params: params, Body: boxLen, Beyond: 10_000, Bury: func(s *segment.Segment, i int) {
		if w := s.Word32(mutexAt); w.Load() == uint32(i)+1 {
			s.Word32(diedAt).Add(1)
			w.CompareAndSwap(uint32(i)+1, 0)
		}
		s.Note(i, 0).Store(0)
	}}, nil
}

func newBox(tb testing.TB) *segment.Handle {
	spec, err := boxSpec([segment.Params]uint64{5})
	require.NoError(tb, err)
	h, err := segment.Create(spec, func(s *segment.Segment) { s.Word64(thingsAt).Store(0) })
	require.NoError(tb, err)
	tb.Cleanup(h.Close)
	return h
}

func openBox(fd int) (*segment.Handle, error) { return segment.Open(fd, boxKind, boxSig, boxSpec) }

// again opens another handle in this process.
func again(tb testing.TB, h *segment.Handle) *segment.Handle {
	tb.Helper()
	fds, err := h.Export()
	require.NoError(tb, err)
	h.Exported()
	other, err := openBox(fds[0])
	require.NoError(tb, err)
	tb.Cleanup(other.Close)
	return other
}

func mutexOf(h *segment.Handle) segment.Mutex {
	return segment.Mutex{Word: h.Word32(mutexAt), Bell: mutexBell}
}

// using has h in use while fn runs.
func using(h *segment.Handle, fn func()) {
	if !h.Use() {
		panic(segment.ErrClosed)
	}
	defer h.Release()
	fn()
}

func lock(ctx context.Context, h *segment.Handle) error {
	if !h.Use() {
		return segment.ErrClosed
	}
	defer h.Release()
	return mutexOf(h).Lock(ctx, h)
}

func unlock(h *segment.Handle) { using(h, func() { mutexOf(h).Unlock(h) }) }

// put puts n things into the box, and take waits for one.
func put(h *segment.Handle, n int) {
	using(h, func() {
		h.Word64(thingsAt).Add(uint64(n))
		segment.At("box: put")
		h.Ring(thingsBell, n)
	})
}

func take(ctx context.Context, h *segment.Handle) error {
	if !h.Use() {
		return segment.ErrClosed
	}
	defer h.Release()
	things := h.Word64(thingsAt)
	return h.Await(ctx, segment.Wait{
		Bell: thingsBell,
		Try: func() (bool, error) {
			for n := things.Load(); n > 0; n = things.Load() {
				if things.CompareAndSwap(n, n-1) {
					return true, nil
				}
			}
			return false, nil
		},
		More: func() bool { return things.Load() > 0 },
	})
}

// play is what another process does, by its role, with the box that is descriptor 3.
func play(role string) {
	lines := make(chan string, 16)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
		os.Exit(3) // the end of its parent is its own
	}()
	hear := func(want string) {
		if got := <-lines; got != want {
			panic("heard " + got)
		}
	}
	bg := context.Background()
	if role == "nothing" { // but to have the descriptor
		fmt.Println("on")
		hear("end")
		os.Exit(0)
	}
	step, told := strings.CutPrefix(os.Getenv("DIE"), "told ") // only once it was told to put
	if step != "" && !told {
		dieAt(step, func() { fmt.Println("at the step"); hear("die") })
	}
	h, err := openBox(3)
	must(err)
	syscall.CloseOnExec(3)
	switch role {
	case "open":
		fmt.Println("open")
		hear("end")
	case "lock":
		must(lock(bg, h))
		fmt.Println("locked")
		hear("unlock")
		unlock(h)
		fmt.Println("unlocked")
		hear("end")
	case "take":
		fmt.Println("open")
		must(take(bg, h))
		fmt.Println("taken")
		hear("end")
	case "put":
		fmt.Println("open")
		hear("put")
		if told {
			dieAt(step, nil)
		}
		put(h, 1)
		fmt.Println("put")
		hear("end")
	case "locks":
		fmt.Println("open")
		for {
			must(lock(bg, h))
			unlock(h)
		}
	case "close locked":
		must(lock(bg, h))
		h.Close()
	}
	os.Exit(0)
}

// dieAt has this process killed when it comes to a step: "name", or "name#n" for the n-th
// time; with "?" at its end it says so and waits before.
func dieAt(step string, before func()) {
	name, asks := strings.CutSuffix(step, "?")
	name, count, counted := strings.Cut(name, "#")
	var n atomic.Int64
	n.Store(1)
	if counted {
		i, err := strconv.ParseInt(count, 10, 64)
		must(err)
		n.Store(i)
	}
	segment.SetStep(func(at string) {
		if at == name && n.Add(-1) == 0 {
			if asks {
				before()
			}
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// A process is another one that has a box.
type process struct {
	tb   testing.TB
	cmd  *exec.Cmd
	in   *os.File
	out  *bufio.Reader
	gone bool
}

// start starts one; die is where it is killed, if it is not "".
func start(tb testing.TB, h *segment.Handle, role, die string) *process {
	tb.Helper()
	fds, err := h.Export()
	require.NoError(tb, err)
	h.Exported()
	f := os.NewFile(uintptr(fds[0]), "box")
	defer f.Close()
	return launch(tb, f, role, die)
}

func launch(tb testing.TB, f *os.File, role, die string) *process {
	tb.Helper()
	p := &process{tb: tb, cmd: proctest.Self(proctest.Within(tb), role)}
	p.cmd.Env = append(p.cmd.Env, "DIE="+die)
	p.cmd.ExtraFiles = []*os.File{f}
	inR, inW, err := os.Pipe()
	require.NoError(tb, err)
	outR, outW, err := os.Pipe()
	require.NoError(tb, err)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = inR, outW, os.Stderr
	p.in, p.out = inW, bufio.NewReader(outR)
	err = p.cmd.Start()
	inR.Close()
	outW.Close()
	require.NoError(tb, err)
	tb.Cleanup(func() {
		if !p.gone {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		inW.Close()
		outR.Close()
	})
	return p
}

func (p *process) hear(want string) {
	p.tb.Helper()
	line, err := p.out.ReadString('\n')
	require.NoError(p.tb, err)
	require.Equal(p.tb, want, strings.TrimSuffix(line, "\n"))
}

func (p *process) tell(line string) {
	p.tb.Helper()
	_, err := fmt.Fprintln(p.in, line)
	require.NoError(p.tb, err)
}

func (p *process) kill() {
	p.tb.Helper()
	require.NoError(p.tb, p.cmd.Process.Kill())
	p.killed()
}

func (p *process) killed() {
	p.tb.Helper()
	p.gone = true
	err := p.cmd.Wait()
	var ended *exec.ExitError
	require.Truef(p.tb, errors.As(err, &ended) && ended.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL, "the process ended with %v", err)
}

func (p *process) ends() {
	p.tb.Helper()
	p.tell("end")
	p.gone = true
	require.NoError(p.tb, p.cmd.Wait())
}

// goes runs fn and returns how it ends.
func goes(fn func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- fn() }()
	return c
}

// eventually waits until ok.
func eventually(tb testing.TB, ok func() bool) {
	tb.Helper()
	for ctx := proctest.Within(tb); !ok(); {
		require.NoError(tb, ctx.Err())
		time.Sleep(100 * time.Microsecond) // between two looks
	}
}

// sleeping waits until one of this process sleeps at the bell.
func sleeping(tb testing.TB, h *segment.Handle, k segment.Bell) {
	tb.Helper()
	eventually(tb, func() bool { return segment.Sleeps(h, h.Me, k) })
}
