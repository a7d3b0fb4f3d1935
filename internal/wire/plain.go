package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"unsafe"
)

// Most of what is sent in small pieces is a number or a text, and gob spends more on
// one than a cheap task does. Such a value is plain: it travels without its type,
// which both sides know by the task.
//
//	bool               1 byte, 0 or 1
//	complex64, 128     16 bytes: the real part, the imaginary part
//	all other numbers  8 bytes, the lowest first; a float as its bits
//	string, []byte     as they are
//	struct{}           nothing
//
// The length of a value is told by what is around it.

// A Plain says how the values of a type travel. 0 stands for types that are not
// plain.
type Plain uint8

// Each of the others is the type's reflect.Kind.
const plainEmpty = Plain(reflect.Struct)

// goTypes are Go's own types among the plain ones. They have no methods.
var goTypes = [...]reflect.Type{
	reflect.Bool:       reflect.TypeFor[bool](),
	reflect.Int:        reflect.TypeFor[int](),
	reflect.Int8:       reflect.TypeFor[int8](),
	reflect.Int16:      reflect.TypeFor[int16](),
	reflect.Int32:      reflect.TypeFor[int32](),
	reflect.Int64:      reflect.TypeFor[int64](),
	reflect.Uint:       reflect.TypeFor[uint](),
	reflect.Uint8:      reflect.TypeFor[uint8](),
	reflect.Uint16:     reflect.TypeFor[uint16](),
	reflect.Uint32:     reflect.TypeFor[uint32](),
	reflect.Uint64:     reflect.TypeFor[uint64](),
	reflect.Uintptr:    reflect.TypeFor[uintptr](),
	reflect.Float32:    reflect.TypeFor[float32](),
	reflect.Float64:    reflect.TypeFor[float64](),
	reflect.Complex64:  reflect.TypeFor[complex64](),
	reflect.Complex128: reflect.TypeFor[complex128](),
	reflect.Slice:      reflect.TypeFor[[]byte](),
	reflect.String:     reflect.TypeFor[string](),
	reflect.Struct:     reflect.TypeFor[struct{}](),
}

// PlainOf returns how values of t travel. A type that encodes itself is not plain, and
// neither is one that has half of what that takes, which [CheckType] refuses.
func PlainOf(t reflect.Type) Plain {
	k := t.Kind()
	if int(k) >= len(goTypes) || goTypes[k] == nil {
		return 0
	}
	if t == goTypes[k] {
		return Plain(k)
	}
	if k == reflect.Slice && t.Elem() != reflect.TypeFor[byte]() || k == reflect.Struct && t.NumField() > 0 {
		return 0
	}
	if p := planOf(t); p.err != nil || p.itself {
		return 0
	}
	return Plain(k)
}

// Direct reports whether gob can encode and decode values of t, which passes
// [CheckType], with no code but its own: there is no interface in it, and no type that
// encodes itself.
func Direct(t reflect.Type) bool {
	return PlainOf(t) != 0 || direct(t, map[reflect.Type]bool{})
}

// direct is Direct for a type inside of those in seen.
func direct(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return true
	}
	seen[t] = true
	if EncodesItself(t) {
		return false
	}
	switch t.Kind() {
	case reflect.Interface:
		return false
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return direct(t.Elem(), seen)
	case reflect.Map:
		return direct(t.Key(), seen) && direct(t.Elem(), seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.IsExported() && !direct(f.Type, seen) {
				return false
			}
		}
	}
	return true
}

// Len returns how many bytes the value at p takes. k is not 0.
func (k Plain) Len(p unsafe.Pointer) int {
	switch reflect.Kind(k) {
	case reflect.Bool:
		return 1
	case reflect.Complex64, reflect.Complex128:
		return 16
	case reflect.String:
		return len(*(*string)(p))
	case reflect.Slice:
		return len(*(*[]byte)(p))
	case reflect.Struct:
		return 0
	}
	return 8
}

// AppendPlain adds the value at p, of a type whose Plain is k, to b and returns it.
func AppendPlain(b []byte, k Plain, p unsafe.Pointer) []byte {
	switch reflect.Kind(k) {
	case reflect.String:
		return append(b, *(*string)(p)...)
	case reflect.Slice:
		return append(b, *(*[]byte)(p)...)
	case reflect.Struct:
		return b
	case reflect.Bool:
		if *(*bool)(p) {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Complex64:
		c := *(*complex64)(p)
		b = binary.LittleEndian.AppendUint64(b, uint64(math.Float32bits(real(c))))
		return binary.LittleEndian.AppendUint64(b, uint64(math.Float32bits(imag(c))))
	case reflect.Complex128:
		c := *(*complex128)(p)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(real(c)))
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(imag(c)))
	}
	return binary.LittleEndian.AppendUint64(b, word(k, p))
}

// word returns the number at p as it travels.
func word(k Plain, p unsafe.Pointer) uint64 {
	switch reflect.Kind(k) {
	case reflect.Int:
		return uint64(*(*int)(p))
	case reflect.Int8:
		return uint64(*(*int8)(p))
	case reflect.Int16:
		return uint64(*(*int16)(p))
	case reflect.Int32:
		return uint64(*(*int32)(p))
	case reflect.Uint:
		return uint64(*(*uint)(p))
	case reflect.Uint8:
		return uint64(*(*uint8)(p))
	case reflect.Uint16:
		return uint64(*(*uint16)(p))
	case reflect.Uint32, reflect.Float32:
		return uint64(*(*uint32)(p))
	case reflect.Uintptr:
		return uint64(*(*uintptr)(p))
	}
	return *(*uint64)(p) // int64, uint64, float64
}

var (
	errPlain  = errors.New("wire: a plain value for a type that is not plain")
	errAsGob  = errors.New("wire: a value of gob's for a type that is plain")
	errFlags  = errors.New("wire: a plain value of a stream, or alone")
	errBool   = errors.New("wire: a bool that is neither true nor false")
	errPacked = errors.New("wire: values that are cut off")
)

// DecodePlain decodes the value in b to p, of a type whose Plain is k. The value keeps
// nothing of b. If b holds anything but a value of the type, p is left as it is.
//
// Somebody else may write to b meanwhile: each byte is read once.
func DecodePlain(b []byte, k Plain, p unsafe.Pointer) error {
	switch reflect.Kind(k) {
	case reflect.Invalid:
		return errPlain
	case reflect.String:
		*(*string)(p) = string(b)
		return nil
	case reflect.Slice:
		*(*[]byte)(p) = own(b) // nil if it is empty, as gob has it
		return nil
	}
	if n := k.Len(p); len(b) != n {
		return fmt.Errorf("wire: %d bytes for %v, which takes %d", len(b), reflect.Kind(k), n)
	}
	switch reflect.Kind(k) {
	case reflect.Bool:
		v := b[0]
		if v > 1 {
			return errBool
		}
		*(*bool)(p) = v == 1
		return nil
	case reflect.Complex64:
		re, im := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		if re > math.MaxUint32 || im > math.MaxUint32 {
			return rangeError(k)
		}
		*(*complex64)(p) = complex(math.Float32frombits(uint32(re)), math.Float32frombits(uint32(im)))
		return nil
	case reflect.Complex128:
		re, im := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		*(*complex128)(p) = complex(math.Float64frombits(re), math.Float64frombits(im))
		return nil
	case reflect.Struct:
		return nil
	}
	if !setWord(k, p, binary.LittleEndian.Uint64(b)) {
		return rangeError(k)
	}
	return nil
}

func rangeError(k Plain) error {
	return fmt.Errorf("wire: a number out of range for %v", reflect.Kind(k))
}

// setWord stores a number at p, and reports false if it does not fit.
func setWord(k Plain, p unsafe.Pointer, x uint64) bool {
	switch reflect.Kind(k) {
	case reflect.Int:
		return set[int](p, x)
	case reflect.Int8:
		return set[int8](p, x)
	case reflect.Int16:
		return set[int16](p, x)
	case reflect.Int32:
		return set[int32](p, x)
	case reflect.Uint:
		return set[uint](p, x)
	case reflect.Uint8:
		return set[uint8](p, x)
	case reflect.Uint16:
		return set[uint16](p, x)
	case reflect.Uint32, reflect.Float32:
		return set[uint32](p, x)
	case reflect.Uintptr:
		return set[uintptr](p, x)
	default: // int64, uint64, float64
		*(*uint64)(p) = x
	}
	return true
}

func set[T int | int8 | int16 | int32 | uint | uint8 | uint16 | uint32 | uintptr](p unsafe.Pointer, x uint64) bool {
	if uint64(T(x)) != x { // a negative number is extended by its sign
		return false
	}
	*(*T)(p) = T(x)
	return true
}

// Cut splits off the first of several plain values, each of which has its length
// before it, as a uvarint. It fails if b does not begin with one. The length is read
// once, and what follows lies within b, whatever becomes of the bytes.
func Cut(b []byte) (value, rest []byte, err error) {
	if len(b) > 0 {
		if n := b[0]; n < 0x80 {
			if int(n) < len(b) {
				return b[1 : 1+n : 1+n], b[1+n:], nil
			}
			return nil, nil, errPacked
		}
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, errPacked
	}
	end := size + int(n)
	return b[size:end:end], b[end:], nil
}

// packedLen returns how many bytes a value of n bytes takes with its length before it.
func packedLen(n int) int {
	size := 1
	for x := uint64(n); x >= 0x80; x >>= 7 {
		size++
	}
	return size + n
}

// AppendPacked adds n values, of which the first is at p and each of the others stride
// bytes behind the one before, to b, as long as that adds no more than room bytes. Each
// has its length before it, as [Cut] wants it. It returns how many it has added.
func AppendPacked(b []byte, k Plain, p unsafe.Pointer, stride uintptr, n, room int) ([]byte, int) {
	if k.words() {
		const each = 1 + 8
		n = min(n, max(room, 0)/each)
		b = slices.Grow(b, n*each)
		to := b[len(b) : len(b)+n*each]
		for i := range n {
			to[0] = 8
			binary.LittleEndian.PutUint64(to[1:], *(*uint64)(unsafe.Add(p, uintptr(i)*stride)))
			to = to[each:]
		}
		return b[:len(b)+n*each], n
	}
	for i := range n {
		at := unsafe.Add(p, uintptr(i)*stride)
		size := k.Len(at)
		if size > room || packedLen(size) > room {
			return b, i
		}
		room -= packedLen(size)
		b = AppendPlain(binary.AppendUvarint(b, uint64(size)), k, at)
	}
	return b, n
}

// DecodePacked decodes values of which the first goes to p and each of the others
// stride bytes behind the one before, up to the first that cannot be decoded. It
// returns how many it has decoded, and what is wrong with the next.
func DecodePacked(values [][]byte, k Plain, p unsafe.Pointer, stride uintptr) (n int, err error) {
	if k.words() {
		for n < len(values) && len(values[n]) == 8 {
			*(*uint64)(unsafe.Add(p, uintptr(n)*stride)) = binary.LittleEndian.Uint64(values[n])
			n++
		}
	}
	for ; n < len(values); n++ {
		if err := DecodePlain(values[n], k, unsafe.Add(p, uintptr(n)*stride)); err != nil {
			return n, err
		}
	}
	return n, nil
}

// words reports whether values are in memory as they travel, but for the order of their
// bytes: in 64 bits.
func (k Plain) words() bool {
	switch reflect.Kind(k) {
	case reflect.Int64, reflect.Uint64, reflect.Float64:
		return true
	case reflect.Int, reflect.Uint:
		return bits.UintSize == 64
	}
	return false
}

// A plainly is a value that knows whether it is plain: a *[Box], or a *[Unit].
type plainly interface {
	plain() (Plain, unsafe.Pointer)
}

func (b *Box[T]) plain() (Plain, unsafe.Pointer) {
	return PlainOf(reflect.TypeFor[T]()), unsafe.Pointer(&b.V)
}

// A Unit stands in for a [Box] of a type without bytes, which gob cannot carry.
type Unit struct{ V bool }

func (u *Unit) plain() (Plain, unsafe.Pointer) { return plainEmpty, unsafe.Pointer(u) }

// plainIn returns how what v points to travels, and where it is.
func plainIn(v any) (Plain, unsafe.Pointer) {
	switch b := v.(type) { // the usual ones, which cost a comparison here
	case *Box[int]:
		return Plain(reflect.Int), unsafe.Pointer(&b.V)
	case *Box[int64]:
		return Plain(reflect.Int64), unsafe.Pointer(&b.V)
	case *Box[float64]:
		return Plain(reflect.Float64), unsafe.Pointer(&b.V)
	case *Box[bool]:
		return Plain(reflect.Bool), unsafe.Pointer(&b.V)
	case *Box[string]:
		return Plain(reflect.String), unsafe.Pointer(&b.V)
	case *Box[[]byte]:
		return Plain(reflect.Slice), unsafe.Pointer(&b.V)
	}
	if b, ok := v.(plainly); ok {
		return b.plain()
	}
	return 0, nil
}

// alias returns the value at p as it lies in memory, if it is a text or bytes, and large.
func (k Plain) alias(p unsafe.Pointer) []byte {
	const large = 1 << 10
	switch reflect.Kind(k) {
	case reflect.String:
		if s := *(*string)(p); len(s) >= large {
			return unsafe.Slice(unsafe.StringData(s), len(s))
		}
	case reflect.Slice:
		if b := *(*[]byte)(p); len(b) >= large {
			return slices.Clip(b)
		}
	}
	return nil
}

// Result returns what v, which an [executor.Function] has replied with, points to, if it is
// plain, and reports whether it is: in b, which is overwritten, or where it lies.
func Result(b []byte, v any) ([]byte, bool) {
	k, p := plainIn(v)
	if k == 0 {
		return nil, false
	}
	if a := k.alias(p); a != nil {
		return a, true
	}
	return AppendPlain(b[:0], k, p), true
}

// AppendResult adds what v, which an [executor.Function] has replied with, points to,
// to b if it is plain, and reports whether it is.
func AppendResult(b []byte, v any) ([]byte, bool) {
	k, p := plainIn(v)
	if k == 0 {
		return b, false
	}
	return AppendPlain(b, k, p), true
}
