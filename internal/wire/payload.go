package wire

// A Payload is what an [Encoder] has made of a value: the bytes of a frame, in one piece
// or in several. It is valid until the Encoder's next Message. The zero Payload is empty.
type Payload struct {
	head   []byte
	beside *beside // what follows the head; nil: nothing
}

// beside is the parts of a value that gob does not see.
type beside struct {
	parts [][]byte
	size  int // of all of them
}

// Len returns how many bytes p has.
func (p Payload) Len() int {
	if p.beside == nil {
		return len(p.head)
	}
	return len(p.head) + p.beside.size
}

// CopyTo copies p to b, which has room for it.
func (p Payload) CopyTo(b []byte) {
	n := copy(b, p.head)
	if p.beside != nil {
		for _, part := range p.beside.parts {
			n += copy(b[n:], part)
		}
	}
}

// Whole returns p as it is, if it is in one piece, and reports whether it is.
func (p Payload) Whole() ([]byte, bool) { return p.head, p.beside == nil }

// Bytes returns p in one piece, which is a copy if it is in several.
func (p Payload) Bytes() []byte {
	if p.beside == nil {
		return p.head
	}
	b := make([]byte, p.Len())
	p.CopyTo(b)
	return b
}
