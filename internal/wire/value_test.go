package wire_test

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

type reflectPointer = unsafe.Pointer

type (
	tree   struct{ Kids []tree }
	anyMap map[string]any
	ring   struct{ Left, Right *ring }
	holder struct {
		Plain  [1000]int
		Any    any
		Errors []error
	}
)

func chain(n int) *linked {
	var l *linked
	for range n {
		l = &linked{Next: l}
	}
	return l
}

func deep(n int) any {
	var v any
	for range n {
		v = []any{v}
	}
	return v
}

const tooDeep = "cyclic or nested deeper than 10,000"

func TestCheckValueDepth(t *testing.T) {
	require.NoError(t, wire.CheckValue(&wire.Box[*linked]{V: chain(10_000)}))
	require.EqualError(t, wire.CheckValue(&wire.Box[*linked]{V: chain(10_001)}), "linked"+strings.Repeat(".Next", 8)+"…: "+tooDeep)
	require.NoError(t, wire.CheckValue(&wire.Box[any]{V: deep(10_000)}))
	require.EqualError(t, wire.CheckValue(&wire.Box[any]{V: deep(10_001)}), "value"+strings.Repeat("[0]", 8)+"…: "+tooDeep)

	// What may be encoded is, without trouble.
	require.NotNil(t, roundTrip(t, chain(10_000)))
	many := make([]*linked, 100)
	for i := range many {
		many[i] = chain(9_000)
	}
	require.NoError(t, wire.CheckValue(&wire.Box[[]*linked]{V: many}))
}

func TestCheckValueCycles(t *testing.T) {
	l := &linked{}
	l.Next = &linked{Next: l}
	require.ErrorContains(t, wire.CheckValue(&wire.Box[*linked]{V: l}), tooDeep)

	s := []any{nil}
	s[0] = s
	require.ErrorContains(t, wire.CheckValue(&wire.Box[any]{V: s}), tooDeep)
	require.ErrorContains(t, wire.CheckValue(&wire.Box[[]any]{V: s}), tooDeep)

	m := anyMap{}
	m["m"] = m
	require.ErrorContains(t, wire.CheckValue(&wire.Box[anyMap]{V: m}), tooDeep)

	n := nest{nil}
	n[0] = n
	require.ErrorContains(t, wire.CheckValue(&wire.Box[nest]{V: n}), tooDeep)

	tr := tree{Kids: make([]tree, 1)}
	tr.Kids[0] = tr
	require.ErrorContains(t, wire.CheckValue(&wire.Box[holder]{V: holder{Any: tr}}), tooDeep)

	var a any
	a = &a
	require.ErrorContains(t, wire.CheckValue(&wire.Box[any]{V: a}), tooDeep)
}

// TestCheckValueSharing has a value of 60 structs that gob would write 2^60 times.
func TestCheckValueSharing(t *testing.T) {
	t.Cleanup(wire.SetMaxValues(1 << 20))
	var r *ring
	for range 60 {
		r = &ring{r, r}
	}
	require.ErrorContains(t, wire.CheckValue(&wire.Box[*ring]{V: r}), "too many values")
}

// TestCheckValueInterfaces checks by the types that a value really holds.
func TestCheckValueInterfaces(t *testing.T) {
	require.NoError(t, wire.CheckValue(&wire.Box[holder]{V: holder{Any: map[string][]int{"a": {1}}}}))
	for name, v := range map[string]any{
		"struct":            config{Name: "n"},
		"pointer":           &config{Name: "n"},
		"in slice":          []any{1, config{}},
		"in map's value":    map[int]any{1: config{}},
		"in map's key":      map[any]int{config{}: 1},
		"in struct":         holder{Any: []config{{}}},
		"in interface":      holder{Any: holder{Any: config{}}},
		"in array":          [2]any{nil, config{}},
		"pointer to slice":  &[]any{config{}},
		"nested in pointer": &linkedAny{Next: &linkedAny{V: config{}}},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, wire.CheckValue(&wire.Box[any]{V: v}), "field config.inner (wire_test.secret) is unexported and would be lost")
		})
	}
	err := wire.CheckValue(&wire.Box[holder]{V: holder{Errors: []error{fmt.Errorf("e")}}})
	require.ErrorContains(t, err, "an interface holds a *errors.errorString: field errorString.s (string)")
}

// TestCheckValueSaysWhere has errors with the way to what is wrong.
func TestCheckValueSaysWhere(t *testing.T) {
	loop := anyMap{}
	loop["again"] = loop
	for want, v := range map[string]any{
		`value[1].Any.Kids[0]: an interface holds`:                       []any{1, holder{Any: struct{ Kids []any }{[]any{config{}}}}},
		`value.Errors[1]: an interface holds a *errors.errorString`:      holder{Errors: []error{nil, fmt.Errorf("e")}},
		`value[2]["again"]["again"]["again"]["again"]["again"]["again"]`: map[int]any{2: loop},
		`value[key]: an interface holds`:                                 map[any]int{config{}: 1},
		`value[]: an interface holds`:                                    map[[1]bool]any{{true}: config{}},
	} {
		require.ErrorContains(t, wire.CheckValue(&wire.Box[any]{V: v}), want)
	}
}

type linkedAny struct {
	V    any
	Next *linkedAny
}

// TestCheckValueChecksTheType too, so that it can be used alone.
func TestCheckValueChecksTheType(t *testing.T) {
	require.ErrorContains(t, wire.CheckValue(&wire.Box[config]{}), "field config.inner")
}

func TestCheckValueOfPlainTypeCostsNothing(t *testing.T) {
	box := &wire.Box[map[string][]record]{V: map[string][]record{strings.Repeat("x", 10): make([]record, 10)}}
	require.NoError(t, wire.CheckValue(box))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = wire.CheckValue(box) }))
}

type record struct {
	A, B, C int
	S       []string
}

func BenchmarkCheckValue(b *testing.B) {
	b.Run("type=plain", func(b *testing.B) {
		box := &wire.Box[[]record]{V: make([]record, 1000)}
		b.ReportAllocs()
		for b.Loop() {
			_ = wire.CheckValue(box)
		}
	})
	b.Run("type=list/nodes=1000", func(b *testing.B) {
		box := &wire.Box[*linked]{V: chain(1000)}
		b.ReportAllocs()
		for b.Loop() {
			_ = wire.CheckValue(box)
		}
	})
}
