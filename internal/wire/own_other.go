//go:build !linux

package wire

// own returns a copy of b, nil if it is empty.
func own(b []byte) []byte { return append([]byte(nil), b...) }
