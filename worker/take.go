package worker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// A head is what the calls in a row have in common, as it was read and what it says.
type head struct {
	raw []byte
	wire.CallHead
	fn executor.Function // nil until it was looked up
}

// take waits for a call that this worker may run.
func (s *server) take() *job {
	for {
		j := s.next()
		s.begin(j)
		if s.mem.Take(j.seq) {
			if s.announce {
				s.job = j
				s.answer(wire.Header{Kind: wire.KindStarted, Seq: j.seq}, nil)
			}
			return j
		}
		// It was taken back. What was sent with it is passed over.
		s.job = j
		for _, arg := range j.args {
			if arg.Flags&wire.FlagAbsent == 0 {
				s.dec.Skip(arg)
			}
		}
		s.answer(wire.Header{Kind: wire.KindSkipped, Seq: j.seq}, nil)
		s.finish()
	}
}

// begin notes that j is the call that interrupts are for, before anybody can know that
// it runs.
func (s *server) begin(j *job) {
	s.reuse, s.curJob = j, j
	s.curSeq.Store(j.seq)
}

// finish forgets the call.
func (s *server) finish() {
	s.curSeq.Store(0)
	if s.looks.Load() {
		s.mu.Lock() // then he has done with it
		s.reuse = nil
		s.mu.Unlock()
	}
	if s.job.sock || s.found.Load() {
		s.found.Store(false)
		s.reuse = nil
	}
	if s.job.sock {
		s.mu.Lock()
		s.jobs[0] = nil
		s.jobs = s.jobs[1:]
		s.mu.Unlock()
	}
	s.job = nil
	s.pace.count(s.mem)
}

// next waits for a call.
func (s *server) next() *job {
	if s.bySock != 0 {
		if s.bySock > 0 {
			s.bySock--
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for len(s.jobs) == 0 {
			s.more.Wait()
		}
		return s.jobs[0]
	}
	for {
		r := s.record()
		if r.Kind == uint8(wire.KindCall) {
			return s.parse(r.Payload)
		}
		s.pass(r)
	}
}

// parse reads the record of a call.
func (s *server) parse(b []byte) *job {
	c, ok := wire.ParseRingCall(b)
	if !ok {
		s.die(wire.ErrBadCall)
	}
	if !bytes.Equal(c.Head, s.last.raw) {
		h, err := wire.ParseCallHead(c.Head)
		if err != nil {
			s.die(err)
		}
		s.last = head{raw: bytes.Clone(c.Head), CallHead: h}
	}
	j := s.reuse
	if j == nil {
		j = new(job)
	}
	*j = job{}
	j.seq, j.head, j.count = c.Seq, s.last.CallHead, int(c.Items)
	return j
}

// pass passes over an argument of a call that was taken back. It may describe types that
// later ones need.
func (s *server) pass(r ring.Record) {
	if r.Kind != uint8(wire.KindArg) {
		return
	}
	if f := s.single(r, wire.RingArg{}); f.Flags&wire.FlagAbsent == 0 {
		s.dec.Skip(f)
	}
}

// record waits for a record of the ring. It lets go of the one before.
func (s *server) record() ring.Record {
	s.mem.Calls.Release()
	for {
		r, err := s.mem.Calls.Next()
		if err != nil {
			s.die(err)
		}
		if r.Kind != 0 {
			return r
		}
		now := time.Now()
		s.pace.rest(s.mem, now)
		s.await(now, s.ready)
		s.pace.began = time.Now()
	}
}

// A pace measures how long calls take, for the parent, which sends more or fewer ahead: by
// stretches of several in a row. Of two stretches the shorter one counts, for in the other
// one the process may have been without a processor, or have had one long call among many.
type pace struct {
	began time.Time // the stretch
	calls int
	last  time.Duration // how long a call took in the stretch before
}

// stretchLen is how many calls a stretch has at most: reading the clock takes its time, too.
const stretchLen = 16

// count notes that a call has ended.
func (p *pace) count(mem *ring.Worker) {
	if p.calls++; p.calls >= stretchLen {
		now := time.Now()
		p.rest(mem, now)
		p.began = now
	}
}

// rest ends a stretch.
func (p *pace) rest(mem *ring.Worker, now time.Time) {
	if p.calls == 0 {
		return
	}
	each := now.Sub(p.began) / time.Duration(p.calls)
	mem.SetPace(min(each, max(p.last, 1)))
	if p.last == 0 {
		mem.SetPace(each)
	}
	p.last, p.calls = each, 0
}

// ready reports whether there is a record. If not, the parent may write over all that was
// read: it is needed no more, and this goroutine is perhaps about to sleep.
func (s *server) ready() bool {
	if s.mem.Calls.Ready() {
		return true
	}
	s.mem.Calls.ReleaseNow()
	return false
}

// argument returns that of item i of j, waiting for it if need be.
func (s *server) argument(j *job, i int) wire.Frame {
	if j.sock {
		arg := j.args[i]
		j.args[i].Payload, j.args[i].Along = nil, nil
		return arg
	}
	if len(s.pack) == 0 {
		switch r := s.record(); wire.Kind(r.Kind) {
		case wire.KindArgs:
			s.pack, s.flags = r.Payload, r.Flags
		case wire.KindArg:
			return s.single(r, wire.RingArg{Seq: j.seq, Item: uint32(i)})
		default:
			s.die(fmt.Errorf("a record of kind %d where an argument must be", r.Kind))
		}
	}
	n, width := binary.Uvarint(s.pack)
	if width <= 0 || n > uint64(len(s.pack)-width) {
		s.die(wire.ErrBadCall)
	}
	payload := s.pack[width:][:n:n]
	s.pack = s.pack[width+int(n):]
	return wire.Frame{Header: wire.Header{Kind: wire.KindArg, Seq: j.seq, Item: uint32(i), Flags: s.flags}, Payload: payload}
}

// single returns the argument that has a record of its own, wherever its bytes are.
func (s *server) single(r ring.Record, a wire.RingArg) wire.Frame {
	f := wire.Frame{Header: wire.Header{Kind: wire.KindArg, Seq: a.Seq, Item: a.Item, Flags: wire.RecordFlags(r.Flags)}, Payload: r.Payload}
	switch {
	case r.Flags&wire.FlagSocket != 0:
		c, ok := wire.ParseRingArg(r.Payload)
		if !ok {
			s.die(wire.ErrBadCall)
		}
		came := s.bySocket(c)
		f.Payload, f.Along = came.Payload, came.Along
		if came.Flags&wire.FlagAbsent != 0 { // it could not be sent
			f.Flags = wire.FlagAbsent
		}
	case r.Flags&wire.FlagLarge != 0:
		f.Payload = s.mem.Large(ring.ParseRef(r.Payload))
	}
	return f
}

// bySocket waits for an argument that comes through the socket, which it reads itself, unless
// somebody does.
func (s *server) bySocket(a wire.RingArg) wire.Frame {
	s.reading.Lock()
	defer s.reading.Unlock()
	for {
		if f, ok := s.came(a); ok {
			return f
		}
		if err := s.readFrame(); err != nil {
			s.end(err)
		}
	}
}

// came returns the argument if it was read.
func (s *server) came(a wire.RingArg) (wire.Frame, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.large[a]
	delete(s.large, a)
	return f, ok
}

// trimTime is how long a worker idles before it gives back memory that large answers
// needed.
const trimTime = time.Second

// await waits until ready reports true, from start on, which is now. It looks for a while,
// which costs less than being woken, and then sleeps.
func (s *server) await(start time.Time, ready func() bool) {
	for s.spin > 0 {
		for range 16 {
			if ready() {
				return
			}
		}
		spun := time.Since(start)
		if spun > s.spin {
			break
		}
		if spun > ring.Rude {
			ring.Yield()
		}
	}
	var patience time.Duration
	if s.mem.Collect(); s.mem.Arena.Excess() {
		patience = trimTime
	}
	s.mem.Sleep(ready, patience, s.mem.Arena.Trim)
}

// end ends a process whose conversation has ended with err.
func (s *server) end(err error) {
	if err = quiet(err); err != nil {
		s.die(err)
	}
	proc.Die()
}

// die ends a process whose parent does not keep to the protocol.
func (s *server) die(err error) {
	fmt.Fprintf(os.Stderr, "worker: %v\n", err)
	proc.Die()
}
