package wire

import (
	"encoding"
	"encoding/gob"
	"reflect"
	"sync"

	"example.com/futures/internal/carry"
)

// facts are what an Encoder and a Decoder know of the type of a value that is gob's.
type facts struct {
	closed bool    // no value of it holds an interface that gob looks into
	layout *layout // of the struct that it points to; nil: no []byte can be in there
	holds  bool    // there can be handles in it, beside what its interfaces hold
}

// knownFacts remembers what factsOf answered.
var knownFacts sync.Map // reflect.Type → *facts

func factsOf(t reflect.Type) *facts {
	if f, ok := knownFacts.Load(t); ok {
		return f.(*facts)
	}
	f := &facts{closed: closedUnder(t, map[reflect.Type]bool{}), layout: layoutOf(t), holds: carry.Names(t)}
	kept, _ := knownFacts.LoadOrStore(t, f)
	return kept.(*facts)
}

// A layout says where in the memory of a type a []byte is, or the way to one leads on.
type layout struct {
	typ   reflect.Type
	fixed bool // a value of it must not be copied
	spots []spot
	leads bool // there is a []byte, or the way to one
}

// A spot is one such place.
type spot struct {
	kind spotKind
	off  uintptr
	n    int          // of an array: its length
	typ  reflect.Type // of a slice
	in   *layout      // of what is pointed to, or of the elements
}

type spotKind uint8

const (
	spotBytes spotKind = iota
	spotPointer
	spotSlice
	spotArray
)

// layoutOf returns the layout of the struct that t points to, nil if there is no []byte in
// it that gob would encode, or if t does not point to a struct.
func layoutOf(t reflect.Type) *layout {
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return nil
	}
	s := surveyor{}
	l := s.layout(t.Elem())
	for found := true; found; { // types can recurse
		found = false
		for _, l := range s {
			for _, p := range l.spots {
				if !l.leads && (p.kind == spotBytes || p.in.leads) {
					l.leads, found = true, true
				}
			}
		}
	}
	if !l.leads {
		return nil
	}
	for _, l := range s {
		var spots []spot
		for _, p := range l.spots {
			if p.kind == spotBytes || p.in.leads {
				spots = append(spots, p)
			}
		}
		l.spots = spots
	}
	return l
}

// A surveyor makes the layouts of types that lead to one another.
type surveyor map[reflect.Type]*layout

func (s surveyor) layout(t reflect.Type) *layout {
	if l, ok := s[t]; ok {
		return l
	}
	l := &layout{typ: t, fixed: !copyable(t)}
	s[t] = l
	s.survey(l, t, 0)
	return l
}

// survey adds the spots of a t that is off bytes into l.
func (s surveyor) survey(l *layout, t reflect.Type, off uintptr) {
	if enc, dec := methodsOf(t); t.Size() == 0 || enc != byField || dec != byField {
		return
	}
	switch t.Kind() {
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			l.spots = append(l.spots, spot{kind: spotBytes, off: off})
		} else {
			l.spots = append(l.spots, spot{kind: spotSlice, off: off, typ: t, in: s.layout(t.Elem())})
		}
	case reflect.Pointer:
		l.spots = append(l.spots, spot{kind: spotPointer, off: off, in: s.layout(t.Elem())})
	case reflect.Array:
		l.spots = append(l.spots, spot{kind: spotArray, off: off, n: t.Len(), in: s.layout(t.Elem())})
	case reflect.Struct:
		for f := range t.Fields() {
			if f.IsExported() {
				s.survey(l, f.Type, off+f.Offset)
			}
		}
	}
}

// copyable reports whether a value of t may be copied behind the back of its owner. That
// holds for plain data, and for what encodes itself by methods of its value, which a call
// of those copies. Methods of its address may count on that address, or on a lock.
func copyable(t reflect.Type) bool {
	switch enc, dec := methodsOf(t); {
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface:
		return true
	case enc == byGob:
		return t.Implements(reflect.TypeFor[gob.GobEncoder]())
	case enc == byBinary:
		return t.Implements(reflect.TypeFor[encoding.BinaryMarshaler]())
	case dec != byField:
		return false
	}
	switch t.Kind() {
	case reflect.Array:
		return copyable(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if f.Type.Size() > 0 && f.Name != "_" && (!f.IsExported() || !copyable(f.Type)) {
				return false
			}
		}
	}
	return true
}
