// Package printable prints values that it knows nothing about. fmt follows a value
// wherever it leads: a slice that holds itself has it overflow the stack, which
// nothing recovers, and so a panic with such a value would end a worker process that
// only wanted to tell of it.
package printable

import (
	"fmt"
	"reflect"
)

const (
	maxDepth  = 1_000   // levels
	maxValues = 1 << 20 // of all kinds, counted as often as fmt prints them
)

// Text returns what fmt.Sprint(v) does, or the type of v alone if it is cyclic, nested
// deeper than 1,000 levels, or prints more than a million values. What v prints by
// methods of its own is its own business.
func Text(v any) string {
	left := maxValues
	if ends(reflect.ValueOf(v), 0, &left) {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("a %T that is cyclic, or too large to be printed", v)
}

// ends reports whether fmt comes to an end with v. It follows what fmt follows: a
// pointer only at the top.
func ends(v reflect.Value, depth int, left *int) bool {
	if !v.IsValid() {
		return true
	}
	if *left--; *left < 0 || depth > maxDepth {
		return false
	}
	if v.CanInterface() {
		switch x := v.Interface().(type) {
		case reflect.Value:
			return depth > 0 || ends(x, depth, left) // deeper, it is printed as its type
		case fmt.Formatter, fmt.Stringer, error:
			return true
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		switch v.Type().Elem().Kind() {
		case reflect.Array, reflect.Slice, reflect.Struct, reflect.Map:
			return depth > 0 || ends(v.Elem(), depth+1, left)
		}
	case reflect.Interface:
		return ends(v.Elem(), depth+1, left)
	case reflect.Struct:
		for _, f := range v.Fields() {
			if !ends(f, depth+1, left) {
				return false
			}
		}
	case reflect.Array, reflect.Slice:
		if k := v.Type().Elem().Kind(); k <= reflect.Complex128 { // as far as it matters here
			*left -= v.Len()
			return *left >= 0
		}
		for i := range v.Len() {
			if !ends(v.Index(i), depth+1, left) {
				return false
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if !ends(it.Key(), depth+1, left) || !ends(it.Value(), depth+1, left) {
				return false
			}
		}
	}
	return true
}
