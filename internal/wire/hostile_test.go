package wire_test

import (
	"bytes"
	"math"
	"slices"
)

// The numbers of gob's own types.
const (
	numInt       = 2
	numString    = 6
	numInterface = 8
)

// A craft is bytes as gob would write them, or would not.
type craft []byte

func (c craft) uint(n uint64) craft {
	if n <= 0x7f {
		return append(c, byte(n))
	}
	var b []byte
	for ; n > 0; n >>= 8 {
		b = append([]byte{byte(n)}, b...)
	}
	return append(append(c, byte(-len(b))), b...)
}

func (c craft) int(n int64) craft {
	if n < 0 {
		return c.uint(uint64(^n)<<1 | 1)
	}
	return c.uint(uint64(n) << 1)
}

func (c craft) string(s string) craft { return append(c.uint(uint64(len(s))), s...) }
func (c craft) message(m craft) craft { return append(c.uint(uint64(len(m))), m...) }

// common is how each kind of a type begins; name gives it a length.
func common(name string) craft { return craft{1}.uint(1).string(name).uint(0) }

func (c craft) slice(id, elem int64) craft {
	return c.message(append(craft{}.int(-id).uint(2), append(common("s"), craft{}.uint(1).int(elem).uint(0).uint(0)...)...))
}

func (c craft) array(id, elem, n int64) craft {
	return c.message(append(craft{}.int(-id).uint(1), append(common("a"), craft{}.uint(1).int(elem).uint(1).int(n).uint(0).uint(0)...)...))
}

func (c craft) mapOf(id, key, elem int64) craft {
	return c.message(append(craft{}.int(-id).uint(4), append(common("m"), craft{}.uint(1).int(key).uint(1).int(elem).uint(0).uint(0)...)...))
}

// A field is one of a struct.
type field struct {
	name string
	id   int64
}

func (c craft) structOf(id int64, fields ...field) craft {
	def := append(craft{}.int(-id).uint(3), common("t")...)
	def = def.uint(1).uint(uint64(len(fields)))
	for _, f := range fields {
		def = def.uint(1).string(f.name).uint(1).int(f.id).uint(0)
	}
	return c.message(def.uint(0).uint(0))
}

// boxOf is a payload of a Box, whose field V has the type elem and the bytes v.
func (c craft) boxOf(elem int64, v craft) craft {
	return c.structOf(64, field{"V", elem}).message(append(craft{}.int(64).uint(1), append(v, 0)...))
}

// in has v stand in an interface.
func in(name string, id int64, v craft) craft { return craft{}.string(name).int(id).message(v) }

// repeat has open n times, then the middle, then end n times.
func repeat(n int, open, middle, end craft) craft {
	return append(append(bytes.Repeat(open, n), middle...), bytes.Repeat(end, n)...)
}

// deepInterfaces is n slices of interfaces in one another.
func deepInterfaces(n int) craft {
	heads := []craft{{0}} // a nil interface, and from there to the outside
	for size := 1; n > 0; n-- {
		head := append(craft{}.string("[]interface {}").int(70).uint(uint64(2+size)), 0, 1)
		heads = append(heads, head)
		size += len(head)
	}
	slices.Reverse(heads)
	return slices.Concat(heads...)
}

const maxDepth = 10_000

// A hostileCase is a payload, what is wrong with it, and whether it is sound after all.
type hostileCase struct {
	payload craft
	want    string
}

// hostile returns payloads that end the process, or hang it, if gob decodes them, and
// others that no Encoder writes. huge is how deep the deep ones are: with 100, they are
// what the corpus of FuzzInspect began with.
func hostile(huge int) map[string]hostileCase {
	const cut, typ, deep = "cut off, or claims to be longer than it is", "a type that makes no sense", "nested deeper than 10,000"
	chain := craft{}
	for i := range int64(huge) {
		chain = chain.structOf(65+i, field{"Next", 66 + i})
	}
	return map[string]hostileCase{
		"slices, deep":             {craft{}.slice(65, 65).boxOf(65, repeat(huge, craft{1}, craft{0}, nil)), deep},
		"arrays of themselves":     {craft{}.array(65, 65, 1).boxOf(65, repeat(huge, craft{1}, craft{0}, nil)), deep},
		"structs, deep":            {craft{}.structOf(65, field{"Next", 65}).boxOf(65, repeat(huge, craft{1}, craft{0}, craft{0})), deep},
		"structs in an interface":  {craft{}.structOf(65, field{"Next", 65}).boxOf(numInterface, in("linked", 65, repeat(huge, craft{1}, craft{0}, craft{0}))), deep},
		"maps of themselves":       {craft{}.mapOf(65, numInt, 65).boxOf(65, repeat(huge, craft{1, 2}, craft{0}, nil)), deep},
		"keys of themselves":       {craft{}.mapOf(65, 65, numInt).boxOf(65, repeat(huge, craft{1}, craft{0}, craft{0})), deep},
		"two types in turn":        {craft{}.slice(65, 66).structOf(66, field{"S", 65}).boxOf(65, repeat(huge, craft{1, 1}, craft{0}, craft{0})), deep},
		"interface in itself":      {craft{}.boxOf(numInterface, repeat(huge, craft{1, 'x', 16, 100, 0}, craft{0}, nil)), cut},
		"chain of types":           {chain.structOf(65+int64(huge), field{"X", numInt}).boxOf(65, craft{0}), "more types than a program has"},
		"nested slices of nothing": {nestedTypes(251), "too many slices"},

		"map of 2^40":                 {craft{}.mapOf(65, numString, numString).boxOf(65, craft{}.uint(1<<40)), cut},
		"map of 2^62 structs":         {craft{}.structOf(66).mapOf(65, 66, 66).boxOf(65, craft{}.uint(1<<62)), cut},
		"map of more than there is":   {craft{}.mapOf(65, numInt, numInt).boxOf(65, craft{2, 2, 2}), cut},
		"map of 2^40 in an interface": {craft{}.mapOf(65, numString, numString).boxOf(numInterface, in("m", 65, craft{0}.uint(1<<40))), cut},
		"slices of 2^20, deep":        {craft{}.slice(65, 65).boxOf(65, bytes.Repeat(craft{}.uint(1<<20), 100)), cut},
		"array of another length":     {craft{}.array(65, numInterface, 2).boxOf(65, craft{1, 0}), cut},
		"array below nothing":         {craft{}.array(65, numInterface, -1).boxOf(65, craft{0}), typ},
		"string beyond the end":       {craft{}.boxOf(numInterface, in("string", numString, craft{0}.uint(1<<40))), cut},
		"interface too long":          {craft{}.boxOf(numInterface, append(craft{}.string("int").int(numInt).uint(3), 0, 2)), cut},
		"interface too short":         {craft{}.boxOf(numInterface, append(craft{}.string("int").int(numInt).uint(1), 0, 2)), cut},
		"field beyond the last":       {craft{}.structOf(64, field{"V", numInterface}).message(craft{128, 2, 0, 0}), typ},
		"field far beyond":            {craft{}.structOf(64, field{"V", numInterface}).message(craft{}.int(64).uint(math.MaxUint64).uint(0)), cut},
		"field after the last":        {craft{}.structOf(64, field{"V", numInterface}).message(craft{}.int(64).uint(1).uint(0).uint(1).uint(0)), cut},
		"struct without an end":       {craft{}.structOf(64, field{"V", numInterface}).message(craft{}.int(64).uint(1).uint(0)), cut},
		"value in front of another":   {append(craft{}.boxOf(numInt, craft{2}), 1, 2), "more than a value"},
		"bytes behind a value":        {craft{}.structOf(64, field{"V", numInterface}).message(craft{}.int(64).uint(0).uint(0)), "more than a value"},
		"number of nine bytes":        {craft{}.structOf(64, field{"V", numInterface}).message(append(craft{}.int(64), 0xf7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0)), cut},

		"type described twice":          {craft{}.slice(65, numInt).slice(65, numString).boxOf(65, craft{0}), typ},
		"type of gob's own described":   {craft{}.slice(numInterface, numInt).boxOf(numInterface, craft{0}), typ},
		"type of gob's own as a value":  {craft{}.message(craft{}.int(16).uint(0)), typ},
		"type nobody described":         {craft{}.boxOf(99, craft{0}), typ},
		"type number too large":         {craft{}.slice(math.MaxInt32+1, numInt).boxOf(numInt, craft{2}), typ},
		"type number as low as can be":  {craft{}.message(craft{0xf8, 255, 255, 255, 255, 255, 255, 255, 255}), typ},
		"type of two kinds":             {craft{}.message(append(append(craft{}.int(-65).uint(1), append(common(""), 1, 4, 0)...), append(craft{1}, append(common(""), 1, 4, 0, 0)...)...)).boxOf(65, craft{0}), typ},
		"type of no kind":               {craft{}.message(craft{}.int(-65).uint(0)).boxOf(65, craft{0}), typ},
		"type with bytes behind":        {craft{}.message(append(append(craft{}.int(-65).uint(2), common("")...), 1, 4, 0, 0, 0)).boxOf(65, craft{0}), typ},
		"type with a field of its own":  {craft{}.message(append(craft{}.int(-65).uint(9), 0)).boxOf(65, craft{0}), typ},
		"type inside of a value":        {craft{}.boxOf(numInterface, append(craft{}.string("x"), craft{}.int(-65).uint(2).uint(1).uint(0).uint(0)...)), typ},
		"type with 2^40 fields":         {craft{}.message(append(append(craft{}.int(-65).uint(3), common("")...), craft{1}.uint(1<<40)...)), typ},
		"type with a name of 2^40":      {craft{}.message(craft{}.int(-65).uint(2).uint(1).uint(1).uint(1 << 40)), typ},
		"type with a field not to hand": {craft{}.message(append(append(craft{}.int(-65).uint(2), common("")...), 5, 4, 0, 0)), typ},

		"nothing":            {craft{}, cut},
		"an empty message":   {craft{0}, cut},
		"only types":         {craft{}.slice(65, numInt), cut},
		"message of 4 GiB":   {craft{}.uint(1 << 32), cut},
		"message of 2^64-1":  {craft{}.uint(math.MaxUint64), cut},
		"message cut off":    {craft{}.boxOf(numInterface, craft{0})[:20], cut},
		"number cut off":     {craft{0xfe, 1}, cut},
		"garbage":            {craft("\x17\x00HTTP/1.1 400 Bad Request"), "more than a value"},
		"reserved basic":     {craft{}.boxOf(10, craft{0}), typ},
		"interface of no id": {craft{}.boxOf(numInterface, in("x", 99, craft{0, 0})), typ},
	}
}

// nestedTypes is a payload with n types of slices in one another.
func nestedTypes(n int64) craft {
	c := craft{}
	for i := range n {
		c = c.slice(65+i, 66+i)
	}
	return c.slice(65+n, numInt).boxOf(65, craft{0})
}
