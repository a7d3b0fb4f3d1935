package executor

import (
	"encoding/binary"
	"math"
	"net"
	"os"
	"reflect"
	"runtime"
	"syscall"
)

// An errorReader decodes one error. What it makes of bytes that are no error is of
// no use: bad says so.
type errorReader struct {
	b     []byte // what is left
	nodes int
	bad   bool
}

func (r *errorReader) fail() {
	r.bad = true
	r.b = nil
}

func (r *errorReader) uint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *errorReader) int() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *errorReader) bool() bool {
	n := r.uint()
	if n > 1 {
		r.fail()
	}
	return n == 1
}

func (r *errorReader) string() string {
	n := r.uint()
	if n > uint64(len(r.b)) || n > maxErrorText+cutNote {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// error reads a node. It is not nil, and its Error method does not panic.
func (r *errorReader) error(depth int) error {
	if r.nodes++; depth > maxErrorDepth || r.nodes > 2*maxErrorNodes {
		r.fail()
		return errMalformed
	}
	kind := r.uint()
	e := RemoteError{Type: r.string(), Message: r.string(), matches: r.matches()}
	switch kind {
	case kindRemote:
		return r.remote(e, depth)
	case kindSentinel:
		if err, ok := sentinels.lookup(r.string()); ok {
			return err
		}
	case kindErrno:
		if goos, n := r.string(), r.uint(); goos == runtime.GOOS {
			return syscall.Errno(n)
		}
	case kindStruct:
		return r.known(e, depth)
	case kindGob:
		return r.gob(e, depth)
	default:
		r.fail()
	}
	return &e
}

// matches reads what an Is method answered true for. Names that are not registered
// here are left out.
func (r *errorReader) matches() []error {
	var errs []error
	for n := r.uint(); n > 0 && !r.bad; n-- {
		if err, ok := sentinels.lookup(r.string()); ok {
			errs = append(errs, err)
		}
	}
	return errs
}

// list reads the nodes of a list, which are one level below depth.
func (r *errorReader) list(depth int) []error {
	var errs []error
	for r.bool() && !r.bad {
		errs = append(errs, r.error(depth+1))
	}
	return errs
}

// one reads a list of one error, or of none, which gives nil.
func (r *errorReader) one(depth int) error {
	switch errs := r.list(depth); len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	r.fail()
	return nil
}

func (r *errorReader) remote(e RemoteError, depth int) error {
	joined := r.bool()
	e.Stack = r.string()
	e.causes = r.list(depth)
	if e.Stack == "" {
		e.Stack = stackOf(e.causes)
	}
	if joined {
		return &remoteJoin{e}
	}
	return &e
}

// known reads an error of a known type. If its text is another than it was, as with
// another version of Go or a text that was cut, it stays a RemoteError. The texts of our
// own are not asked for: each has its cause's in it, so that a chain of them would take
// the square of its length.
func (r *errorReader) known(e RemoteError, depth int) error {
	k := knownNames[e.Type]
	if k == nil {
		r.fail()
		return errMalformed
	}
	v := reflect.New(k.elem)
	for _, i := range k.fields {
		if cause := r.field(v.Elem().Field(i), depth); cause != nil {
			e.causes = append(e.causes, cause)
		}
	}
	err := v.Interface().(error)
	if k.own {
		return err
	}
	if text, ok := textOf(err); ok && text == e.Message {
		return err
	}
	e.Stack = stackOf(e.causes)
	return &e
}

// field reads a field of a known type into v, and returns the error in it, if any.
func (r *errorReader) field(v reflect.Value, depth int) (cause error) {
	switch v.Type() {
	case typeError:
		if cause = r.one(depth); cause != nil {
			v.Set(reflect.ValueOf(cause))
		}
		return cause
	case typeAny:
		value := r.value(depth)
		if value != nil {
			v.Set(reflect.ValueOf(value))
		}
		cause, _ = value.(error)
		return cause
	case typeBytes:
		v.SetBytes([]byte(r.string()))
		return nil
	case typeSignal:
		if r.bool() {
			var sig os.Signal = syscall.Signal(r.int())
			v.Set(reflect.ValueOf(sig))
		}
		return nil
	case typeAddr:
		if r.bool() {
			var addr net.Addr = &remoteAddr{r.string(), r.string()}
			v.Set(reflect.ValueOf(addr))
		}
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(r.string())
	case reflect.Bool:
		v.SetBool(r.bool())
	default:
		v.SetInt(r.int())
	}
	return nil
}

// value reads what a panic was called with.
func (r *errorReader) value(depth int) any {
	switch r.uint() {
	case tagNil:
		return nil
	case tagSome:
		if err := r.one(depth); err != nil {
			return err
		}
	case tagString:
		return r.string()
	case tagBool:
		return r.bool()
	case tagInt:
		if v := r.basic(reflect.Int, reflect.Int64); v.IsValid() {
			v.SetInt(r.int())
			return v.Interface()
		}
	case tagUint:
		if v := r.basic(reflect.Uint, reflect.Uintptr); v.IsValid() {
			v.SetUint(r.uint())
			return v.Interface()
		}
	case tagFloat:
		if v := r.basic(reflect.Float32, reflect.Float64); v.IsValid() {
			v.SetFloat(math.Float64frombits(r.uint()))
			return v.Interface()
		}
	}
	r.fail()
	return nil
}

// basic reads a kind from first to last and returns a new value of its basic type.
func (r *errorReader) basic(first, last reflect.Kind) reflect.Value {
	k := r.uint()
	if k < uint64(first) || k > uint64(last) {
		return reflect.Value{}
	}
	return reflect.New(basicTypes[reflect.Kind(k)]).Elem()
}

// gob reads an error of a type that is registered with gob. If it is not registered
// here, or has other fields here, it stays a RemoteError.
func (r *errorReader) gob(e RemoteError, depth int) error {
	blob := r.string()
	count := r.uint()
	var fields [][]error
	for ; count > 0 && !r.bad; count-- {
		errs := r.list(depth)
		fields = append(fields, errs)
		e.causes = append(e.causes, errs...)
	}
	if r.bad {
		return errMalformed
	}
	if err := gobDecode([]byte(blob), e.Type); err != nil && len(fields) == len(errorFields(reflect.TypeOf(err))) {
		err = fillErrors(err, fields)
		if text, ok := textOf(err); ok && text == e.Message {
			return err
		}
	}
	e.Stack = stackOf(e.causes)
	return &e
}
