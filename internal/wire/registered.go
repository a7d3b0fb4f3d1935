package wire

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"slices"
	"sync"
)

// registrations remembers what registered answered.
var registrations sync.Map // string → reflect.Type

// registered returns the type that is registered with gob under name, or nil: also if
// values of t do not fit it, and if t is not made of structs, for then nobody needs to
// know. gob keeps its list to itself, but shows the type in what it decodes: the zero
// value of a type like t, of whose structs no fields are told.
func registered(name string, t *gobType) (local reflect.Type) {
	if !t.structs {
		return nil
	}
	if local, ok := registrations.Load(name); ok {
		return local.(reflect.Type)
	}
	defer func() {
		if recover() != nil { // as gob does for bytes that it did not write; these are such
			local = nil
		}
	}()
	p := probe{ids: map[*gobType]int64{}}
	const box = firstID
	id := p.define(t)
	p.message(func() {
		p.int(-box)
		p.write(3, 1, 1, 1, 'b', 0, 1, 1, 1, 1, 'V', 1, 2*interfaceID, 0, 0, 0)
	})
	p.message(func() {
		p.int(box)
		p.write(1)
		p.uint(uint64(len(name)))
		p.out = append(p.out, name...)
		p.int(id)
		p.message(func() {
			if t.shape != shapeStruct {
				p.write(0)
			}
			p.zero(t)
		})
		p.write(0)
	})
	var b Box[any]
	if gob.NewDecoder(bytes.NewReader(p.out)).Decode(&b) != nil {
		return nil
	}
	local = reflect.TypeOf(b.V)
	registrations.Store(name, local)
	return local
}

// A probe is bytes for gob.
type probe struct {
	out []byte
	ids map[*gobType]int64
}

func (p *probe) write(b ...byte) { p.out = append(p.out, b...) }

func (p *probe) uint(n uint64) {
	if n <= 0x7f {
		p.write(byte(n))
		return
	}
	var b []byte
	for ; n > 0; n >>= 8 {
		b = append(b, byte(n))
	}
	slices.Reverse(b)
	p.write(byte(-len(b)))
	p.write(b...)
}

func (p *probe) int(n int64) {
	if n < 0 {
		p.uint(uint64(^n)<<1 | 1)
		return
	}
	p.uint(uint64(n) << 1)
}

// message writes what fn writes, with its length before it.
func (p *probe) message(fn func()) {
	before := p.out
	p.out = nil
	fn()
	body := p.out
	p.out = before
	p.uint(uint64(len(body)))
	p.write(body...)
}

// define writes the definition of t, and of what it is made of down to structs, and
// returns its number.
func (p *probe) define(t *gobType) int64 {
	if id := slices.Index(basics[:], t); id >= 0 {
		return int64(id)
	}
	if id, ok := p.ids[t]; ok {
		return id
	}
	id := int64(firstID + 1 + len(p.ids))
	p.ids[t] = id
	var parts []int64
	if t.shape != shapeStruct {
		for _, part := range t.parts {
			parts = append(parts, p.define(part))
		}
	}
	p.message(func() {
		p.int(-id)
		p.write(byte(t.kind + 1))
		p.write(1, 1, 1, 't', 0) // its name
		for _, part := range parts {
			p.write(1)
			p.int(part)
		}
		if t.shape == shapeArray && t.length > 0 {
			p.write(1)
			p.int(int64(t.length))
		}
		p.write(0, 0)
	})
	return id
}

// zero writes the zero value of t. An array in it is no longer than those that were
// inspected.
func (p *probe) zero(t *gobType) {
	switch t.shape {
	case shapeComplex:
		p.write(0, 0)
	case shapeArray:
		p.uint(t.length)
		for range t.length {
			p.zero(t.parts[0])
		}
	default:
		p.write(0)
	}
}
