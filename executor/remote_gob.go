package executor

import (
	"reflect"

	"example.com/futures/internal/wire"
)

// gob writes the node of an error whose type is registered with gob, and reports
// whether it could: false leaves everything as it was.
//
// gob itself could not carry the errors that such an error wraps: most are of types
// like *errors.errorString. So fields of the types error and []error are emptied in
// a copy, which gob encodes, and their errors follow as nodes of their own.
func (w *errorWriter) gob(err error, text string, matches []string, depth int) bool {
	t := reflect.TypeOf(err)
	if wire.CheckType(t) != nil {
		return false // most errors end here, at the cost of a map lookup
	}
	fields, bare := stripErrors(reflect.ValueOf(err))
	blob := gobEncode(bare)
	if blob == nil {
		return false
	}
	// What comes back is looked at here, where the original is still at hand. A
	// GobDecode can be poorer than its GobEncode, and a type can be registered as
	// something else.
	back := gobDecode(blob, t.String())
	if back == nil || reflect.TypeOf(back) != t {
		return false
	}
	back = fillErrors(back, fields)
	if s, ok := textOf(back); !ok || s != text {
		return false
	}
	lossless := sameErrors(err, back, new(int))
	if !lossless {
		// The error is there, but not all of what it wraps. So that errors.As finds the
		// one and errors.Is the other, they become the causes of a RemoteError.
		w.head(kindRemote, typeOf(err), text, matches)
		w.bool(false)
		w.string("")
		w.uint(1)
		w.nodes++
		depth++
	}
	w.head(kindGob, typeOf(err), text, matches)
	w.string(string(blob))
	w.uint(uint64(len(fields)))
	for _, errs := range fields {
		w.list(errs, depth)
	}
	if !lossless {
		causes, _ := causesOf(err)
		w.list(causes, depth-1) // beside it
	}
	return true
}

// gobEncode returns err as gob encodes it behind an interface, or nil if that fails:
// because the type is not registered, for example.
func gobEncode(err error) (blob []byte) {
	defer func() {
		if recover() != nil {
			blob = nil
		}
	}()
	box := wire.Box[any]{V: err}
	if wire.CheckValue(&box) != nil {
		return nil
	}
	b, failed := wire.Marshal(&box)
	if failed != nil || len(b) > maxErrorGob {
		return nil
	}
	return b
}

// gobDecode returns the error in blob, whose type was called typ, or nil.
func gobDecode(blob []byte, typ string) (err error) {
	defer func() {
		if recover() != nil {
			err = nil
		}
	}()
	if len(blob) > maxErrorGob {
		return nil
	}
	var box wire.Box[any]
	if wire.Unmarshal(blob, &box) != nil || box.V == nil {
		return nil
	}
	// gob takes a T for a *T: what comes back is the one that was registered.
	v := reflect.ValueOf(box.V)
	switch {
	case v.Type().String() == "*"+typ && !v.IsNil():
		v = v.Elem()
	case "*"+v.Type().String() == typ:
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		v = p
	case v.Type().String() != typ:
		return nil
	}
	err, _ = reflect.TypeAssert[error](v)
	return err
}

// errorFields returns the fields of t, a struct or a pointer to one, that hold errors
// and travel apart from gob.
func errorFields(t reflect.Type) []int {
	if wire.EncodesItself(t) {
		return nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var fields []int
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && (f.Type == typeError || f.Type == typeErrors) {
			fields = append(fields, i)
		}
	}
	return fields
}

// stripErrors returns the errors in the fields of err, and err without them. It
// leaves err itself alone.
func stripErrors(err reflect.Value) (fields [][]error, bare error) {
	indexes := errorFields(err.Type())
	if len(indexes) == 0 {
		return nil, err.Interface().(error)
	}
	v := reflect.Indirect(err)
	c := reflect.New(v.Type())
	c.Elem().Set(v)
	for _, i := range indexes {
		f := c.Elem().Field(i)
		var errs []error
		switch x := f.Interface().(type) {
		case error:
			errs = []error{x}
		case []error:
			errs = x
		}
		fields = append(fields, errs)
		f.SetZero()
	}
	if err.Kind() != reflect.Pointer {
		c = c.Elem()
	}
	return fields, c.Interface().(error)
}

// fillErrors returns err with the errors of its fields put back.
func fillErrors(err error, fields [][]error) error {
	indexes := errorFields(reflect.TypeOf(err))
	if len(indexes) == 0 || len(indexes) != len(fields) {
		return err
	}
	v := reflect.ValueOf(err)
	if v.Kind() != reflect.Pointer {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		fillFields(p.Elem(), indexes, fields)
		return p.Elem().Interface().(error)
	}
	fillFields(v.Elem(), indexes, fields)
	return err
}

func fillFields(v reflect.Value, indexes []int, fields [][]error) {
	for n, i := range indexes {
		switch f := v.Field(i); {
		case len(fields[n]) == 0:
		case f.Type() == typeErrors:
			f.Set(reflect.ValueOf(fields[n]))
		default:
			f.Set(reflect.ValueOf(fields[n][0]))
		}
	}
}

// sameErrors reports whether b is the same tree as a: types, texts, and the identity
// of the sentinels in it. seen counts the errors that were compared.
func sameErrors(a, b error, seen *int) bool {
	if *seen++; *seen > maxErrorNodes {
		return false
	}
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if reflect.TypeOf(a) != reflect.TypeOf(b) {
		return false
	}
	if reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b {
		return true
	}
	if _, is := sentinels.name(a); is {
		return false
	}
	textA, _ := textOf(a)
	textB, _ := textOf(b)
	causesA, _ := causesOf(a)
	causesB, _ := causesOf(b)
	if textA != textB || len(causesA) != len(causesB) {
		return false
	}
	for i := range causesA {
		if !sameErrors(causesA[i], causesB[i], seen) {
			return false
		}
	}
	return true
}
