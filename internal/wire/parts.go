package wire

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"unsafe"
)

// gob copies a []byte some five times on its way. So those that are large travel beside
// what gob makes of the value, if they are in fields of structs, in elements of slices
// and arrays, or behind pointers; not those in maps and interfaces. Gob encodes a copy of
// the value in which each of them is replaced by a mark. Of the value itself nothing is
// written to, and only what is on the way to a large []byte is copied.
//
//	payload = headLen  nonce  n  n lengths  what gob wrote │ part 0  part 1 …
//	          └───────────────── head ──────────────────┘
//	mark    = nonce  index of the part, as a []byte in the value
//
// headLen and nonce take 8 bytes, an index 4, the lowest first; n and the lengths are uvarints.
// The nonce is random, and no []byte of the value that is not a mark looks like one. A mark
// says itself where its part belongs, so that values find their way into a type that is
// not quite the same, as gob has it.

const (
	// leastPart is the size of a []byte from which it is a part. A struct with one of that
	// size takes as long to a worker and back as with gob alone; at 64 KiB less than half,
	// at 1 MiB a third (BenchmarkEchoStruct in processpool).
	leastPart = 4 << 10

	markLen     = 8 + 4
	partsPrefix = 8 + 8
)

var errParts = errors.New("wire: parts of a value that are not where they should be")

// part returns what gob is to encode for v: v itself, or, if there are large []byte in
// it, a copy with marks. Then what is before gob's bytes is in e.buf.
func (e *Encoder) part(v any, l *layout) (any, error) {
	p := reflect.ValueOf(v).UnsafePointer()
	if p == nil || l.fixed {
		return v, nil
	}
	if e.nonce == 0 {
		e.nonce = rand.Uint64()
	}
	for {
		s := stripper{nonce: e.nonce}
		u := unit{l: l, src: p}
		s.strip(l, &u, 0)
		if len(s.parts) == 0 {
			return v, nil
		}
		if s.clash {
			e.nonce = rand.Uint64()
			continue
		}
		if err := e.fits(s.size); err != nil {
			return nil, err
		}
		b := binary.LittleEndian.AppendUint64(e.buf, 0) // until Message knows it
		b = binary.LittleEndian.AppendUint64(b, s.nonce)
		b = binary.AppendUvarint(b, uint64(len(s.parts)))
		for _, part := range s.parts {
			b = binary.AppendUvarint(b, uint64(len(part)))
		}
		e.buf, e.beside, e.flags = b, &beside{s.parts, s.size}, e.flags|FlagParts
		return reflect.NewAt(l.typ, u.dst).Interface(), nil
	}
}

// A stripper takes the large []byte out of a value, of which it copies what it has to.
type stripper struct {
	beside
	nonce uint64
	clash bool // a []byte of the value looks like a mark
}

// A unit is a piece of memory of the value: a struct, or whatever else has a pointer to
// itself, or the elements of a slice.
type unit struct {
	l     *layout // of an element
	slice reflect.Type
	n     int            // the length of the slice
	src   unsafe.Pointer // as the caller has it
	dst   unsafe.Pointer // a copy of its own; nil: it has needed none
}

// at returns where the byte at off is to be read.
func (u *unit) at(off uintptr) unsafe.Pointer {
	if u.dst != nil {
		return unsafe.Add(u.dst, off)
	}
	return unsafe.Add(u.src, off)
}

// own returns where the byte at off may be written to.
func (u *unit) own(off uintptr) unsafe.Pointer {
	switch {
	case u.dst != nil:
	case u.slice == nil:
		c := reflect.New(u.l.typ)
		c.Elem().Set(reflect.NewAt(u.l.typ, u.src).Elem())
		u.dst = c.UnsafePointer()
	default:
		c := reflect.MakeSlice(u.slice, u.n, u.n)
		reflect.Copy(c, reflect.SliceAt(u.l.typ, u.src, u.n))
		u.dst = c.UnsafePointer()
	}
	return unsafe.Add(u.dst, off)
}

// strip goes through what is off bytes into u and has the layout l.
func (s *stripper) strip(l *layout, u *unit, off uintptr) {
	for i := range l.spots {
		p := &l.spots[i]
		at := off + p.off
		switch p.kind {
		case spotBytes:
			switch b := *(*[]byte)(u.at(at)); {
			case len(b) >= leastPart:
				*(*[]byte)(u.own(at)) = s.mark(b)
			case len(b) == markLen && binary.LittleEndian.Uint64(b) == s.nonce:
				s.clash = true
			}
		case spotPointer:
			to := unit{l: p.in, src: *(*unsafe.Pointer)(u.at(at))}
			if to.src == nil || p.in.fixed {
				continue
			}
			if s.strip(p.in, &to, 0); to.dst != nil {
				*(*unsafe.Pointer)(u.own(at)) = to.dst
			}
		case spotSlice:
			elems := *(*[]struct{})(u.at(at)) // whatever they are
			to := unit{l: p.in, slice: p.typ, n: len(elems), src: unsafe.Pointer(unsafe.SliceData(elems))}
			if p.in.fixed {
				continue
			}
			for i := range to.n {
				s.strip(p.in, &to, uintptr(i)*p.in.typ.Size())
			}
			if to.dst != nil {
				*(*[]struct{})(u.own(at)) = unsafe.Slice((*struct{})(to.dst), to.n)
			}
		case spotArray:
			for i := range p.n {
				s.strip(p.in, u, at+uintptr(i)*p.in.typ.Size())
			}
		}
	}
}

// mark makes b a part, and returns what stands for it.
func (s *stripper) mark(b []byte) []byte {
	m := binary.LittleEndian.AppendUint64(make([]byte, 0, markLen), s.nonce)
	m = binary.LittleEndian.AppendUint32(m, uint32(len(s.parts)))
	s.parts = append(s.parts, slices.Clip(b))
	s.size += len(b)
	return m
}

// cutHead splits a payload with parts. Its length is read once, and both lie within b,
// whatever becomes of the bytes.
func cutHead(b []byte) (head, parts []byte, err error) {
	if len(b) < partsPrefix {
		return nil, nil, errParts
	}
	n := binary.LittleEndian.Uint64(b)
	if n < partsPrefix || n > uint64(len(b)) {
		return nil, nil, errParts
	}
	return b[:n:n], b[n:], nil
}

// A filler puts parts where their marks are.
type filler struct {
	nonce uint64
	parts [][]byte // nil where one was put
	left  int
}

// newFiller reads head, which must not change any more, and returns what of it is gob's.
// rest, where the parts are, may be written to by somebody else all the time.
func newFiller(head, rest []byte) (f *filler, gob []byte, err error) {
	f = &filler{nonce: binary.LittleEndian.Uint64(head[8:])}
	b := head[partsPrefix:]
	n, width := binary.Uvarint(b)
	if width <= 0 || n == 0 || n > uint64(len(rest)/leastPart) {
		return nil, nil, errParts
	}
	b = b[width:]
	f.left = int(n)
	f.parts = make([][]byte, n)
	for i := range f.parts {
		n, width := binary.Uvarint(b)
		if width <= 0 || n < leastPart || n > uint64(len(rest)) {
			return nil, nil, errParts
		}
		f.parts[i], rest = rest[:n:n], rest[n:]
		b = b[width:]
	}
	if len(rest) > 0 {
		return nil, nil, errParts
	}
	return f, b, nil
}

// fill goes through the value at p, which has the layout l, and puts a copy of its part
// where a mark is. No part is put twice: then bytes that were not sent would be needed.
// One whose field the receiver does not have is left out, as gob does it.
func (f *filler) fill(l *layout, p unsafe.Pointer) error {
	for i := range l.spots {
		if f.left == 0 {
			return nil
		}
		s := &l.spots[i]
		at := unsafe.Add(p, s.off)
		var err error
		switch s.kind {
		case spotBytes:
			b := (*[]byte)(at)
			if len(*b) == markLen && binary.LittleEndian.Uint64(*b) == f.nonce {
				*b, err = f.take(binary.LittleEndian.Uint32((*b)[8:]))
			}
		case spotPointer:
			if to := *(*unsafe.Pointer)(at); to != nil {
				err = f.fill(s.in, to)
			}
		case spotSlice:
			elems := *(*[]struct{})(at)
			err = f.fillAll(s.in, unsafe.Pointer(unsafe.SliceData(elems)), len(elems))
		case spotArray:
			err = f.fillAll(s.in, at, s.n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fillAll fills n values, one behind the other.
func (f *filler) fillAll(l *layout, p unsafe.Pointer, n int) error {
	for i := 0; i < n && f.left > 0; i++ {
		if err := f.fill(l, unsafe.Add(p, uintptr(i)*l.typ.Size())); err != nil {
			return err
		}
	}
	return nil
}

// take returns a copy of part i, which is not there any more.
func (f *filler) take(i uint32) ([]byte, error) {
	if uint64(i) >= uint64(len(f.parts)) || f.parts[i] == nil {
		return nil, errParts
	}
	b := append([]byte(nil), f.parts[i]...)
	f.parts[i] = nil
	f.left--
	return b, nil
}
