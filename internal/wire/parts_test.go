package wire_test

import (
	"bytes"
	endian "encoding/binary" // binary is a type of the tests
	"encoding/gob"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

type (
	octet byte
	octav []octet

	// A file has bytes at all the places where they are found.
	file struct {
		Name  string
		Data  []byte
		Odd   octav
		Head  page
		Pages [2]page
		Next  *page
		Far   **page
		Lines [][]byte
		Links []*page
		Flat  []page
		Ptr   *[]byte
		Made  time.Time
	}
	page struct {
		N    int
		Text []byte
	}

	// A chest has them where gob alone knows of them.
	chest struct {
		ByName map[string][]byte
		Any    any
		Grid   [5000]byte
		Own    sealed
	}

	// A rope is a type that recurses.
	rope struct {
		Data []byte
		Next *rope
		Ends []rope
	}

	// A sealed thing encodes itself by a method of its address, so it may not be copied.
	sealed  struct{ b []byte }
	holding struct {
		Data []byte
		Own  sealed
		Page *page
	}

	// openFile holds an interface, so it is encoded alone.
	openFile struct {
		Data []byte
		Any  any
	}
)

func (s *sealed) GobEncode() ([]byte, error) { return s.b, nil }
func (s *sealed) GobDecode(b []byte) error   { s.b = bytes.Clone(b); return nil }
func content(n int, seed byte) (b []byte)    { return contentOf[[]byte](n, seed) }
func contentOf[T ~[]E, E ~byte](n int, seed byte) T {
	if n == 0 {
		return nil
	}
	b := make(T, n)
	for i := range b {
		b[i] = E(byte(i)*7 + seed)
	}
	return b
}

// aFile returns a file all of whose bytes are of n bytes.
func aFile(n int) *file {
	far, ptr := &page{8, content(n, 8)}, content(n, 13)
	return &file{
		Name: "a", Data: content(n, 1), Odd: contentOf[octav](n, 2), Head: page{3, content(n, 3)},
		Pages: [2]page{{4, content(n, 4)}, {5, content(n, 5)}}, Next: &page{6, content(n, 6)}, Far: &far,
		Lines: [][]byte{content(n, 9), nil, content(n+1, 10)}, Links: []*page{{11, content(n, 11)}, {}},
		Flat: []page{{}, {12, content(n, 12)}}, Ptr: &ptr, Made: time.Unix(1, 0).UTC(),
	}
}

// viaGob returns what v is after a way through gob alone.
func viaGob[T any](tb testing.TB, v *T) *T {
	tb.Helper()
	var b bytes.Buffer
	require.NoError(tb, gob.NewEncoder(&b).Encode(v))
	got := new(T)
	require.NoError(tb, gob.NewDecoder(&b).Decode(got))
	return got
}

// Values with large bytes in them arrive as gob would have brought them, on a stream
// that goes on, and leave the sender's as they are.
func TestParts(t *testing.T) {
	const at = wire.LeastPart
	for _, n := range []int{0, 1, 12, at - 1, at, at + 1, 100_000, 1 << 20} {
		e := &wireEnd{enc: wire.NewEncoder(1 << 30)}
		partsTrip(t, e, aFile(n), n >= at-1)
		partsTrip(t, e, &plain{1, 2}, false)
		partsTrip(t, e, aFile(n), n >= at-1)
		partsTrip(t, e, &wire.Box[page]{V: page{1, content(n, 1)}}, n >= at)
		partsTrip(t, e, &wire.Box[*page]{V: &page{1, content(n, 1)}}, n >= at)
		partsTrip(t, e, &wire.Box[[]page]{V: []page{{1, nil}, {2, content(n, 1)}, {3, []byte{}}}}, n >= at)
		partsTrip(t, e, &wire.Box[[][]byte]{V: [][]byte{{}, nil, content(n, 1), content(n, 2)}}, n >= at)
		partsTrip(t, e, &wire.Box[[3][][]byte]{V: [3][][]byte{1: {content(n, 1)}}}, n >= at)
		partsTrip(t, e, &wire.Box[map[string][]byte]{V: map[string][]byte{"a": content(n, 1)}}, false)
		partsTrip(t, e, &chest{ByName: map[string][]byte{"a": content(n, 1)}, Any: content(n, 2), Own: sealed{content(n, 3)}}, false)
		partsTrip(t, e, &holding{content(n, 1), sealed{content(n, 2)}, &page{1, content(n, 3)}}, false)
		partsTrip(t, e, &wire.Box[*rope]{V: &rope{nil, &rope{content(n, 1), &rope{Ends: []rope{{}, {Data: content(n, 2)}}}, nil}, nil}}, n >= at)
		partsTrip(t, e, &openFile{content(n, 1), hidden{1}}, n >= at)
		partsTrip(t, e, &openFile{content(n, 1), content(n, 2)}, n >= at)
		partsTrip(t, e, &wire.Box[*page]{}, false)
	}
}

func partsTrip[T any](t *testing.T, e *wireEnd, v *T, parts bool) {
	t.Helper()
	want := viaGob(t, v)
	f, err := e.encode(v)
	require.NoError(t, err)
	require.Equal(t, parts, f.Flags&wire.FlagParts != 0, "%T: its flags are %b", v, f.Flags)
	require.True(t, reflect.DeepEqual(want, viaGob(t, v)), "%T is not what it was", v)
	shared := slices.Clone(f.Payload)
	got := new(T)
	require.NoError(t, e.decode(wire.Frame{Header: f.Header, Payload: shared}, got))
	clear(shared) // what was received is the receiver's own
	require.True(t, reflect.DeepEqual(want, got), "%T is not what gob makes of it", v)
}

// A stream goes on after large parts, and describes its types once.
func TestPartsOnAStream(t *testing.T) {
	e := &wireEnd{enc: wire.NewEncoder(1 << 30)}
	v := &page{1, content(1<<20, 1)}
	first, err := e.encode(v)
	require.NoError(t, err)
	require.Equal(t, wire.FlagParts|wire.FlagStart, first.Flags)
	second, err := e.encode(v)
	require.NoError(t, err)
	require.Equal(t, wire.FlagParts, second.Flags)
	require.Less(t, len(second.Payload), len(v.Text)+64)
	third, err := e.encode(&page{2, []byte("short")})
	require.NoError(t, err)
	require.Zero(t, third.Flags)
	got := new(page)
	require.NoError(t, e.decode(first, got))
	e.dec.Skip(second)
	got = new(page)
	require.NoError(t, e.decode(third, got))
	require.Equal(t, page{2, []byte("short")}, *got)
}

// Two that are one in the sender are two in the receiver, and none is seen by the other.
func TestPartsAreApart(t *testing.T) {
	e := &wireEnd{enc: wire.NewEncoder(1 << 30)}
	b := content(1<<14, 1)
	p := &page{1, b}
	f, err := e.encode(&file{Data: b, Next: p, Links: []*page{p, p}, Lines: [][]byte{b, b[:1<<13]}})
	require.NoError(t, err)
	got := new(file)
	require.NoError(t, e.decode(f, got))
	for _, own := range [][]byte{got.Data, got.Next.Text, got.Links[0].Text, got.Links[1].Text, got.Lines[0], got.Lines[1]} {
		require.True(t, bytes.HasPrefix(b, own))
		clear(own)
		_ = append(own, 1, 2, 3)
	}
	require.Equal(t, content(1<<14, 1), b)
}

// The sender's value may be read, and be sent elsewhere, at the same time.
func TestPartsLeaveTheValueBe(t *testing.T) {
	v := aFile(1 << 14)
	v.Links[1] = v.Links[0]
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			e := wire.NewEncoder(1 << 30)
			for range 20 {
				p, flags, err := e.Message(func(e *wire.Encoder) error { return e.Encode(v) })
				if err != nil || flags&wire.FlagParts == 0 {
					t.Errorf("flags %b, %v", flags, err)
				}
				p.CopyTo(make([]byte, p.Len()))
			}
		})
	}
	all.Wait()
}

// Bytes that look like a mark are none.
func TestPartsMarks(t *testing.T) {
	e := &wireEnd{enc: wire.NewEncoder(1 << 30)}
	f, err := e.encode(&wire.Box[[][]byte]{V: [][]byte{content(1<<14, 1)}})
	require.NoError(t, err)
	mark := endian.LittleEndian.AppendUint32(slices.Clone(f.Payload[8:16]), 0)
	require.Equal(t, 2, bytes.Count(f.Payload, mark[:8])) // so it is one
	require.NoError(t, e.decode(f, new(wire.Box[[][]byte])))
	v := &wire.Box[[][]byte]{V: [][]byte{mark, content(1<<14, 1), mark}}
	f, err = e.encode(v)
	require.NoError(t, err)
	got := new(wire.Box[[][]byte])
	require.NoError(t, e.decode(f, got))
	require.Equal(t, v, got)
}

// A receiver whose type is not quite the same gets what it has fields for.
func TestPartsByName(t *testing.T) {
	type before struct {
		A, B, C []byte
		D       []byte
	}
	type after struct {
		D *[]byte
		N int
		C []byte
		A []byte
	}
	e := &wireEnd{enc: wire.NewEncoder(1 << 30)}
	v := &before{content(5000, 1), content(5001, 2), content(5002, 3), content(5003, 4)}
	f, err := e.encode(v)
	require.NoError(t, err)
	got := new(after)
	require.NoError(t, e.decode(f, got))
	require.Equal(t, &after{A: v.A, C: v.C, D: &v.D}, got)
}

// The limit is that of all bytes, whichever way they go.
func TestPartsLimit(t *testing.T) {
	e := &wireEnd{enc: wire.NewEncoder(20_000)}
	_, err := e.encode(&page{1, content(20_001, 1)})
	require.EqualError(t, err, "20001 bytes are over the limit of 20000 for one value")
	_, err = e.encode(&page{1, content(20_000, 1)})
	require.ErrorContains(t, err, "are over the limit of 20000 for one value")
	_, err = e.encode(&file{Data: content(10_000, 1), Name: strings.Repeat("a", 10_001)})
	require.ErrorContains(t, err, "are over the limit of 20000 for one value")
	partsTrip(t, e, &page{1, content(19_000, 1)}, true)
}

// Of a payload in pieces, Bytes and CopyTo give the same.
func TestPayload(t *testing.T) {
	enc := wire.NewEncoder(1 << 30)
	for _, v := range []any{&wire.Box[int]{}, &wire.Box[string]{V: strings.Repeat("a", 5000)}, &plain{}, aFile(1 << 14)} {
		p, flags, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(v) })
		require.NoError(t, err)
		b := make([]byte, p.Len())
		p.CopyTo(b)
		require.Equal(t, b, p.Bytes())
		whole, is := p.Whole()
		require.Equal(t, flags&wire.FlagParts == 0, is)
		require.Equal(t, is, bytes.Equal(whole, b))
	}
	require.Zero(t, wire.Payload{}.Len())
	require.Empty(t, wire.Payload{}.Bytes())
}

// hostileParts are payloads that no Encoder writes, by what is wrong with them.
func hostileParts(tb testing.TB) map[string][]byte {
	f, err := (&wireEnd{enc: wire.NewEncoder(1 << 20)}).encode(&wire.Box[[][]byte]{V: [][]byte{content(5000, 1), content(6000, 2)}})
	require.NoError(tb, err)
	good := f.Payload
	nonce := good[8:16]
	headLen := int(endian.LittleEndian.Uint64(good))
	rest := good[headLen:]
	gobOf := func(marks ...uint32) []byte {
		var v wire.Box[[][]byte]
		for _, m := range marks {
			v.V = append(v.V, endian.LittleEndian.AppendUint32(slices.Clone(nonce), m))
		}
		var b bytes.Buffer
		require.NoError(tb, gob.NewEncoder(&b).Encode(&v))
		return b.Bytes()
	}
	build := func(extra int, gob []byte, n uint64, lens ...uint64) []byte {
		b := endian.AppendUvarint(append(make([]byte, 8), nonce...), n)
		for _, n := range lens {
			b = endian.AppendUvarint(b, n)
		}
		b = append(b, gob...)
		endian.LittleEndian.PutUint64(b, uint64(len(b)+extra))
		return append(b, rest...)
	}
	with := func(at int, x uint64) []byte {
		b := slices.Clone(good)
		endian.LittleEndian.PutUint64(b[at:], x)
		return b
	}
	return map[string][]byte{
		"empty":               nil,
		"cut":                 good[:12],
		"no head":             with(0, 0),
		"short head":          with(0, 15),
		"head of 16":          with(0, 16),
		"long head":           with(0, uint64(len(good)+1)),
		"endless head":        with(0, 1<<63),
		"all is head":         with(0, uint64(len(good))),
		"less":                good[:len(good)-1],
		"more":                append(slices.Clone(good), 1),
		"no parts":            build(0, gobOf(0), 0),
		"many parts":          build(0, gobOf(0), 1<<62),
		"one too many":        build(0, gobOf(0, 1), 3, 4096, 4096, 2808),
		"overflow":            build(0, gobOf(0, 1), 2, 1<<64-1, 11001),
		"too short a part":    build(0, gobOf(0, 1), 2, 10999, 1),
		"empty part":          build(0, gobOf(0, 1), 2, 11000, 0),
		"part out of reach":   build(0, gobOf(0, 1), 2, 5000, 6001),
		"bytes to spare":      build(0, gobOf(0, 1), 2, 5000, 5999),
		"no gob":              build(0, nil, 2, 5000, 6000),
		"nothing but lengths": build(0, nil, 2, 5000),
		"head into the parts": build(1, gobOf(0, 1), 2, 5000, 5999),
		"same part twice":     build(0, gobOf(0, 0), 2, 5000, 6000),
		"no such part":        build(0, gobOf(0, 2), 2, 5000, 6000),
		"far part":            build(0, gobOf(0, 1<<32-1), 2, 5000, 6000),
	}
}

// What no Encoder writes is an error, and the next stream is fine.
func TestHostileParts(t *testing.T) {
	for name, b := range hostileParts(t) {
		t.Run(name, func(t *testing.T) {
			for _, way := range []func(*wire.Decoder, wire.Frame, func(*wire.Value) error) error{(*wire.Decoder).Message, (*wire.Decoder).Shared} {
				e := &wireEnd{enc: wire.NewEncoder(1 << 20)}
				f := wire.Frame{Header: wire.Header{Flags: wire.FlagStart | wire.FlagParts}, Payload: b}
				require.Error(t, way(&e.dec, f, func(v *wire.Value) error { return v.Decode(new(wire.Box[[][]byte])) }))
				partsTrip(t, e, &page{1, content(5000, 1)}, true)
			}
		})
	}
	t.Run("plain", func(t *testing.T) {
		f := wire.Frame{Header: wire.Header{Flags: wire.FlagPlain | wire.FlagParts}, Payload: make([]byte, 100)}
		require.Error(t, new(wireEnd).decode(f, new(wire.Box[[]byte])))
	})
	t.Run("a stream that never started", func(t *testing.T) {
		f, err := (&wireEnd{enc: wire.NewEncoder(1 << 20)}).encode(&page{1, content(5000, 1)})
		require.NoError(t, err)
		f.Flags &^= wire.FlagStart
		e := &wireEnd{enc: wire.NewEncoder(1 << 20)}
		require.Error(t, e.decode(f, new(page)))
		partsTrip(t, e, &page{1, []byte("short")}, false)
	})
}

// A part that nobody puts anywhere is no fault of the value: the receiver has no such field.
func TestPartsUnused(t *testing.T) {
	e := &wireEnd{enc: wire.NewEncoder(1 << 20)}
	f, err := e.encode(&page{7, content(5000, 1)})
	require.NoError(t, err)
	var got struct{ N int }
	require.NoError(t, e.decode(f, &got))
	require.Equal(t, 7, got.N)
}

// The bytes may change while they are decoded: then the value does, or there is an error.
// What was checked does not.
func TestPartsChange(t *testing.T) {
	f, err := (&wireEnd{enc: wire.NewEncoder(1 << 20)}).encode(aFile(5000))
	require.NoError(t, err)
	headLen := endian.LittleEndian.Uint64(f.Payload)
	e := &wireEnd{}
	got := new(file)
	require.NoError(t, e.dec.Shared(f, func(v *wire.Value) error {
		for i := range f.Payload {
			f.Payload[i] = 0xff
		}
		return v.Decode(got)
	}))
	require.Greater(t, len(f.Payload), int(headLen))
	require.Equal(t, "a", got.Name)
	require.Equal(t, bytes.Repeat([]byte{0xff}, 5000), got.Data)
}

// A value that is decoded before an error in the middle takes nothing along.
func TestPartsFail(t *testing.T) {
	e := &wireEnd{enc: wire.NewEncoder(1 << 20)}
	v := &wire.Box[struct {
		Data []byte
		M    *moody
	}]{}
	v.V.Data, v.V.M = content(5000, 1), &moody{"encode panic"}
	_, err := e.encode(v)
	require.Error(t, err)
	partsTrip(t, e, &page{1, content(5000, 1)}, true)
	v.V.M = &moody{"decode exit"}
	f, err := e.encode(v)
	require.NoError(t, err)
	require.NotZero(t, f.Flags&wire.FlagParts)
	got := &wire.Box[struct {
		Data []byte
		M    *moody
	}]{}
	require.Error(t, e.decode(f, got))
	partsTrip(t, e, &page{1, content(5000, 1)}, true)
	partsTrip(t, e, &page{1, nil}, false)
}

// FuzzParts has a Decoder decode what it likes into a type with all places, both ways, and
// then a good value.
func FuzzParts(f *testing.F) {
	for _, v := range []any{aFile(0), aFile(5000), &openFile{content(5000, 1), hidden{1}}} {
		fr, err := (&wireEnd{enc: wire.NewEncoder(1 << 20)}).encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(fr.Payload, fr.Flags)
	}
	for _, b := range hostileParts(f) {
		f.Add(b, wire.FlagParts)
	}
	f.Fuzz(func(t *testing.T, b []byte, flags byte) {
		for _, into := range []any{new(file), new(openFile), new(wire.Box[[][]byte])} {
			e := &wireEnd{enc: wire.NewEncoder(1 << 20)}
			fr := wire.Frame{Header: wire.Header{Flags: flags | wire.FlagStart}, Payload: b}
			err := e.dec.Shared(fr, func(v *wire.Value) error { return v.Decode(into) })
			if n := received(reflect.ValueOf(into)); err == nil && n > len(b) {
				t.Fatalf("%d bytes come out of %d", n, len(b))
			}
			good, err := e.encode(&page{1, content(5000, 1)})
			if err != nil {
				t.Fatal(err)
			}
			got := new(page)
			if err := e.decode(good, got); err != nil || !bytes.Equal(got.Text, content(5000, 1)) {
				t.Fatalf("after %x: %v", b, err)
			}
		}
	})
}

// received returns how long all []byte in v are together.
func received(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			n = received(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			n += received(field)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Len()
		}
		for i := range v.Len() {
			n += received(v.Index(i))
		}
	}
	return n
}
