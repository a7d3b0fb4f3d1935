package wire

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
)

// gob decodes whatever it is given, and trusts it: a value nested a million deep
// overflows the stack, which nothing recovers; a map that claims to have a billion
// elements gets the memory for them, or, if they are structs, is filled with a
// billion of them without a byte being read; and a chain of a million types
// overflows the stack before there is a value. A field that the receiver does not
// know protects nobody, for gob decodes it to skip it.
//
// So an inspector goes through the bytes first, by the types that the bytes
// themselves describe, as these are what gob goes by, whatever it decodes into. It
// takes what [Encoder] writes, which is less than what gob takes:
//
//	payload   = { definition } value, and nothing behind it
//	struct    = { delta, field }, 0
//	interface = 0, or: name, type, length, a value of exactly that length
//
// There are no definitions inside of a value. gob writes them there, and then those
// who decode an interface go by its value, those who skip it by its length, and the
// two may end at different places. Here both are the same, so what was seen is what
// gob will see. See [encodeOpen] for the other side. One thing remains that gob skips
// in another way than it decodes it, a nil interface: see [inspector.fits].
//
// A type is flat if it has no map in it, no interface, not itself, and few slices in
// one another. Values of those are not looked at: there is a bound on how deep they go,
// which is that of the types, and gob takes the word of a slice for its length only up
// to 10 MiB, until it has come to its end: so the slices around count, too. That holds
// for any receiver, for gob refuses a value of such a type for an interface or a map.

// Bounds of what a stream may describe. A program has some hundreds of types.
const (
	maxTypes     = 10_000
	maxFields    = 100_000  // of all structs together
	maxTypeBytes = 16 << 20 // of all definitions together, which gob keeps
	maxUnseen    = 8        // slices in one another that nobody looks at
	maxPlain     = 250      // slices, arrays and maps in one another with no struct between: gob looks at all for each field of such a type
)

// maxWireDepth is that of [CheckValue], and the [Box] around it.
const maxWireDepth = maxDepth + 1

// A shape is how the bytes of a type are to be read.
type shape uint8

const (
	shapeNumber shape = iota + 1
	shapeComplex
	shapeBytes // with their length before them: strings, and what encodes itself
	shapeInterface
	shapeArray
	shapeSlice
	shapeMap
	shapeStruct
)

// A gobType is a type of a stream.
type gobType struct {
	shape   shape
	kind    int        // the field of gob's wireType that describes it
	length  uint64     // of an array
	parts   []*gobType // the fields; the key, and the element
	names   []string   // of the fields
	ids     []int64    // of parts, until they are linked
	seen    uint8      // see inspector.judge
	deep    bool       // a value of it can be nested without end
	walk    bool       // a value of it must be gone through
	structs bool       // it is a struct, or slices, arrays or maps of some
	slices  int        // in one another, as many as there are
	plain   int        // slices, arrays and maps in it, down to the next structs
}

const (
	unseen = iota
	underWay
	judged
)

// The numbers of gob's own types, and of the first that is described.
const (
	interfaceID = 8
	firstID     = 64
)

// basics are the types that gob has itself. All inspectors share them, so they are judged
// already.
var basics = [...]*gobType{
	1:           {shape: shapeNumber, seen: judged}, // bool
	2:           {shape: shapeNumber, seen: judged}, // int
	3:           {shape: shapeNumber, seen: judged}, // uint
	4:           {shape: shapeNumber, seen: judged}, // float
	5:           {shape: shapeBytes, seen: judged},  // []byte
	6:           {shape: shapeBytes, seen: judged},  // string
	7:           {shape: shapeComplex, seen: judged},
	interfaceID: {shape: shapeInterface, seen: judged, deep: true, walk: true},
}

// An inspector goes through the payloads of one stream. Once it has found fault with
// one, it and its stream are of no use any more. The zero inspector is ready.
type inspector struct {
	types  map[int64]*gobType
	fresh  []*gobType // not linked yet
	fields int
	size   int // of all definitions

	lastID int64 // of the last value, and its type
	last   *gobType

	body reader // of the last value, if it has nil interfaces in it
	nils bool
}

var (
	errCut      = errors.New("wire: a value that is cut off, or claims to be longer than it is")
	errTrailing = errors.New("wire: more than a value")
	errWireDeep = errors.New("wire: a value that is nested deeper than 10,000")
	errType     = errors.New("wire: a type that makes no sense")
	errTypes    = errors.New("wire: more types than a program has")
	errStray    = errors.New("wire: an interface in a stream")
	errSkip     = errors.New("wire: a nil interface in a field that the receiver does not have, which gob cannot skip")
	errUnlike   = errors.New("wire: a value of another type than the receiver's")
)

// payload returns nil if gob can decode the value in b, or say what is wrong with
// it, in bounded stack and memory: no more memory than what the value, of the size
// that it really has, takes up in the receiver's type. alone says that b is not of a
// stream; then fits must be asked, too.
func (s *inspector) payload(b []byte, alone bool) error {
	r := reader{b: b}
	for {
		n := r.length()
		if r.bad || n == 0 {
			return errCut
		}
		m := reader{b: r.b[r.at : r.at+n]}
		r.at += n
		id := m.int()
		if id < 0 {
			if s.size += n; s.size > maxTypeBytes {
				return errTypes
			}
			if err := s.define(&m, id); err != nil {
				return err
			}
			continue
		}
		if r.at < len(b) {
			return errTrailing
		}
		return s.value(&m, id, alone)
	}
}

// value inspects the value in r.
func (s *inspector) value(r *reader, id int64, alone bool) error {
	if len(s.fresh) > 0 {
		if err := s.link(); err != nil {
			return err
		}
	}
	if id != s.lastID || s.last == nil {
		t := s.lookup(id)
		if t == nil || r.bad {
			return fmt.Errorf("%w: number %d is not described", errType, id)
		}
		s.lastID, s.last = id, t
	}
	if !s.last.walk {
		return nil
	}
	w := walk{reader: *r, types: s, alone: alone}
	if err := w.whole(receiver{}); err != nil {
		return err
	}
	if w.nils {
		s.body, s.nils = *r, true
	}
	return nil
}

// fits returns nil if the last value may be decoded into a t: a pointer to a struct.
//
// Where the receiver does not have a field, gob skips it, and takes a nil interface in
// there for one that is followed by a value, so that it goes on in the wrong place,
// which was not inspected. So a value with nil interfaces, of which there are few, is
// gone through once more, together with the receiver's type.
func (s *inspector) fits(t reflect.Type) error {
	if !s.nils {
		return nil
	}
	w := walk{reader: s.body, types: s, alone: true, fitting: true}
	return w.whole(receiver{local: t})
}

func (s *inspector) lookup(id int64) *gobType {
	if id >= 0 && id < int64(len(basics)) {
		return basics[id]
	}
	return s.types[id]
}

// define reads the definition of the type whose number is -id: gob's wireType.
func (s *inspector) define(r *reader, id int64) error {
	if id = -id; id < firstID || id > math.MaxInt32 || s.types[id] != nil {
		return fmt.Errorf("%w: number %d cannot be described, or not again", errType, id)
	}
	t := &gobType{}
	kinds := 0
	r.fields(func(field int) {
		kinds++
		t.kind = field
		switch field {
		case 0, 1, 3: // ArrayT, SliceT, MapT
			t.shape = [...]shape{0: shapeArray, 1: shapeSlice, 3: shapeMap}[field]
			var numbers [4]int64
			r.fields(func(f int) {
				switch {
				case f == 0:
					r.common()
				case f == 1, f == 2 && field != 1:
					numbers[f] = r.int()
				default:
					r.bad = true
				}
			})
			t.ids = append(t.ids, numbers[1])
			switch {
			case t.shape == shapeMap:
				t.ids = append(t.ids, numbers[2])
			case numbers[2] < 0:
				r.bad = true
			default:
				t.length = uint64(numbers[2])
			}
		case 2: // StructT
			t.shape = shapeStruct
			r.fields(func(f int) {
				switch f {
				case 0:
					r.common()
				case 1:
					s.structFields(r, t)
				default:
					r.bad = true
				}
			})
		case 4, 5, 6: // GobEncoderT, BinaryMarshalerT, TextMarshalerT
			t.shape = shapeBytes
			r.fields(func(f int) {
				if f != 0 {
					r.bad = true
					return
				}
				r.common()
			})
		default:
			r.bad = true
		}
	})
	switch {
	case r.bad || r.at < len(r.b) || kinds != 1:
		return fmt.Errorf("%w: number %d", errType, id)
	case len(s.types) >= maxTypes || s.fields > maxFields:
		return errTypes
	}
	if s.types == nil {
		s.types = map[int64]*gobType{}
	}
	s.types[id] = t
	s.fresh = append(s.fresh, t)
	return nil
}

// structFields reads the fields of the struct type t: gob's []fieldType.
func (s *inspector) structFields(r *reader, t *gobType) {
	text := string(r.b) // of which the names are parts
	n := r.count(1)
	if s.fields += n; s.fields > maxFields {
		r.bad = true
	}
	for range n {
		var id int64
		var name string
		r.fields(func(f int) {
			switch f {
			case 0:
				n := r.length()
				name = text[r.at : r.at+n]
				r.at += n
			case 1:
				id = r.int()
			default:
				r.bad = true
			}
		})
		if r.bad {
			return
		}
		t.ids = append(t.ids, id)
		t.names = append(t.names, name)
	}
}

// link finds the types that the fresh ones are made of, and what they are like.
func (s *inspector) link() error {
	for _, t := range s.fresh {
		t.parts = make([]*gobType, len(t.ids))
		for i, id := range t.ids {
			if t.parts[i] = s.lookup(id); t.parts[i] == nil {
				return fmt.Errorf("%w: it is made of number %d, which is not described", errType, id)
			}
		}
		t.ids = nil
	}
	for _, t := range s.fresh {
		s.judge(t)
		if t.plain > maxPlain {
			return fmt.Errorf("%w: too many slices, arrays and maps in one another", errType)
		}
	}
	s.findStructs()
	s.fresh = s.fresh[:0]
	return nil
}

// findStructs sets structs. It is not for judge, which cannot know of those under way,
// and comes to its end because of maxPlain.
func (s *inspector) findStructs() {
	for found := true; found; {
		found = false
		for _, t := range s.fresh {
			if t.structs {
				continue
			}
			t.structs = t.shape == shapeStruct || slices.ContainsFunc(t.parts, func(p *gobType) bool { return p.structs })
			found = found || t.structs
		}
	}
}

// judge finds out what t is like. It goes as deep as there are types. A type that is
// under way above is one that t recurses to; one that was judged is not above.
func (s *inspector) judge(t *gobType) {
	if t.seen != unseen {
		return
	}
	t.seen = underWay
	for _, p := range t.parts {
		s.judge(p)
		t.deep = t.deep || p.deep || p.seen == underWay
		t.walk = t.walk || p.walk
		t.slices = max(t.slices, p.slices)
		if t.shape != shapeStruct {
			t.plain = min(t.plain+p.plain, maxPlain)
		}
	}
	if t.shape == shapeArray || t.shape == shapeSlice || t.shape == shapeMap {
		t.plain++
	}
	if t.shape == shapeSlice {
		t.slices++
	}
	t.walk = t.walk || t.deep || t.shape == shapeMap || t.slices > maxUnseen
	t.seen = judged
}
