package wire_test

import (
	"bytes"
	"encoding/gob"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

type (
	family struct { // recurses in all the ways there are
		Name     string
		Parent   *family
		Children []family
		ByName   map[string]*family
		Rest     [2][]map[int8]family
		Other    *relative
	}
	relative struct {
		Of  []*family
		Any any
	}
	namedMap  map[namedInt][]namedText
	namedInt  int16
	namedText string
	mapMap    map[string]mapMap
	deepSlice [][][][][][][][][][][]int // more slices in one another than go unseen

	// Promoted carries fields of an embedded struct, and of an embedded pointer.
	Promoted struct {
		Embedded
		*Pointed
		X int
	}
	Embedded struct{ E []string }
	Pointed  struct{ P map[string]uint }

	texty struct{ T string } // has MarshalText, which gob does not use
)

func (t texty) MarshalText() ([]byte, error)     { return []byte("text " + t.T), nil }
func (t *texty) UnmarshalText(text []byte) error { t.T = string(text); return nil }

func init() {
	gob.Register(family{})
	gob.Register(namedMap{})
	gob.Register(mapMap{})
	gob.Register(&Promoted{})
	gob.Register(texty{})
}

// makers makes values of types that reflection cannot make.
var makers = map[reflect.Type]func(*rand.Rand) any{
	reflect.TypeFor[time.Time]():  func(r *rand.Rand) any { return time.Unix(r.Int64N(1<<40), r.Int64N(1e9)).UTC() },
	reflect.TypeFor[big.Int]():    func(r *rand.Rand) any { return *big.NewInt(r.Int64() - r.Int64()) },
	reflect.TypeFor[big.Rat]():    func(r *rand.Rand) any { return *big.NewRat(r.Int64(), 1+r.Int64N(100)) },
	reflect.TypeFor[netip.Addr](): func(r *rand.Rand) any { return netip.AddrFrom4([4]byte{1, 2, 3, byte(r.Int())}) },
	reflect.TypeFor[url.URL]():    func(r *rand.Rand) any { return url.URL{Scheme: "https", Host: "a", Path: "/b"} },
	reflect.TypeFor[zooText]():    func(r *rand.Rand) any { return zooText{string(rune('a' + r.IntN(26)))} },
	reflect.TypeFor[any]():        func(r *rand.Rand) any { return random(r, 2) },
}

var leaves = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[uint16](), reflect.TypeFor[uintptr](),
	reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[complex64](), reflect.TypeFor[complex128](),
	reflect.TypeFor[string](), reflect.TypeFor[[]byte](), reflect.TypeFor[[3]byte](), reflect.TypeFor[struct{}](), reflect.TypeFor[[0]int](),
	reflect.TypeFor[namedInt](), reflect.TypeFor[namedText](), reflect.TypeFor[zooEnum](), reflect.TypeFor[texty](),
	reflect.TypeFor[time.Time](), reflect.TypeFor[big.Int](), reflect.TypeFor[big.Rat](), reflect.TypeFor[netip.Addr](),
	reflect.TypeFor[url.URL](), reflect.TypeFor[zooText](),
	reflect.TypeFor[family](), reflect.TypeFor[relative](), reflect.TypeFor[namedMap](), reflect.TypeFor[mapMap](), reflect.TypeFor[deepSlice](),
	reflect.TypeFor[Promoted](), reflect.TypeFor[nest](), reflect.TypeFor[linked](), reflect.TypeFor[zooKey](), reflect.TypeFor[any](),
}

// randomType returns a type of at most depth levels around a leaf.
func randomType(r *rand.Rand, depth int) reflect.Type {
	if depth == 0 {
		return leaves[r.IntN(len(leaves))]
	}
	switch r.IntN(6) {
	case 0:
		return reflect.PointerTo(randomType(r, depth-1))
	case 1:
		return reflect.SliceOf(randomType(r, depth-1))
	case 2:
		return reflect.ArrayOf(r.IntN(3), randomType(r, depth-1))
	case 3:
		key := randomType(r, depth-1)
		for !key.Comparable() || hasIdentity(key) {
			key = randomType(r, 0)
		}
		return reflect.MapOf(key, randomType(r, depth-1))
	case 4:
		var fields []reflect.StructField
		for i := range 1 + r.IntN(4) {
			fields = append(fields, reflect.StructField{Name: "F" + string(rune('A'+i)), Type: randomType(r, depth-1)})
		}
		return reflect.StructOf(fields)
	}
	return randomType(r, 0)
}

// hasIdentity reports whether values of t may differ although what is in them is the same,
// or may be such as cannot be keys.
func hasIdentity(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface, reflect.Pointer:
		return true
	case reflect.Array:
		return hasIdentity(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if hasIdentity(f.Type) {
				return true
			}
		}
	}
	return false
}

// fill makes v a random value. Of what can recurse it makes no more than depth levels.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	if maker := makers[v.Type()]; maker != nil {
		if x := maker(r); x != nil {
			v.Set(reflect.ValueOf(x))
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(r.Int64() - r.Int64())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(r.Uint64() >> r.IntN(64))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(r.NormFloat64())
	case reflect.Complex64, reflect.Complex128:
		v.SetComplex(complex(r.NormFloat64(), 1))
	case reflect.String:
		v.SetString(string(make([]byte, r.IntN(3))))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem(), depth-1)
	case reflect.Slice:
		if depth > 0 {
			v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
			for i := range v.Len() {
				fill(r, v.Index(i), depth-1)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), depth-1)
		}
	case reflect.Map:
		if depth > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range r.IntN(3) {
				key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(r, key, depth-1)
				fill(r, elem, depth-1)
				v.SetMapIndex(key, elem)
			}
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.Kind() != reflect.Pointer || depth > 0 && r.IntN(2) == 0 {
				fill(r, f, depth-1)
			}
		}
	}
}

// Whatever gob can carry passes, and comes out as gob alone would have it: values of
// random types, in a stream that describes types as they come, some of which nobody
// decodes, and many of which are alone.
func TestLegalValuesPass(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	alone, streamed := 0, 0
	for range 10 {
		e := &wireEnd{enc: wire.NewEncoder(1 << 30)}
		for range 100 {
			typ := randomType(r, r.IntN(5))
			box := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "V", Type: typ}}))
			fill(r, box.Elem().Field(0), 4)
			var buf bytes.Buffer
			want := reflect.New(box.Elem().Type())
			if gob.NewEncoder(&buf).EncodeValue(box) != nil || gob.NewDecoder(&buf).DecodeValue(want) != nil {
				continue // a nil pointer in a slice, for one
			}
			require.NoError(t, wire.CheckType(typ), "seed %d: %v", seed, typ)
			require.NoError(t, wire.CheckValue(box.Interface()), "seed %d: %v", seed, typ)
			f, err := e.encode(box.Interface())
			require.NoError(t, err, "seed %d: %v", seed, typ)
			if f.Flags&wire.FlagAlone != 0 {
				alone++
			} else {
				streamed++
			}
			if r.IntN(4) == 0 {
				e.dec.Skip(f)
				continue
			}
			got := reflect.New(box.Elem().Type())
			require.NoError(t, e.decode(f, got.Interface()), "seed %d: %v", seed, typ)
			require.Equal(t, want.Interface(), got.Interface(), "seed %d: %v", seed, typ)
		}
	}
	require.Greater(t, alone, 100)
	require.Greater(t, streamed, 100)
}
