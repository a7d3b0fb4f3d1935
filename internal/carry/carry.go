// Package carry takes descriptors along with encoded values.
//
// A handle of package ipc (a lock, a queue, one end of a pipe) is descriptors and a
// few bytes. Gob can write the bytes; the descriptors must be sent beside them, over
// a socket. Gob calls a handle's GobEncode and GobDecode without telling for whom,
// so the two halves find each other by a name, an [ID], that is unique among all
// processes:
//
//	sender    Collect walks the value, asks each handle in it for descriptors of
//	          its own to send, and marks it as travelling; gob writes its ID;
//	          Load.Encoded takes the marks back; Load.Append writes which descriptors
//	          are whose, and a Socket sends them
//	receiver  Unpack makes a Load of the two; Load.Arrive puts the descriptors down
//	          under their IDs; gob reads an ID and the handle gets duplicates of them
//	          by [Claim]; Load.Settle closes what arrived; Found lists the handles
//	          that have come
//
// An encoder that is not this library's collects nothing, so that the handle finds
// itself unmarked and answers executor.ErrNotPortable; a decoder that is not has let
// nothing arrive. What a type can hold is known once a type: a value of one that can
// hold no handle costs the look-up of that fact.
package carry

import (
	"encoding"
	"encoding/gob"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
)

// An ID names a handle among those of all processes.
type ID [16]byte

// A Handle is a value that its descriptors must go along with. Its GobEncode writes
// its ID, if it is travelling, and whatever else it needs.
type Handle interface {
	// CarryID returns the name that GobEncode writes.
	CarryID() ID

	// Export returns descriptors for one receiver, one at least, which the caller owns,
	// and marks the handle as travelling until Exported. On an error it is not marked.
	Export() ([]int, error)

	// Exported takes back one mark that Export has made.
	Exported()
}

// A Load is the descriptors that go along with one encoded value. A nil Load is
// empty. It is for one goroutine at a time.
type Load struct {
	Items []Item
	marks []Handle // those that Collect has marked
}

// An Item is the descriptors of one handle, owned by the Load until Close or Settle.
type Item struct {
	ID  ID
	FDs []int
}

var (
	handleType = reflect.TypeFor[Handle]()
	gobType    = reflect.TypeFor[gob.GobEncoder]()
	binaryType = reflect.TypeFor[encoding.BinaryMarshaler]()
)

// holds caches what a type can hold: a bool by reflect.Type.
var holds sync.Map

// Holds reports whether a value of type t can hold a handle that gob would see: one that is
// not inside of a value that encodes itself.
func Holds(t reflect.Type) bool {
	if known, ok := holds.Load(t); ok {
		return known.(bool)
	}
	can := canHold(t, make(map[reflect.Type]bool), true)
	holds.Store(t, can)
	return can
}

// Names reports whether a value of type t can hold a handle beside what its interfaces
// hold. It is not cached.
func Names(t reflect.Type) bool { return canHold(t, make(map[reflect.Type]bool), false) }

// canHold is Holds, or Names if what is in interfaces does not count. open are the types
// that are being looked at, or were.
func canHold(t reflect.Type, open map[reflect.Type]bool, inside bool) bool {
	if isHandle(t) {
		return true
	}
	if open[t] || isOpaque(t) {
		return false // what t can hold is being found out further up, or not gob's to see
	}
	open[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return inside
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return canHold(t.Elem(), open, inside)
	case reflect.Map:
		return canHold(t.Key(), open, inside) || canHold(t.Elem(), open, inside)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.IsExported() && canHold(f.Type, open, inside) {
				return true
			}
		}
	}
	return false
}

func isHandle(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Implements(handleType)
}

// isOpaque reports whether t encodes itself. A handle in there is encoded by an encoder that
// is not this library's, if at all; and only what gob goes through was checked to have an end.
func isOpaque(t reflect.Type) bool {
	if t.Kind() == reflect.Interface {
		return false
	}
	p := reflect.PointerTo(t)
	return p.Implements(gobType) || p.Implements(binaryType)
}

// Collect returns the descriptors of every handle in v, those of one ID once, and nil if
// there are none. On an error nothing is kept. Otherwise the caller calls
// Load.Encoded after v was encoded, and owns the Load.
func Collect(v reflect.Value) (*Load, error) {
	var l *Load
	err := walk(v, func(h Handle) error {
		if l == nil {
			l = new(Load)
		}
		if slices.Contains(l.marks, h) {
			return nil
		}
		fds, err := h.Export()
		if err != nil {
			return err
		}
		l.marks = append(l.marks, h)
		id := h.CarryID()
		if slices.ContainsFunc(l.Items, func(it Item) bool { return it.ID == id }) {
			CloseAll(fds) // another copy of the same, which had to be marked
			return nil
		}
		l.Items = append(l.Items, Item{ID: id, FDs: fds})
		if len(fds) == 0 {
			return fmt.Errorf("a %T that has no descriptors cannot travel", h)
		}
		return nil
	})
	if err != nil {
		l.Encoded()
		l.Close()
		return nil, err
	}
	return l, nil
}

// Found calls fn for every handle in v, a decoded value.
func Found(v reflect.Value, fn func(Handle)) {
	_ = walk(v, func(h Handle) error { fn(h); return nil })
}

// CloseHandles closes the handles that have a method for it.
func CloseHandles(all []Handle) {
	for _, h := range all {
		if c, ok := h.(io.Closer); ok {
			_ = c.Close() // the handle is let go of, whatever it says
		}
	}
}

// maxDepth is how deep a value is searched for handles: as deep as the wire format
// takes it.
const maxDepth = 10_000

func walk(v reflect.Value, fn func(Handle) error) error { return walkAt(v, fn, 0) }

func walkAt(v reflect.Value, fn func(Handle) error, depth int) error {
	if !v.IsValid() || depth > maxDepth || !Holds(v.Type()) {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if h, ok := reflect.TypeAssert[Handle](v); ok {
			return fn(h)
		}
		return walkAt(v.Elem(), fn, depth+1)
	case reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return walkAt(v.Elem(), fn, depth+1)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := walkAt(v.Index(i), fn, depth+1); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := walkAt(it.Key(), fn, depth+1); err != nil {
				return err
			}
			if err := walkAt(it.Value(), fn, depth+1); err != nil {
				return err
			}
		}
	case reflect.Struct:
		t := v.Type()
		for i := range v.NumField() {
			if !t.Field(i).IsExported() {
				continue
			}
			if err := walkAt(v.Field(i), fn, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
