package wire_test

import (
	bin "encoding/binary"
	"encoding/gob"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

type (
	myInt      int
	myFloat    float32
	myString   string
	myBytes    []byte
	myByte     byte
	myUnit     struct{}
	texted     int // gob does not look at its methods
	halfBinary int
	own        int
)

func (texted) MarshalText() ([]byte, error)       { return []byte("text"), nil }
func (*texted) UnmarshalText([]byte) error        { return nil }
func (halfBinary) MarshalBinary() ([]byte, error) { return nil, nil }
func (o own) GobEncode() ([]byte, error)          { return []byte{byte(o)}, nil }
func (o *own) GobDecode(b []byte) error           { *o = own(b[0]); return nil }
func (myUnit) String() string                     { return "unit" }

func plainOf[T any]() wire.Plain { return wire.PlainOf(reflect.TypeFor[T]()) }

func direct[T any]() bool { return wire.Direct(reflect.TypeFor[T]()) }

// encoded returns the bytes of v.
func encoded[T any](v T) string {
	return string(wire.AppendPlain(nil, plainOf[T](), unsafe.Pointer(&v)))
}

func decoded[T any](b string) (v T, err error) {
	err = wire.DecodePlain([]byte(b), plainOf[T](), unsafe.Pointer(&v))
	return v, err
}

func TestPlainOf(t *testing.T) {
	for name, k := range map[string]wire.Plain{
		"bool": plainOf[bool](), "int": plainOf[int](), "uintptr": plainOf[uintptr](), "float32": plainOf[float32](),
		"complex64": plainOf[complex64](), "string": plainOf[string](), "[]byte": plainOf[[]byte](), "struct{}": plainOf[struct{}](),
		"named int": plainOf[myInt](), "named string": plainOf[myString](), "named bytes": plainOf[myBytes](),
		"named unit": plainOf[myUnit](), "Duration": plainOf[time.Duration](), "text": plainOf[texted](),
	} {
		require.NotZero(t, k, name)
	}
	for name, k := range map[string]wire.Plain{
		"own": plainOf[own](), "half": plainOf[halfBinary](), "slice of named bytes": plainOf[[]myByte](), "array": plainOf[[4]byte](),
		"no bytes": plainOf[[0]int](), "struct": plainOf[struct{ A int }](), "any": plainOf[any](), "pointer": plainOf[*int](),
		"ints": plainOf[[]int](), "map": plainOf[map[string]int](), "chan": plainOf[chan int](), "func": plainOf[func()](),
		"unsafe.Pointer": plainOf[unsafe.Pointer](), "Time": plainOf[time.Time](), "error": plainOf[error](),
	} {
		require.Zero(t, k, name)
	}
}

func TestDirect(t *testing.T) {
	type list struct {
		Next *list
		M    map[myString][]float64
	}
	for name, is := range map[string]bool{"int": direct[int](), "list": direct[list](), "pointers": direct[**[3]myInt]()} {
		require.True(t, is, name)
	}
	for name, is := range map[string]bool{
		"any": direct[any](), "own": direct[own](), "Time": direct[map[string]time.Time](), "field": direct[struct{ A []struct{ V any } }](),
		"key": direct[map[any]int](), "pointer to own": direct[[]*own](),
	} {
		require.False(t, is, name)
	}
}

// plainTrip sends values by themselves, packed, and as messages between others of a
// stream, and compares their bits.
func plainTrip[T any](t *testing.T, values ...T) {
	t.Helper()
	k := plainOf[T]()
	t.Run(reflect.TypeFor[T]().String(), func(t *testing.T) {
		e := wireEnd{enc: wire.NewEncoder(1 << 20)}
		for _, v := range values {
			b := encoded(v)
			require.Len(t, b, k.Len(unsafe.Pointer(&v)))
			got, err := decoded[T](b)
			require.NoError(t, err)
			require.Equal(t, b, encoded(got))

			require.NoError(t, e.decode(must(e.encode(&wire.Box[plain]{V: plain{1, 2}})), new(wire.Box[plain])))
			f := must(e.encode(&wire.Box[T]{V: v}))
			require.Equal(t, wire.FlagPlain, f.Flags)
			require.Equal(t, b, string(f.Payload))
			var box wire.Box[T]
			require.NoError(t, e.decode(f, &box))
			for i := range f.Payload {
				f.Payload[i] = 0xff // what was decoded keeps nothing of it
			}
			require.Equal(t, b, encoded(box.V))
		}
		packed, n := wire.AppendPacked(nil, k, unsafe.Pointer(unsafe.SliceData(values)), reflect.TypeFor[T]().Size(), len(values), 1<<20)
		require.Equal(t, len(values), n)
		var all [][]byte
		for len(packed) > 0 {
			v, rest, err := wire.Cut(packed)
			require.NoError(t, err)
			all, packed = append(all, v), rest
		}
		got := make([]T, len(values))
		n, err := wire.DecodePacked(all, k, unsafe.Pointer(unsafe.SliceData(got)), reflect.TypeFor[T]().Size())
		require.NoError(t, err)
		require.Equal(t, len(values), n)
		for i := range got {
			require.Equal(t, encoded(values[i]), encoded(got[i]))
		}
	})
}

func must(f wire.Frame, err error) wire.Frame {
	if err != nil {
		panic(err)
	}
	return f
}

func TestPlainRoundTrip(t *testing.T) {
	plainTrip(t, false, true)
	plainTrip(t, 0, 1, -1, math.MinInt, math.MaxInt)
	plainTrip[int8](t, 0, -1, math.MinInt8, math.MaxInt8)
	plainTrip[int16](t, 0, -1, math.MinInt16, math.MaxInt16)
	plainTrip[int32](t, 0, -1, math.MinInt32, math.MaxInt32)
	plainTrip[int64](t, 0, -1, math.MinInt64, math.MaxInt64)
	plainTrip[uint](t, 0, 1, math.MaxUint)
	plainTrip[uint8](t, 0, 1, math.MaxUint8)
	plainTrip[uint16](t, 0, 1, math.MaxUint16)
	plainTrip[uint32](t, 0, 1, math.MaxUint32)
	plainTrip[uint64](t, 0, 1, math.MaxUint64)
	plainTrip[uintptr](t, 0, 1, math.MaxUint)
	negative := math.Copysign(0, -1) // gob loses its sign
	plainTrip(t, 0, negative, math.Inf(1), math.NaN(), math.Float64frombits(0x7ff0_0000_0000_0001), math.SmallestNonzeroFloat64)
	plainTrip(t, 0, float32(negative), float32(math.Inf(-1)), math.Float32frombits(0x7fc0_0000), math.MaxFloat32)
	plainTrip(t, 0, complex(negative, math.NaN()), 3-4i)
	plainTrip(t, 0, complex(float32(negative), float32(math.NaN())), 3-4i)
	plainTrip(t, "", "a", "\xff\x00", strings.Repeat("long", 100), strings.Repeat("x", 127), strings.Repeat("x", 128))
	plainTrip(t, nil, []byte{}, []byte{0}, make([]byte, 300))
	plainTrip(t, struct{}{}, struct{}{})
	plainTrip(t, myUnit{})
	plainTrip[myInt](t, 0, -5)
	plainTrip[myFloat](t, 0, 0.1)
	plainTrip[myString](t, "", "named")
	plainTrip[myBytes](t, nil, myBytes("named"))
	plainTrip(t, time.Hour, -1)
	plainTrip[texted](t, 7)
}

// An empty slice arrives as nil, and so does one of gob's in a Box.
func TestPlainEmptyBytes(t *testing.T) {
	for _, b := range [][]byte{nil, {}} {
		got, err := decoded[[]byte](encoded(b))
		require.NoError(t, err)
		require.Nil(t, got)
	}
}

// The value is left as it is by what is none of its type.
func TestPlainRefused(t *testing.T) {
	word := func(x uint64) []byte { return bin.LittleEndian.AppendUint64(nil, x) }
	for name, err := range map[string]error{
		"int8 over":       refused[int8](t, 5, word(128)),
		"int8 under":      refused[int8](t, 5, word(uint64(math.MaxUint64)-128)),
		"int16":           refused[int16](t, 5, word(1<<15)),
		"int32":           refused[int32](t, 5, word(1<<31)),
		"uint8":           refused[uint8](t, 5, word(256)),
		"uint16":          refused[uint16](t, 5, word(1<<16)),
		"uint32":          refused[uint32](t, 5, word(1<<32)),
		"float32":         refused[float32](t, 5, word(1<<32)),
		"complex64":       refused[complex64](t, 5, append(word(0), word(1<<32)...)),
		"bool":            refused(t, true, []byte{2}),
		"no bool":         refused(t, true, nil),
		"short":           refused(t, 5, word(1)[:7]),
		"long":            refused(t, 5, append(word(1), 0)),
		"half a complex":  refused(t, 5i, word(1)),
		"more than unit":  refused(t, struct{}{}, []byte{0}),
		"no plain type":   refused(t, own(5), word(1)),
		"nor an empty me": refused(t, []int{5}, nil),
	} {
		require.ErrorContains(t, err, "wire: ", name)
	}
}

func refused[T any](t *testing.T, v T, b []byte) error {
	old := v
	err := wire.DecodePlain(b, plainOf[T](), unsafe.Pointer(&v))
	require.Equal(t, old, v)
	return err
}

// A frame that the receiver's type does not go with is an error of its own value: the
// stream goes on.
func TestPlainFrames(t *testing.T) {
	e := wireEnd{enc: wire.NewEncoder(1 << 20)}
	first := must(e.encode(&wire.Box[plain]{V: plain{1, 2}}))
	require.NoError(t, e.decode(first, new(wire.Box[plain])))
	number := must(e.encode(&wire.Box[int]{V: 5}))
	require.ErrorContains(t, e.decode(number, new(wire.Box[plain])), "plain")
	require.ErrorContains(t, e.decode(number, new(wire.Box[own])), "plain")
	require.ErrorContains(t, e.decode(number, new(wire.Unit)), "takes 0")
	next := must(e.encode(&wire.Box[plain]{V: plain{3, 4}}))
	require.Zero(t, next.Flags, "the stream has gone on")
	require.ErrorContains(t, e.decode(next, new(wire.Box[int])), "gob")
	var got wire.Box[plain]
	require.NoError(t, e.decode(must(e.encode(&wire.Box[plain]{V: plain{5, 6}})), &got))
	require.Equal(t, plain{5, 6}, got.V)
	e.dec.Skip(number)
	for _, flags := range []uint8{wire.FlagAlone, wire.FlagStart, wire.FlagEnd} {
		f := number
		f.Flags |= flags
		require.ErrorContains(t, e.decode(f, new(wire.Box[int])), "plain")
	}
}

// A plain value is held to the limit, in the words that gob's are, and does not end the
// stream, however large it is.
func TestPlainLimit(t *testing.T) {
	e := wireEnd{enc: wire.NewEncoder(1 << 20)}
	must(e.encode(&wire.Box[plain]{}))
	large := must(e.encode(&wire.Box[string]{V: strings.Repeat("x", 1<<20)}))
	require.Equal(t, wire.FlagPlain, large.Flags)
	require.Zero(t, must(e.encode(&wire.Box[plain]{})).Flags)
	_, err := e.encode(&wire.Box[string]{V: strings.Repeat("x", 1<<20+1)})
	require.EqualError(t, err, "1048577 bytes are over the limit of 1048576 for one value")
	_, err = e.encode(&wire.Box[another]{V: another{[]string{strings.Repeat("x", 1<<20)}}})
	require.ErrorContains(t, err, "bytes are over the limit of 1048576 for one value")
}

// Somebody's gob carries a Box and a Unit as it always has.
func TestBoxByGob(t *testing.T) {
	var b strings.Builder
	enc := gob.NewEncoder(&b)
	require.NoError(t, enc.Encode(&wire.Box[int]{V: 5}))
	require.NoError(t, enc.Encode(&wire.Unit{}))
	dec := gob.NewDecoder(strings.NewReader(b.String()))
	var got wire.Box[int]
	require.NoError(t, dec.Decode(&got))
	require.NoError(t, dec.Decode(new(wire.Unit)))
	require.Equal(t, 5, got.V)
}

// AppendPacked stops where there is no more room, and Cut where it is cut off.
func TestPackedRoom(t *testing.T) {
	numbers := []int{1, 2, 3}
	texts := []string{"", "ab", strings.Repeat("x", 128)}
	for _, tt := range []struct{ room, numbers, texts int }{{-1, 0, 0}, {0, 0, 0}, {1, 0, 1}, {8, 0, 2}, {9, 1, 2}, {26, 2, 2}, {133, 3, 2}, {134, 3, 3}, {math.MaxInt, 3, 3}} {
		b, n := wire.AppendPacked([]byte("before"), plainOf[int](), unsafe.Pointer(&numbers[0]), unsafe.Sizeof(numbers[0]), 3, tt.room)
		require.Equal(t, tt.numbers, n, "room %d", tt.room)
		require.Len(t, b, len("before")+9*n)
		b, n = wire.AppendPacked([]byte("before"), plainOf[string](), unsafe.Pointer(&texts[0]), unsafe.Sizeof(texts[0]), 3, tt.room)
		require.Equal(t, tt.texts, n, "room %d", tt.room)
		require.LessOrEqual(t, len(b)-len("before"), max(0, tt.room))
	}
	for _, b := range []string{"", "\x01", "\x05abcd", "\x80", "\x80\x01abc", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		_, _, err := wire.Cut([]byte(b))
		require.Error(t, err, "%q", b)
	}
}

// plainTypes are receivers of all kinds.
var plainTypes = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int16](), reflect.TypeFor[int32](),
	reflect.TypeFor[int64](), reflect.TypeFor[uint](), reflect.TypeFor[uint8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint32](),
	reflect.TypeFor[uint64](), reflect.TypeFor[uintptr](), reflect.TypeFor[float32](), reflect.TypeFor[float64](),
	reflect.TypeFor[complex64](), reflect.TypeFor[complex128](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](),
	reflect.TypeFor[struct{}](), reflect.TypeFor[myInt](), reflect.TypeFor[own](),
}

// FuzzPlain decodes whatever bytes there are as a value of each type: it is refused, or it
// is the one value with those bytes. Packed values likewise.
func FuzzPlain(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{1})
	f.Add(bin.LittleEndian.AppendUint64(nil, 1<<40))
	f.Add([]byte("\x08\x01\x00\x00\x00\x00\x00\x00\x00\x00\x80\x01"))
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, typ := range plainTypes {
			k := wire.PlainOf(typ)
			v := reflect.New(typ)
			if err := wire.DecodePlain(b, k, v.UnsafePointer()); err != nil {
				if !v.Elem().IsZero() {
					t.Fatalf("%v holds %v after %v", typ, v.Elem(), err)
				}
				continue
			}
			if again := wire.AppendPlain(nil, k, v.UnsafePointer()); string(again) != string(b) {
				t.Fatalf("%q decodes as the %v %v, which encodes as %q", b, typ, v.Elem(), again)
			}
		}
		total := 0
		for rest := b; ; {
			v, next, err := wire.Cut(rest)
			if err != nil {
				break
			}
			if total += len(v); cap(v) != len(v) || len(v)+len(next) >= len(rest) {
				t.Fatalf("%q was cut off %q, which leaves %q", v, rest, next)
			}
			rest = next
		}
		if total > len(b) {
			t.Fatal("more was cut off than there is")
		}
	})
}

// BenchmarkPlain is one value there and back: plain, in a stream of gob's, and as gob has
// it alone.
func BenchmarkPlain(b *testing.B) {
	bench := func(name string, v, to any) {
		b.Run(name, func(b *testing.B) {
			enc := wire.NewEncoder(1 << 20)
			var dec wire.Decoder
			b.ReportAllocs()
			for b.Loop() {
				payload, flags, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(v) })
				if err == nil {
					err = dec.Message(wire.Frame{Header: wire.Header{Flags: flags}, Payload: payload.Bytes()}, func(m *wire.Value) error { return m.Decode(to) })
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	bench("plain/int", &wire.Box[int]{V: 5}, new(wire.Box[int]))
	bench("plain/myInt", &wire.Box[myInt]{V: 5}, new(wire.Box[myInt]))
	for _, size := range []int{16, 4096, 1 << 19} {
		s := strings.Repeat("x", size)
		bench(fmt.Sprintf("plain/string=%d", size), &wire.Box[string]{V: s}, new(wire.Box[string]))
		bench(fmt.Sprintf("stream/string=%d", size), &wire.Box[struct{ S string }]{V: struct{ S string }{s}}, new(wire.Box[struct{ S string }]))
	}
	bench("stream/int", &wire.Box[struct{ N int }]{V: struct{ N int }{5}}, new(wire.Box[struct{ N int }]))
}
