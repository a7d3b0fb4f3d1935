package wire_test

import (
	"bytes"
	"encoding/gob"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

// What would end the process is refused: before gob sees it, in little memory, and
// whatever it is decoded into.
func TestHostilePayloads(t *testing.T) {
	for name, tc := range hostile(1 << 20) {
		t.Run(name, func(t *testing.T) {
			defer debug.SetMaxStack(debug.SetMaxStack(32 << 20))
			before := allocated()
			err := wire.Unmarshal(tc.payload, new(wire.Box[any]))
			require.ErrorContains(t, err, tc.want)
			require.Less(t, allocated()-before, uint64(32<<20))
		})
	}
}

// The same bytes with nothing wrong are taken: it is not another mistake of the test
// that has them refused.
func TestHarmlessPayloads(t *testing.T) {
	for name, c := range map[string]craft{
		"slices":            craft{}.slice(65, 65).boxOf(65, repeat(9_999, craft{1}, craft{0}, nil)),
		"arrays":            craft{}.array(65, numInterface, 1).boxOf(65, append(craft{1}, in("int", numInt, craft{0, 2})...)),
		"structs":           craft{}.structOf(65, field{"Next", 65}).boxOf(65, repeat(9_999, craft{1}, craft{0}, craft{0})),
		"in an interface":   craft{}.structOf(65, field{"Next", 65}).boxOf(numInterface, in("linked", 65, repeat(9_000, craft{1}, craft{0}, craft{0}))),
		"maps":              craft{}.mapOf(65, numInt, 65).boxOf(65, repeat(9_999, craft{1, 2}, craft{0}, nil)),
		"interfaces":        craft{}.slice(70, numInterface).boxOf(numInterface, deepInterfaces(maxDepth)),
		"two types in turn": craft{}.slice(65, 66).structOf(66, field{"S", 65}).boxOf(65, repeat(4_999, craft{1, 1}, craft{0}, craft{0})),
		"nested types":      nestedTypes(200),
		"map":               craft{}.mapOf(65, numInt, numInt).boxOf(65, craft{2, 2, 2, 4, 4}),
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, wire.Inspect(c, new(wire.Box[any])))
			if err := wire.Inspect(c, nil); err == nil {
				require.NoError(t, gob.NewDecoder(bytes.NewReader(c)).DecodeValue(reflect.Value{}), "gob takes it, too")
			} else {
				require.ErrorContains(t, err, "an interface in a stream")
			}
		})
	}
	deeper := craft{}.slice(70, numInterface).boxOf(numInterface, deepInterfaces(maxDepth+1))
	require.ErrorContains(t, wire.Inspect(deeper, new(wire.Box[any])), "nested deeper")
}

// What passes can be decoded and skipped on a stack that is small beside the one that a
// process has: a value as deep as can be, and a chain of as many types as can be.
func TestDeepestFits(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(64 << 20))
	gob.Register([]any{})
	gob.Register(nest{})
	var chain craft
	const n = 9_990
	for i := range int64(n) {
		chain = chain.structOf(65+i, field{"Next", 66 + i})
	}
	chain = chain.structOf(65+n, field{"V", numInt})
	for name, tc := range map[string]struct {
		payload craft
		into    any
	}{
		"interfaces":     {craft{}.slice(70, numInterface).boxOf(numInterface, deepInterfaces(maxDepth)), new(wire.Box[any])},
		"slices":         {craft{}.slice(65, 65).boxOf(65, repeat(9_999, craft{1}, craft{0}, nil)), new(wire.Box[nest])},
		"maps":           {craft{}.mapOf(65, numInt, 65).boxOf(65, repeat(9_999, craft{1, 2}, craft{0}, nil)), new(wire.Box[anyDeepMap])},
		"structs":        {craft{}.structOf(65, field{"Next", 65}).boxOf(65, repeat(9_999, craft{1}, craft{0}, craft{0})), new(wire.Box[*linked])},
		"chain of types": {chain.boxOf(65, repeat(n, craft{1}, craft{0}, craft{0})), new(wire.Box[*linked])},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, wire.Unmarshal(tc.payload, tc.into))
			require.NotZero(t, reflect.ValueOf(tc.into).Elem().Field(0).Interface())
			require.Error(t, wire.Unmarshal(tc.payload, &struct{ Other int }{}), "no field fits")
			if wire.Inspect(tc.payload, nil) == nil {
				require.NoError(t, gob.NewDecoder(bytes.NewReader(tc.payload)).DecodeValue(reflect.Value{}))
			}
		})
	}
}

type anyDeepMap map[int]anyDeepMap

// A stream forgets nothing: what was described counts against its bounds, and a frame
// that is refused ends it.
func TestStreamIsBounded(t *testing.T) {
	name := strings.Repeat("n", 1<<20)
	var dec wire.Decoder
	frame := func(id int64, flags uint8) wire.Frame {
		c := craft{}.structOf(id, field{name, numInt}).message(craft{}.int(id).uint(0))
		return wire.Frame{Header: wire.Header{Flags: flags}, Payload: c}
	}
	skip := func(f wire.Frame) error { return dec.Message(f, func(*wire.Value) error { return nil }) }
	require.NoError(t, skip(frame(64, wire.FlagStart)))
	for id := range int64(14) {
		require.NoError(t, skip(frame(65+id, 0)))
	}
	require.ErrorContains(t, skip(frame(100, 0)), "more types than a program has")
	require.ErrorContains(t, skip(frame(101, 0)), "has not started")
	require.NoError(t, skip(frame(64, wire.FlagStart)))
}

// An interface in a stream is refused wherever it is, also in a type that is found to
// have one only after others that recurse through it: who skips a nil interface goes on
// in the wrong place, and gob alone overflows its stack here.
func TestInterfacesInAStream(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(16 << 20))
	list := craft{}.structOf(70, field{"Next", 70})
	// type a struct{ B b; I any; L list }, type b struct{ A []a }
	types := list.structOf(66, field{"B", 67}, field{"I", numInterface}, field{"L", 70}).slice(68, 66).structOf(67, field{"A", 68})
	// What follows the nil interface is, to who skips it, a number of bytes to pass over, and a list without end.
	trap := append(craft{0, 2, 0}, repeat(200_000, craft{1}, craft{0}, craft{0})...)
	c := types.boxOf(67, append(append(craft{1, 1, 2}, trap...), 0, 0))
	var dec wire.Decoder
	err := dec.Message(wire.Frame{Header: wire.Header{Flags: wire.FlagStart}, Payload: c}, func(*wire.Value) error { return nil })
	require.ErrorContains(t, err, "an interface in a stream")
}

// A slice's word for its length is good for 10 MiB, and so is that of the one in it, and
// so on: through a receiver that recurses, some hundred KiB could have had many GiB.
func TestSlicesInOneAnother(t *testing.T) {
	c, v := craft{}, craft{}
	const n = 2_000
	for i := range int64(n) {
		c = c.slice(100+2*i, 101+2*i).structOf(101+2*i, field{"Kids", 102 + 2*i})
		v = append(v.uint(400_000), 1)
	}
	c = c.slice(100+2*n, 98).structOf(98)
	c = c.structOf(64, field{"Kids", 100}).message(append(craft{}.int(64).uint(1), append(v, make([]byte, 500_000)...)...))
	before := allocated()
	require.ErrorContains(t, wire.Unmarshal(c, new(bush)), "cut off")
	require.Less(t, allocated()-before, uint64(32<<20))
}

type bush struct{ Kids []bush }

// Inspectors at work at once have nothing in common. They used to write to gob's own
// types, which all of them share: the race detector says so, once a process.
func TestInspectAtOnce(t *testing.T) {
	b, err := wire.Marshal(&wire.Box[zoo]{V: zoo{Any: []any{1, "s", 2i}}})
	require.NoError(t, err)
	if os.Getenv("WIRE_TEST_AT_ONCE") == "" { // a fresh process is the one that has used none of them
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInspectAtOnce$")
		cmd.Env = append(os.Environ(), "WIRE_TEST_AT_ONCE=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { assert.NoError(t, wire.Unmarshal(b, new(wire.Box[zoo]))) })
	}
	wg.Wait()
}

// allocated returns how many bytes were allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// zoo has something of all that gob knows.
type zoo struct {
	N    int
	U    uint8
	F    float32
	C    complex128
	B    []byte
	S    string
	A    [3]int
	AA   [2][2]string
	L    []float64
	LL   [][]bool
	M    map[string]int
	MM   map[zooKey][]zooKey
	T    time.Time
	Big  *big.Int
	Any  any
	Kids []*zoo
	Nest nest
	Next *zoo
}

type zooKey struct {
	A int
	B string
}

func init() {
	gob.Register(zoo{})
	gob.Register(&zooKey{})
	gob.Register([]any{})
	gob.Register(map[string]any{})
	gob.Register(map[zooKey]any{})
	gob.Register([2]any{})
	gob.Register(time.Time{})
	gob.Register(new(big.Int))
	gob.Register(nest{})
	gob.Register(zooEnum(0))
	gob.Register(zooText{})
	gob.Register(fieldsOf{})
	gob.Register([]fieldsOf{})
	gob.Register(map[string]ringOf{})
	gob.Register(map[netip.Addr]*[2]fieldsOf{})
}

type zooEnum int8

type fieldsOf struct {
	L []any
	M map[string]*fieldsOf
}

// ringOf comes to itself by maps and slices alone.
type ringOf struct {
	Rest []map[string]ringOf
	Any  any
}

// zooText encodes itself, and says so by a method of its pointer.
type zooText struct{ s string }

func (z zooText) MarshalBinary() ([]byte, error)  { return []byte(z.s), nil }
func (z *zooText) UnmarshalBinary(b []byte) error { z.s = string(b); return nil }

// random returns a value of at most depth levels.
func random(r *rand.Rand, depth int) any {
	n := 17
	if depth == 0 {
		n = 10
	}
	switch r.IntN(n) {
	case 9:
		return nil
	case 0:
		return r.Int() - r.Int()
	case 1:
		return strconv.Itoa(r.Int())
	case 2:
		return []byte(strconv.Itoa(r.Int()))
	case 3:
		return []float64{r.Float64(), math.Inf(1)}
	case 4:
		return time.Unix(r.Int64N(1<<33), 0).UTC()
	case 5:
		return big.NewInt(r.Int64())
	case 6:
		return zooEnum(r.IntN(100))
	case 7:
		return &zooKey{r.IntN(10), "b"}
	case 8:
		return zooText{strconv.Itoa(r.Int())}
	case 10:
		return []any{random(r, depth-1), random(r, depth-1)}
	case 11:
		return map[string]any{"a": random(r, depth-1), "b": random(r, depth-1)}
	case 12:
		return map[zooKey]any{{1, "x"}: random(r, depth-1)}
	case 13:
		return [2]any{random(r, depth-1), random(r, depth-1)}
	case 15:
		return fieldsOf{[]any{nil, 1}, map[string]*fieldsOf{"a": {L: []any{nil}}}}
	case 14:
		return nest{nil, {nil, nil}, {{nil}}}
	}
	z := zoo{
		N: r.IntN(3), U: 7, F: 1.5, C: 1 - 2i, B: []byte("b"), S: "s", A: [3]int{1, 0, 3}, AA: [2][2]string{{"a"}, {"", "b"}},
		L: []float64{1}, LL: [][]bool{{true}, {false, true}}, M: map[string]int{"a": 1}, MM: map[zooKey][]zooKey{{1, "a"}: {{2, "b"}}},
		T: time.Unix(1, 2).UTC(), Big: big.NewInt(-1), Any: random(r, depth-1), Nest: nest{{nil}},
		Kids: []*zoo{{S: "kid", T: time.Unix(3, 0).UTC(), Any: random(r, depth-1)}, {N: 1, T: time.Unix(3, 0).UTC()}},
	}
	if r.IntN(2) == 0 {
		z.Next = &zoo{N: 1, T: time.Unix(4, 0).UTC(), Any: random(r, depth-1)}
	}
	return z
}

// Whatever interfaces hold, in one another, comes out as it went in: also for one who
// knows only one of the fields, and skips the others. gob alone cannot do that.
func TestOpenValuesRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		v := random(r, 6)
		e := &wireEnd{enc: wire.NewEncoder(1 << 30)}
		f, err := e.encode(&wire.Box[any]{V: v})
		require.NoError(t, err, seed)
		require.Equal(t, wire.FlagAlone, f.Flags)
		var back wire.Box[any]
		require.NoError(t, e.decode(f, &back), seed)
		require.Equal(t, v, back.V, seed)

		b, err := wire.Marshal(struct {
			A any
			B string
			C any
			D int
		}{v, "b", v, 4})
		require.NoError(t, err, seed)
		var some struct {
			D int
			B string
		}
		require.NoError(t, wire.Unmarshal(b, &some), seed)
		require.Equal(t, "b", some.B)
		require.Equal(t, 4, some.D)
	}
}

// A nil interface in a field that the receiver does not have is refused: gob would skip
// what follows it, too. Behind another interface, and in fields that it has, it is fine.
func TestNilInterfaces(t *testing.T) {
	inside := fieldsOf{L: []any{nil, "x"}}
	for name, v := range map[string]any{
		"slice":     []any{nil, 1, nil},
		"map":       map[string]any{"a": nil, "b": []any{nil}},
		"struct":    inside,
		"pointer":   &inside,
		"structs":   []fieldsOf{inside, {}, {M: map[string]*fieldsOf{"k": &inside}}},
		"in a map":  map[netip.Addr]*[2]fieldsOf{netip.MustParseAddr("192.0.2.1"): {inside, inside}},
		"in a ring": map[string]ringOf{"a": {Rest: []map[string]ringOf{{"b": {Any: []any{nil}}}}}},
		"in itself": []any{nil, []any{nil, fieldsOf{L: []any{nil, inside}}}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := wire.Marshal(&wire.Box[any]{V: v})
			require.NoError(t, err)
			var back wire.Box[any]
			require.NoError(t, wire.Unmarshal(b, &back))
			if p, is := v.(*fieldsOf); is {
				v = *p
			}
			require.Equal(t, v, back.V)
		})
	}
	b, err := wire.Marshal(&wire.Box[struct{ A, L []any }]{V: struct{ A, L []any }{[]any{1}, []any{nil, "y"}}})
	require.NoError(t, err)
	require.NoError(t, wire.Unmarshal(b, new(wire.Box[struct{ L, A []any }])))
	require.NoError(t, wire.Unmarshal(b, new(wire.Box[struct{ L []any }])))
	require.ErrorContains(t, wire.Unmarshal(b, new(wire.Box[struct{ A []any }])), "which gob cannot skip")
	require.ErrorContains(t, wire.Unmarshal(b, new(wire.Box[struct{ A *[]any }])), "which gob cannot skip")
	require.ErrorContains(t, wire.Unmarshal(b, new(wire.Box[int])), "another type")
	require.ErrorContains(t, wire.Unmarshal(b, new(wire.Box[any])), "another type")

	// What hides behind it: a string that is, to who reads on in the wrong place, the end
	// of the slice, and a list without an end. gob alone overflows its stack.
	trap := append(append(bytes.Repeat(craft{0xff}, 100), 1, 'x', 2, 0, 1), repeat(200_000, craft{1}, craft{0}, craft{0})...)
	list := craft{}.structOf(66, field{"Next", 66})
	for name, c := range map[string]craft{
		"field that nobody has": list.slice(67, numInterface).structOf(65, field{"X", 67}, field{"Next", 66}).
			boxOf(65, append(append(craft{1, 2, 0}, in("string", numString, append(craft{0}, craft{}.string(string(trap))...))...), 0)),
		"behind an interface": list.slice(67, numInterface).structOf(65, field{"X", 67}, field{"Next", 66}).
			boxOf(numInterface, in("example.com/futures/internal/wire_test.fieldsOf", 65, append(append(craft{1, 2, 0}, in("string", numString, append(craft{0}, craft{}.string(string(trap))...))...), 0))),
	} {
		t.Run(name, func(t *testing.T) {
			defer debug.SetMaxStack(debug.SetMaxStack(16 << 20))
			require.ErrorContains(t, wire.Unmarshal(c, new(wire.Box[*linked])), "gob cannot skip")
			require.Error(t, wire.Unmarshal(c, new(wire.Box[any])))
		})
	}
}

// FuzzInspect has gob decode whatever passes: into what fits, into what does not, and
// into nothing.
func FuzzInspect(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		b, err := wire.Marshal(&wire.Box[any]{V: random(r, 3)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		if b, err = wire.Marshal(&wire.Box[zoo]{V: zoo{Any: random(r, 3), L: []float64{1}, T: time.Unix(1, 0)}}); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, into := range []any{new(wire.Box[any]), new(wire.Box[zoo]), new(wire.Box[map[zooKey]zooKey]), new(wire.Box[nest]), new(wire.Box[*linked]), new(bush), new(wire.Box[map[string]ringOf]), &struct{ X int }{}, nil} {
			if wire.Inspect(b, into) != nil {
				continue
			}
			before := allocated()
			_ = gob.NewDecoder(bytes.NewReader(b)).Decode(into)
			// gob takes 10 MiB on the word of each slice in a slice, but of no more than the type has.
			if got := allocated() - before; got > 64<<20+2_000*uint64(len(b)) {
				t.Fatalf("%d bytes had %d allocated for a %T", len(b), got, into)
			}
		}
	})
}

// FuzzUnmarshal has structs that travel alone.
func FuzzUnmarshal(f *testing.F) {
	for _, v := range []any{
		&wire.Hello{Tasks: []wire.TaskInfo{{Name: "t", Signature: "func(int) int"}, {Name: "u"}}}, &wire.Hello{},
		&wire.Setup{Index: 1, GOMAXPROCS: 2, MaxMessage: 3},
	} {
		b, err := wire.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var hello wire.Hello
		if wire.Unmarshal(b, &hello) == nil {
			again, err := wire.Marshal(&hello)
			var back wire.Hello
			if err != nil || wire.Unmarshal(again, &back) != nil || !reflect.DeepEqual(hello, back) && len(hello.Tasks) > 0 {
				t.Fatalf("%+v became %+v, %v", hello, back, err)
			}
		}
		_ = wire.Unmarshal(b, new(wire.Setup))
	})
}
