package ring

import "encoding/binary"

// A Ref says where in an arena a large value is.
type Ref struct{ Off, Len uint64 }

// RefLen is the size of an encoded Ref.
const RefLen = 16

// Append adds the encoded r to b and returns it.
func (r Ref) Append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, r.Off), r.Len)
}

// ParseRef decodes what Append encoded. Bytes of another length are a Ref to nothing.
func ParseRef(b []byte) Ref {
	if len(b) != RefLen {
		return Ref{Off: ^uint64(0)}
	}
	return Ref{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// in returns the bytes in an arena's memory, nil if they are not all in it.
func (r Ref) in(mem []byte) []byte {
	if r.Off > uint64(len(mem)) || r.Len > uint64(len(mem))-r.Off {
		return nil
	}
	return mem[r.Off:][:r.Len:r.Len]
}

// An Arena is the allocator of large values, which are let go of in the order in which
// they came. It is its writer's own, for one goroutine at a time. What it hands out is
// memory that was used before, wherever that will do: fresh pages cost more than a copy.
//
//	0        tail          head     high                      len
//	├─────────┤▓▓▓▓▓▓▓▓▓▓▓▓▓▓├────────┤ ─ ─ never used ─ ─ ─ ─ ┤
type Arena struct {
	mem  []byte
	held []span // the oldest first, from first on
	from int
	high int // memory from here on was never used, or was given back
}

type span struct{ off, end int }

// align is what allocations are rounded up to: values do not share a page.
const align = pageLen

func (a *Arena) live() int { return len(a.held) - a.from }

// Alloc returns room for n bytes, or false while there is none.
func (a *Arena) Alloc(n int) (Ref, []byte, bool) {
	size := (max(n, 1) + align - 1) &^ (align - 1) // nothing, too, has a place of its own
	off := 0
	if a.live() > 0 {
		head, tail := a.held[len(a.held)-1].end, a.held[a.from].off
		switch {
		case a.held[len(a.held)-1].off < tail: // the newest lie before the oldest
			if size > tail-head {
				return Ref{}, nil, false
			}
			off = head
		case size <= a.high-head:
			off = head
		case size <= tail:
		default:
			off = head
		}
	}
	if size > len(a.mem)-off {
		return Ref{}, nil, false
	}
	a.high = max(a.high, off+size)
	a.held = append(a.held, span{off, off + size})
	return Ref{uint64(off), uint64(n)}, a.mem[off:][:n:n], true
}

// Free lets go of the oldest allocation.
func (a *Arena) Free() {
	if a.from++; a.from == len(a.held) {
		a.held, a.from = a.held[:0], 0
	} else if a.from > 64 && a.from > len(a.held)/2 {
		a.held = append(a.held[:0], a.held[a.from:]...)
		a.from = 0
	}
}

// Keep is how much memory an arena keeps while nothing is in it.
const Keep = 1 << 20

// Excess reports whether the arena holds more memory than it should keep, and nothing
// else.
func (a *Arena) Excess() bool { return a.live() == 0 && a.high > Keep }

// Trim gives memory back, if there is nothing in it.
func (a *Arena) Trim() {
	if a.Excess() {
		giveBack(a.mem[Keep:a.high])
		a.high = Keep
	}
}
