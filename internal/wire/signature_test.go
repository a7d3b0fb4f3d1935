package wire_test

import (
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

type pair[A, B any] struct {
	First  A
	Second B
}

func TestSignature(t *testing.T) {
	const here = "example.com/futures/internal/wire_test."
	for want, typ := range map[string]reflect.Type{
		"int":                            reflect.TypeFor[int](),
		"uint8":                          reflect.TypeFor[byte](),
		"error":                          reflect.TypeFor[error](),
		"interface{}":                    reflect.TypeFor[any](),
		"time.Duration":                  reflect.TypeFor[time.Duration](),
		"*math/big.Int":                  reflect.TypeFor[*big.Int](),
		"[]" + here + "config":           reflect.TypeFor[[]config](),
		"map[string]*" + here + "config": reflect.TypeFor[map[string]*config](),
		"[4][]**math/big.Int":            reflect.TypeFor[[4][]**big.Int](),
		here + "linked":                  reflect.TypeFor[linked](),
		here + "nest":                    reflect.TypeFor[nest](),
		here + "pair[int,math/big.Int]":  reflect.TypeFor[pair[int, big.Int]](),
		"struct{}":                       reflect.TypeFor[struct{}](),
		"struct{A int; B []time.Time}": reflect.TypeFor[struct {
			A int
			B []time.Time
		}](),
		"struct{time.Time; x " + here + "secret}": reflect.TypeFor[struct {
			time.Time
			x secret
		}](),
		"func(int, ...string) (error)": reflect.TypeFor[func(int, ...string) error](),
		"chan (<-chan (int))":          reflect.TypeFor[chan (<-chan int)](),
		"interface{Close() (error)}":   reflect.TypeFor[interface{ Close() error }](),
		"unsafe.Pointer":               reflect.TypeFor[reflectPointer](),
	} {
		require.Equal(t, want, wire.Signature(typ))
	}
}
