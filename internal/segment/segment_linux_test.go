package segment_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/segment"
)

// memfd returns a file of size bytes, sealed or not.
func memfd(t *testing.T, size int64, sealed bool) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(fd, size))
	if sealed {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
		require.NoError(t, err)
	}
	return fd
}

// copied returns a file that begins as that of h does, with change made to it.
func copied(t *testing.T, h *segment.Handle, size int64, sealed bool, change func(head []byte)) int {
	t.Helper()
	head := make([]byte, 256)
	copy(head, segment.Memory(h))
	if change != nil {
		change(head)
	}
	fd := memfd(t, size, sealed)
	_, err := unix.Pwrite(fd, head, 0)
	require.NoError(t, err)
	return fd
}

const boxSize = segment.BodyAt + boxLen + 10_000

func TestOpenDoesNotBelieve(t *testing.T) {
	before := proctest.Descriptors()
	h := newBox(t)
	set := func(at int) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], binary.LittleEndian.Uint32(b[at:])+1) }
	}
	for _, tc := range []struct {
		name   string
		fd     func() int
		answer string
	}{
		{"magic", func() int { return copied(t, h, boxSize, true, set(segment.MagicAt)) }, "it begins with 0x5345525554554601, version 1"},
		{"version", func() int { return copied(t, h, boxSize, true, set(segment.VersionAt)) }, "version 2"},
		{"kind", func() int { return copied(t, h, boxSize, true, set(segment.KindAt)) }, "it is of kind 78, not 77"},
		{"signature", func() int { return copied(t, h, boxSize, true, set(segment.SigAt)) }, "it was made for another type"},
		{"params", func() int { return copied(t, h, boxSize, true, set(segment.ParamsAt)) }, "a box of 6"},
		{"not sealed", func() int { return copied(t, h, boxSize, false, nil) }, "its size is not sealed"},
		{"too short", func() int { return copied(t, h, boxSize-1, true, nil) }, fmt.Sprintf("it has %d bytes", boxSize-1)},
		{"too long", func() int { return copied(t, h, boxSize+1, true, nil) }, fmt.Sprintf("it has %d bytes", boxSize+1)},
		{"no body", func() int { return copied(t, h, segment.BodyAt-1, true, nil) }, "it has 69631 bytes"},
		{"no slots", func() int { return copied(t, h, 4096, true, nil) }, "it has 4096 bytes"},
		{"half a head", func() int { return memfd(t, 100, true) }, "unexpected EOF"},
		{"nothing", func() int { return memfd(t, 0, true) }, "unexpected EOF"},
		{"zeroes", func() int { return memfd(t, boxSize, true) }, "it begins with 0x0"},
		{"a file", func() int {
			fd, err := unix.Open(t.TempDir()+"/file", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
			require.NoError(t, err)
			require.NoError(t, unix.Ftruncate(fd, boxSize))
			return fd
		}, "seals"},
		{"a pipe", func() int {
			var p [2]int
			require.NoError(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
			unix.Close(p[1])
			return p[0]
		}, "seals"},
		{"read only", func() int {
			fds, err := h.Export()
			require.NoError(t, err)
			h.Exported()
			defer unix.Close(fds[0])
			fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fds[0]), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			return fd
		}, "mmap"},
		{"closed", func() int { return 1 << 20 }, "seals: bad file descriptor"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := openBox(tc.fd())
			require.Nil(t, got)
			require.ErrorContains(t, err, tc.answer)
		})
	}
	h.Close()
	require.Empty(t, proctest.Opened(before))
}

func TestCreateWithoutMemory(t *testing.T) {
	spec, err := boxSpec([segment.Params]uint64{5})
	require.NoError(t, err)
	for _, body := range []int{-segment.BodyAt - 1, 1 << 62} {
		spec.Body = body
		before := proctest.Descriptors()
		_, err = segment.Create(spec, nil)
		require.Error(t, err)
		require.Empty(t, proctest.Opened(before))
	}
}

// All slots of an object are taken, in this process alone; and then there is one again.
func TestSlotsAreFull(t *testing.T) {
	h := newBox(t)
	var others []*segment.Handle
	for range segment.Slots - 1 {
		others = append(others, again(t, h))
	}
	fds, err := h.Export()
	require.NoError(t, err)
	h.Exported()
	_, err = openBox(fds[0])
	require.EqualError(t, err, "1024 handles of this object are open, and there can be no more: close some")
	require.Equal(t, segment.Slots, h.High())
	seats := map[int]bool{h.Me: true}
	for _, o := range others {
		seats[o.Me] = true
	}
	require.Len(t, seats, segment.Slots)

	// The last one sleeps, and is found.
	last := others[len(others)-1]
	taking := goes(func() error { return take(proctest.Within(t), last) })
	sleeping(t, last, thingsBell)
	put(others[7], 1)
	require.NoError(t, <-taking)

	seat := others[500].Me
	others[500].Close()
	require.Equal(t, seat, again(t, h).Me)
}

// The slot of somebody who died is used again, and what he had is let go of first.
func TestSlotOfADeadOneIsUsedAgain(t *testing.T) {
	h := newBox(t)
	p := start(t, h, "lock", "")
	p.hear("locked")
	p.kill()
	require.True(t, segment.Taken(h, 1))
	require.EqualValues(t, 2, h.Word32(mutexAt).Load())
	var others []*segment.Handle
	for range segment.Slots - 2 { // which are free, and come first
		others = append(others, again(t, h))
	}
	require.Zero(t, h.Word32(diedAt).Load())
	heir := again(t, h)
	require.Equal(t, 1, heir.Me)
	require.EqualValues(t, 1, h.Word32(diedAt).Load())
	require.Zero(t, h.Word32(mutexAt).Load())
	require.NoError(t, lock(t.Context(), others[0]))
	require.True(t, h.Mine(1))
	require.Equal(t, os.Getpid(), h.PID(1))
}

func TestJoinerDiesAtEachStep(t *testing.T) {
	for _, step := range []string{"take: locked", "take: cleared", "take: done"} {
		t.Run(step, func(t *testing.T) {
			h := newBox(t)
			taking := goes(func() error { return take(proctest.Within(t), h) })
			sleeping(t, h, thingsBell)
			start(t, h, "open", step).killed()
			p := start(t, h, "put", "") // it has the same slot
			p.hear("open")
			p.tell("put")
			require.NoError(t, <-taking)
			require.Equal(t, step == "take: done", segment.Taken(h, 2)) // then nobody knew of it
			p.kill()
		})
	}
}

func TestOneWhoClosesDiesAtEachStep(t *testing.T) {
	for _, step := range []string{"bury: begun", "bury: let go", "close: cleared", "close: let go"} {
		t.Run(step, func(t *testing.T) {
			h := newBox(t)
			p := start(t, h, "close locked", step)
			p.killed()
			require.NoError(t, lock(proctest.Within(t), h))
			require.LessOrEqual(t, h.Word32(diedAt).Load(), uint32(1))
		})
	}
}

func TestClose(t *testing.T) {
	before := proctest.Descriptors()
	h := newBox(t)
	other := again(t, h)
	require.NoError(t, lock(t.Context(), h))
	var waiting []<-chan error
	for range 5 {
		waiting = append(waiting,
			goes(func() error { return lock(proctest.Within(t), other) }),
			goes(func() error { return take(proctest.Within(t), other) }))
	}
	eventually(t, func() bool { return segment.Waiters(other, mutexBell) == 5 && segment.Waiters(other, thingsBell) == 5 })
	require.False(t, other.Closing())
	other.Close()
	other.Close()
	require.True(t, other.Closing())
	for _, w := range waiting {
		require.ErrorIs(t, <-w, segment.ErrClosed)
	}
	require.False(t, other.Use())
	_, err := other.Export()
	require.ErrorIs(t, err, segment.ErrClosed)
	unlock(h)
	h.Close()
	require.Empty(t, proctest.Opened(before))
}

// Who uses the memory keeps it, also while the handle is closed.
func TestCloseWaitsForWhoUsesIt(t *testing.T) {
	maps := mapped(t)
	h := newBox(t)
	other := again(t, h)
	require.True(t, other.Use())
	other.Close()
	require.False(t, other.Use())
	other.Word64(thingsAt).Store(5)
	require.EqualValues(t, 5, h.Word64(thingsAt).Load())
	require.Equal(t, maps+2, mapped(t))
	other.Release()
	require.Equal(t, maps+1, mapped(t))
	require.False(t, segment.Taken(h, other.Me))
}

func mapped(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(b), "futures-ipc")
}

func TestDroppedHandleIsCollected(t *testing.T) {
	before, maps := proctest.Descriptors(), mapped(t)
	h := newBox(t)
	p := start(t, h, "open", "")
	p.hear("open")
	for range 10 {
		func() {
			other := again(&noCleanup{t}, h)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			require.Error(t, take(ctx, other)) // so that it watches the process
		}()
	}
	h.Close()
	eventually(t, func() bool {
		runtime.GC()
		all, _ := segment.Watches()
		return mapped(t) == maps && all == 0
	})
	p.ends()
	eventually(t, func() bool {
		for _, what := range proctest.Opened(before) {
			if strings.Contains(what, "futures-ipc") || strings.Contains(what, "pidfd") {
				return false
			}
		}
		return true
	})
}

// noCleanup leaves what a helper of the test has made behind.
type noCleanup struct{ testing.TB }

func (noCleanup) Cleanup(func()) {}
