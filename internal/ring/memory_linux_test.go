package ring_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/ring"
)

// create returns a Memory, and its file.
func create(tb testing.TB) (*ring.Memory, *os.File) {
	tb.Helper()
	m, f, err := ring.Create()
	require.NoError(tb, err)
	tb.Cleanup(func() {
		m.Unmap()
		f.Close()
	})
	return m, f
}

// backed returns how many bytes of the file there is memory for.
func backed(tb testing.TB, f *os.File) int64 {
	tb.Helper()
	var st syscall.Stat_t
	require.NoError(tb, syscall.Fstat(int(f.Fd()), &st))
	return st.Blocks * 512
}

func TestMemoryIsSharedAndSealed(t *testing.T) {
	m, f := create(t)
	other, err := ring.Open(int(f.Fd()))
	require.NoError(t, err)
	defer other.Unmap()
	p, w := m.Parent(), other.Worker()

	require.True(t, p.Calls.Add(1, 2, 3, []byte("call")))
	p.Calls.Publish()
	got, err := w.Calls.Next()
	require.NoError(t, err)
	require.Equal(t, "call", string(got.Payload))
	require.True(t, w.Answers.Add(1, 2, 3, []byte("answer")))
	w.Answers.Publish()
	got, err = p.Answers.Next()
	require.NoError(t, err)
	require.Equal(t, "answer", string(got.Payload))

	p.Offer(1)
	require.True(t, w.Take(1))
	require.False(t, p.Withdraw(1))

	ref, b, ok := p.Arena.Alloc(5)
	require.True(t, ok)
	copy(b, "large")
	require.Equal(t, "large", string(w.Large(ref)))
	require.NotEqual(t, "large", string(p.Large(ref)), "the arenas are two")
	ref, b, ok = w.Alloc(5)
	require.True(t, ok)
	copy(b, "LARGE")
	require.Equal(t, "LARGE", string(p.Large(ref)))
	require.Equal(t, "large", string(w.Large(ref)))
	for _, large := range []func(ring.Ref) []byte{p.Large, w.Large} {
		require.Len(t, large(ring.Ref{Len: ring.ArenaLen}), ring.ArenaLen)
		require.Nil(t, large(ring.Ref{Off: 1, Len: ring.ArenaLen}))
	}

	for _, size := range []int64{0, ring.Size - 4096, ring.Size + 4096} {
		require.ErrorIs(t, f.Truncate(size), syscall.EPERM)
	}
	require.LessOrEqual(t, backed(t, f), int64(64<<10), "what was not used is not there")
}

// The worker frees the oldest ones of as many large answers as the parent says.
func TestFreeBig(t *testing.T) {
	m, f := create(t)
	p, w := m.Parent(), m.Worker()
	for range 1000 { // four of 1 MiB are under way
		_, b, ok := w.Alloc(1 << 20)
		require.True(t, ok)
		b[0], b[len(b)-1] = 1, 1
		if w.Arena.Touched() == 4<<20 {
			p.FreeBig(1)
		}
	}
	require.LessOrEqual(t, w.Arena.Touched(), 5<<20)
	require.LessOrEqual(t, backed(t, f), int64(6<<20))
	require.False(t, w.Arena.Excess(), "something is in it")
	p.FreeBig(3)
	w.Collect()
	require.True(t, w.Arena.Excess())
}

func TestTrim(t *testing.T) {
	m, f := create(t)
	a := &m.Parent().Arena
	for range 2 {
		_, b, ok := a.Alloc(8<<20 - 1)
		require.True(t, ok)
		for i := 0; i < len(b); i += ring.Align {
			b[i] = 1
		}
		a.Trim()
		require.Greater(t, backed(t, f), int64(7<<20), "it is in use")
		a.Free()
		require.True(t, a.Excess())
		a.Trim()
		require.False(t, a.Excess())
		require.LessOrEqual(t, backed(t, f), int64(ring.Keep+64<<10))
		require.LessOrEqual(t, a.Touched(), ring.Keep)
	}
	_, b, ok := a.Alloc(8 << 20)
	require.True(t, ok)
	require.Equal(t, byte(1), b[0])
	require.Zero(t, b[4<<20], "what was given back is new")
}

func TestSleep(t *testing.T) {
	m, _ := create(t)
	p, w := m.Parent(), m.Worker()
	t.Run("what is ready is not waited for", func(t *testing.T) {
		w.Sleep(func() bool { return true }, 0, nil)
	})
	t.Run("what gets ready before it sleeps", func(t *testing.T) {
		// The parent publishes after the worker has looked and before it sleeps.
		looks := 0
		w.Sleep(func() bool {
			if looks++; looks == 1 {
				p.Rouse()
			}
			return looks > 1
		}, 0, nil)
		require.Equal(t, 2, looks)
	})
	t.Run("whenever it looks before it sleeps, it has said so", func(t *testing.T) {
		looks := 0
		w.Sleep(func() bool {
			looks++
			if looks%2 == 1 {
				require.True(t, w.Asleep())
				p.Rouse()
			}
			return looks == 10
		}, 0, nil)
		require.False(t, w.Asleep())
	})
	t.Run("roused for nothing, and then for something", func(t *testing.T) {
		var looks, ready atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.Sleep(func() bool { looks.Add(1); return ready.Load() == 1 }, 0, nil)
		}()
		for seen := looks.Load(); looks.Load() < seen+100; {
			p.Rouse()
		}
		ready.Store(1)
		p.Rouse()
		<-done
	})
	t.Run("late once", func(t *testing.T) {
		var late int
		w.Sleep(func() bool { return late > 0 }, time.Nanosecond, func() { late++ })
		require.Equal(t, 1, late)

		called, done := make(chan struct{}), make(chan struct{})
		var looks atomic.Int32
		var ready atomic.Bool
		go func() {
			defer close(done)
			<-called
			for looks.Load() < 100 {
				p.Rouse()
			}
			ready.Store(true)
			p.Rouse()
		}()
		w.Sleep(func() bool { looks.Add(1); return ready.Load() }, time.Nanosecond, func() { close(called) })
		<-done
	})
	t.Run("nobody sleeps", func(t *testing.T) {
		p.Rouse()
		looks := 0
		w.Sleep(func() bool { looks++; return true }, 0, nil)
		require.Equal(t, 1, looks)
	})
}

func TestBellRingsOnce(t *testing.T) {
	m, _ := create(t)
	p, w := m.Parent(), m.Worker()
	require.False(t, w.WantsBell())
	p.Listen(true)
	require.True(t, w.WantsBell())
	require.False(t, w.WantsBell())
	p.Listen(true)
	p.Listen(false)
	require.False(t, w.WantsBell())
}

// Words that are hostile neither stop a Rouse nor a Release.
func TestRouseOfAnything(t *testing.T) {
	m, f := create(t)
	p := m.Parent()
	junk := bytes.Repeat([]byte{0xa5}, 4096)
	_, err := f.WriteAt(junk, 0)
	require.NoError(t, err)
	p.Rouse()
	p.Listen(true)
	p.FreeBig(3)
	_, err = p.Answers.Next()
	require.ErrorIs(t, err, ring.ErrCorrupt)
	for p.Calls.Add(1, 0, 0, make([]byte, 4096)) {
	}
	require.True(t, p.Calls.Bad())
}

// TestTwoProcesses has a parent and its worker exchange records, so few of them at a time
// that both sleep again and again. A wake-up that is lost is a hang.
func TestTwoProcesses(t *testing.T) {
	records := 200_000
	if testing.Short() {
		records = 20_000
	}
	p := start(t, "sleep")
	rnd := rand.New(rand.NewPCG(3, 4))
	data := noise[:2*ring.MostPayload]
	type call struct{ at, n int }
	var under []call // the oldest first
	sent := 0
	for got := 0; got < records; {
		// Mostly a few, so that the other one has done them soon; sometimes all there is
		// room for, so that both rings fill up.
		batch := 1 + rnd.IntN(16)
		if rnd.IntN(50) == 0 {
			batch = ring.Len
		}
		for ; batch > 0 && sent < records; batch-- {
			c := call{rnd.IntN(ring.MostPayload), rnd.IntN(64)}
			if rnd.IntN(256) == 0 {
				c.n = rnd.IntN(ring.MostPayload + 1)
			}
			if !p.Calls.Add(kindEcho, uint8(sent), uint16(sent), data[c.at:][:c.n]) {
				require.NotEmpty(t, under, "all is answered, but there is no room")
				break
			}
			under = append(under, c)
			if sent++; rnd.IntN(8) == 0 {
				p.send()
			}
		}
		p.send()
		left := 0
		if rnd.IntN(2) == 0 {
			left = len(under) / 2
		}
		for len(under) > left {
			r, err := p.next(false)
			require.NoError(t, err)
			c := under[0]
			under = under[1:]
			if r.Kind != kindEcho || r.Flags != uint8(got) || r.Tag != uint16(got) || !bytes.Equal(r.Payload, data[c.at:][:c.n]) {
				t.Fatalf("answer %d is of kind %d, number %d, %d bytes long", got, r.Kind, r.Tag, len(r.Payload))
			}
			got++
		}
	}
	require.True(t, p.Calls.Add(kindEnd, 0, 0, nil))
	p.send()
	r, err := p.next(false)
	require.NoError(t, err)
	require.Equal(t, uint8(kindEnd), r.Kind)
	require.False(t, p.Calls.Bad())
	slept := binary.LittleEndian.Uint64(r.Payload)
	t.Logf("the parent slept %d times, the worker %d times", p.slept, slept)
	require.Greater(t, p.slept, records/10_000)
	require.Greater(t, slept, uint64(records/10_000))
}

// call offers and sends call seq.
func (p *peer) call(tb testing.TB, seq uint64, items int) {
	tb.Helper()
	p.Offer(seq)
	require.True(tb, p.Calls.Add(kindCall, 0, uint16(items), binary.LittleEndian.AppendUint64(nil, seq)))
}

// answers reads answers until the worker is dead and there is none, or each says stop.
// They must come in the order of the calls, from seq on, and of their items.
func (p *peer) answers(t *testing.T, seq uint64, items int, each func(n int)) (n int) {
	t.Helper()
	for {
		r, err := p.next(false)
		if err != nil {
			require.False(t, p.Answers.Ready())
			require.True(t, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), err)
			return n
		}
		require.Equal(t, seq+uint64(n/items), binary.LittleEndian.Uint64(r.Payload))
		require.Equal(t, n%items, int(r.Tag))
		n++
		each(n)
	}
}

// After its death, all that the worker has published can be read, and the claims tell
// where it was.
func TestWorkerIsKilledAtAStep(t *testing.T) {
	const (
		first = ring.Slots - 2 // so that the slots wrap
		items = 3
	)
	for _, tc := range []struct {
		step     string
		answered int // of the items of the call
		begun    int
	}{
		{"read", 0, 0},
		{"taken", 0, 0},
		{"begun", 1, 2},
		{"committed", 1, 2},
		{"published", 2, 2},
	} {
		t.Run(tc.step, func(t *testing.T) {
			t.Parallel()
			const at = first + 2
			p := start(t, "die", strconv.Itoa(at), "1", tc.step)
			for seq := uint64(first); seq < first+5; seq++ {
				p.call(t, seq, items)
			}
			p.send()
			require.Equal(t, 2*items+tc.answered, p.answers(t, first, items, func(int) {}))
			for seq := uint64(first); seq < at; seq++ {
				require.True(t, p.Taken(seq))
				require.False(t, p.Withdraw(seq))
				require.Equal(t, items, p.Begun(seq))
			}
			require.Equal(t, tc.step != "read", p.Taken(at))
			require.Equal(t, tc.step == "read", p.Withdraw(at))
			require.Equal(t, tc.begun, p.Begun(at))
			for seq := uint64(at + 1); seq < first+5; seq++ {
				require.False(t, p.Taken(seq))
				require.Zero(t, p.Begun(seq))
				require.True(t, p.Withdraw(seq), "it can run elsewhere")
			}
		})
	}
}

// The same with a worker that is killed while it is busy, wherever that is.
func TestWorkerIsKilledInTheMiddle(t *testing.T) {
	const calls, items = 500, 1000
	for _, after := range []int{1, 1500, 40_000} {
		t.Run(strconv.Itoa(after), func(t *testing.T) {
			t.Parallel()
			p := start(t, "die", "-1", "0", "")
			for seq := range uint64(calls) {
				p.call(t, seq, items)
			}
			p.send()
			n := p.answers(t, 0, items, func(n int) {
				if n == after {
					require.NoError(t, p.cmd.Process.Kill())
				}
			})
			require.GreaterOrEqual(t, n, after)
			require.Less(t, n, calls*items, "it had done everything")

			begun := 0
			for seq := range uint64(calls) {
				begun += p.Begun(seq)
				if p.Begun(seq) > 0 {
					require.True(t, p.Taken(seq))
				}
				if p.Taken(seq) {
					require.LessOrEqual(t, seq, uint64(n/items))
				}
				require.NotEqual(t, p.Taken(seq), p.Withdraw(seq))
			}
			require.Contains(t, []int{n, n + 1}, begun, "of the items, it has answered %d", n)
		})
	}
}

// BenchmarkPingPong is one record to a worker and one back, before the next goes.
func BenchmarkPingPong(b *testing.B) {
	for _, bc := range []struct {
		name, role string
		spin       bool
	}{
		{"worker=spins/parent=spins", "spin", true},
		{"worker=sleeps/parent=spins", "sleep", true},
		{"worker=sleeps/parent=sleeps", "sleep", false},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			p := start(b, bc.role)
			payload := make([]byte, 16)
			for b.Loop() {
				if !p.Calls.Add(kindEcho, 0, 0, payload) {
					b.Fatal("no room")
				}
				p.send()
				if _, err := p.next(bc.spin); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("socket", func(b *testing.B) {
		b.ReportAllocs()
		p := start(b, "pipe")
		buf := make([]byte, 1)
		for b.Loop() {
			if _, err := p.bell.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(p.bell, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
