package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"reflect"
	"strconv"
	"sync"

	"example.com/futures/future"
)

// A namedError is a sentinel and the name under which it travels.
type namedError struct {
	name string
	err  error
}

// A sentinelTable knows errors by name. It only grows.
type sentinelTable struct {
	// mu guards the fields below. The elements of all are never changed, so whoever
	// has copied the slice header may read them without mu.
	mu     sync.RWMutex
	byName map[string]error
	names  map[error]string // the first name of each
	all    []namedError
}

var sentinels = newSentinelTable()

func newSentinelTable() *sentinelTable {
	s := &sentinelTable{byName: map[string]error{}, names: map[error]string{}}
	for _, n := range []namedError{
		{"context.Canceled", context.Canceled},
		{"context.DeadlineExceeded", context.DeadlineExceeded},
		{"errors.ErrUnsupported", errors.ErrUnsupported},
		{"io.EOF", io.EOF},
		{"io.ErrClosedPipe", io.ErrClosedPipe},
		{"io.ErrNoProgress", io.ErrNoProgress},
		{"io.ErrShortBuffer", io.ErrShortBuffer},
		{"io.ErrShortWrite", io.ErrShortWrite},
		{"io.ErrUnexpectedEOF", io.ErrUnexpectedEOF},
		{"fs.ErrClosed", fs.ErrClosed},
		{"fs.ErrExist", fs.ErrExist},
		{"fs.ErrInvalid", fs.ErrInvalid},
		{"fs.ErrNotExist", fs.ErrNotExist},
		{"fs.ErrPermission", fs.ErrPermission},
		{"fs.SkipAll", fs.SkipAll},
		{"fs.SkipDir", fs.SkipDir},
		{"os.ErrDeadlineExceeded", os.ErrDeadlineExceeded},
		{"os.ErrNoDeadline", os.ErrNoDeadline},
		{"os.ErrProcessDone", os.ErrProcessDone},
		{"net.ErrClosed", net.ErrClosed},
		{"net.ErrWriteToConnected", net.ErrWriteToConnected},
		{"strconv.ErrRange", strconv.ErrRange},
		{"strconv.ErrSyntax", strconv.ErrSyntax},
		{"future.ErrCancelled", future.ErrCancelled},
		{"future.ErrInvalidState", future.ErrInvalidState},
		{"future.ErrNotDone", future.ErrNotDone},
		{"executor.ErrNotPortable", ErrNotPortable},
		{"executor.ErrQueueFull", ErrQueueFull},
		{"executor.ErrShutdown", ErrShutdown},
		{"executor.ErrTimeout", ErrTimeout},
	} {
		s.add(n.name, n.err)
	}
	return s
}

func (s *sentinelTable) add(name string, err error) {
	switch {
	case name == "":
		panic("executor: RegisterError with an empty name")
	case err == nil:
		panic(fmt.Sprintf("executor: RegisterError(%q) with a nil error", name))
	case !reflect.ValueOf(err).Comparable():
		panic(fmt.Sprintf("executor: RegisterError(%q) with a %T, which cannot be compared", name, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.byName[name]; ok {
		if old != err {
			panic(fmt.Sprintf("executor: RegisterError(%q): the name is in use for another error", name))
		}
		return
	}
	s.byName[name] = err
	if _, ok := s.names[err]; !ok {
		s.names[err] = name
	}
	s.all = append(s.all, namedError{name, err})
}

// name returns the name of err itself, not of what it wraps.
func (s *sentinelTable) name(err error) (string, bool) {
	if !reflect.ValueOf(err).Comparable() {
		return "", false // and would panic as a key
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	name, ok := s.names[err]
	return name, ok
}

func (s *sentinelTable) lookup(name string) (error, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err, ok := s.byName[name]
	return err, ok
}

func (s *sentinelTable) list() []namedError {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all
}

// A knownType is an error type that travels field by field: a pointer to a struct
// that has only exported fields of a few types.
type knownType struct {
	name   string
	elem   reflect.Type // the struct
	fields []int
	own    bool // one of ours, whose text need not be compared
}

var knownTypes, knownNames = func() (map[reflect.Type]*knownType, map[string]*knownType) {
	types, names := map[reflect.Type]*knownType{}, map[string]*knownType{}
	add := func(t reflect.Type, own bool) {
		k := &knownType{name: t.String(), elem: t.Elem(), own: own}
		for i := range k.elem.NumField() {
			f := k.elem.Field(i)
			if !f.IsExported() || !travels(f.Type) {
				return // as it may be with another version of Go
			}
			k.fields = append(k.fields, i)
		}
		types[t], names[k.name] = k, k
	}
	add(reflect.TypeFor[*PanicError](), true)
	add(reflect.TypeFor[*WorkerLostError](), true)
	add(reflect.TypeFor[*BrokenError](), true)
	add(reflect.TypeFor[*fs.PathError](), false)
	add(reflect.TypeFor[*os.LinkError](), false)
	add(reflect.TypeFor[*os.SyscallError](), false)
	add(reflect.TypeFor[*strconv.NumError](), false)
	add(reflect.TypeFor[*net.OpError](), false)
	add(reflect.TypeFor[*net.DNSError](), false)
	add(reflect.TypeFor[*net.AddrError](), false)
	add(reflect.TypeFor[*net.ParseError](), false)
	return types, names
}()

// The types of fields that are handled one by one.
var (
	typeError  = reflect.TypeFor[error]()
	typeErrors = reflect.TypeFor[[]error]()
	typeAny    = reflect.TypeFor[any]()
	typeBytes  = reflect.TypeFor[[]byte]()
	typeSignal = reflect.TypeFor[os.Signal]()
	typeAddr   = reflect.TypeFor[net.Addr]()
)

// travels reports whether errorWriter.field knows what to do with a t.
func travels(t reflect.Type) bool {
	switch t {
	case typeError, typeAny, typeBytes, typeSignal, typeAddr:
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	}
	return false
}

// A remoteAddr is the net.Addr of an error from another process.
type remoteAddr struct{ network, text string }

func (a *remoteAddr) Network() string { return a.network }
func (a *remoteAddr) String() string  { return a.text }
