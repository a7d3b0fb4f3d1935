package manager

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type keyInner struct {
	Name string
	at   int32
}

type keyAll struct {
	B    bool
	I    int
	i8   int8
	U    uint64
	up   uintptr
	F    float64
	f32  float32
	C    complex128
	S    string
	Pair [2]keyInner
	_    *int
	z    complex64
}

func codecOf[K comparable](t testing.TB) *keyCodec {
	c, err := newKeyCodec(reflect.TypeFor[K]())
	require.NoError(t, err)
	return c
}

// sameKey checks that a and b have the same bytes if and only if they are ==, and that a key
// comes back from its bytes.
func sameKey[K comparable](t testing.TB, a, b K) {
	t.Helper()
	c := codecOf[K](t)
	x, err := keyBytes(c, &a)
	require.NoError(t, err)
	y, err := keyBytes(c, &b)
	require.NoError(t, err)
	if (string(x) == string(y)) != (a == b) {
		t.Fatalf("%#v and %#v: equal %v, and their bytes are %x and %x", a, b, a == b, x, y)
	}
	back, err := keyOf[K](c, x)
	require.NoError(t, err)
	require.True(t, back == a, "%#v came back as %#v", a, back)
}

func TestKeysAsOperatorEquals(t *testing.T) {
	negative := math.Copysign(0, -1)
	sameKey(t, 0.0, negative)
	sameKey(t, float32(0), float32(negative))
	sameKey(t, complex(0, 1), complex(negative, 1))
	sameKey(t, complex(0, negative), 0)
	sameKey(t, math.Inf(1), math.Inf(-1))
	sameKey(t, "", "\x00")
	sameKey(t, [2]string{"a", "bc"}, [2]string{"ab", "c"})
	sameKey(t, [0]int{}, [0]int{})
	sameKey(t, struct{}{}, struct{}{})
	sameKey(t, -1, 1)
	sameKey(t, math.MinInt64, math.MaxInt64)
	sameKey(t, uint64(math.MaxUint64), 0)
	sameKey(t, true, false)
	sameKey(t, time.Second, time.Minute)
	sameKey(t, "\xff\xfe", "\uFFFD")
	all := keyAll{true, -5, 7, 9, 11, 1.5, 2.5, complex(1, 2), "s", [2]keyInner{{"a", 1}, {"b", 2}}, new(int), complex(3, 4)}
	other := all
	sameKey(t, all, other)
	other.Pair[1].at++
	sameKey(t, all, other)
}

func TestKeyBytesAreFixed(t *testing.T) {
	// Another build of the program may be the one that reads them.
	k := keyAll{true, -5, 7, 9, 300, 1.5, 2.5, complex(1, 2), "s", [2]keyInner{{"a", 1}, {"b", 2}}, nil, complex(3, 4)}
	b, err := keyBytes(codecOf[keyAll](t), &k)
	require.NoError(t, err)
	require.Equal(t, "\x01\x09\x0e\x09\xac\x02\x3f\xf8\x00\x00\x00\x00\x00\x00\x40\x20\x00\x00"+
		"\x3f\xf0\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x01s\x01a\x02\x01b\x04\x40\x40\x00\x00\x40\x80\x00\x00", string(b))
}

func TestKeyTypesThatCannotTravel(t *testing.T) {
	for want, typ := range map[string]reflect.Type{
		"a key of type *int cannot travel: it is a pointer (*int), which means something in one process only":                                          reflect.TypeFor[*int](),
		"a key of type interface {} cannot travel: it is an interface (interface {}), whose value may be of any type: use that type":                   reflect.TypeFor[any](),
		"a key of type struct { A struct { C chan int } } cannot travel: field A.C is a channel (chan int), which means something in one process only": reflect.TypeFor[struct{ A struct{ C chan int } }](),
		"a key of type struct { A [2][3]error } cannot travel: field A[0][0] is an interface (error), whose value may be of any type: use that type":   reflect.TypeFor[struct{ A [2][3]error }](),
		"a key of type time.Time cannot travel: field loc is a pointer (*time.Location), which means something in one process only":                    reflect.TypeFor[time.Time](),
	} {
		_, err := newKeyCodec(typ)
		require.EqualError(t, err, want)
	}
}

func TestKeyNaN(t *testing.T) {
	nan := math.NaN()
	_, err := keyBytes(codecOf[float64](t), &nan)
	require.EqualError(t, err, "the key is not a number (NaN), and would never be found again")
	k := struct{ A [2]struct{ z complex64 } }{}
	k.A[1].z = complex(0, float32(nan))
	c, err := newKeyCodec(reflect.TypeOf(k))
	require.NoError(t, err)
	_, err = keyBytes(c, &k)
	require.EqualError(t, err, "the key's A[1].z is not a number (NaN), and would never be found again")
}

func TestKeysThatNobodyWrites(t *testing.T) {
	for name, b := range map[string]string{
		"empty": "", "longer": "\x02\x00", "cut": "\x80", "too many bytes": "\x82\x00", "over": "\xff\xff\x7f",
	} {
		_, err := keyOf[int8](codecOf[int8](t), []byte(b))
		require.ErrorIs(t, err, errKey, name)
	}
	_, err := keyOf[string](codecOf[string](t), []byte("\xff\xff\xff\xff\xff\xff\xff\xff\x7fa"))
	require.ErrorIs(t, err, errKey)
	_, err = keyOf[bool](codecOf[bool](t), []byte{2})
	require.ErrorIs(t, err, errKey)
	_, err = keyOf[float32](codecOf[float32](t), []byte{0x80, 0, 0, 0}) // −0
	require.ErrorIs(t, err, errKey)
	_, err = keyOf[float32](codecOf[float32](t), []byte{0x7f, 0xc0, 0, 1}) // NaN
	require.ErrorIs(t, err, errKey)
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("\x01\x09\x0e\x09\xac\x02\x3f\xf8\x00\x00\x00\x00\x00\x00\x40\x20\x00\x00"+
		"\x3f\xf0\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x01s\x01a\x02\x01b\x04\x40\x40\x00\x00\x40\x80\x00\x00"), []byte{})
	c := codecOf[keyAll](f)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, err := keyOf[keyAll](c, a)
		if err != nil {
			return
		}
		again, err := keyBytes(c, &x)
		require.NoError(t, err)
		require.Equal(t, string(a), string(again))
		if y, err := keyOf[keyAll](c, b); err == nil {
			sameKey(t, x, y)
		}
	})
}

func FuzzKeyValue(f *testing.F) {
	f.Add(int64(-1), uint16(3), 0.0, "a", "b")
	f.Fuzz(func(t *testing.T, i int64, u uint16, x float64, s, s2 string) {
		if x != x {
			return
		}
		type key struct {
			I int64
			u uint16
			x float64
			s [2]string
			F float32
		}
		a := key{i, u, x, [2]string{s, s2}, float32(x)}
		if a.F != a.F {
			return
		}
		sameKey(t, a, a)
		sameKey(t, a, key{i, u, -x, [2]string{s2, s}, float32(-x)})
		sameKey(t, a, key{i + 1, u, x, [2]string{s + s2, ""}, float32(x)})
	})
}
