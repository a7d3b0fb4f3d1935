package wire

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxDepth is how deep a value may be nested: each struct, slice, array and map is
// a level. gob needs less than 1 KiB of stack for one, and a goroutine has 250 MB at
// least.
const maxDepth = 10_000

// maxValues is how many values CheckValue looks at. Pointers that share what they
// point to can stand for more values than there are atoms, and gob writes each of
// them; so many need 256 MiB at least. It is a variable for the tests.
var maxValues = 1 << 28

var (
	errDepth  = errors.New("cyclic or nested deeper than 10,000")
	errValues = errors.New("too many values, those counted again that are pointed to from several places")
)

// CheckValue returns nil if gob can encode what is in the [Box] that box points to
// without silent loss and without end: what its interfaces hold passes
// [CheckType], nothing in it is cyclic or nested deeper than 10,000 levels, and it
// does not multiply beyond all memory by sharing. Otherwise its error says where.
//
// It looks only where a type leaves that open, and costs a map lookup for others.
// It must not run while somebody changes the value. It panics unless box is a
// pointer to a Box.
func CheckValue(box any) error {
	v := reflect.ValueOf(box).Elem().Field(0)
	p := planOf(v.Type())
	if p.err != nil || !p.walk {
		return p.err
	}
	w := walker{}
	return w.located(v, w.walk(v, p, 0))
}

// dynamicTypes returns the types that the interfaces in v hold, at any depth, each
// once. v is a struct like a [Box]. Its errors are those of [CheckValue].
func dynamicTypes(v reflect.Value) ([]reflect.Type, error) {
	w := walker{noted: map[reflect.Type]bool{}}
	err := w.follow(v, -1)
	return w.types, w.located(v, err)
}

// mustWalk reports whether values of t can be cyclic or hold interfaces. open is
// true for the types that are being looked at, one of which can recurse if it is met
// again, and false for those that need no walk.
func mustWalk(t reflect.Type, open map[reflect.Type]bool) bool {
	if is, ok := open[t]; ok {
		return is
	}
	if EncodesItself(t) {
		return false
	}
	open[t] = true
	if mustWalkInside(t, open) {
		return true
	}
	open[t] = false
	return false
}

func mustWalkInside(t reflect.Type, open map[reflect.Type]bool) bool {
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return mustWalk(t.Elem(), open)
	case reflect.Map:
		return mustWalk(t.Key(), open) || mustWalk(t.Elem(), open)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.IsExported() && mustWalk(f.Type, open) {
				return true
			}
		}
	}
	return false
}

// A walker goes through one value. Its recursion is bounded by maxDepth.
type walker struct {
	values int
	types  []reflect.Type        // those that interfaces hold
	noted  map[reflect.Type]bool // likewise; nil: nobody asks
	last   reflect.Type          // the one that was met last
	path   []string              // the outermost steps to what is wrong, the first one last
}

// pathLen is how many steps are told of a path.
const pathLen = 8

// at notes the step that led to err, if there is one. It is called from inside out.
func (w *walker) at(err error, step func() string) error {
	if err == nil {
		return nil
	}
	if len(w.path) > pathLen {
		w.path = append(w.path[:0], w.path[1:]...)
	}
	w.path = append(w.path, step())
	return err
}

// located adds to err where in v it is.
func (w *walker) located(v reflect.Value, err error) error {
	if err == nil || len(w.path) == 0 {
		return err
	}
	for v.Kind() == reflect.Pointer {
		v = v.Elem() // it is not nil, nor endless: something in it is wrong
	}
	var b strings.Builder
	b.WriteString(pathRoot(v.Type()))
	for i, step := range slices.Backward(w.path) {
		if i == 0 && len(w.path) > pathLen {
			step = "…"
		}
		b.WriteString(step)
	}
	return fmt.Errorf("%s: %w", b.String(), err)
}

// pathRoot returns what a path begins with.
func pathRoot(t reflect.Type) string {
	if t.Name() == "" {
		return "value"
	}
	return t.Name()
}

// walk checks v, whose plan p says that it must be walked. depth is the number of
// levels around it.
func (w *walker) walk(v reflect.Value, p *plan, depth int) error {
	if w.values++; w.values > maxValues {
		return errValues
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
		if v.Kind() == reflect.Interface {
			depth++ // for it can hold this very pointer
		}
		return w.follow(v, depth)
	case reflect.Interface:
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
		t := v.Type()
		p := planOf(t)
		if p.err != nil {
			return fmt.Errorf("an interface holds a %v: %w", t, p.err)
		}
		if w.noted != nil && t != w.last {
			if w.last = t; !w.noted[t] {
				w.noted[t] = true
				w.types = append(w.types, t)
			}
		}
		return w.follow(v, depth)
	}
	if depth++; depth > maxDepth {
		return errDepth
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, i := range p.fields {
			if err := w.follow(v.Field(i), depth); err != nil {
				return w.at(err, func() string { return "." + v.Type().Field(i).Name })
			}
		}
	case reflect.Slice, reflect.Array:
		p := planOf(v.Type().Elem())
		if !p.walk {
			return nil
		}
		for i := range v.Len() {
			if err := w.walk(v.Index(i), p, depth); err != nil {
				return w.at(err, func() string { return "[" + strconv.Itoa(i) + "]" })
			}
		}
	case reflect.Map:
		keys, elems := planOf(v.Type().Key()), planOf(v.Type().Elem())
		for it := v.MapRange(); it.Next(); {
			if keys.walk {
				if err := w.walk(it.Key(), keys, depth); err != nil {
					return w.at(err, func() string { return "[key]" })
				}
			}
			if elems.walk {
				if err := w.walk(it.Value(), elems, depth); err != nil {
					return w.at(err, func() string { return "[" + keyText(it.Key()) + "]" })
				}
			}
		}
	}
	return nil
}

// keyText returns the key of a map for a path: short, and without calling its methods.
func keyText(k reflect.Value) string {
	switch {
	case k.Kind() == reflect.String && k.Len() <= 32:
		return strconv.Quote(k.String())
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10)
	case k.CanUint():
		return strconv.FormatUint(k.Uint(), 10)
	}
	return ""
}

// follow walks v if its type asks for it.
func (w *walker) follow(v reflect.Value, depth int) error {
	p := planOf(v.Type())
	if depth > maxDepth {
		return errDepth
	}
	if !p.walk {
		return nil
	}
	return w.walk(v, p, depth)
}
