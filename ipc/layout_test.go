package ipc_test

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/futures/ipc"
)

type (
	celsius float32
	flags   [3]bool
	inner   struct {
		ID   uint16
		Name string
	}
	fixed struct {
		a   int8
		b   uint64
		c   [2]struct{ x, y complex64 }
		_   int32
		d   uintptr
		f   flags
		non struct{}
	}
)

// Nothing but its layout matters of fixed, so nothing else names its fields.
var _ = fixed{a: 0, b: 0, c: [2]struct{ x, y complex64 }{}, d: 0, f: flags{}, non: struct{}{}}

// tryLayout makes a Value and an Array of T, which say the same of it, and returns what.
func tryLayout[T any](t *testing.T) error {
	t.Helper()
	var zero T
	v, err := ipc.NewValue(zero)
	a, errA := ipc.NewArray[T](2)
	if errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux" {
		require.ErrorIs(t, errA, errors.ErrUnsupported)
		return nil
	}
	if err != nil {
		require.Error(t, errA)
		text, isValue := cut(err.Error(), "ipc: new Value: ")
		textA, isArray := cut(errA.Error(), "ipc: new Array: ")
		require.True(t, isValue && isArray, "%v, %v", err, errA)
		require.Equal(t, text, textA)
		return errors.New(text)
	}
	require.NoError(t, errA)
	require.NoError(t, v.Close())
	require.NoError(t, a.Close())
	return nil
}

func cut(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return s, false
	}
	return s[len(prefix):], true
}

func TestLayouts(t *testing.T) {
	for _, c := range []struct {
		name string
		try  func(*testing.T) error
		want string // the error, if there is one
	}{
		{"bool", tryLayout[bool], ""},
		{"int8", tryLayout[int8], ""},
		{"uintptr", tryLayout[uintptr], ""},
		{"complex128", tryLayout[complex128], ""},
		{"named number", tryLayout[celsius], ""},
		{"nothing", tryLayout[struct{}], ""},
		{"array of nothing", tryLayout[[0]int], ""},
		{"array of arrays", tryLayout[[3][5]int16], ""},
		{"struct of everything", tryLayout[fixed], ""},
		{"array of structs", tryLayout[[4]fixed], ""},

		{"string", tryLayout[string], "string has no fixed layout: use [N]byte"},
		{"slice", tryLayout[[]int], "[]int has no fixed layout: use [N]int, or a Queue"},
		{"map", tryLayout[map[string]int], "map[string]int has no fixed layout: use a Queue"},
		{"pointer", tryLayout[*int], "*int has no fixed layout: use a Queue"},
		{"chan", tryLayout[chan int], "chan int has no fixed layout: use a Queue"},
		{"interface", tryLayout[any], "interface {} has no fixed layout: use a Queue"},
		{"func", tryLayout[func()], "func() has no fixed layout: use a task"},
		{"unsafe.Pointer", tryLayout[unsafe.Pointer], "unsafe.Pointer has no fixed layout: use an index"},
		{"field", tryLayout[inner], "Name of ipc_test.inner has type string, which has no fixed layout: use [N]byte"},
		{
			"field of a field", tryLayout[struct{ Inner inner }],
			"Inner.Name of struct { Inner ipc_test.inner } has type string, which has no fixed layout: use [N]byte",
		},
		{
			"unexported field", tryLayout[struct {
				n    int
				list []byte
			}],
			"list of struct { n int; list []uint8 } has type []uint8, which has no fixed layout: use [N]uint8, or a Queue",
		},
		{"element", tryLayout[[3]error], "[0] of [3]error has type error, which has no fixed layout: use a Queue"},
		{
			"field of an element of a field", tryLayout[struct{ Pairs [3][2]inner }],
			"Pairs[0][0].Name of struct { Pairs [3][2]ipc_test.inner } has type string, which has no fixed layout: use [N]byte",
		},
		{"field of an element", tryLayout[[3]inner], "[0].Name of [3]ipc_test.inner has type string, which has no fixed layout: use [N]byte"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // from the cache too
				if c.want == "" {
					assert.NoError(t, c.try(t))
				} else {
					assert.EqualError(t, c.try(t), c.want)
				}
			}
		})
	}
}
