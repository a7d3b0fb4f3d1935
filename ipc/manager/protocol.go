package manager

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/wire"
	"example.com/futures/ipc"
)

// The conversation of a client and a server, once each knows that the other is what it should
// be. Neither greeting waits for the other.
//
//	client   Setup     who it is, and what it takes
//	server   Hello     which manager it is, and what it takes
//
//	client   Request   Seq is the call, Item the operation; the payload is the number of the
//	                   object, 0 for the manager itself, and the operands
//	server   Answer    what came of it; with flagRefs the objects come first of which the client
//	                   has got holds
//	         Error     its error
//	         Skipped   nothing was done, since the context of the call has ended
//	client   Interrupt the context of the call ends; it is answered as before
//	         Release   an object, and how many holds of it are given back
//	         Adopt     a socket for a proxy that travels, see travel_linux.go; answered
//	         Ping      answered with Pong: is the server there?

const (
	flagPoll uint8 = 1 << iota // of a Request: its context has ended
	flagRefs                   // of an Answer
)

// The operations of the manager itself.
const (
	opNew     uint8 = iota + 1 // kind, name of the type, operands → object
	opPublish                  // name, object
	opLookup                   // name → object, name of the type
	opClaim                    // token → object
	opTicket                   // object → token, ticket, fingerprint
	opHold                     // objects
	opDrain                    // answered when no call is under way
	opStat                     // → numbers, for tests
)

const (
	version      uint32 = 1
	greetingMost        = 4 << 10

	defaultMessage = 64 << 20
	mostMessage    = 1 << 40 // far beyond what gob carries

	// beside is what a message may have beside its value: names of objects, a key.
	beside = 64 << 10
)

// A managerID tells managers apart.
type managerID [16]byte

// A greeting is what the two sides tell each other first.
type greeting struct {
	id    managerID // of the server
	pid   int       // of the client
	limit int64     // the largest argument or result that is taken
}

func (g *greeting) append(b []byte) []byte {
	b = append(b, g.id[:]...)
	b = binary.AppendUvarint(b, uint64(g.pid))
	return binary.AppendUvarint(b, uint64(g.limit))
}

func (g *greeting) header(k wire.Kind) wire.Header {
	return wire.Header{Kind: k, Seq: wire.Magic, Item: version}
}

var errGreeting = errors.New("the other side is no manager, or speaks another version of the protocol")

func parseGreeting(f wire.Frame, k wire.Kind) (g greeting, err error) {
	if f.Kind != k || f.Seq != wire.Magic || f.Item != version || len(f.Payload) < len(g.id) {
		return g, errGreeting
	}
	copy(g.id[:], f.Payload)
	r := reader{b: f.Payload[len(g.id):]}
	pid, limit := r.uint(), r.uint()
	if r.end() != nil || pid > 1<<32 || limit > mostMessage {
		return g, errGreeting
	}
	g.pid, g.limit = int(pid), int64(limit)
	return g, nil
}

// newReader returns a Reader of what comes through s.
func newReader(s io.ReadWriteCloser, limit int64) *wire.Reader { return newReaderFrom(s, s, limit) }

// newReaderFrom is newReader for who reads s by from.
func newReaderFrom(from io.Reader, s io.ReadWriteCloser, limit int64) *wire.Reader {
	if c, ok := s.(*carry.Socket); ok {
		r := wire.NewSocketReader(from, c, limit, false)
		r.Takes(wire.KindAdopt)
		return r
	}
	return wire.NewReader(from, limit, false)
}

// A tooLargeError reports an argument or a result that is over the limit.
func errTooLarge(what string, n int, limit int64) error {
	return fmt.Errorf("manager: %s of %d bytes is over the limit of %d (Config.MaxMessage)", what, n, limit)
}

// errOther reports a proxy that was given to another manager.
var errOther = fmt.Errorf("%w: a manager can keep proxies of its own only, and this is one of another", executor.ErrNotPortable)

// errGone reports an operation of an object that was dropped.
var errGone = fmt.Errorf("manager: the server has no such object any more: %w", ipc.ErrClosed)

// errNever reports a request that names an object that was never made, which no client does.
var errNever = fmt.Errorf("%w: it names an object that was never made", errBadRequest)

// errNotHeld reports a request that names an object of which its client has no proxy any more.
var errNotHeld = fmt.Errorf("manager: it names a proxy: %w", ipc.ErrClosed)

// writers are those that are not used.
var writers = sync.Pool{New: func() any { return new(writer) }}

// newWriter returns a writer for free.
func newWriter() *writer { return writers.Get().(*writer) }

func (w *writer) free() {
	if cap(w.b) > keptBuffer {
		return
	}
	clear(w.cuts)
	*w = writer{b: w.b[:0], refs: w.refs[:0], cuts: w.cuts[:0]}
	writers.Put(w)
}

// refs reads the objects that an answer begins with.
func (r *reader) refs() []uint64 {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	refs := make([]uint64, 0, n)
	for range n {
		refs = append(refs, r.uint())
	}
	if r.err != nil {
		return nil
	}
	return refs
}

// names has the objects that d names counted for who gets d; in a client it sees to it that the
// names mean something where d goes.
func (w *writer) names(d datum) {
	if w.to != nil {
		if w.to.keep(d) {
			w.refs = append(w.refs, d.refs...)
		} else {
			w.err = errGone
		}
	}
	if w.at != nil && d.at != nil {
		switch {
		case d.at.id != w.at.id:
			w.err = errOther
		case !d.at.pin(d.refs):
			w.err = fmt.Errorf("manager: it holds a proxy: %w", ipc.ErrClosed)
		default:
			w.pins = append(w.pins, pin{d.at, d.refs})
		}
	}
	runtime.KeepAlive(d.by)
}
