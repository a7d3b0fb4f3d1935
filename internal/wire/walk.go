package wire

import (
	"reflect"
	"unicode"
	"unicode/utf8"
)

// A walk goes through one value. Its own recursion is bounded as that of gob is.
type walk struct {
	reader
	types   *inspector
	alone   bool // the value is not of a stream
	fitting bool // receivers are looked at
	nils    bool // there are nil interfaces
	err     error
}

// A receiver is what a value will be decoded into, for a walk that looks at that.
type receiver struct {
	local   reflect.Type // nil where it makes no difference
	skipped bool         // there is none
}

// whole goes through the value that is all of a message, and says what is wrong.
func (w *walk) whole(to receiver) error {
	w.single(w.types.last, to, 0)
	switch {
	case w.err != nil:
		return w.err
	case w.bad:
		return errCut
	case w.at < len(w.b):
		return errTrailing
	}
	return nil
}

func (w *walk) refuse(err error) {
	w.err = err
	w.fail()
}

// single goes through a value that stands alone, where all but structs have a 0
// before them.
func (w *walk) single(t *gobType, to receiver, depth int) {
	if t.shape != shapeStruct && w.uint() != 0 {
		w.fail()
	}
	w.value(t, to, depth)
}

// value goes through a value of t. depth is the number of levels around it.
func (w *walk) value(t *gobType, to receiver, depth int) {
	if w.bad {
		return
	}
	if t.deep && t.shape != shapeInterface {
		if depth++; depth > maxWireDepth {
			w.refuse(errWireDeep)
			return
		}
	}
	switch t.shape {
	case shapeNumber:
		w.uint()
	case shapeComplex:
		w.uint()
		w.uint()
	case shapeBytes:
		w.skip()
	case shapeInterface:
		w.dynamic(to, depth)
	case shapeArray:
		if n := w.count(1); uint64(n) != t.length {
			w.fail()
		} else {
			w.elements(t.parts[0], w.element(to), n, depth)
		}
	case shapeSlice:
		w.elements(t.parts[0], w.element(to), w.count(1), depth)
	case shapeMap:
		key, elem := w.key(to), w.element(to)
		for n := w.count(2); n > 0 && !w.bad; n-- {
			w.value(t.parts[0], key, depth)
			w.value(t.parts[1], elem, depth)
		}
	case shapeStruct:
		for field := -1; ; {
			delta := w.uint()
			if delta == 0 || w.bad {
				return
			}
			if delta >= uint64(len(t.parts)-field) {
				w.fail()
				return
			}
			field += int(delta)
			w.value(t.parts[field], w.field(t, to, field), depth)
		}
	}
}

// elements goes through n values of t.
func (w *walk) elements(t *gobType, to receiver, n, depth int) {
	if t.shape == shapeNumber {
		for ; n > 0 && !w.bad; n-- {
			w.uint()
		}
		return
	}
	for ; n > 0 && !w.bad; n-- {
		w.value(t, to, depth)
	}
}

// dynamic goes through what an interface holds. There is none in a stream, whose values
// may have to be skipped.
func (w *walk) dynamic(to receiver, depth int) {
	if !w.alone {
		w.refuse(errStray)
		return
	}
	n := w.length()
	if n == 0 {
		if w.nils = true; to.skipped && !w.bad {
			w.refuse(errSkip)
		}
		return
	}
	name := w.b[w.at : w.at+n]
	w.at += n
	t := w.types.lookup(w.int())
	n = w.length()
	switch {
	case w.bad:
		return
	case t == nil:
		w.refuse(errType) // or described here, which no Encoder does
		return
	case to.skipped:
		w.at += n
		return
	}
	if t.shape == shapeInterface {
		if depth++; depth > maxWireDepth { // for it can hold the same again
			w.refuse(errWireDeep)
			return
		}
	}
	if w.fitting {
		if to = (receiver{local: registered(string(name), t)}); t.structs && to.local == nil {
			w.refuse(errUnlike)
			return
		}
	}
	end := w.at + n
	whole := w.b
	w.b = whole[:end]
	w.single(t, to, depth)
	w.b = whole
	if w.at != end {
		w.fail()
	}
}

// key, element and field say what a part of a value of t is decoded into. For a
// receiver of another kind gob would refuse the value before it decodes any of it.

func (w *walk) key(to receiver) receiver {
	return w.part(to, func(k reflect.Kind) bool { return k == reflect.Map }, reflect.Type.Key)
}

func (w *walk) element(to receiver) receiver {
	return w.part(to, func(k reflect.Kind) bool {
		return k == reflect.Map || k == reflect.Slice || k == reflect.Array
	}, reflect.Type.Elem)
}

func (w *walk) part(to receiver, is func(reflect.Kind) bool, of func(reflect.Type) reflect.Type) receiver {
	local := to.base()
	if local == nil {
		return to
	}
	if !is(local.Kind()) {
		w.refuse(errUnlike)
		return receiver{}
	}
	return receiver{local: of(local)}
}

func (w *walk) field(t *gobType, to receiver, i int) receiver {
	if !w.fitting || to.skipped {
		return to
	}
	local := to.base()
	if local == nil || local.Kind() != reflect.Struct {
		w.refuse(errUnlike)
		return receiver{}
	}
	first, _ := utf8.DecodeRuneInString(t.names[i])
	f, ok := local.FieldByName(t.names[i])
	if !ok || !unicode.IsUpper(first) {
		return receiver{skipped: true}
	}
	return receiver{local: f.Type}
}

// base returns what the receiver is, or points to.
func (to receiver) base() reflect.Type {
	t := to.local
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}
