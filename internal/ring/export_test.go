package ring

import "sync/atomic"

const (
	LazyLen = lazyLen
	Align   = align
)

// A Ring is both ends of a ring, and what lies between them.
type Ring struct {
	Writer
	Reader
	Buf        []byte
	Head, Read *atomic.Uint64
}

// NewRing returns a ring in this process alone, where both ends have come to pos.
func NewRing(pos uint64, lazy bool) *Ring {
	r := &Ring{Buf: make([]byte, Len), Head: new(atomic.Uint64), Read: new(atomic.Uint64)}
	r.Writer = Writer{buf: r.Buf, head: r.Head, read: r.Read}
	r.Reader = Reader{buf: r.Buf, head: r.Head, read: r.Read, lazy: lazy}
	r.At(pos, pos, pos)
	return r
}

// At puts the ends of r where they would be after a while: what was read up to read is
// said to be read up to said.
func (r *Ring) At(written, read, said uint64) {
	r.Head.Store(written)
	r.Read.Store(said)
	r.Writer.pos, r.Writer.free, r.Writer.bad = written, said, false
	r.Reader.pos, r.Reader.end, r.Reader.said = read, read, said
}

// Pos returns where the reader is.
func (r *Ring) Pos() uint64 { return r.Reader.pos }

// PutHead writes the first word of a record.
func PutHead(b []byte, n uint32, kind uint8) { putHead(b, int(n), kind, 0, 0) }

// NewClaims returns a Memory in this process alone, without arenas.
func NewClaims() *Memory { return &Memory{mem: make([]byte, arenasAt)} }

// Asleep reports whether the worker says that it sleeps.
func (m *Memory) Asleep() bool { return m.flag(workerAsleep).Load() == 1 }

func NewArena(n int) *Arena { return &Arena{mem: make([]byte, n)} }

// Touched returns how much of the arena was ever used, or is used again since Trim.
func (a *Arena) Touched() int { return a.high }

// Kept returns how many allocations the arena has a note of, freed ones among them.
func (a *Arena) Kept() int { return cap(a.held) }

func (r Ref) In(mem []byte) []byte { return r.in(mem) }
