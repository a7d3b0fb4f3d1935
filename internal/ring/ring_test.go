package ring_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/ring"
)

// starts are where a ring may have come to: its positions only grow, and nothing resets
// them, not even the end of their 64 bits.
var starts = []struct {
	name string
	pos  uint64
}{
	{"at the start", 0},
	{"before the end of the buffer", ring.Len - 8},
	{"at 32 bits", 1<<32 - 40},
	{"at the end of 64 bits", 1<<64 - 3*ring.Len/2},
}

// noise is what payloads are made of.
var noise = func() []byte {
	b := make([]byte, 4*ring.MostPayload)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// sized returns n bytes, hardly ever the same ones.
func sized(rnd *rand.Rand, n int) []byte { return noise[rnd.IntN(len(noise)-n):][:n:n] }

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// drain reads all that was published.
func drain(t testing.TB, r *ring.Ring) (n int) {
	t.Helper()
	for ; ; n++ {
		rec, err := r.Next()
		require.NoError(t, err)
		if rec.Kind == 0 {
			return n
		}
	}
}

func TestRecordsArriveAsTheyWereWritten(t *testing.T) {
	rnd := newRand()
	for _, start := range starts {
		t.Run(start.name, func(t *testing.T) {
			r := ring.NewRing(start.pos, false)
			for _, n := range []int{0, 1, 7, 8, 9, 4096, ring.MostPayload - 1, ring.MostPayload} {
				payload := sized(rnd, n)
				require.True(t, r.Add(255, 128, 65535, payload))
				require.False(t, r.Ready())
				got, err := r.Next()
				require.NoError(t, err)
				require.Zero(t, got.Kind, "it was not published")

				r.Publish()
				require.True(t, r.Ready())
				got, err = r.Next()
				require.NoError(t, err)
				require.Equal(t, ring.Record{Kind: 255, Flags: 128, Tag: 65535, Payload: got.Payload}, got)
				require.True(t, bytes.Equal(payload, got.Payload))
				require.Equal(t, len(got.Payload), cap(got.Payload))
				require.False(t, r.Ready())
				r.Release()
			}
		})
	}
}

func TestRecordIsShorterThanItsReservation(t *testing.T) {
	r := ring.NewRing(0, false)
	b := r.Reserve(ring.MostPayload)
	require.Len(t, b, ring.MostPayload)
	require.Equal(t, ring.MostPayload, cap(b))
	copy(b, "abc")
	r.Commit(1, 0, 0, 3)
	require.True(t, r.Add(2, 0, 0, []byte("d")))
	r.Publish()
	for _, want := range []string{"abc", "d"} {
		got, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, want, string(got.Payload))
	}
}

// A record that was reserved and not committed leaves nothing behind, or else padding,
// which is nothing to the reader.
func TestReserveWithoutCommit(t *testing.T) {
	for rest := uint64(8); rest <= 64; rest += 8 {
		for _, n := range []int{0, 1, 40, ring.MostPayload} {
			r := ring.NewRing(ring.Len-rest, false)
			require.NotNil(t, r.Reserve(n))
			require.NotNil(t, r.Reserve(n))
			r.Publish()
			require.Zero(t, drain(t, r))
			require.True(t, r.Add(1, 0, 0, []byte("after")))
			r.Publish()
			got, err := r.Next()
			require.NoError(t, err)
			require.Equal(t, "after", string(got.Payload))
			require.Zero(t, drain(t, r))
		}
	}
}

func TestFullRing(t *testing.T) {
	for _, start := range starts {
		t.Run(start.name, func(t *testing.T) {
			r := ring.NewRing(start.pos, false)
			payload := make([]byte, 24) // 32 with its head, so that they fill the ring
			written := 0
			for r.Add(1, 0, uint16(written), payload) {
				written++
			}
			require.GreaterOrEqual(t, written, ring.Len/32-1)
			require.False(t, r.Add(1, 0, 0, payload))
			r.Publish()

			first, err := r.Next()
			require.NoError(t, err)
			require.Zero(t, first.Tag)
			require.False(t, r.Add(1, 0, 0, payload), "the reader still reads the first")
			for i := 1; i < written; i++ {
				got, err := r.Next()
				require.NoError(t, err)
				require.Equal(t, uint16(i), got.Tag)
			}
			require.False(t, r.Ready())
			r.Release()
			require.True(t, r.Add(1, 0, 0, payload))
			require.False(t, r.Bad())
		})
	}
}

// A writer that waits for room gets it, wherever it is, once the reader has read all,
// although the reader may hold what it has not yet found worth saying, and although the
// end of the buffer may be lost to padding.
func TestLargestRecordFitsBesideALazyReader(t *testing.T) {
	r := ring.NewRing(0, true)
	for pos := uint64(0); pos < ring.Len; pos += 8 {
		r.At(pos, pos, pos-(ring.LazyLen-8))
		r.Release()
		require.NotEqual(t, pos, r.Read.Load(), "it is lazy")
		if r.Reserve(ring.MostPayload) == nil {
			t.Fatalf("no room at %d", pos)
		}
	}
}

func TestLazyReader(t *testing.T) {
	r := ring.NewRing(0, true)
	require.True(t, r.Add(1, 0, 0, make([]byte, ring.LazyLen-16)))
	require.True(t, r.Add(1, 0, 0, nil))
	r.Publish()
	_, err := r.Next()
	require.NoError(t, err)
	r.Release()
	require.Zero(t, r.Read.Load())
	_, err = r.Next()
	require.NoError(t, err)
	r.Release()
	require.Equal(t, uint64(ring.LazyLen), r.Read.Load())

	require.True(t, r.Add(1, 0, 0, nil))
	r.Publish()
	require.Equal(t, 1, drain(t, r))
	r.ReleaseNow()
	require.Equal(t, uint64(ring.LazyLen+8), r.Read.Load())
}

// TestRingAgainstAQueue does what either side may do, in any order.
func TestRingAgainstAQueue(t *testing.T) {
	for _, start := range starts {
		for _, lazy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lazy=%v", start.name, lazy), func(t *testing.T) {
				rnd := newRand()
				r := ring.NewRing(start.pos, lazy)
				var committed, published, lent []ring.Record
				for range 6_000 {
					switch rnd.IntN(8) {
					case 0, 1, 2:
						n := rnd.IntN(200)
						if rnd.IntN(8) == 0 {
							n = rnd.IntN(ring.MostPayload + 1)
						}
						rec := ring.Record{Kind: uint8(1 + rnd.IntN(255)), Flags: uint8(rnd.Uint32()), Tag: uint16(rnd.Uint32()), Payload: sized(rnd, n)}
						if r.Add(rec.Kind, rec.Flags, rec.Tag, rec.Payload) {
							committed = append(committed, rec)
						} else {
							require.NotZero(t, len(committed)+len(published)+len(lent), "an empty ring has no room for %d bytes", n)
						}
					case 3:
						_ = r.Reserve(rnd.IntN(ring.MostPayload + 1))
					case 4:
						r.Publish()
						published, committed = append(published, committed...), nil
					case 5, 6:
						got, err := r.Next()
						require.NoError(t, err)
						if len(published) == 0 {
							require.Zero(t, got.Kind)
							break
						}
						want := published[0]
						require.Equal(t, [3]int{int(want.Kind), int(want.Flags), int(want.Tag)}, [3]int{int(got.Kind), int(got.Flags), int(got.Tag)})
						require.True(t, bytes.Equal(want.Payload, got.Payload))
						published, lent = published[1:], append(lent, got, want)
					case 7:
						// Until now, nothing may have been written over.
						for i := 0; i < len(lent); i += 2 {
							require.True(t, bytes.Equal(lent[i].Payload, lent[i+1].Payload))
						}
						r.Release()
						lent = nil
					}
					require.False(t, r.Bad())
				}
				r.Publish()
				require.Equal(t, len(published)+len(committed), drain(t, r))
			})
		}
	}
}

// With -race this shows also that what the one side has written happens before what the
// other one reads, and the other way round.
func TestRingBetweenTwoGoroutines(t *testing.T) {
	const records = 20_000
	r := ring.NewRing(1<<64-ring.Len, true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		rnd := newRand()
		for i := range records {
			payload := sized(rnd, rnd.IntN(300))
			for !r.Add(1, 0, uint16(i), payload) {
				r.Publish()
				runtime.Gosched()
			}
			if rnd.IntN(4) == 0 {
				r.Publish()
			}
		}
		r.Publish()
	}()
	rnd := newRand()
	for i := 0; i < records; {
		got, err := r.Next()
		require.NoError(t, err)
		if got.Kind == 0 {
			runtime.Gosched()
			continue
		}
		want := sized(rnd, rnd.IntN(300))
		_ = rnd.IntN(4)
		require.Equal(t, uint16(i), got.Tag)
		require.True(t, bytes.Equal(want, got.Payload), "record %d", i)
		r.Release()
		i++
	}
	<-done
	require.False(t, r.Bad())
}

func TestReaderBelievesNothing(t *testing.T) {
	valid := func(r *ring.Ring) { // wherever one looks, there is a record
		for at := 0; at < ring.Len; at += 8 {
			ring.PutHead(r.Buf[at:], 0, 1)
		}
	}
	for _, tc := range []struct {
		name  string
		start uint64
		spoil func(r *ring.Ring)
	}{
		{"head is beyond the ring", 0, func(r *ring.Ring) { valid(r); r.Head.Store(ring.Len + 8) }},
		{"head is far beyond", 0, func(r *ring.Ring) { valid(r); r.Head.Store(1<<64 - 8) }},
		{"head went back", 64, func(r *ring.Ring) { valid(r); r.Head.Store(56) }},
		{"head is in the middle of a word", 0, func(r *ring.Ring) { valid(r); r.Head.Store(12) }},
		{"longer than what is published", 0, func(r *ring.Ring) { ring.PutHead(r.Buf, 9, 1); r.Head.Store(16) }},
		{"longer than the ring", 0, func(r *ring.Ring) { ring.PutHead(r.Buf, ring.Len, 1); r.Head.Store(ring.Len) }},
		{"longer than the end of the buffer", ring.Len - 16, func(r *ring.Ring) { ring.PutHead(r.Buf[ring.Len-16:], 9, 1); r.Head.Store(ring.Len + 64) }},
		{"of 1<<32-1 bytes", 0, func(r *ring.Ring) { ring.PutHead(r.Buf, 1<<32-1, 1); r.Head.Store(64) }},
		{"of 1<<32-8 bytes", 0, func(r *ring.Ring) { ring.PutHead(r.Buf, 1<<32-8, 1); r.Head.Store(64) }},
		{"of 1<<31-1 bytes", 0, func(r *ring.Ring) { ring.PutHead(r.Buf, 1<<31-1, 1); r.Head.Store(64) }},
		{"padding of 1<<32-8 bytes", 0, func(r *ring.Ring) { ring.PutHead(r.Buf, 1<<32-8, 0); r.Head.Store(64) }},
		{"padding that ends too early", 64, func(r *ring.Ring) { ring.PutHead(r.Buf[64:], ring.Len-64-16, 0); r.Head.Store(ring.Len) }},
		{"padding instead of everything", 0, func(r *ring.Ring) { ring.PutHead(r.Buf, ring.Len-8, 0); r.Head.Store(ring.Len) }},
		{"nothing but zeros", 8, func(r *ring.Ring) { r.Head.Store(ring.Len) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := ring.NewRing(tc.start, false)
			tc.spoil(r)
			require.True(t, r.Ready())
			for range 2 {
				_, err := r.Next()
				require.ErrorIs(t, err, ring.ErrCorrupt)
			}
			r.Release()
			require.Equal(t, tc.start, r.Read.Load(), "nothing of it was read")
		})
	}
}

// A worker that moves head on and on while there is nothing but padding kept the parent
// in Next for ever. Padding comes before the end of the buffer only, and before a record.
func TestNextReturnsHoweverFastPaddingComes(t *testing.T) {
	r := ring.NewRing(0, false)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				r.Head.Store(r.Read.Load()&^7 + ring.Len/2)
			}
		}
	}()
	r.Head.Store(8)
	_, err := r.Next()
	require.ErrorIs(t, err, ring.ErrCorrupt)
	close(stop)
	<-stopped

	// Padding up to the end of the buffer is right, but twice in a row it is not.
	r = ring.NewRing(ring.Len-8, false)
	ring.PutHead(r.Buf[ring.Len-8:], 0, 0)
	ring.PutHead(r.Buf, ring.Len-8, 0)
	r.Head.Store(2*ring.Len - 8)
	_, err = r.Next()
	require.ErrorIs(t, err, ring.ErrCorrupt)
}

func TestWriterBelievesNothing(t *testing.T) {
	const written = 1 << 20
	for _, tc := range []struct {
		name string
		read uint64
		bad  bool
		room bool
	}{
		{"nothing was read", written - ring.Len, false, false},
		{"one word was", written - ring.Len + 8, false, true},
		{"not even a word was", written - ring.Len + 1, false, false},
		{"all was", written, false, true},
		{"more was than is written", written + 1, true, false},
		{"much more was", written + 1<<40, true, false},
		{"less was than before", written - ring.Len - 8, true, false},
		{"all ones", 1<<64 - 1, true, false},
		{"zero", 0, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := ring.NewRing(0, false)
			r.At(written, written, written-ring.Len)
			r.Read.Store(tc.read)
			require.Equal(t, tc.room, r.Reserve(0) != nil)
			require.Equal(t, tc.bad, r.Bad())
		})
	}
}

// FuzzReader reads a ring that holds anything, while it changes.
func FuzzReader(f *testing.F) {
	good := ring.NewRing(0, false)
	for i := range 20 {
		require.True(f, good.Add(uint8(i+1), 0, 0, make([]byte, i*3)))
	}
	f.Add(uint64(0), uint64(720), uint64(8), good.Buf[:1024])
	f.Add(uint64(ring.Len-64), uint64(ring.Len+64), uint64(128), good.Buf[:256])
	f.Add(uint64(1<<64-64), uint64(64), uint64(64), bytes.Repeat([]byte{0, 0, 0, 0, 1, 0, 0, 0}, 64))
	f.Add(uint64(0), uint64(ring.Len), uint64(ring.Len/2), []byte{})
	f.Add(uint64(0), uint64(8), uint64(0), bytes.Repeat([]byte{255}, 64))
	shared := ring.NewRing(0, false)
	f.Fuzz(func(t *testing.T, start, head, step uint64, content []byte) {
		start &^= 7 // the reader's own
		r := shared
		clear(r.Buf)
		r.At(start, start, start)
		for i, c := range content { // from start on
			r.Buf[(start+uint64(i))%ring.Len] = c
		}
		r.Head.Store(head)
		records := 0
		for range 1000 {
			before := r.Pos()
			got, err := r.Next()
			if err != nil {
				require.ErrorIs(t, err, ring.ErrCorrupt)
				return
			}
			if got.Kind == 0 {
				if step == 0 {
					break
				}
				r.Head.Add(step)
				continue
			}
			records++
			require.LessOrEqual(t, uint64(len(got.Payload))+8, r.Pos()-before)
			require.LessOrEqual(t, r.Pos()-before, uint64(2*ring.Len))
			for i := range got.Payload { // all of it can be read, and is ours to read
				got.Payload[i]++
			}
			r.Release()
			require.Equal(t, r.Pos(), r.Read.Load())
		}
	})
}

// FuzzWriterRead writes to a ring whose reader says anything about what it has read.
func FuzzWriterRead(f *testing.F) {
	word := func(vs ...uint64) (b []byte) {
		for _, v := range vs {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	f.Add(uint64(0), word(8, 16, 24, 1<<63))
	f.Add(uint64(1<<64-ring.Len), word(0, ring.Len/2, 1<<64-1))
	f.Add(uint64(ring.Len-8), word(ring.Len-8, ring.Len, ring.Len+1, ring.Len-9))
	shared := ring.NewRing(0, false)
	f.Fuzz(func(t *testing.T, start uint64, reads []byte) {
		start &^= 7
		r := shared
		r.At(start, start, start)
		head, said := start, []uint64{start}
		for n := 0; len(reads) >= 8; n = (n*7 + 13) % (ring.MostPayload + 1) {
			for range 4 {
				b := r.Reserve(n)
				if b == nil {
					break
				}
				require.Len(t, b, n)
				clear(b)
				r.Commit(1, 0, 0, n)
				r.Publish()
				require.Less(t, r.Head.Load()-head, uint64(2*ring.MostPayload+32))
				head = r.Head.Load()
				require.True(t, slices.ContainsFunc(said, func(v uint64) bool { return head-v <= ring.Len }), "what was not read is written over")
			}
			r.Read.Store(binary.LittleEndian.Uint64(reads))
			said = append(said, r.Read.Load())
			reads = reads[8:]
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	for _, bc := range []struct {
		name string
		n    int
	}{{"payloadBytes=16", 16}, {"payloadBytes=4096", 4096}} {
		payload, into := make([]byte, bc.n), make([]byte, bc.n)
		b.Run("ring/"+bc.name, func(b *testing.B) {
			b.ReportAllocs()
			r := ring.NewRing(0, true)
			for b.Loop() {
				if !r.Add(1, 0, 0, payload) {
					b.Fatal("no room")
				}
				r.Publish()
				rec, err := r.Next()
				if err != nil || rec.Kind == 0 {
					b.Fatal(err)
				}
				copy(into, rec.Payload)
				r.Release()
			}
		})
		b.Run("channel/"+bc.name, func(b *testing.B) {
			b.ReportAllocs()
			c := make(chan []byte, 1)
			for b.Loop() {
				c <- append([]byte(nil), payload...)
				copy(into, <-c)
			}
		})
	}
}
