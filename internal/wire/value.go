package wire

import (
	"errors"
	"fmt"
	"reflect"
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
// does not multiply beyond all memory by sharing.
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
	return w.walk(v, p, 0)
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
type walker struct{ values int }

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
		p := planOf(v.Type())
		if p.err != nil {
			return fmt.Errorf("an interface holds a %v: %w", v.Type(), p.err)
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
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		p := planOf(v.Type().Elem())
		if !p.walk {
			return nil
		}
		for i := range v.Len() {
			if err := w.walk(v.Index(i), p, depth); err != nil {
				return err
			}
		}
	case reflect.Map:
		keys, elems := planOf(v.Type().Key()), planOf(v.Type().Elem())
		for it := v.MapRange(); it.Next(); {
			if keys.walk {
				if err := w.walk(it.Key(), keys, depth); err != nil {
					return err
				}
			}
			if elems.walk {
				if err := w.walk(it.Value(), elems, depth); err != nil {
					return err
				}
			}
		}
	}
	return nil
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
