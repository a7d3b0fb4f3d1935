package clusterpool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
)

// What is kept of a call, one record at a time. Every step is a publish that names the
// record before it, by its sequence number in the stream, and is refused if that is not the
// last one any more:
//
//	             claim                    result
//	(no record) ───────▶ running ─────────────────────▶ done
//	     │                │    ▲
//	     │ cancel         └────┘ taken over by another worker, or begun again by the same
//	     ▼
//	 cancelled
//
// So a call that is cancelled never starts, a worker that was given up cannot bring a result
// any more, and a call is done once. Records that are final have a time to live of their own, and
// so has a claim that was taken back since the task is gone; the stream has none, for it would
// let go of a long call's claim (pitfall 3).

const (
	recRunning   = 'R'
	recDone      = 'D'
	recCancelled = 'C'
)

// A record is the last word on a call.
type record struct {
	kind byte
	seq  uint64 // in the stream; not a part of what is written

	// Of running and done.
	token     uint64 // of the attempt
	worker    string // that made it; "" if a client did
	pid       int    // of that worker
	takeovers int    // by other workers, each of which is a run of all items
	losses    []loss // of items whose worker process died, by item
	lost      int    // worker processes that died, of all items together
	retried   int    // runs beyond the first, of all items together
	free      bool   // of running: it was given back, and whoever comes may begin it
	why       []byte // of running: how the last attempt was lost; an encoded error, or nil

	// Of done.
	ran   time.Duration // what the items took
	blob  bool          // items are in the object store, under the key that follows
	items []byte        // see appendItem; of a cancelled one the cause, an encoded error
}

// A loss is how often the process of an item's run died.
type loss struct{ item, times int }

// runs returns how often item has been begun before this attempt.
func (r *record) runs(item int) int {
	n := r.takeovers
	for _, l := range r.losses {
		if l.item == item {
			n += l.times
		}
	}
	return n
}

// lastLoss returns how the last worker of the call was lost, or nil: of a call that is done,
// what its first item that was lost says.
func (r *record) lastLoss() error {
	if len(r.why) > 0 {
		return executor.DecodeError(r.why)
	}
	if r.kind != recDone || r.blob || r.lost == 0 {
		return nil
	}
	for d := (reader{b: r.items}); len(d.b) > 0 && !d.bad; {
		if o, _, data := d.item(); o == outError && !d.bad {
			err := executor.DecodeError(data)
			if lost, ok := errors.AsType[*executor.WorkerLostError](err); ok {
				return lost
			}
		}
	}
	return nil
}

func (r *record) append(b []byte) []byte {
	b = append(b, r.kind)
	if r.kind == recCancelled {
		return append(b, r.items...)
	}
	b = binary.LittleEndian.AppendUint64(b, r.token)
	b = appendText(b, r.worker)
	b = binary.AppendUvarint(b, uint64(r.pid))
	b = binary.AppendUvarint(b, uint64(r.takeovers))
	b = binary.AppendUvarint(b, uint64(r.lost))
	b = binary.AppendUvarint(b, uint64(r.retried))
	b = binary.AppendUvarint(b, uint64(len(r.losses)))
	for _, l := range r.losses {
		b = binary.AppendUvarint(b, uint64(l.item))
		b = binary.AppendUvarint(b, uint64(l.times))
	}
	b = append(b, flag(r.kind == recRunning && r.free || r.kind == recDone && r.blob))
	if r.kind == recRunning {
		return append(b, r.why...)
	}
	b = binary.AppendUvarint(b, uint64(r.ran))
	return append(b, r.items...)
}

var errRecord = errors.New("clusterpool: a record that does not make sense: is another version of the library at work?")

func parseRecord(b []byte, seq uint64) (record, error) {
	r := record{seq: seq}
	if len(b) == 0 {
		return r, errRecord
	}
	r.kind = b[0]
	d := reader{b: b[1:]}
	switch r.kind {
	case recCancelled:
		r.items = d.b
		return r, nil
	case recRunning, recDone:
	default:
		return r, errRecord
	}
	r.token = d.word()
	r.worker = string(d.text())
	r.pid = d.int()
	r.takeovers = d.int()
	r.lost = d.int()
	r.retried = d.int()
	for range d.count(2) {
		r.losses = append(r.losses, loss{d.int(), d.int()})
	}
	set := d.byte() == 1
	if r.kind == recDone {
		r.ran = time.Duration(d.int())
	}
	if d.bad {
		return r, errRecord
	}
	if r.kind == recRunning {
		r.free, r.why = set, d.b
	} else {
		r.blob, r.items = set, d.b
	}
	return r, nil
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// An outcome is how an item ended.
type outcome byte

const (
	outValue   outcome = iota // a value, by the wire format
	outError                  // an encoded error
	outSkipped                // it never began, since the call was interrupted
	outRest                   // an encoded error, with which this item and all behind it ended
)

// kindShift is where, in the byte of an outcome, the kind of a plain value is, for plain
// bytes do not say it themselves, and who attaches to a call need not know its task.
const kindShift = 2

// appendItem adds the outcome of an item.
func appendItem(b []byte, o outcome, flags uint8, data []byte) []byte {
	b = append(b, byte(o), flags)
	b = binary.AppendUvarint(b, uint64(len(data)))
	return append(b, data...)
}

// peekKind returns the kind of the plain value that the first outcome is.
func (d *reader) peekKind() wire.Plain {
	if len(d.b) == 0 {
		return 0
	}
	return wire.Plain(d.b[0] >> kindShift)
}

// item takes the first outcome off.
func (d *reader) item() (o outcome, flags uint8, data []byte) {
	o = outcome(d.byte()) & (1<<kindShift - 1)
	flags = d.byte()
	return o, flags, d.text()
}

// A head is what a worker is told about a call, in front of its arguments.
type head struct {
	task      string
	signature uint64        // a hash of the task's types
	timeout   time.Duration // of an item; 0: none
	deadline  int64         // of the caller's context, Unix nanoseconds; 0: none
	retries   int
	keep      time.Duration // how long the outcome is to be kept
	items     int
	packed    bool // arguments are plain values, each with its length before it
	blob      bool // they are in the object store, under the call's ID
}

const headVersion = 1

const (
	headPacked = 1 << iota
	headBlob
)

func (h *head) append(b []byte) []byte {
	flags := byte(0)
	if h.packed {
		flags |= headPacked
	}
	if h.blob {
		flags |= headBlob
	}
	b = append(b, headVersion, flags)
	b = appendText(b, h.task)
	b = binary.LittleEndian.AppendUint64(b, h.signature)
	b = binary.AppendUvarint(b, uint64(h.timeout))
	b = binary.AppendUvarint(b, uint64(h.deadline))
	b = binary.AppendUvarint(b, uint64(h.retries))
	b = binary.AppendUvarint(b, uint64(h.keep))
	return binary.AppendUvarint(b, uint64(h.items))
}

// parseHead returns the head that b begins with, and the rest.
func parseHead(b []byte) (h head, rest []byte, err error) {
	d := reader{b: b}
	if v := d.byte(); v != headVersion {
		return h, nil, fmt.Errorf("clusterpool: a call in version %d of the format, and this worker knows version %d: they are of different versions of the library", v, headVersion)
	}
	flags := d.byte()
	h.packed, h.blob = flags&headPacked != 0, flags&headBlob != 0
	h.task = string(d.text())
	h.signature = d.word()
	h.timeout = time.Duration(d.number())
	h.deadline = d.number()
	h.retries = d.int()
	h.keep = time.Duration(d.number())
	h.items = d.int()
	// An argument takes a byte or more, so that a few bytes cannot stand for millions of items.
	if d.bad || h.items == 0 || h.items > 1<<24 || !h.blob && h.items > len(d.b) {
		return h, nil, errors.New("clusterpool: a call that does not make sense: is another version of the library at work?")
	}
	return h, d.b, nil
}

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A reader takes bytes apart. bad is set, and everything zero, once there are too few.
type reader struct {
	b   []byte
	bad bool
}

func (d *reader) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *reader) word() uint64 {
	if len(d.b) < 8 {
		d.bad, d.b = true, nil
		return 0
	}
	x := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return x
}

// number reads a number that is not negative, and small enough that two of them can be added.
func (d *reader) number() int64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 || x >= 1<<62 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return int64(x)
}

// int reads a number that is not negative, and small enough that two of them can be added.
func (d *reader) int() int {
	x := d.number()
	if x > math.MaxInt/2 {
		d.bad, d.b = true, nil
		return 0
	}
	return int(x)
}

// count reads how many things follow, each of which takes at least size bytes.
func (d *reader) count(size int) int {
	n := d.int()
	if n > len(d.b)/size {
		d.bad, d.b = true, nil
		return 0
	}
	return n
}

func (d *reader) text() []byte {
	n := d.int()
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

// An interruption is what a worker is told of a call whose context has ended.
type interruption struct {
	id       string
	deadline bool
	cause    []byte // an encoded error
}

func (i *interruption) append(b []byte) []byte {
	b = appendText(b, i.id)
	b = append(b, flag(i.deadline))
	return append(b, i.cause...)
}

func parseInterruption(b []byte) (i interruption, ok bool) {
	d := reader{b: b}
	i.id = string(d.text())
	i.deadline = d.byte() == 1
	i.cause = d.b
	return i, !d.bad
}
