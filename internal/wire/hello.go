package wire

import (
	"encoding/binary"
	"errors"
)

// This file has the two messages that a conversation begins with. They are encoded by
// hand: a worker says and reads them once, when gob's code and its tables for their types
// would be cold, and that costs more than to start the process's threads.

// A Hello is how a worker introduces itself.
type Hello struct{ Tasks []TaskInfo }

// A TaskInfo names a task and its types.
type TaskInfo struct{ Name, Signature string }

// A Setup tells a worker what it is to be.
type Setup struct {
	Index       int // its place in its pool, from 0
	GOMAXPROCS  int // 0: as it is
	MaxMessage  int64
	MemoryLimit int64 // bytes resident at which it is killed; 0: none
	Spin        int64 // nanoseconds for which it looks for its next call before it sleeps
	Once        bool  // it serves one call and ends: with status 0 if that returned a value, otherwise 1
	Ring        bool  // calls and answers travel in shared memory
	Announce    bool  // it says when it takes up a call
	First       bool  // but the first call travels on the socket: the initializer
}

// mostTasks is how many tasks a Hello may name: more than a program has, and no more than
// a process that is no worker may have its parent keep in memory.
const mostTasks = 1 << 20

var (
	errBadHello = errors.New("wire: a greeting that cannot be read")
	errBadSetup = errors.New("wire: a setup that cannot be read")
)

// Append adds the encoded h to b and returns it.
func (h *Hello) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(h.Tasks)))
	for _, t := range h.Tasks {
		b = appendString(appendString(b, t.Name), t.Signature)
	}
	return b
}

// ParseHello decodes what Append encoded. Any other bytes are an error, or some Hello.
func ParseHello(b []byte) (h Hello, err error) {
	p := parser{rest: b}
	n := p.uint(min(mostTasks, uint64(len(b)/2))) // each has two lengths at least
	if !p.failed && n > 0 {
		h.Tasks = make([]TaskInfo, n)
	}
	for i := range h.Tasks {
		h.Tasks[i] = TaskInfo{p.string(), p.string()}
	}
	if !p.done() {
		return Hello{}, errBadHello
	}
	return h, nil
}

const (
	setupOnce = 1 << iota
	setupRing
	setupAnnounce
	setupFirst
	setupFlags = 1<<iota - 1 // all of them
)

// Append adds the encoded s to b and returns it. Its numbers are not negative.
func (s *Setup) Append(b []byte) []byte {
	flags := byte(0)
	for i, set := range []bool{s.Once, s.Ring, s.Announce, s.First} {
		if set {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	for _, n := range []int64{int64(s.Index), int64(s.GOMAXPROCS), s.MaxMessage, s.MemoryLimit, s.Spin} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// ParseSetup decodes what Append encoded. Any other bytes are an error, or some Setup.
func ParseSetup(b []byte) (s Setup, err error) {
	if len(b) == 0 || b[0] > setupFlags {
		return s, errBadSetup
	}
	s.Once, s.Ring = b[0]&setupOnce != 0, b[0]&setupRing != 0
	s.Announce, s.First = b[0]&setupAnnounce != 0, b[0]&setupFirst != 0
	const most = 1<<31 - 1 // of an int, wherever that is
	p := parser{rest: b[1:]}
	s.Index, s.GOMAXPROCS = int(p.uint(most)), int(p.uint(most))
	for _, n := range []*int64{&s.MaxMessage, &s.MemoryLimit, &s.Spin} {
		*n = int64(p.uint(1<<63 - 1))
	}
	if !p.done() {
		return Setup{}, errBadSetup
	}
	return s, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A parser takes one thing after another from the beginning of rest. What it cannot take
// is zero, and so is all behind that.
type parser struct {
	rest   []byte
	failed bool
}

// uint takes a number that is no higher than most.
func (p *parser) uint(most uint64) uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 || v > most {
		p.rest, p.failed = nil, true
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

// string takes what appendString added.
func (p *parser) string() string {
	n := p.uint(uint64(len(p.rest)))
	if n > uint64(len(p.rest)) {
		p.rest, p.failed = nil, true
		return ""
	}
	s := string(p.rest[:n])
	p.rest = p.rest[n:]
	return s
}

// done reports whether all could be taken and nothing is left.
func (p *parser) done() bool { return !p.failed && len(p.rest) == 0 }
