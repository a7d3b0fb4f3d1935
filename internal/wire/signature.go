package wire

import (
	"reflect"
	"strconv"
	"strings"
)

// Signature returns the name of t with the full path of its package, such as
// map[string]*example.com/shop.Item: two programs that give two types one signature
// mean the same type. Types without a name are spelled out; the fields of one with
// a name are not. A type declared inside a function has the name of any other type
// of that package so called, since reflection does not tell them apart.
func Signature(t reflect.Type) string {
	var b strings.Builder
	sign(&b, t)
	return b.String()
}

func sign(b *strings.Builder, t reflect.Type) {
	if t.Name() != "" {
		if t.PkgPath() != "" {
			b.WriteString(t.PkgPath() + ".")
		}
		b.WriteString(t.Name()) // that of a generic type has its arguments, with their paths
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		b.WriteString("*")
		sign(b, t.Elem())
	case reflect.Slice:
		b.WriteString("[]")
		sign(b, t.Elem())
	case reflect.Array:
		b.WriteString("[" + strconv.Itoa(t.Len()) + "]")
		sign(b, t.Elem())
	case reflect.Map:
		b.WriteString("map[")
		sign(b, t.Key())
		b.WriteString("]")
		sign(b, t.Elem())
	case reflect.Chan:
		b.WriteString(t.ChanDir().String() + " (")
		sign(b, t.Elem())
		b.WriteString(")")
	case reflect.Func:
		b.WriteString("func")
		signFunc(b, t)
	case reflect.Struct:
		b.WriteString("struct{")
		for i := range t.NumField() {
			if i > 0 {
				b.WriteString("; ")
			}
			f := t.Field(i)
			if !f.Anonymous {
				b.WriteString(f.Name + " ")
			}
			sign(b, f.Type)
		}
		b.WriteString("}")
	case reflect.Interface:
		b.WriteString("interface{")
		for i := range t.NumMethod() {
			if i > 0 {
				b.WriteString("; ")
			}
			m := t.Method(i)
			b.WriteString(m.Name)
			signFunc(b, m.Type)
		}
		b.WriteString("}")
	}
}

// signFunc writes the parameters and results of t, without the names.
func signFunc(b *strings.Builder, t reflect.Type) {
	b.WriteString("(")
	for i := range t.NumIn() {
		if i > 0 {
			b.WriteString(", ")
		}
		if t.IsVariadic() && i == t.NumIn()-1 {
			b.WriteString("...")
			sign(b, t.In(i).Elem())
			continue
		}
		sign(b, t.In(i))
	}
	b.WriteString(") (")
	for i := range t.NumOut() {
		if i > 0 {
			b.WriteString(", ")
		}
		sign(b, t.Out(i))
	}
	b.WriteString(")")
}
