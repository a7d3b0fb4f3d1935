package wire

import (
	"encoding/gob"
	"io"
	"reflect"
	"sync"
)

// encodeOpen encodes v, a struct or a pointer to one, alone, to w, with types, which are
// those that its interfaces hold, described before it.
//
// gob by itself would describe them where it meets them, in the middle of the value,
// which it breaks up for that. Then the length that stands before what an interface
// holds is that of its first piece only, and who skips an interface, as gob does for
// a field that the receiver does not have, goes on in the wrong place. It would also
// leave an inspector two ways to read the bytes. So gob is made to describe them
// before: it describes the type of a nil pointer, although it does not send it.
func encodeOpen(w io.Writer, v any, types []reflect.Type) error {
	out := describer{w: w, only: true}
	enc := gob.NewEncoder(&out)
	for _, t := range types {
		if d := descriptionOf(t); d.IsValid() {
			if err := enc.EncodeValue(d); err != nil {
				return err
			}
		}
	}
	out.only = false
	return enc.Encode(v)
}

// A describer passes on the messages of gob, each of which comes in one Write: all,
// or only those that describe a type.
type describer struct {
	w    io.Writer
	only bool
}

func (d *describer) Write(b []byte) (int, error) {
	if d.only {
		r := reader{b: b}
		if r.uint(); r.int() >= 0 {
			return len(b), nil
		}
	}
	return d.w.Write(b)
}

// descriptions keeps what descriptionOf made.
var descriptions sync.Map // reflect.Type → reflect.Value

// descriptionOf returns a value in which gob describes t, and that holds nothing. It is
// the zero Value for a basic type, which needs no description.
func descriptionOf(t reflect.Type) reflect.Value {
	if d, ok := descriptions.Load(t); ok {
		return d.(reflect.Value)
	}
	var d reflect.Value
	if k := t.Kind(); k == reflect.String || k <= reflect.Complex128 {
		if !EncodesItself(t) {
			descriptions.Store(t, d)
			return d
		}
	}
	d = reflect.New(reflect.StructOf([]reflect.StructField{{Name: "T", Type: reflect.PointerTo(t)}})).Elem()
	descriptions.Store(t, d)
	return d
}
