package manager

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"unsafe"
)

// A keyCodec turns keys into bytes, so that two keys that are == have the same, in every
// process and every build of the program, and two that are not have others. gob does not: its
// bytes depend on which types its process has met before, and it leaves out fields that are
// unexported.
//
//	bool                 1 byte
//	int …                zigzag varint
//	uint …, uintptr      varint
//	float32, float64     4 and 8 bytes, big endian; −0 is 0, and a NaN, which equals nothing, an error
//	complex              its two floats
//	string               its length, and that
//	array, struct        its elements, and its fields but for those named _, which == does not compare
type keyCodec struct {
	kind   reflect.Kind
	typ    reflect.Type
	elem   *keyCodec  // of an array
	fields []keyField // of a struct
}

type keyField struct {
	name  string
	index int
	*keyCodec
}

// errKey reports bytes that are no key of the type.
var errKey = errors.New("manager: the server has a key of another type")

// keyCodecs caches what keysOf answers: a func of its results by reflect.Type.
var keyCodecs sync.Map

// keysOf returns the codec of K.
func keysOf[K comparable]() (*keyCodec, error) {
	t := reflect.TypeFor[K]()
	if known, ok := keyCodecs.Load(t); ok {
		return known.(func() (*keyCodec, error))()
	}
	c, err := newKeyCodec(t)
	keyCodecs.Store(t, func() (*keyCodec, error) { return c, err })
	return c, err
}

// newKeyCodec returns the codec of keys of type t, or the error that names what cannot be
// part of one.
func newKeyCodec(t reflect.Type) (*keyCodec, error) {
	c, path, why := keyCodecOf(t)
	switch {
	case why != "" && path == "":
		return nil, fmt.Errorf("a key of type %v cannot travel: it %s", t, why)
	case why != "":
		return nil, fmt.Errorf("a key of type %v cannot travel: field %s %s", t, path, why)
	}
	return c, nil
}

// keyCodecOf returns the codec of t, or the path to what has none and why.
func keyCodecOf(t reflect.Type) (c *keyCodec, path, why string) {
	c = &keyCodec{kind: t.Kind(), typ: t}
	switch k := t.Kind(); {
	case k >= reflect.Bool && k <= reflect.Complex128, k == reflect.String:
		return c, "", ""
	case k == reflect.Array:
		c.elem, path, why = keyCodecOf(t.Elem())
		return c, joinKey("[0]", path), why
	case k == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Name == "_" {
				continue
			}
			inner, path, why := keyCodecOf(f.Type)
			if why != "" {
				return nil, joinKey(f.Name, path), why
			}
			c.fields = append(c.fields, keyField{f.Name, i, inner})
		}
		return c, "", ""
	case k == reflect.Interface:
		return nil, "", fmt.Sprintf("is an interface (%v), whose value may be of any type: use that type", t)
	case k == reflect.Chan:
		return nil, "", fmt.Sprintf("is a channel (%v), which means something in one process only", t)
	default:
		return nil, "", fmt.Sprintf("is a pointer (%v), which means something in one process only", t)
	}
}

// joinKey joins a step and what follows it: Inner.Name, Inner[0].
func joinKey(step, path string) string {
	if path == "" || path[0] == '[' {
		return step + path
	}
	return step + "." + path
}

// keyBytes returns the bytes of k.
func keyBytes[K comparable](c *keyCodec, k *K) ([]byte, error) {
	b, path, err := c.append(nil, reflect.ValueOf(k).Elem())
	switch {
	case err != nil && path != "":
		return nil, fmt.Errorf("the key's %s %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("the key %w", err)
	}
	return b, nil
}

var errNaN = errors.New("is not a number (NaN), and would never be found again")

// append appends the bytes of v, or returns the path to what has none.
func (c *keyCodec) append(b []byte, v reflect.Value) (_ []byte, path string, err error) {
	switch k := c.kind; {
	case k == reflect.Bool:
		if v.Bool() {
			return append(b, 1), "", nil
		}
		return append(b, 0), "", nil
	case v.CanInt():
		return binary.AppendVarint(b, v.Int()), "", nil
	case v.CanUint():
		return binary.AppendUvarint(b, v.Uint()), "", nil
	case v.CanFloat():
		b, err = appendFloat(b, v.Float(), c.typ.Bits())
		return b, "", err
	case v.CanComplex():
		x := v.Complex()
		if b, err = appendFloat(b, real(x), c.typ.Bits()/2); err == nil {
			b, err = appendFloat(b, imag(x), c.typ.Bits()/2)
		}
		return b, "", err
	case k == reflect.String:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		return append(b, v.String()...), "", nil
	case k == reflect.Array:
		for i := range v.Len() {
			if b, path, err = c.elem.append(b, v.Index(i)); err != nil {
				return nil, joinKey("["+strconv.Itoa(i)+"]", path), err
			}
		}
		return b, "", nil
	default:
		for _, f := range c.fields {
			if b, path, err = f.append(b, v.Field(f.index)); err != nil {
				return nil, joinKey(f.name, path), err
			}
		}
		return b, "", nil
	}
}

func appendFloat(b []byte, x float64, bits int) ([]byte, error) {
	switch {
	case x != x:
		return nil, errNaN
	case x == 0:
		x = 0 // and not −0
	}
	if bits == 32 {
		return binary.BigEndian.AppendUint32(b, math.Float32bits(float32(x))), nil
	}
	return binary.BigEndian.AppendUint64(b, math.Float64bits(x)), nil
}

// keyOf returns the key that has the bytes b.
func keyOf[K comparable](c *keyCodec, b []byte) (k K, err error) {
	v := reflect.ValueOf(&k).Elem()
	rest, ok := c.read(b, v)
	if !ok || len(rest) > 0 {
		var none K
		return none, errKey
	}
	// What was not written as it is now, such as a −0, or a number in more bytes than it
	// needs, no client has written.
	if again, _, err := c.append(nil, v); err != nil || !slices.Equal(again, b) {
		var none K
		return none, errKey
	}
	return k, nil
}

// read sets v to what b begins with, and returns the rest.
func (c *keyCodec) read(b []byte, v reflect.Value) (rest []byte, ok bool) {
	switch k := c.kind; {
	case k == reflect.Bool:
		if len(b) == 0 || b[0] > 1 {
			return nil, false
		}
		v.SetBool(b[0] == 1)
		return b[1:], true
	case v.CanInt():
		x, n := binary.Varint(b)
		if n <= 0 || v.OverflowInt(x) {
			return nil, false
		}
		v.SetInt(x)
		return b[n:], true
	case v.CanUint():
		x, n := binary.Uvarint(b)
		if n <= 0 || v.OverflowUint(x) {
			return nil, false
		}
		v.SetUint(x)
		return b[n:], true
	case v.CanFloat():
		x, rest, ok := readFloat(b, c.typ.Bits())
		if ok {
			v.SetFloat(x)
		}
		return rest, ok
	case v.CanComplex():
		re, rest, ok := readFloat(b, c.typ.Bits()/2)
		if !ok {
			return nil, false
		}
		im, rest, ok := readFloat(rest, c.typ.Bits()/2)
		if ok {
			v.SetComplex(complex(re, im))
		}
		return rest, ok
	case k == reflect.String:
		x, n := binary.Uvarint(b)
		if n <= 0 || x > uint64(len(b)-n) {
			return nil, false
		}
		v.SetString(string(b[n : n+int(x)]))
		return b[n+int(x):], true
	case k == reflect.Array:
		for i := range v.Len() {
			if b, ok = c.elem.read(b, v.Index(i)); !ok {
				return nil, false
			}
		}
		return b, true
	default:
		for _, f := range c.fields {
			at := v.Field(f.index)
			if !at.CanSet() { // unexported
				at = reflect.NewAt(at.Type(), unsafe.Pointer(at.UnsafeAddr())).Elem()
			}
			if b, ok = f.read(b, at); !ok {
				return nil, false
			}
		}
		return b, true
	}
}

func readFloat(b []byte, bits int) (x float64, rest []byte, ok bool) {
	if len(b) < bits/8 {
		return 0, nil, false
	}
	if bits == 32 {
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b))), b[4:], true
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), b[8:], true
}
