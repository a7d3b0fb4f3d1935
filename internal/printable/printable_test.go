package printable_test

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/internal/printable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type node struct {
	n    int
	next *node
}

type holder struct{ inner any }

type nest []nest

// named prints itself, although it is cyclic.
type named []any

func (named) String() string { return "a name" }

// What fmt can print comes out as fmt prints it.
func TestText(t *testing.T) {
	ring := &node{n: 1}
	ring.next = ring // fmt follows a pointer at the top only
	self := named{nil}
	self[0] = self
	for _, v := range []any{
		nil, 1, "s", true, 1.5, []byte("b"),
		[]any{1, "a", nil, []string{"x"}},
		map[string]any{"a": 1, "b": nil},
		struct {
			a int
			b any
		}{1, 2},
		errors.New("e"), time.Second, ring.n,
		holder{holder{3}},
		&[]int{1}, (*node)(nil), (*[]int)(nil), new(int) == nil,
		self,
		[2]any{1, 2},
		reflect.ValueOf([]int{1}), make([]int, 1000), any(nest{nil, {nil}}),
	} {
		require.Equal(t, fmt.Sprint(v), printable.Text(v))
	}
	require.Contains(t, printable.Text(ring), "{1 0x")
}

// What would overflow the stack of fmt, or never end, is its type.
func TestTextWithoutEnd(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(16 << 20))
	s := []any{1, nil}
	s[1] = s
	m := map[string]any{}
	m["m"] = m
	n := nest{nil}
	n[0] = n
	wide := any(1)
	for range 64 {
		wide = []any{wide, wide}
	}
	inner := reflect.ValueOf(s)
	for want, v := range map[string]any{
		"a []interface {} that is cyclic":          s,
		"a *[]interface {} that is cyclic":         &s,
		"a map[string]interface {} that is cyclic": m,
		"a printable_test.nest that is cyclic":     n,
		"a printable_test.holder that is cyclic":   holder{s},
		"a []int that is cyclic, or too large":     make([]int, 1<<21),
		"a reflect.Value that is cyclic":           inner,
		"a [1]interface {} that is cyclic":         [1]any{wide},
	} {
		require.Contains(t, printable.Text(v), want)
	}
	require.Contains(t, printable.Text(reflect.ValueOf(&s)), "a reflect.Value that is cyclic")
}
