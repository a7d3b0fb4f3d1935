package wire_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

// Frames of all sizes come out as they went in, however the bytes are cut.
func TestFramesRoundTrip(t *testing.T) {
	var sent []wire.Frame
	for i, n := range []int{0, 1, 32 << 10, 32<<10 + 1, 64 << 10, 3<<20 + 7, 5, 0} {
		payload := bytes.Repeat([]byte{byte(i + 1)}, n)
		sent = append(sent, wire.Frame{
			Header:  wire.Header{Seq: math.MaxUint64 - uint64(i), Item: math.MaxUint32 - uint32(i), Kind: wire.KindArg, Flags: byte(i)},
			Payload: payload,
		})
	}
	var b bytes.Buffer
	w := wire.NewWriter(&b)
	for _, f := range sent {
		require.NoError(t, w.Add(f.Header, f.Payload))
	}
	require.NoError(t, w.Flush())
	for name, cut := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "with EOF": iotest.DataErrReader,
	} {
		for _, reuse := range []bool{false, true} {
			r := wire.NewReader(cut(bytes.NewReader(b.Bytes())), 4<<20, reuse)
			for _, want := range sent {
				got, err := r.Next()
				require.NoError(t, err, name)
				require.Equal(t, uint64(len(want.Payload)), got.Len)
				require.True(t, bytes.Equal(want.Payload, got.Payload))
				want.Len = got.Len
				require.Equal(t, want.Header, got.Header)
			}
			_, err := r.Next()
			require.Equal(t, io.EOF, err)
		}
	}
}

// A stream that ends inside of a frame is told from one that ends between two.
func TestFrameCutOff(t *testing.T) {
	b := wire.Append(nil, wire.Header{Kind: wire.KindArg}, []byte("payload"))
	for n := 1; n < len(b); n++ {
		_, err := wire.NewReader(bytes.NewReader(b[:n]), 100, false).Next()
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, n)
	}
}

// A frame over the limit is refused by its header, whatever it claims. // PRO-28
func TestFrameLimit(t *testing.T) {
	b := wire.Append(nil, wire.Header{Kind: wire.KindArg}, make([]byte, 101))
	_, err := wire.NewReader(bytes.NewReader(b), 100, false).Next()
	var limit *wire.LimitError
	require.ErrorAs(t, err, &limit)
	require.Equal(t, wire.LimitError{Len: 101, Limit: 100}, *limit)
	for i := range 8 {
		b[i] = 0xff
	}
	_, err = wire.NewReader(bytes.NewReader(b), math.MaxInt64, false).Next()
	require.ErrorAs(t, err, &limit)
}

// What a header merely claims is not allocated.
func TestFrameClaim(t *testing.T) {
	b := wire.Append(nil, wire.Header{Kind: wire.KindArg}, make([]byte, 100))
	b[4] = 1 // 4 GiB and a bit
	r := wire.NewReader(bytes.NewReader(b), 1<<40, false)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.Next()
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

type failingWriter struct{}

var errWriter = errors.New("no more")

func (failingWriter) Write([]byte) (int, error) { return 0, errWriter }

// A writer stays with its first error.
func TestWriterFails(t *testing.T) {
	w := wire.NewWriter(failingWriter{})
	require.NoError(t, w.Add(wire.Header{}, nil)) // it only gathers
	require.Equal(t, errWriter, w.Flush())
	require.Equal(t, errWriter, w.Add(wire.Header{}, make([]byte, 1<<20)))
	require.Equal(t, errWriter, w.Flush())
}

// Heads of calls and interruptions come out as they went in; what is cut short is an
// error and nothing else.
func TestMessagesRoundTrip(t *testing.T) {
	for _, h := range []wire.CallHead{
		{},
		{Task: "t"},
		{Task: "t", Signature: "func(int) int"},
		{Task: "a longer name", Timeout: math.MaxInt64, Deadline: math.MaxInt64, Discard: true, Signature: "s"},
		{Deadline: -1},
	} {
		b := h.Append(nil)
		got, err := wire.ParseCallHead(b)
		require.NoError(t, err)
		require.Equal(t, h, got)
	}
	for _, i := range []wire.Interruption{{}, {Deadline: true}, {Cause: []byte("cause")}} {
		got, err := wire.ParseInterruption(i.Append(nil))
		require.NoError(t, err)
		require.Equal(t, i.Deadline, got.Deadline)
		require.Equal(t, string(i.Cause), string(got.Cause))
	}
	_, err := wire.ParseInterruption(nil)
	require.Error(t, err)
}

func FuzzFrames(f *testing.F) {
	f.Add(wire.Append(nil, wire.Header{Kind: wire.KindCall, Seq: 1, Item: 1}, (&wire.CallHead{Task: "t"}).Append(nil)))
	f.Add(wire.Append(wire.Append(nil, wire.Header{Kind: wire.KindInterrupt}, []byte{1}), wire.Header{}, make([]byte, 70<<10)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := wire.NewReader(bytes.NewReader(b), 1<<20, true)
		for read := 0; ; {
			fr, err := r.Next()
			if err != nil {
				return
			}
			if read += 24 + len(fr.Payload); read > len(b) || uint64(len(fr.Payload)) != fr.Len {
				t.Fatalf("%d bytes read of %d", read, len(b))
			}
			if h, err := wire.ParseCallHead(fr.Payload); err == nil {
				if again, err := wire.ParseCallHead(h.Append(nil)); err != nil || again != h {
					t.Fatalf("%+v became %+v, %v", h, again, err)
				}
			}
			_, _ = wire.ParseInterruption(fr.Payload)
		}
	})
}
