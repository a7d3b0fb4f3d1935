package wire_test

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	secret struct{ Key string }
	config struct {
		Name  string
		inner secret
	}
	server  struct{ Config config }
	cluster struct {
		Servers []server
		ByName  map[string]*server
	}
	keyed struct {
		M map[struct {
			A int
			b int
		}]bool
	}
	embedsUnexported struct {
		secret
		N int
	}
	onlyBlank struct{ _ struct{} }
	padded    struct {
		_ struct{}
		N int
	}
	withChan  struct{ C chan int }
	withFunc  struct{ F func() }
	withPtrs  struct{ P **func() }
	withMutex struct{ sync.Mutex }
	linked    struct {
		V    int
		Next *linked
	}
	nest    []nest
	selfPtr *selfPtr
	event   struct {
		time.Time
		Name string
	}
	justTime struct{ time.Time }
	bigger   struct {
		*big.Int
		Name string
	}
	//lint:ignore U1000 gob would not send it, and that is the point
	encodeOnly struct{ n int }
	//lint:ignore U1000 likewise
	decodeOnly struct{ n int }
	//lint:ignore U1000 likewise
	mixed  struct{ n int }
	binary interface {
		encoding.BinaryMarshaler
		encoding.BinaryUnmarshaler
	}
)

// eventOwn embeds a type that encodes itself, and does so itself.
type eventOwn struct {
	time.Time
	Name string
}

func (e eventOwn) GobEncode() ([]byte, error) { return []byte(e.Name), nil }
func (e *eventOwn) GobDecode(b []byte) error  { e.Name = string(b); return nil }
func (encodeOnly) GobEncode() ([]byte, error) { return nil, nil }
func (*decodeOnly) GobDecode([]byte) error    { return nil }
func (mixed) MarshalBinary() ([]byte, error)  { return nil, nil }
func (*mixed) GobDecode([]byte) error         { return nil }
func (config) String() string                 { return "config" }
func (c config) useInner() secret             { return c.inner }
func (e embedsUnexported) useSecret() secret  { return e.secret }

// TestCheckTypeRefuses has what gob would lose, or refuses with less to go by.
func TestCheckTypeRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		t    reflect.Type
		want string
	}{
		"unexported field":        {reflect.TypeFor[config](), "field config.inner (wire_test.secret) is unexported and would be lost: export it, or give config GobEncode and GobDecode"},
		"behind pointers":         {reflect.TypeFor[**config](), "field config.inner (wire_test.secret) is"},
		"in a field":              {reflect.TypeFor[server](), "field server.Config.inner (wire_test.secret) is unexported and would be lost: export it, or give config GobEncode"},
		"in elements":             {reflect.TypeFor[cluster](), "field cluster.Servers[].Config.inner (wire_test.secret)"},
		"in elements at the top":  {reflect.TypeFor[map[string][]config](), "field config.inner (wire_test.secret)"},
		"in a map's key":          {reflect.TypeFor[keyed](), "field keyed.M[key].b (int) is unexported and would be lost: export it"},
		"struct without a name":   {reflect.TypeFor[struct{ a int }](), "field struct.a (int) is unexported and would be lost: export it"},
		"embedded and unexported": {reflect.TypeFor[embedsUnexported](), "field embedsUnexported.secret (wire_test.secret)"},
		"mutex":                   {reflect.TypeFor[withMutex](), "field withMutex.Mutex."},
		"no field to send":        {reflect.TypeFor[onlyBlank](), "type wire_test.onlyBlank has no exported fields"},
		"chan":                    {reflect.TypeFor[chan int](), "type chan int cannot be encoded"},
		"chan field":              {reflect.TypeFor[withChan](), "field withChan.C (chan int) cannot be encoded"},
		"chan elements":           {reflect.TypeFor[[0]chan int](), "type chan int cannot be encoded"},
		"func field":              {reflect.TypeFor[withFunc](), "field withFunc.F (func()) cannot be encoded"},
		"func behind pointers":    {reflect.TypeFor[withPtrs](), "field withPtrs.P (func()) cannot be encoded"},
		"unsafe pointer":          {reflect.TypeFor[struct{ P reflectPointer }](), "field struct.P (unsafe.Pointer) cannot be encoded"},
		"pointer to itself":       {reflect.TypeFor[selfPtr](), "points to nothing but itself"},
		"promoted GobEncode":      {reflect.TypeFor[event](), "type wire_test.event has GobEncode from its embedded field Time, which would lose the other fields"},
		"promoted by a pointer":   {reflect.TypeFor[[]bigger](), "type wire_test.bigger has GobEncode from its embedded field Int"},
		"encodes only":            {reflect.TypeFor[encodeOnly](), "has GobEncode but no GobDecode"},
		"decodes only":            {reflect.TypeFor[*decodeOnly](), "has GobDecode but no GobEncode"},
		"methods of two kinds":    {reflect.TypeFor[mixed](), "encodes itself with MarshalBinary but decodes itself with GobDecode"},
		"interface that encodes":  {reflect.TypeFor[struct{ B binary }](), "field struct.B (wire_test.binary) is an interface with methods that encode"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second answer is the kept one
				require.ErrorContains(t, wire.CheckType(tc.t), tc.want)
			}
		})
	}
	require.Equal(t, secret{"k"}, config{inner: secret{"k"}}.useInner())
	require.Equal(t, secret{"k"}, embedsUnexported{secret: secret{"k"}}.useSecret())
}

// TestCheckTypeRefusesWhatGobLoses shows why: gob takes these values without an
// error, and they come back poorer.
func TestCheckTypeRefusesWhatGobLoses(t *testing.T) {
	c := roundTrip(t, config{Name: "n", inner: secret{"k"}})
	require.Equal(t, config{Name: "n"}, c)
	e := roundTrip(t, event{time.Unix(1, 0), "n"})
	require.Empty(t, e.Name)
}

// TestCheckTypeTakes has types that come back as they were, at the top level too.
func TestCheckTypeTakes(t *testing.T) {
	takes(t, struct{}{})
	takes(t, []struct{}{{}, {}})
	takes(t, (*int)(nil))
	takes[any](t, nil)
	takes[error](t, nil)
	takes(t, map[string]*big.Int{"a": big.NewInt(3)})
	takes(t, big.NewInt(1<<40))
	takes(t, uintptr(7))
	takes(t, 1+2i)
	takes(t, [3]byte{1, 2, 3})
	takes(t, padded{N: 1})
	takes(t, &linked{V: 1, Next: &linked{V: 2}})
	takes(t, nest{nil, {nil}})
	takes(t, netip.MustParseAddr("192.0.2.1"))
	takes(t, url.URL{Scheme: "https", Host: "example.com"})
	takes(t, time.Unix(5, 0).UTC())
	takes(t, justTime{time.Unix(5, 0).UTC()})
	takes(t, eventOwn{Name: "n"})
	takes(t, []any{1, "a", []string{"b"}, nil})
}

func takes[T any](t *testing.T, v T) {
	t.Helper()
	require.NoError(t, wire.CheckType(reflect.TypeFor[T]()))
	require.NoError(t, wire.CheckValue(&wire.Box[T]{V: v}))
	require.Equal(t, v, roundTrip(t, v))
	b, err := wire.Marshal(&wire.Box[T]{V: v})
	require.NoError(t, err)
	var back wire.Box[T]
	require.NoError(t, wire.Unmarshal(b, &back))
	require.Equal(t, v, back.V)
}

func roundTrip[T any](t *testing.T, v T) T {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, gob.NewEncoder(&b).Encode(&wire.Box[T]{V: v}))
	var back wire.Box[T]
	require.NoError(t, gob.NewDecoder(&b).Decode(&back))
	return back.V
}

func TestEncodesItself(t *testing.T) {
	require.True(t, wire.EncodesItself(reflect.TypeFor[time.Time]()))
	require.True(t, wire.EncodesItself(reflect.TypeFor[*url.URL]()))
	require.False(t, wire.EncodesItself(reflect.TypeFor[config]()))
	require.False(t, wire.EncodesItself(reflect.TypeFor[mixed]()))
	require.False(t, wire.EncodesItself(reflect.TypeFor[selfPtr]()))
}

func TestCheckTypeConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if wire.CheckType(reflect.TypeFor[struct{ L *linked }]()) != nil || wire.CheckType(reflect.TypeFor[struct{ c config }]()) == nil {
					t.Error("CheckType gave two answers for one type")
				}
			}
		})
	}
	wg.Wait()
}
