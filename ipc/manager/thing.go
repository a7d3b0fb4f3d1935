package manager

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
)

// A thing is a managed object as its server has it.
//
// do carries out one operation for a client: it reads its operands from in and writes what
// comes of it to out. It may wait, until ctx ends. The server calls it under a ctx that has
// ended first, in the goroutine that reads the client's requests: what need not wait is done
// then, and the error of one that must matches ctx.Err(), and nothing has been done; then it
// is called again, in a goroutine of its own, with the caller's ctx. Calls run at the same
// time.
//
// An operation that must be carried out though its ctx has ended (Unlock, Release, …) takes
// no notice of it.
type thing interface {
	do(ctx context.Context, by *client, op uint8, in *reader, out *writer) error

	// gone says that a client has gone, or has no proxy of the object any more: what it held
	// is let go, and its calls that wait end. It may be called again.
	gone(by *client)

	// drop says that nobody has the object any more. It returns what the object held.
	drop() []datum
}

// A client is one process that uses the server, as the server has it: the holder of locks.
// Only its address matters to things, and whether it has gone.
type client struct {
	pid  int         // for Holder and its like; 0: not known
	most int64       // the largest value that it takes; 0: any
	left atomic.Bool // set before things are told that it has gone: they give it nothing any more
}

// takes returns the error of a value that is too large for the client. A thing asks before it
// gives d away, and keeps d then.
func (c *client) takes(d datum) error {
	const name = 2 * binary.MaxVarintLen64 // of an object: in the datum, and beside it
	n, names := len(d.bytes), name*len(d.refs)
	if c.most == 0 || int64(n) <= c.most && int64(n+names) <= c.most+beside/2 {
		return nil
	}
	return errTooLarge("a result", n+names, c.most)
}

// A datum is an encoded value, and the objects that it names, which live as long as it does.
//
// A datum is not changed. What a thing keeps of one it tells its keeper; its bytes are its own.
type datum struct {
	flags uint8 // of the wire format
	bytes []byte
	refs  []uint64

	at *conn     // in a client: where refs mean something; nil: there are none
	by []*handle // in a client that has encoded it: of its proxies, which are not collected until it is written
}

// errBadRequest reports operands that no client of this version sends.
var errBadRequest = errors.New("manager: a request that cannot be read")

// A writer writes operands and results.
type writer struct {
	b []byte

	to   keeper   // in a server: it counts what is written for who gets it; nil: nobody does
	refs []uint64 // that were counted

	at    *conn // in a client: where it goes
	err   error // why it cannot go there, or be read from there
	pins  []pin // what does not go meanwhile
	split bool  // large bytes need not be in b
	cuts  []cut // those that are not
	data  int   // how many bytes the datums have
}

// A cut is bytes that belong between those of a writer.
type cut struct {
	at    int
	bytes []byte
}

// largePart is the length from which bytes are not copied to a writer that may do without.
const largePart = 32 << 10

func (w *writer) uint(x uint64) { w.b = binary.AppendUvarint(w.b, x) }
func (w *writer) int(x int)     { w.b = binary.AppendVarint(w.b, int64(x)) }
func (w *writer) bytes(b []byte) {
	w.b = binary.AppendUvarint(w.b, uint64(len(b)))
	if w.split && len(b) >= largePart {
		w.cuts = append(w.cuts, cut{len(w.b), b})
		return
	}
	w.b = append(w.b, b...)
}

// len returns how many bytes were written.
func (w *writer) len() int {
	n := len(w.b)
	for _, c := range w.cuts {
		n += len(c.bytes)
	}
	return n
}

func (w *writer) text(s string) { w.b = append(binary.AppendUvarint(w.b, uint64(len(s))), s...) }

func (w *writer) bool(x bool) {
	if x {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

func (w *writer) datum(d datum) {
	if d.at != nil && w.at != nil && d.at.id != w.at.id {
		w.err = errOther
	}
	w.data += len(d.bytes)
	if w.at != nil && w.err == nil && int64(w.data) > w.at.limit {
		w.err = errTooLarge("an argument", w.data, w.at.limit)
	}
	if len(d.refs) > 0 {
		w.names(d)
	}
	w.uint(uint64(d.flags))
	w.uint(uint64(len(d.refs)))
	for _, r := range d.refs {
		w.uint(r)
	}
	w.bytes(d.bytes)
}

// A reader reads what a writer has written. What it returns is a part of its bytes. After an
// error everything is zero; the caller looks at err once, at the end.
type reader struct {
	b   []byte
	err error

	at *conn // in a client: where it came from

	by   *guest   // in a server: who sent it, and must have the objects that it names
	held []uint64 // which are held for that until done
}

func (r *reader) fail() {
	r.b, r.err = nil, errBadRequest
}

func (r *reader) uint() uint64 {
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *reader) int() int {
	x, n := binary.Varint(r.b)
	if n <= 0 || int64(int(x)) != x {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return int(x)
}

func (r *reader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) bool() bool {
	if len(r.b) == 0 || r.b[0] > 1 {
		r.fail()
		return false
	}
	x := r.b[0] == 1
	r.b = r.b[1:]
	return x
}

func (r *reader) datum() (d datum) {
	d.flags = uint8(r.uint())
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
	}
	for ; n > 0 && r.err == nil; n-- {
		d.refs = append(d.refs, r.uint())
	}
	d.bytes = r.bytes()
	if len(d.refs) > 0 {
		d.at = r.at
		r.hold(d.refs)
	}
	return d
}

// hold has objects that are named held until done.
func (r *reader) hold(refs []uint64) {
	if r.by == nil || r.err != nil {
		return
	}
	if err := r.by.srv.hold(r.by, refs); err != nil {
		r.b, r.err = nil, err
		return
	}
	r.held = append(r.held, refs...)
}

// done ends the holds of hold.
func (r *reader) done() {
	if r.by != nil {
		r.by.srv.releaseRefs(r.held)
		r.held = nil
	}
}

// end returns the error of what was read; that something is left over is one, too.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail()
	}
	return r.err
}
