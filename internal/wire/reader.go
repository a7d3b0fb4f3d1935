package wire

// A reader reads what gob's numbers are. After the end, or anything that cannot be,
// it is bad, and all that it answers is 0.
type reader struct {
	b   []byte
	at  int
	bad bool
}

func (r *reader) uint() uint64 {
	if r.at < len(r.b) {
		if c := r.b[r.at]; c <= 0x7f {
			r.at++
			return uint64(c)
		}
	}
	return r.long()
}

// long reads a number that does not fit into a byte: their count, negated, and then
// the bytes, the highest first.
func (r *reader) long() (x uint64) {
	if r.at >= len(r.b) {
		r.fail()
		return 0
	}
	n := -int(int8(r.b[r.at]))
	if n > 8 || n > len(r.b)-r.at-1 {
		r.fail()
		return 0
	}
	for _, c := range r.b[r.at+1 : r.at+1+n] {
		x = x<<8 | uint64(c)
	}
	r.at += 1 + n
	return x
}

func (r *reader) fail() {
	r.bad = true
	r.at = len(r.b)
}

func (r *reader) int() int64 {
	x := r.uint()
	if x&1 != 0 {
		return ^int64(x >> 1)
	}
	return int64(x >> 1)
}

// length reads how many bytes follow.
func (r *reader) length() int { return r.count(1) }

// count reads how many elements follow, each of size bytes at least.
func (r *reader) count(size int) int {
	n := r.uint()
	if n > uint64(len(r.b)-r.at)/uint64(size) {
		r.fail()
		return 0
	}
	return int(n)
}

// skip passes over bytes with their length before them.
func (r *reader) skip() { r.at += r.length() }

// fields calls fn for each field of a struct that is there, to read it.
func (r *reader) fields(fn func(field int)) {
	for field := -1; !r.bad; {
		delta := r.uint()
		if delta == 0 {
			return
		}
		if delta > 10 { // more fields than any of gob's own has
			r.fail()
			return
		}
		field += int(delta)
		fn(field)
	}
}

// common reads gob's CommonType: a name and a number, which say nothing.
func (r *reader) common() {
	r.fields(func(f int) {
		switch f {
		case 0:
			r.skip()
		case 1:
			r.int()
		default:
			r.bad = true
		}
	})
}
