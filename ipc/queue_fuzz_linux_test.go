package ipc_test

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
	"example.com/futures/ipc"
)

// allocated returns how many bytes fn has allocated.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestQueueDoesNotBelieveItsMemory(t *testing.T) { // CON-27
	const damaged = "ipc: queue get: the shared memory is damaged"
	for _, tc := range []struct {
		name    string
		at      int
		v       uint64
		getErr  string
		putErr  string
		thenAll bool // the error is not that of one item
	}{
		{"a length that is not there", ipc.RingSlot, 1<<30 | 9<<32, damaged, "", false},
		{"a length over the limit", ipc.RingSlot, 1<<30 + 1 | 9<<32, damaged, "", false},
		{"a length over the slot", ipc.RingSlot, 233, damaged, "", false},
		{"a length too short for an area", ipc.RingSlot, 5 | 1<<32, damaged, "", false},
		{"an area that is not there", ipc.RingSlot, 300 | 1000<<32, damaged, "", false},
		{"all ones", ipc.RingSlot, math.MaxUint64, damaged, "", false},
		{"descriptors", ipc.RingSlot + 8, 32 | 77<<8, damaged, "", false},
		{"other flags", ipc.RingSlot + 8, 0, damaged, "", false},
		{"more items than slots", ipc.RingTail, 1 << 40, damaged, "ipc: queue put: the shared memory is damaged", true},
		{"fewer than none", ipc.RingHead, 5, damaged, "ipc: queue put: the shared memory is damaged", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := newQueue[string](t, 4)
			require.NoError(t, q.TryPut("one"))
			require.NoError(t, q.TryPut("two"))
			binary.LittleEndian.PutUint64(ipc.QueueBody(q)[tc.at:], tc.v)
			require.LessOrEqual(t, q.Len(), 4)
			require.Less(t, allocated(func() {
				_, err := q.TryGet()
				require.EqualError(t, err, tc.getErr)
			}), uint64(1<<20))
			err := q.TryPut("three")
			if tc.putErr != "" {
				require.EqualError(t, err, tc.putErr)
				return
			}
			require.NoError(t, err)
			for _, want := range []string{"two", "three"} {
				v, err := q.TryGet()
				require.NoError(t, err)
				require.Equal(t, want, v)
			}
		})
	}
}

// FuzzRing writes anywhere into the memory of a queue, but to its locks: who writes there can
// have everybody wait.
func FuzzRing(f *testing.F) {
	word := func(at int, v uint64) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint16(nil, uint16(at)), v)
	}
	f.Add(word(ipc.RingSlot, 1<<30|1<<32))
	f.Add(word(ipc.RingSlot, 5000|9<<32))
	f.Add(word(ipc.RingTail, 1<<63))
	f.Add(word(ipc.RingTail, math.MaxUint64))
	f.Add(slices.Concat(word(ipc.RingHead, 1<<62), word(ipc.RingTail, 1<<62+2)))
	f.Add(slices.Concat(word(ipc.RingPool, math.MaxUint64), word(ipc.RingPool+16, math.MaxUint64)))
	f.Add(word(ipc.RingDone, 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ipc.NewQueue[string](4)
		require.NoError(t, err)
		defer q.Close()
		for _, n := range []int{3, 300, 5000} {
			require.NoError(t, q.TryPut(string(pattern(1, n))))
		}
		body := ipc.QueueBody(q)
		for ; len(b) >= 10; b = b[10:] {
			at := int(binary.LittleEndian.Uint16(b)) &^ 7
			if at < ipc.RingTail || at >= ipc.RingTail+128 && at < ipc.RingHead || at+8 > len(body) {
				continue
			}
			copy(body[at:], b[2:10])
		}
		began := time.Now()
		require.Less(t, allocated(func() {
			for range 3 {
				for _, n := range []int{3, 300, 5000} {
					_ = q.TryPut(string(pattern(1, n)))
				}
				if n := q.Len(); n < 0 || n > 4 {
					t.Fatalf("it has %d items", n)
				}
				for range 5 {
					_, _ = q.TryGet()
				}
				_ = q.TaskDone()
				_ = q.Join(ended())
			}
			_ = q.Shutdown()
		}), uint64(16<<20))
		require.Less(t, time.Since(began), 10*time.Second)
	})
}

// FuzzConn has a message be anything.
func FuzzConn(f *testing.F) {
	add := func(v any) {
		b, flags, err := wire.NewEncoder(1 << 20).Message(func(e *wire.Encoder) error { return e.Encode(v) })
		require.NoError(f, err)
		f.Add(flags, slices.Clone(b.Bytes()))
	}
	add(&wire.Box[nested]{V: nested{Name: "a", Next: &nested{Name: "b", Bytes: make([]byte, 5000)}}})
	add(&wire.Box[gift]{V: gift{N: 1}})
	add(&wire.Box[int]{V: 1})
	add(&wire.Box[string]{V: "text"})
	f.Add(uint8(wire.FlagStart|wire.FlagParts), make([]byte, 100))
	f.Add(uint8(wire.FlagAlone), []byte{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, flags uint8, b []byte) {
		hostile[nested](t, flags, b)
		hostile[gift](t, flags, b)
		hostile[any](t, flags, b)
		hostile[int](t, flags, b)
		hostile[string](t, flags, b)
		hostile[map[string]*nested](t, flags, b)
	})
}

func hostile[T any](t *testing.T, flags uint8, b []byte) {
	x, y, err := ipc.Pipe[T](true)
	require.NoError(t, err)
	defer x.Close()
	require.NoError(t, ipc.SendRaw(x, flags, b))
	_, _ = y.Recv(ended())
	if _, err := y.Recv(ended()); !errors.Is(err, ended().Err()) {
		t.Fatalf("the message was not taken: %v", err)
	}
	var none T
	require.NoError(t, x.Send(ended(), none))
	_, err = y.Recv(ended())
	require.NoError(t, err)
	require.NoError(t, y.Close())
	require.Equal(t, io.ErrClosedPipe, x.Send(ended(), none))
}
