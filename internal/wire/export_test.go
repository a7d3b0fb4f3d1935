package wire

// SetMaxValues changes how many values CheckValue looks at, and returns what puts
// the number back.
func SetMaxValues(n int) (restore func()) {
	old := maxValues
	maxValues = n
	return func() { maxValues = old }
}
