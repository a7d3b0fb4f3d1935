package ipc

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
	"reflect"
	"strconv"
	"sync"
)

// A layout is what T of a Value or an Array looks like in memory.
type layout struct {
	size   int
	number bool   // T is a number or a bool, whatever its name
	holes  *holes // nil: T has no padding
	sig    uint64 // of kinds, offsets, sizes and the names of fields: the same in every build
}

// A holes is the padding of a type, blank fields included: bytes that nobody can name, and
// that may differ between two values that are equal.
type holes struct {
	gaps  []gap
	inner []repeated
}

// A gap is the bytes from one offset to another.
type gap struct{ from, to int }

// A repeated is n values with padding of their own, from offset at.
type repeated struct {
	at, stride, n int
	*holes
}

// clear zeroes the padding of the value in b.
func (h *holes) clear(b []byte) {
	if h == nil {
		return
	}
	for _, g := range h.gaps {
		clear(b[g.from:g.to])
	}
	for _, r := range h.inner {
		for i := range r.n {
			r.clear(b[r.at+i*r.stride:])
		}
	}
}

// mask returns the bits of a machine word that T, of 8 bytes at most, has in it: of one of 4
// bytes, if T is no longer than that. What is padding is not among them.
func (l *layout) mask() uint64 {
	var b [8]byte
	for i := range l.size {
		b[i] = 0xff
	}
	l.holes.clear(b[:l.size])
	if l.size <= 4 {
		return uint64(binary.NativeEndian.Uint32(b[:]))
	}
	return binary.NativeEndian.Uint64(b[:])
}

// layouts caches what fixedLayout answers: a func of its results by reflect.Type.
var layouts sync.Map

// fixedLayout returns the layout of t, or an error if t, or something in it, has none that
// is the same in every process.
func fixedLayout(t reflect.Type) (*layout, error) {
	if known, ok := layouts.Load(t); ok {
		return known.(func() (*layout, error))()
	}
	l, err := newLayout(t)
	layouts.Store(t, func() (*layout, error) { return l, err })
	return l, err
}

func newLayout(t reflect.Type) (*layout, error) {
	sum := fnv.New64a()
	h, path, unfit := inspect(t, sum)
	switch {
	case unfit != nil && path == "":
		return nil, fmt.Errorf("%v has no fixed layout: use %s", t, instead(unfit))
	case unfit != nil:
		return nil, fmt.Errorf("%s of %v has type %v, which has no fixed layout: use %s", path, t, unfit, instead(unfit))
	}
	return &layout{size: int(t.Size()), number: isNumber(t.Kind()), holes: h, sig: sum.Sum64()}, nil
}

// isNumber reports whether k is that of a number or a bool.
func isNumber(k reflect.Kind) bool { return k >= reflect.Bool && k <= reflect.Complex128 }

// inspect writes the description of t to sum, and returns its padding. If something in t has
// no fixed layout it returns the path to that, and its type.
func inspect(t reflect.Type, sum io.Writer) (h *holes, path string, unfit reflect.Type) {
	switch k := t.Kind(); {
	case isNumber(k):
		fmt.Fprintf(sum, "%v %d;", k, t.Size())
		return nil, "", nil
	case k == reflect.Array:
		fmt.Fprintf(sum, "[%d]", t.Len())
		inner, path, unfit := inspect(t.Elem(), sum)
		if unfit != nil {
			return nil, join("[0]", path), unfit
		}
		if inner != nil && t.Len() > 0 {
			h = &holes{inner: []repeated{{0, int(t.Elem().Size()), t.Len(), inner}}}
		}
		return h, "", nil
	case k == reflect.Struct:
		return inspectStruct(t, sum)
	}
	return nil, "", t
}

func inspectStruct(t reflect.Type, sum io.Writer) (h *holes, path string, unfit reflect.Type) {
	h = new(holes)
	end := 0 // of the fields before
	fmt.Fprintf(sum, "struct %d{", t.Size())
	for f := range t.Fields() {
		from, to := int(f.Offset), int(f.Offset+f.Type.Size())
		fmt.Fprintf(sum, "%s %d ", strconv.Quote(f.Name), from)
		inner, path, unfit := inspect(f.Type, sum)
		if unfit != nil {
			return nil, join(f.Name, path), unfit
		}
		if f.Name == "_" {
			continue
		}
		h.gap(end, from)
		end = to
		if inner != nil {
			h.inner = append(h.inner, repeated{from, 0, 1, inner})
		}
	}
	fmt.Fprint(sum, "}")
	if h.gap(end, int(t.Size())); h.gaps == nil && h.inner == nil {
		return nil, "", nil
	}
	return h, "", nil
}

func (h *holes) gap(from, to int) {
	if from < to {
		h.gaps = append(h.gaps, gap{from, to})
	}
}

// join returns the path to what is at rest in name.
func join(name, rest string) string {
	if rest == "" || rest[0] == '[' {
		return name + rest
	}
	return name + "." + rest
}

// instead returns what to use for t.
func instead(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "[N]byte"
	case reflect.Slice:
		return fmt.Sprintf("[N]%v, or a Queue", t.Elem())
	case reflect.Func:
		return "a task"
	case reflect.UnsafePointer:
		return "an index"
	}
	return "a Queue" // maps, pointers, channels, interfaces
}

// product returns a × b, and false if that is more than a mapping can have.
func product(a, b uint64) (int, bool) {
	const most = 1 << (bits.UintSize - 2)
	hi, lo := bits.Mul64(a, b)
	return int(lo), hi == 0 && lo < most
}
