package ring_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/ring"
)

func TestMain(m *testing.M) { proctest.Main(m, play) }

// The descriptors of a worker that start has started, after the standard ones.
const (
	memoryFD = 3
	bellFD   = 4
)

// play is what a worker of these tests does, by its role.
func play(role string) {
	go func() { // the end of its parent is its own
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	m, err := ring.Open(memoryFD)
	if err != nil {
		fatal("opening the memory", err)
	}
	w := &echo{Worker: m.Worker(), bell: os.NewFile(bellFD, "bell"), spin: role == "spin"}
	switch role {
	case "spin", "sleep":
		w.run()
	case "pipe":
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(w.bell, b); err != nil {
				os.Exit(0)
			}
			if _, err := w.bell.Write(b); err != nil {
				os.Exit(0)
			}
		}
	case "die":
		call, _ := strconv.ParseUint(os.Args[1], 10, 64)
		item, _ := strconv.Atoi(os.Args[2])
		w.serve(call, item, os.Args[3])
	}
}

func fatal(what string, v any) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, v)
	os.Exit(4)
}

// echo is a worker that answers with what it is sent.
type echo struct {
	*ring.Worker
	bell  *os.File
	spin  bool
	slept uint64
}

func (w *echo) await(ready func() bool) {
	if w.spin {
		for !ready() {
		}
		return
	}
	w.slept++
	w.Sleep(ready, 0, nil)
}

func (w *echo) record() ring.Record {
	w.Calls.Release()
	for {
		r, err := w.Calls.Next()
		if err != nil {
			fatal("reading", err)
		}
		if r.Kind != 0 {
			return r
		}
		w.Calls.ReleaseNow()
		w.await(w.Calls.Ready)
	}
}

func (w *echo) answer(kind, flags uint8, tag uint16, payload []byte) {
	add := func() bool { return w.Answers.Add(kind, flags, tag, payload) }
	if !add() {
		w.await(add)
	}
	w.Answers.Publish()
	if w.WantsBell() {
		if _, err := w.bell.Write([]byte{1}); err != nil {
			fatal("ringing", err)
		}
	}
}

// The kinds of records.
const (
	kindEcho = iota + 1
	kindEnd  // answered with how often the worker slept
	kindCall // of some items: the number of the call, and of its items
	kindAnswer
)

func (w *echo) run() {
	for {
		switch r := w.record(); r.Kind {
		case kindEcho:
			w.answer(r.Kind, r.Flags, r.Tag, r.Payload)
		case kindEnd:
			w.answer(kindEnd, 0, 0, binary.LittleEndian.AppendUint64(nil, w.slept))
		}
	}
}

// serve answers each item of calls, and kills its process at an item of a call, when it
// has come to a step of it.
func (w *echo) serve(call uint64, item int, step string) {
	at := func(seq uint64, i int, s string) {
		if seq == call && i == item && s == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	for {
		r := w.record()
		seq, items := binary.LittleEndian.Uint64(r.Payload), int(r.Tag)
		at(seq, item, "read")
		if !w.Take(seq) {
			continue
		}
		at(seq, item, "taken")
		for i := range items {
			w.Begin(seq, i)
			at(seq, i, "begun")
			payload := binary.LittleEndian.AppendUint64(nil, seq)
			add := func() bool { return w.Answers.Add(kindAnswer, 0, uint16(i), payload) }
			if !add() {
				w.await(add)
			}
			at(seq, i, "committed")
			w.Answers.Publish()
			at(seq, i, "published")
			if w.WantsBell() {
				_, _ = w.bell.Write([]byte{1})
			}
		}
	}
}

// A peer is a parent and its worker.
type peer struct {
	*ring.Parent
	cmd   *exec.Cmd
	bell  *os.File
	slept int
}

// start starts a worker. It is killed at the end of the test, or if that takes too long.
func start(tb testing.TB, role string, args ...string) *peer {
	tb.Helper()
	m, f, err := ring.Create()
	require.NoError(tb, err)
	defer f.Close()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(tb, err)
	here, there := os.NewFile(uintptr(ends[0]), "bell"), os.NewFile(uintptr(ends[1]), "bell")
	defer there.Close()

	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	p := &peer{Parent: m.Parent(), cmd: proctest.Self(ctx, role, args...), bell: here}
	p.cmd.ExtraFiles = []*os.File{f, there}
	p.cmd.Stderr = os.Stderr
	stdin, err := p.cmd.StdinPipe()
	require.NoError(tb, err)
	require.NoError(tb, p.cmd.Start())
	tb.Cleanup(func() {
		cancel()
		stdin.Close()
		_ = p.cmd.Wait() // it was killed
		here.Close()
		m.Unmap()
	})
	return p
}

// send publishes what was committed.
func (p *peer) send() {
	p.Calls.Publish()
	p.Rouse()
}

// next waits for an answer. It lets go of the one before. Once the worker is dead, its
// error is that of reading the bell.
func (p *peer) next(spin bool) (ring.Record, error) {
	p.Answers.Release()
	p.Rouse()
	for {
		r, err := p.Answers.Next()
		if r.Kind != 0 || err != nil {
			return r, err
		}
		if spin {
			for !p.Answers.Ready() {
			}
			continue
		}
		p.Listen(true)
		if p.Answers.Ready() {
			p.Listen(false)
			continue
		}
		p.slept++
		if _, err := p.bell.Read(make([]byte, 64)); err != nil {
			if p.Answers.Ready() {
				continue
			}
			return r, fmt.Errorf("waiting for an answer: %w", err)
		}
	}
}
