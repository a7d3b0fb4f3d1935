// Package wire is the format in which arguments and results leave a process: gob,
// and what has to be known about gob so that nothing is lost on the way.
//
// gob drops unexported fields, channels and functions without a word, recurses as
// deep as a value does, and a stack overflow cannot be recovered. So types are
// looked at once ([CheckType]), and values before every encode ([CheckValue]).
package wire

import (
	"encoding"
	"encoding/gob"
	"fmt"
	"reflect"
	"runtime"
	"sync"
)

// A Box is the struct in which every argument and every result travels. gob sends
// some values only as a struct's field: a nil pointer, an interface, a struct{}.
type Box[T any] struct{ V T }

// CheckType returns nil if a value of the static type t can travel as the field of
// a [Box] without silent loss, and otherwise an error that names the field at
// fault, its type, and what to do. What is inside an interface is not known by
// its type: see [CheckValue].
//
// The answer is kept, so that only the first call for a type costs anything.
// CheckType is safe for concurrent use.
func CheckType(t reflect.Type) error { return planOf(t).err }

// EncodesItself reports whether gob leaves the encoding of a t to methods of t:
// GobEncode and GobDecode, or MarshalBinary and UnmarshalBinary. MarshalText is not
// used, although gob's source mentions it (https://go.dev/issue/6760).
func EncodesItself(t reflect.Type) bool {
	enc, dec := methodsOf(t)
	return enc != byField && enc == dec
}

// A plan is what is known of a type.
type plan struct {
	err    error // what CheckType answers
	itself bool  // what EncodesItself answers
	walk   bool  // values must be walked: they can be cyclic, or hold interfaces
	fields []int // of a struct: the fields that must be walked
}

// plans keeps a *plan for each reflect.Type that was asked for.
var plans sync.Map

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	c := checker{seen: map[reflect.Type]bool{}}
	p := &plan{err: c.check(t, ""), itself: EncodesItself(t)}
	if p.err == nil {
		p.walk = mustWalk(t, map[reflect.Type]bool{})
	}
	if p.walk && t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && mustWalk(f.Type, map[reflect.Type]bool{t: true}) {
				p.fields = append(p.fields, i)
			}
		}
	}
	kept, _ := plans.LoadOrStore(t, p)
	return kept.(*plan)
}

// A checker looks through one type for what gob would lose.
type checker struct {
	seen map[reflect.Type]bool // types that were checked or are being checked
}

// check returns what is wrong with t, which is found at path: "" outside of any
// struct, Config.Servers[] for the elements of a field.
func (c *checker) check(t reflect.Type, path string) error {
	if c.seen[t] {
		return nil
	}
	c.seen[t] = true
	if enc, dec := methodsOf(t); enc != byField || dec != byField {
		return checkMethods(t, enc, dec, path)
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return fmt.Errorf("%s cannot be encoded: leave it out of what is sent", place(path, t))
	case reflect.Pointer:
		if pointsToItself(t) {
			return fmt.Errorf("%s points to nothing but itself and cannot be encoded", place(path, t))
		}
		return c.check(t.Elem(), path)
	case reflect.Slice, reflect.Array:
		return c.check(t.Elem(), inside(path, "[]"))
	case reflect.Map:
		if err := c.check(t.Key(), inside(path, "[key]")); err != nil {
			return err
		}
		return c.check(t.Elem(), inside(path, "[]"))
	case reflect.Struct:
		return c.checkFields(t, path)
	}
	return nil
}

func (c *checker) checkFields(t reflect.Type, path string) error {
	if path == "" {
		path = name(t)
	}
	sent := 0
	for f := range t.Fields() {
		at := path + "." + f.Name
		switch {
		case f.IsExported():
			if err := c.check(f.Type, at); err != nil {
				return err
			}
			sent++
		case f.Name == "_" || f.Type.Size() == 0:
			// There is nothing in it that could be lost.
		case t.Name() == "":
			return fmt.Errorf("field %s (%v) is unexported and would be lost: export it", at, f.Type)
		default:
			return fmt.Errorf("field %s (%v) is unexported and would be lost: export it, or give %s GobEncode and GobDecode", at, f.Type, name(t))
		}
	}
	if sent == 0 && t.NumField() > 0 {
		return fmt.Errorf("%s has no exported fields and cannot be encoded", place(path, t))
	}
	return nil
}

// place says what stands at path, for an error's text.
func place(path string, t reflect.Type) string {
	if path == "" || path == name(t) {
		return fmt.Sprintf("type %v", t)
	}
	return fmt.Sprintf("field %s (%v)", path, t)
}

// inside adds the step to an element to path. Outside of a struct there is no path:
// it begins with the first struct, so that a []Config has the field Config.inner.
func inside(path, step string) string {
	if path == "" {
		return ""
	}
	return path + step
}

// name returns how the struct type t is called in a path.
func name(t reflect.Type) string {
	if t.Name() == "" {
		return "struct"
	}
	return t.Name()
}

// pointsToItself reports whether t is a pointer type like type P *P.
func pointsToItself(t reflect.Type) bool {
	seen := map[reflect.Type]bool{}
	for ; t.Kind() == reflect.Pointer; t = t.Elem() {
		if seen[t] {
			return true
		}
		seen[t] = true
	}
	return false
}

// methods says how gob carries a type, one way.
type methods int

const (
	byField  methods = iota // by looking into it
	byGob                   // GobEncode, GobDecode
	byBinary                // MarshalBinary, UnmarshalBinary
)

// methodsOf returns how gob encodes and decodes t, by gob's own rules: methods are
// looked for on t, on what it points to, and, if t is no pointer, on *t.
func methodsOf(t reflect.Type) (enc, dec methods) {
	switch {
	case has(t, reflect.TypeFor[gob.GobEncoder]()):
		enc = byGob
	case has(t, reflect.TypeFor[encoding.BinaryMarshaler]()):
		enc = byBinary
	}
	switch {
	case has(t, reflect.TypeFor[gob.GobDecoder]()):
		dec = byGob
	case has(t, reflect.TypeFor[encoding.BinaryUnmarshaler]()):
		dec = byBinary
	}
	return enc, dec
}

func has(t, iface reflect.Type) bool {
	if t.Kind() != reflect.Pointer {
		return t.Implements(iface) || reflect.PointerTo(t).Implements(iface)
	}
	for range 100 { // as far as gob goes; a pointer type can point to itself
		if t.Implements(iface) {
			return true
		}
		if t.Kind() != reflect.Pointer {
			return false
		}
		t = t.Elem()
	}
	return false
}

// checkMethods checks the type t, of which gob leaves at least one way to methods.
func checkMethods(t reflect.Type, enc, dec methods, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	encoders := [...]string{byGob: "GobEncode", byBinary: "MarshalBinary"}
	decoders := [...]string{byGob: "GobDecode", byBinary: "UnmarshalBinary"}
	switch {
	case t.Kind() == reflect.Interface:
		// gob would call the decoding method of a nil interface.
		return fmt.Errorf("%s is an interface with methods that encode, and cannot be decoded: use one without them", place(path, t))
	case dec == byField:
		return fmt.Errorf("%s has %s but no %s: give it both", place(path, t), encoders[enc], decoders[enc])
	case enc == byField:
		return fmt.Errorf("%s has %s but no %s: give it both", place(path, t), decoders[dec], encoders[dec])
	case enc != dec:
		return fmt.Errorf("%s encodes itself with %s but decodes itself with %s: make them a pair", place(path, t), encoders[enc], decoders[dec])
	}
	if f, ok := promoting(t, enc); ok {
		return fmt.Errorf("%s has %s from its embedded field %s, which would lose the other fields: give %s its own, or do not embed %s",
			place(path, t), encoders[enc], f.Name, name(t), f.Name)
	}
	return nil
}

// promoting returns the embedded field that t has its encoding method from, if t
// has fields besides it: a struct{ time.Time; Name string } encodes as a time alone.
func promoting(t reflect.Type, enc methods) (reflect.StructField, bool) {
	if t.Kind() != reflect.Struct || declares(t, enc) {
		return reflect.StructField{}, false
	}
	var from reflect.StructField
	others := 0
	for f := range t.Fields() {
		if e, _ := methodsOf(f.Type); f.Anonymous && e == enc && from.Type == nil {
			from = f
		} else if f.Name != "_" && f.Type.Size() > 0 {
			others++
		}
	}
	return from, from.Type != nil && others > 0
}

// declares reports whether t has its encoding method from its own source and not
// from an embedded field. Reflection does not tell the two apart; but a promoted
// method is a wrapper that the compiler wrote, and has no source file.
func declares(t reflect.Type, enc methods) bool {
	m, ok := method(t, enc)
	if !ok {
		if m, ok = method(reflect.PointerTo(t), enc); !ok {
			return true
		}
	}
	pc := m.Func.Pointer()
	f := runtime.FuncForPC(pc)
	if f == nil {
		return true
	}
	file, _ := f.FileLine(pc)
	return file != "<autogenerated>"
}

// method looks the encoding method up. The names are constants because the linker
// keeps all methods of all types in a program that looks one up by a variable.
func method(t reflect.Type, enc methods) (reflect.Method, bool) {
	if enc == byGob {
		return t.MethodByName("GobEncode")
	}
	return t.MethodByName("MarshalBinary")
}
