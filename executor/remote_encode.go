package executor

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"reflect"
	"runtime"
	"syscall"
	"unicode/utf8"

	"example.com/futures/internal/printable"
	"example.com/futures/internal/wire"
)

// The format of an encoded error is the byte errorFormat and one node:
//
//	node   = kind, type, text, matches, then by kind:
//	         remote    joined (a bool), stack, list of nodes: the causes
//	         sentinel  name
//	         errno     operating system, number
//	         struct    the fields that knownTypes has for the type, in order
//	         gob       the bytes of gob, number of error fields, a list of nodes for each
//	string = length, bytes
//	list   = for each element 1 and the element, then 0
//
// Numbers are uvarints, or varints where they can be negative. Every node has its
// type and its text, so that a process that does not know the error can still
// show it, and can tell whether what it made is the same.
//
// It is not gob of a tree, which would be less code: gob decodes a recursive type
// without a limit on its depth, and spends ten times as long on types as on an error.
const errorFormat = 1

// What a node comes back as.
const (
	kindRemote = iota
	kindSentinel
	kindErrno
	kindStruct
	kindGob
)

// What a panic's value comes back as, and other interfaces that can be nil.
const (
	tagNil = iota
	tagSome
	tagString
	tagBool
	tagInt
	tagUint
	tagFloat
)

// Bounds of what is encoded. What is decoded is held to the same depth, and to twice
// the number, for each level can end in a note that something was cut off.
const (
	maxErrorDepth = 100
	maxErrorNodes = 1000
	maxErrorText  = 1 << 20             // bytes of one string
	maxErrorSize  = 4 << 20             // bytes after which no new node is begun, and texts are cut to restText
	maxErrorGob   = 256 << 10           // bytes of one gob
	maxErrorAll   = wire.ErrorAllowance // bytes that are decoded at all: more than is ever encoded
	restText      = 4 << 10
	cutNote       = 64 // bytes of the note that a string was cut
)

// An errorWriter encodes one error.
type errorWriter struct {
	b     []byte
	nodes int
}

func (w *errorWriter) uint(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *errorWriter) int(n int64)   { w.b = binary.AppendVarint(w.b, n) }

func (w *errorWriter) bool(is bool) {
	if is {
		w.uint(1)
	} else {
		w.uint(0)
	}
}

// string writes s, or as much of it as may be.
func (w *errorWriter) string(s string) {
	most := maxErrorText
	if len(w.b) > maxErrorSize {
		most = restText
	}
	if len(s) > most {
		n := most
		for n > most-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = fmt.Sprintf("%s … (%d bytes more were cut off)", s[:n], len(s)-n)
	}
	w.uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

// error writes the node of err, which is not nil, and reports whether there is room
// for another.
func (w *errorWriter) error(err error, depth int) bool {
	w.nodes++
	if depth >= maxErrorDepth || w.nodes > maxErrorNodes || len(w.b) > maxErrorSize {
		w.head(kindRemote, typeOf(err), "executor: the rest of the error's causes was cut off", nil)
		w.remote(false, "", nil, depth)
		return false
	}
	text, ok := textOf(err)
	matches := matchesOf(err)
	if name, is := sentinels.name(err); is {
		w.head(kindSentinel, typeOf(err), text, matches)
		w.string(name)
		return true
	}
	if !ok || isNilPointer(err) {
		w.generic(err, text, matches, depth)
		return true
	}
	if e, joined := remoteOf(err); e != nil {
		w.head(kindRemote, e.Type, e.Message, matches)
		w.remote(joined, ownStack(e), e.causes, depth)
		return true
	}
	if e, is := err.(syscall.Errno); is {
		w.head(kindErrno, typeOf(err), text, matches)
		w.string(runtime.GOOS) // for the numbers differ
		w.uint(uint64(e))
		return true
	}
	if k := knownTypes[reflect.TypeOf(err)]; k != nil {
		w.head(kindStruct, k.name, text, matches)
		v := reflect.ValueOf(err).Elem()
		for _, i := range k.fields {
			w.field(v.Field(i), depth)
		}
		return true
	}
	if !w.gob(err, text, matches, depth) {
		w.generic(err, text, matches, depth)
	}
	return true
}

// head writes what all nodes begin with.
func (w *errorWriter) head(kind uint64, typ, text string, matches []string) {
	w.uint(kind)
	w.string(typ)
	w.string(text)
	w.uint(uint64(len(matches)))
	for _, m := range matches {
		w.string(m)
	}
}

// generic writes the node of an error that becomes a RemoteError.
func (w *errorWriter) generic(err error, text string, matches []string, depth int) {
	causes, joined := causesOf(err)
	w.head(kindRemote, typeOf(err), text, matches)
	w.remote(joined, "", causes, depth)
}

// remote writes what follows the head of a RemoteError's node.
func (w *errorWriter) remote(joined bool, stack string, causes []error, depth int) {
	w.bool(joined)
	w.string(stack)
	w.list(causes, depth)
}

// list writes the nodes of errs, which are one level below depth.
func (w *errorWriter) list(errs []error, depth int) {
	for _, err := range errs {
		if err == nil {
			continue
		}
		w.uint(1)
		if !w.error(err, depth+1) {
			break
		}
	}
	w.uint(0)
}

// one writes a list of err alone, or of nothing if it is nil.
func (w *errorWriter) one(err error, depth int) { w.list([]error{err}, depth) }

// field writes a field of a knownType.
func (w *errorWriter) field(v reflect.Value, depth int) {
	switch v.Type() {
	case typeError:
		err, _ := reflect.TypeAssert[error](v)
		w.one(err, depth)
		return
	case typeAny:
		w.value(v.Interface(), depth)
		return
	case typeBytes:
		w.string(string(v.Bytes()))
		return
	case typeSignal:
		sig, is := reflect.TypeAssert[syscall.Signal](v)
		w.bool(is)
		if is {
			w.int(int64(sig))
		}
		return
	case typeAddr:
		a, is := reflect.TypeAssert[net.Addr](v)
		w.bool(is)
		if is {
			w.string(methodText(a, "Network", a.Network))
			w.string(methodText(a, "String", a.String))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		w.string(v.String())
	case reflect.Bool:
		w.bool(v.Bool())
	default:
		w.int(v.Int())
	}
}

// value writes what a panic was called with: an error as such, a basic type as
// such, and anything else as its text.
func (w *errorWriter) value(v any, depth int) {
	if v == nil {
		w.uint(tagNil)
		return
	}
	if err, is := v.(error); is {
		w.uint(tagSome)
		w.one(err, depth)
		return
	}
	rv := reflect.ValueOf(v)
	kind := rv.Kind()
	if rv.Type() != basicTypes[kind] {
		w.uint(tagString)
		w.string(printable.Text(v))
		return
	}
	switch kind {
	case reflect.String:
		w.uint(tagString)
		w.string(rv.String())
	case reflect.Bool:
		w.uint(tagBool)
		w.bool(rv.Bool())
	case reflect.Float32, reflect.Float64:
		w.uint(tagFloat)
		w.uint(uint64(kind))
		w.uint(math.Float64bits(rv.Float()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		w.uint(tagInt)
		w.uint(uint64(kind))
		w.int(rv.Int())
	default:
		w.uint(tagUint)
		w.uint(uint64(kind))
		w.uint(rv.Uint())
	}
}

// basicTypes has the types that a panic's value keeps.
var basicTypes = map[reflect.Kind]reflect.Type{
	reflect.String:  reflect.TypeFor[string](),
	reflect.Bool:    reflect.TypeFor[bool](),
	reflect.Int:     reflect.TypeFor[int](),
	reflect.Int8:    reflect.TypeFor[int8](),
	reflect.Int16:   reflect.TypeFor[int16](),
	reflect.Int32:   reflect.TypeFor[int32](),
	reflect.Int64:   reflect.TypeFor[int64](),
	reflect.Uint:    reflect.TypeFor[uint](),
	reflect.Uint8:   reflect.TypeFor[uint8](),
	reflect.Uint16:  reflect.TypeFor[uint16](),
	reflect.Uint32:  reflect.TypeFor[uint32](),
	reflect.Uint64:  reflect.TypeFor[uint64](),
	reflect.Uintptr: reflect.TypeFor[uintptr](),
	reflect.Float32: reflect.TypeFor[float32](),
	reflect.Float64: reflect.TypeFor[float64](),
}

// typeOf returns what %T prints, without a method of err being called.
func typeOf(err error) string { return reflect.TypeOf(err).String() }

func isNilPointer(err any) bool {
	v := reflect.ValueOf(err)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// textOf returns the text of err, and whether its Error method returned. If it
// panicked the text says so, or is "<nil>" for a nil pointer, as fmt has it.
func textOf(err error) (text string, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			text = panicText(err, "Error", p)
		}
	}()
	return err.Error(), true
}

// methodText returns what method returns, which is the method of v called name.
func methodText(v any, name string, method func() string) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = panicText(v, name, p)
		}
	}()
	return method()
}

func panicText(v any, name string, p any) string {
	if isNilPointer(v) {
		return "<nil>"
	}
	return fmt.Sprintf("executor: the %s method of a %s panicked: %v", name, reflect.TypeOf(v), p)
}

// causesOf returns what err wraps, and whether its Unwrap returns a slice. If that
// panics err wraps nothing.
func causesOf(err error) (causes []error, joined bool) {
	defer func() {
		if recover() != nil {
			causes, joined = nil, false
		}
	}()
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if cause := e.Unwrap(); cause != nil {
			return []error{cause}, false
		}
	case interface{ Unwrap() []error }:
		return e.Unwrap(), true
	}
	return nil, false
}

// matchesOf returns the names of the sentinels that the Is method of err says it
// matches. What err wraps is asked by itself.
func matchesOf(err error) (names []string) {
	e, ok := err.(interface{ Is(error) bool })
	if !ok {
		return nil
	}
	for _, s := range sentinels.list() {
		if matches(e, s.err) {
			names = append(names, s.name)
		}
	}
	return names
}

func matches(err interface{ Is(error) bool }, target error) (is bool) {
	defer func() {
		if recover() != nil {
			is = false
		}
	}()
	return err.Is(target)
}

// ownStack returns the stack of e unless it has it from a cause.
func ownStack(e *RemoteError) string {
	if e.Stack == stackOf(e.causes) {
		return ""
	}
	return e.Stack
}

// stackOf returns the stack of the first of errs that has one.
func stackOf(errs []error) string {
	for _, err := range errs {
		if e, is := err.(*PanicError); is && e != nil {
			return string(e.Stack)
		}
		if e, _ := remoteOf(err); e != nil && e.Stack != "" {
			return e.Stack
		}
	}
	return ""
}
