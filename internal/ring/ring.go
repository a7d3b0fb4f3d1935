package ring

import (
	"encoding/binary"
	"sync/atomic"
)

const (
	headLen = 8

	// MostPayload is the largest payload of a record: a quarter of the ring, so that one
	// fits while a reader that says late what it has read holds an eighth.
	MostPayload = Len/4 - headLen

	lazyLen = Len / 8
)

// A Record is what a ring carries: a kind, which is not 0, flags, a tag for whatever its
// writer wants to say, and a payload.
type Record struct {
	Kind, Flags uint8
	Tag         uint16
	Payload     []byte // in shared memory; valid until Release
}

// pad returns how much room n bytes take: records begin at multiples of 8.
func pad(n int) uint64 { return uint64(n+7) &^ 7 }

// A Writer is the writing end of a ring, for one goroutine at a time.
type Writer struct {
	buf  []byte
	head *atomic.Uint64
	read *atomic.Uint64

	pos  uint64 // written up to here
	free uint64 // what the reader has read, when it was last asked
	bad  bool
}

// Reserve returns room for a payload of n bytes, at most MostPayload, to be filled in and
// ended by Commit; nil while there is no room.
func (w *Writer) Reserve(n int) []byte {
	need, at := headLen+pad(n), w.pos%Len
	if rest := Len - at; rest < need {
		if !w.room(rest + need) {
			return nil
		}
		putHead(w.buf[at:], int(rest-headLen), 0, 0, 0)
		w.pos += rest
		at = 0
	} else if !w.room(need) {
		return nil
	}
	return w.buf[at+headLen:][:n:n]
}

// room reports whether n bytes may be written.
func (w *Writer) room(n uint64) bool {
	if w.pos+n-w.free <= Len {
		return true
	}
	read := w.read.Load()
	if read-w.free > w.pos-w.free {
		w.bad = true // the other side says that it has read what was not written
		return false
	}
	w.free = read
	return w.pos+n-w.free <= Len
}

// Bad reports whether the reader has said what cannot be.
func (w *Writer) Bad() bool { return w.bad }

// Commit ends the record that Reserve began, with the first n bytes of its payload.
func (w *Writer) Commit(kind, flags uint8, tag uint16, n int) {
	putHead(w.buf[w.pos%Len:], n, kind, flags, tag)
	w.pos += headLen + pad(n)
}

// Publish shows the reader all that was committed.
func (w *Writer) Publish() { w.head.Store(w.pos) }

// Add commits a record with a copy of payload, or reports false while there is no room.
func (w *Writer) Add(kind, flags uint8, tag uint16, payload []byte) bool {
	b := w.Reserve(len(payload))
	if b == nil {
		return false
	}
	copy(b, payload)
	w.Commit(kind, flags, tag, len(payload))
	return true
}

func putHead(b []byte, n int, kind, flags uint8, tag uint16) {
	binary.LittleEndian.PutUint64(b, uint64(uint32(n))|uint64(kind)<<32|uint64(flags)<<40|uint64(tag)<<48)
}

// A Reader is the reading end of a ring, for one goroutine at a time.
type Reader struct {
	buf  []byte
	head *atomic.Uint64
	read *atomic.Uint64
	lazy bool // read is stored when it has grown by much

	pos  uint64 // read up to here
	end  uint64 // head, when it was last asked
	said uint64 // read, as it was last stored
}

// Ready reports whether there is a record to read, or something that cannot be.
func (r *Reader) Ready() bool { return r.pos != r.end || r.head.Load() != r.pos }

// Next reads a record. Without one, its Kind is 0.
func (r *Reader) Next() (Record, error) {
	for {
		if r.pos == r.end {
			head := r.head.Load()
			if head-r.pos > Len || head%8 != 0 {
				return Record{}, ErrCorrupt
			}
			if r.end = head; r.pos == head {
				return Record{}, nil
			}
		}
		at := r.pos % Len
		h := binary.LittleEndian.Uint64(r.buf[at:])
		n, kind := uint64(uint32(h)), uint8(h>>32)
		size := headLen + (n+7)&^7
		if size > Len-at || size > r.end-r.pos {
			return Record{}, ErrCorrupt
		}
		if kind == 0 && (at == 0 || size != Len-at) {
			// No writer pads but up to the end, and then there is a record. A worker that
			// publishes more and more padding would keep its parent in here for ever.
			return Record{}, ErrCorrupt
		}
		r.pos += size
		if kind != 0 {
			return Record{Kind: kind, Flags: uint8(h >> 40), Tag: uint16(h >> 48), Payload: r.buf[at+headLen:][:n:n]}, nil
		}
	}
}

// Release lets the writer have what was read. A lazy reader says so when it is worth it.
func (r *Reader) Release() {
	if !r.lazy || r.pos-r.said >= lazyLen {
		r.ReleaseNow()
	}
}

// ReleaseNow lets the writer have what was read, however little.
func (r *Reader) ReleaseNow() {
	if r.said != r.pos {
		r.said = r.pos
		r.read.Store(r.pos)
	}
}
