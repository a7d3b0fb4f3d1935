package wire

import "reflect"

// SetMaxValues changes how many values CheckValue looks at, and returns what puts
// the number back.
func SetMaxValues(n int) (restore func()) {
	old := maxValues
	maxValues = n
	return func() { maxValues = old }
}

// Inspect goes through one payload, as a Decoder does before gob decodes it into v, which
// may be nil.
func Inspect(b []byte, v any) error {
	var types inspector
	if err := types.payload(b, v != nil); err != nil {
		return err
	}
	return types.fits(reflect.TypeOf(v))
}

// Inspector returns what goes through the payloads of a stream.
func Inspector() func(b []byte) error {
	types := new(inspector)
	return func(b []byte) error { return types.payload(b, false) }
}

// LeastPart is the size of a []byte from which it travels beside a value.
const LeastPart = leastPart
