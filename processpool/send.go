package processpool

import (
	"errors"
	"fmt"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// send puts what is assigned to w into its ring, and wakes it. It returns how many calls
// were sent. What is left waits for room, which comes with answers, or for the owner.
func (w *process) send(owner bool) (done int) {
	if len(w.unsent) == 0 {
		return 0
	}
	w.stalled.Store(false)
	for done < len(w.unsent) && w.put(&w.unsent[done], owner) {
		done++
	}
	n := copy(w.unsent, w.unsent[done:])
	clear(w.unsent[n:])
	w.unsent = w.unsent[:n]
	if n > 0 {
		w.stalled.Store(true) // before the worker can answer what was sent
		if !w.socket && w.proc.Ring.Calls.Bad() {
			w.killWrong(ring.ErrCorrupt) // else there would never be room
		}
	}
	if w.socket {
		_ = w.proc.Flush() // if it fails, the process has ended, which the reader sees
	} else {
		w.proc.Ring.Calls.Publish()
		w.proc.Ring.Rouse()
	}
	return done
}

// put puts what remains of d into the ring, and reports false if something has to be
// waited for first.
func (w *process) put(d *delivery, owner bool) bool {
	if !d.told {
		if !w.tellCall(d) {
			return false
		}
		d.told = true
	}
	for d.from < d.end && !d.ghost {
		if w.held.is {
			if !w.putItem(d, owner) {
				return false
			}
			continue
		}
		if !w.socket && d.end-d.from > 1 {
			if n, full := w.pack(d); full {
				return false
			} else if n > 0 {
				continue
			}
		}
		if !w.encode(d, owner) {
			return false
		}
	}
	for w.socket && d.from < d.end { // of a ghost: the worker waits for all that it was told of
		w.letGo()
		w.held = held{is: true, absent: true}
		w.putItem(d, owner)
	}
	w.letGo()
	if d.job != nil {
		d.job.sent.Store(true)
		d.job = nil // once it is published, it may be somebody else's
	}
	return true
}

// tellCall tells the worker of a call.
func (w *process) tellCall(d *delivery) bool {
	h := w.head(d)
	if w.socket {
		_ = w.proc.Add(wire.Header{Kind: wire.KindCall, Seq: d.seq, Item: uint32(d.end - d.from)}, h)
		return true
	}
	calls := &w.proc.Ring.Calls
	b := calls.Reserve(wire.RingCallLen(len(h)))
	if b == nil {
		return false
	}
	c := wire.RingCall{Seq: d.seq, Items: uint32(d.end - d.from), Head: h}
	c.Put(b)
	calls.Commit(uint8(wire.KindCall), 0, uint16(d.seq), len(b))
	return true
}

// head returns what the worker is told of a call, encoded, and notes whether it may be
// sent calls of that task. Calls in a row have mostly the same head.
func (w *process) head(d *delivery) []byte {
	c := d.call
	task, timeout := c.Task(), c.Timeout()
	_, dated := c.Context().Deadline()
	same := w.headTask == task && w.headBytes != nil
	if same && !dated && !w.headDated && w.headTimeout == timeout {
		return w.headBytes
	}
	if !same {
		w.headWrong = w.knows(c)
	}
	h := remote.Head(c, w.theirs)
	w.headTask, w.headTimeout, w.headDated = task, timeout, dated
	w.headBytes = h.Append(w.headBytes[:0])
	return w.headBytes
}

// pack puts arguments of several items into one record. It returns how many; full says
// that there is no room for any now.
func (w *process) pack(d *delivery) (n int, full bool) {
	if w.headWrong != nil {
		return 0, false
	}
	calls := &w.proc.Ring.Calls
	b := calls.Reserve(wire.MostInline)
	if b == nil {
		return 0, true
	}
	out, next := d.call.PackPlain(b[:0], d.from, d.end, len(b))
	if next == d.from {
		return 0, false
	}
	if len(out) > len(b) || &out[0] != &b[0] { // it was moved: PackPlain needed more room
		copy(b, out)
	}
	calls.Commit(uint8(wire.KindArgs), wire.FlagPlain, uint16(d.seq), len(out))
	n = next - d.from
	d.from = next
	d.reach(next)
	return n, false
}

// held is an argument that is encoded and waits to be put into the ring.
type held struct {
	is      bool
	absent  bool
	flags   uint8
	payload wire.Payload // valid until the next message of the encoder
	load    *carry.Load  // what goes along; nil: nothing
}

// letGo forgets what is held.
func (w *process) letGo() {
	w.held.load.Close()
	w.held = held{}
}

// encode encodes the next argument of d and puts it into the ring. One that cannot be
// encoded fails its item.
func (w *process) encode(d *delivery, owner bool) bool {
	if !owner && !d.call.Direct() {
		w.call()
		return false
	}
	i := d.from
	err := w.headWrong
	if err == nil {
		w.encoding = d.call
		var payload wire.Payload
		var flags uint8
		payload, flags, err = w.enc.Message(func(e *wire.Encoder) error { return d.call.Encode(i, e) })
		w.encoding = nil
		if err != nil {
			err = remote.EncodeError(d.call, err)
		}
		w.held = held{is: true, flags: flags, payload: payload, load: w.enc.Load()}
	}
	if err != nil {
		w.fail(d, err)
	}
	return w.putItem(d, owner)
}

// fail fails the next item of d, which cannot be sent. The worker is told so, and answers
// that it has skipped it; a call of one item it need not take up for that.
func (w *process) fail(d *delivery, err error) {
	p := w.pool
	w.letGo()
	w.held = held{is: true, absent: true}
	p.mu.Lock()
	j := d.job
	switch {
	case j == nil: // the initializer
		p.mu.Unlock()
		return
	case j.ghost: // it was taken back meanwhile, and fails elsewhere, or was cancelled
		d.ghost = true
		p.mu.Unlock()
		return
	case d.call.Len() == 1 && p.withdraw(w, j):
		if !j.started && d.call.StartAt(time.Now()) {
			p.pending--
			p.makeRoom()
		}
		d.ghost = true
	default:
		if j.absent == nil {
			j.absent = map[int]bool{}
		}
		j.absent[d.from] = true
	}
	p.mu.Unlock()
	d.call.Fail(d.from, err)
}

// putItem puts the argument that was encoded into the ring.
func (w *process) putItem(d *delivery, owner bool) bool {
	flags, payload := w.held.flags, w.held.payload
	if w.held.absent {
		flags, payload = wire.FlagAbsent, wire.Payload{}
	}
	if w.held.load != nil {
		return w.putLoad(d, owner)
	}
	if d.end-d.first > 1 || w.socket || payload.Len() > w.pool.mostLarge {
		d.reach(d.from + 1) // before anybody can answer it
	}
	if w.socket {
		_ = w.proc.Add(wire.Header{Kind: wire.KindArg, Seq: d.seq, Item: w.index0(d), Flags: flags}, payload.Bytes())
		w.advance(d)
		return true
	}
	r := w.proc.Ring
	switch n := payload.Len(); {
	case n <= wire.MostInline:
		b := r.Calls.Reserve(n)
		if b == nil {
			return false
		}
		payload.CopyTo(b)
		r.Calls.Commit(uint8(wire.KindArg), flags, uint16(d.seq), n)
	case n <= w.pool.mostLarge:
		b := r.Calls.Reserve(ring.RefLen)
		if b == nil {
			return false
		}
		ref, room, ok := w.store.alloc(&r.Arena, stored{d.seq, d.from}, n)
		if !ok {
			return false
		}
		payload.CopyTo(room)
		r.Calls.Commit(uint8(wire.KindArg), flags|wire.FlagLarge, uint16(d.seq), copy(b, ref.Append(w.refBuf[:0])))
	case !owner:
		w.call()
		return false
	default:
		b := r.Calls.Reserve(wire.RingArgLen)
		if b == nil {
			return false
		}
		a := wire.RingArg{Seq: d.seq, Item: w.index0(d)}
		r.Calls.Commit(uint8(wire.KindArg), flags|wire.FlagSocket, uint16(d.seq), copy(b, a.Append(w.refBuf[:0])))
		r.Calls.Publish() // the worker reads the socket anyway, but may as well begin
		r.Rouse()
		_ = w.proc.Add(wire.Header{Kind: wire.KindArg, Seq: a.Seq, Item: a.Item}, payload.Bytes())
		_ = w.proc.Flush() // if it fails, the process has ended, which the reader sees
	}
	w.advance(d)
	return true
}

// putLoad is putItem for an argument that descriptors go along with: through the socket,
// whole. Its record goes before it, so that the worker wakes up meanwhile: if the descriptors
// cannot be sent, that fails the item, and a frame says that there is none.
func (w *process) putLoad(d *delivery, owner bool) bool {
	if !owner {
		w.call()
		return false
	}
	calls := &w.proc.Ring.Calls
	a := wire.RingArg{Seq: d.seq, Item: w.index0(d)}
	var b []byte
	if !w.socket {
		if b = calls.Reserve(wire.RingArgLen); b == nil {
			return false
		}
	}
	d.reach(d.from + 1) // before anybody can answer it
	load := w.held.load
	w.held.load = nil
	h := wire.Header{Kind: wire.KindArg, Seq: a.Seq, Item: a.Item, Flags: w.held.flags}
	if !w.socket {
		calls.Commit(uint8(wire.KindArg), w.held.flags|wire.FlagSocket, uint16(d.seq), copy(b, a.Append(w.refBuf[:0])))
		calls.Publish()
		w.proc.Ring.Rouse()
	}
	if err := w.proc.AddLoad(h, w.held.payload.Bytes(), load); errors.As(err, new(*carry.UnsentError)) {
		w.enc.Drop() // what it has described was not sent
		w.fail(d, remote.EncodeError(d.call, err))
		if w.socket {
			return w.putItem(d, owner)
		}
		_ = w.proc.Add(wire.Header{Kind: wire.KindArg, Seq: a.Seq, Item: a.Item, Flags: wire.FlagAbsent}, nil)
		_ = w.proc.Flush()
	} // if it fails in another way, the process has ended, which the reader sees
	w.advance(d)
	return true
}

// index0 returns the next item of d as the worker counts them.
func (w *process) index0(d *delivery) uint32 { return uint32(d.from - d.first) }

// reach notes that the worker may answer items up to end: what was read of the call to
// send them is not needed any more.
func (d *delivery) reach(end int) {
	if d.job != nil {
		d.job.upTo.Store(int64(end))
	}
}

func (w *process) advance(d *delivery) {
	d.from++
	w.held = held{}
}

// knows returns nil if the worker may be sent calls of c's task. One that this
// program made after the worker started may be missing there: the worker says so.
func (w *process) knows(c executor.Call) error {
	theirs, ok := w.theirs[c.Task()]
	if !ok {
		return nil
	}
	if fn, ok := executor.Lookup(c.Task()); ok && fn.Signature() != theirs {
		return fmt.Errorf("processpool: task %q is %s here and %s in the worker's program", c.Task(), fn.Signature(), theirs)
	}
	return nil
}
