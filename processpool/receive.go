package processpool

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// How answers get to their calls. Whoever attends to a worker reads its answers and
// completes the calls: the worker's reader, a goroutine that the worker wakes by a frame
// on its socket when nobody attends, or somebody who waits for a future, see Help. One
// does at a time; process.attending is his. While somebody attends, the worker wakes nobody.
//
// Whoever stops attending says that the worker is to wake the reader again, and then
// looks once more: an answer is either seen by that look, or announced.
//
// Decoding a result or an error may run code of the program's. That is for the reader, or
// a goroutine of its own.

// An answer is what was said of an item, or of several in a row that have plain results.
type answer struct {
	call  executor.Call
	item  int // the first one
	n     int
	rec   int // the index of its record; others follow
	kind  wire.Kind
	flags uint8
	large int          // how many of the records are in the arena
	data  []byte       // of a single item, wherever it is
	along *carry.Files // what came along with it; nil: nothing
	cause error        // why the call was interrupted
}

// A record is what the worker said, wherever.
type record struct {
	ring.Record
	item  int          // of its call, as the worker counts them; -1: it need not say
	along *carry.Files // what came along with it, if it came through the socket; nil: nothing
}

// mostAnswers is how many records are taken at a time.
const mostAnswers = 256

// An inbox is what whoever attends to a worker needs.
type inbox struct {
	records []record // read, and not matched from next on
	next    int
	answers []answer // matched, and not completed from done on
	done    int
	large   int          // records in the arena that were completed and not freed
	plain   [][]byte     // to be completed together
	frames  []wire.Frame // payloads that came through the socket, with what came along
	rests   []part       // of calls that were matched and not completed, for other workers
	checks  bool         // the worker's memory is to be looked at, or code of the program's runs
	dec     *wire.Decoder
	slow    bool // what comes next is for the reader, or a goroutine of its own
	corrupt bool // the worker is not listened to any more
}

// drop closes what came along with answers that nobody will look at.
func (in *inbox) drop() {
	for _, r := range in.records[in.next:] {
		r.along.Close()
	}
	for _, f := range in.frames {
		f.Along.Close()
	}
	in.records, in.next, in.frames = nil, 0, nil
}

// attend reads answers until there are none, and reports whether there were any. own says
// that the caller may run code of the program's. The caller attends to w.
func (w *process) attend(own bool) (any bool) {
	for {
		w.complete() // where a decoder has ended the goroutine
		w.goOnAfter()
		if !w.fetch() {
			return any
		}
		any = true
		more := w.take(own)
		w.complete()
		w.goOnAfter()
		if !more {
			return any
		}
	}
}

// goOnAfter does what had to wait until the answers that were taken are completed: what is
// left of calls goes back, and the worker may be given others.
func (w *process) goOnAfter() {
	in, p := &w.in, w.pool
	if len(in.rests) == 0 && !in.checks {
		return
	}
	full := in.checks && w.swollen()
	var back []refusal
	p.mu.Lock()
	for _, r := range in.rests {
		back = append(back, p.giveBack(r, nil))
	}
	if in.checks {
		w.checking, w.full = false, w.full || full
	}
	p.mu.Unlock()
	clear(in.rests)
	in.rests = in.rests[:0]
	for _, r := range back {
		r.carryOut(p)
	}
	if in.checks {
		in.checks = false
		p.feed(w, false)
	}
}

// fetch reads records, and reports whether there are any to be matched.
func (w *process) fetch() bool {
	in := &w.in
	if in.next > 0 {
		n := copy(in.records, in.records[in.next:])
		clear(in.records[n:])
		in.records, in.next = in.records[:n], 0
	}
	if in.corrupt || w.socket {
		return len(in.records) > 0
	}
	for len(in.records) < mostAnswers {
		r, err := w.proc.Ring.Answers.Next()
		if err != nil {
			w.refuse(err)
			break
		}
		if r.Kind == 0 {
			break
		}
		in.records = append(in.records, record{Record: r, item: -1})
	}
	return len(in.records) > 0
}

// refuse ends a worker that does not keep to the protocol. The caller attends to it.
func (w *process) refuse(err error) {
	w.in.corrupt = true
	w.killWrong(err)
}

// killWrong kills a worker that does not keep to the protocol.
func (w *process) killWrong(err error) {
	w.mu.Lock()
	if w.wrong == nil {
		w.wrong = remote.Wrong(err)
	}
	w.mu.Unlock()
	w.proc.Kill()
}

// A taking is one round of matching records with calls.
type taking struct {
	now     time.Time
	own     bool // the code of the program's may be run
	started []executor.Call
	code    bool // some of what was matched may run code of the program's
	ended   int  // calls
	wrong   error
}

// take matches records with the calls that they answer, and has the worker be given
// others. It reports false if the rest of the records has to wait.
func (w *process) take(own bool) bool {
	in, p := &w.in, w.pool
	in.slow = false
	t := taking{now: time.Now(), own: own}
	p.mu.Lock()
	for in.next < len(in.records) && w.match(&t) {
	}
	if t.ended > 0 {
		p.measured(w.paced(t.now.Sub(w.answered) / time.Duration(t.ended)))
	}
	w.answered = t.now
	p.relieve(t.now)
	// Code of the program's may use this pool, and wait: it is not to wait for this worker,
	// whose answers nobody reads meanwhile.
	w.checking = t.code || t.ended > 0 && w.window.len() == 0 && p.cfg.Worker.MemoryLimit > 0
	feeds := false
	if !w.checking && (w.window.live <= p.ahead()/2 || w.stalled.Load()) && w.acquire() {
		feeds = true
		p.assign(w, false)
	}
	in.checks = w.checking
	p.mu.Unlock()

	if feeds {
		p.deliver(w, false)
	}
	for _, c := range t.started {
		p.observe(executor.Event{Kind: executor.EventStart, Items: c.Len(), Worker: w.pid()}, c)
	}
	if t.wrong != nil {
		w.refuse(t.wrong)
		for _, r := range in.records[in.next:] {
			r.along.Close()
		}
		in.next = len(in.records)
	}
	return !in.slow
}

// match matches the next record, and those behind it that are the same: plain results of
// one call. It reports false if they have to wait, or make no sense. The pool's lock is
// held.
func (w *process) match(t *taking) bool {
	in, p := &w.in, w.pool
	r := &in.records[in.next]
	kind := wire.Kind(r.Kind)
	j := w.window.front()
	switch {
	case j == nil || r.Tag != uint16(j.seq):
		t.wrong = fmt.Errorf("an answer of kind %d to call %d, which nobody waits for", r.Kind, r.Tag)
		return false
	case r.item > 0 && r.item != j.next-j.from:
		t.wrong = fmt.Errorf("an answer to item %d of call %d, which nobody waits for", r.item, r.Tag)
		return false
	case j.ghost && kind == wire.KindSkipped:
		w.store.free(&w.proc.Ring.Arena, stored{j.seq, math.MaxInt})
		p.pop(w, j, t.now)
		in.next++
		return true
	case j.ghost || j.next >= j.end:
		t.wrong = fmt.Errorf("an answer of kind %d to call %d, which was taken back", r.Kind, r.Tag)
		return false
	case kind != wire.KindStarted && j.next >= j.sentTo():
		t.wrong = fmt.Errorf("an answer to item %d of call %d, which was not sent", j.next-j.from, r.Tag)
		return false
	case kind == wire.KindStarted && j.said:
		t.wrong = fmt.Errorf("call %d was taken up twice", j.seq)
		return false
	case kind == wire.KindStarted:
		j.said = true
		p.took(w, j, t.now)
		if !j.told && p.cfg.Observer != nil {
			j.told = true
			p.began[j.call] = beginning{t.now, j.call.Len()}
			t.started = append(t.started, j.call)
		}
		in.next++
		return true
	case !t.own && (kind == wire.KindError || kind == wire.KindResult && r.Flags&wire.FlagPlain == 0 && !j.call.Direct()):
		in.slow = true
		return false
	}
	a := answer{call: j.call, item: j.next, n: 1, rec: in.next, kind: kind, flags: r.Flags, data: r.Payload, along: r.along}
	if !w.socket {
		a.flags = wire.RecordFlags(r.Flags)
	}
	cause, interrupted := j.cause()
	absent := j.absent[j.next]
	switch {
	case kind == wire.KindSkipped && !absent && !interrupted:
		t.wrong = fmt.Errorf("item %d of call %d was skipped without being interrupted", j.next, j.seq)
	case kind == wire.KindSkipped:
		a.cause = cause
	case kind != wire.KindResult && kind != wire.KindError:
		t.wrong = fmt.Errorf("an answer of kind %d", r.Kind)
	case r.Flags == wire.FlagPlain:
		for k, most := in.next+1, j.sentTo()-j.next; k < len(in.records) && a.n < most; k++ {
			if s := &in.records[k]; s.Kind != r.Kind || s.Flags != r.Flags || s.Tag != r.Tag {
				break
			}
			a.n++
		}
	case r.Flags&wire.FlagSocket != 0 && !w.socket:
		if len(in.frames) == 0 {
			in.slow = true // the reader is about to have it
			return false
		}
		if a.data, a.along = in.frames[0].Payload, in.frames[0].Along; a.along != nil && a.flags&wire.FlagCarry == 0 {
			t.wrong = errors.New("descriptors for an answer that has none")
		}
		in.frames[0] = wire.Frame{}
		in.frames = in.frames[1:]
	case r.Flags&wire.FlagLarge != 0 && !w.socket:
		a.data, a.large = w.proc.Ring.Large(ring.ParseRef(r.Payload)), 1
		if a.data == nil {
			t.wrong = errors.New("a large answer that is nowhere")
		}
	}
	if most := p.cfg.Worker.MaxMessage + wire.ErrorAllowance; int64(len(a.data)) > most { // of a frame its reader has seen to that
		t.wrong = fmt.Errorf("an answer of %d bytes is over the limit of %d", len(a.data), most)
	}
	if t.wrong != nil {
		a.along.Close()
		return false
	}
	p.took(w, j, w.answered)
	if absent {
		a.along.Close()
	} else {
		in.answers = append(in.answers, a)
		t.code = t.code || kind == wire.KindError || kind == wire.KindResult && r.Flags&wire.FlagPlain == 0 && !j.call.Direct()
	}
	in.next += a.n
	j.next += a.n
	w.store.free(&w.proc.Ring.Arena, stored{j.seq, j.next - 1})
	if j.next < j.end {
		if j.call.Timeout() > 0 {
			w.since = t.now
		}
		return true
	}
	t.ended++
	w.useful = true
	p.failures = 0
	if rest := j.remains(); rest.from < rest.to { // it goes back when what was answered is completed
		p.limbo[j.call] = j.ended
		in.rests = append(in.rests, rest)
	}
	p.pop(w, j, t.now)
	return true
}

// remains returns what of the call was never meant for this worker.
func (j *job) remains() part {
	return part{call: j.call, from: j.end, to: j.to, started: true, told: true, absent: j.absent}
}

// paced returns how long a call takes as the worker says, which knows what it waited for; as
// it seems from here, if it does not say.
func (w *process) paced(seems time.Duration) time.Duration {
	if d := w.proc.Ring.Pace(); d > 0 && !w.socket {
		return min(d, seems)
	}
	return seems
}

// measured notes how long a call took.
func (p *Pool) measured(d time.Duration) {
	d = max(d, 1)
	if d > p.each {
		p.each += (d - p.each + 1) / 2 // what turns out long is known at once
	} else {
		p.each += (d - p.each) / 8
	}
	p.pace.Store(int64(p.each))
}

// complete completes the calls that were answered.
func (w *process) complete() {
	in := &w.in
	if len(in.answers) == 0 {
		return
	}
	for in.done < len(in.answers) {
		a := &in.answers[in.done]
		in.done++ // first: a decoder may end the goroutine
		in.large += a.large
		if a.kind != wire.KindResult || a.flags != wire.FlagPlain || w.completePlain(a) < a.n {
			w.completeOne(a)
		}
	}
	if in.large > 0 {
		w.proc.Ring.FreeBig(in.large)
		w.proc.Ring.Rouse()
		in.large = 0
	}
	clear(in.answers)
	in.answers, in.done = in.answers[:0], 0
	if in.next == len(in.records) && !w.socket && !in.corrupt {
		w.proc.Ring.Answers.Release()
		w.proc.Ring.Rouse()
	}
}

// completePlain completes items with plain results, and returns how many.
func (w *process) completePlain(a *answer) int {
	in := &w.in
	in.plain = append(in.plain[:0], a.data)
	for i := 1; i < a.n; i++ {
		in.plain = append(in.plain, in.records[a.rec+i].Payload)
	}
	n := a.call.CompletePlain(a.item, in.plain)
	if n < a.n { // the rest is not what the call expects
		a.item, a.data, a.n = a.item+n, in.plain[n], a.n-n
	}
	return n
}

// completeOne completes the first item of a, in another way than as a plain result; further
// ones fail like that.
func (w *process) completeOne(a *answer) {
	if a.along != nil {
		defer a.along.Close() // if it is not for Complete
	}
	switch a.kind {
	case wire.KindSkipped:
		a.call.Fail(a.item, cancelled(a.cause))
		return
	case wire.KindError:
		a.call.Fail(a.item, executor.DecodeError(bytes.Clone(a.data)))
		return
	}
	f := wire.Frame{Header: wire.Header{Kind: a.kind, Flags: a.flags}, Payload: a.data, Along: a.along}
	returned := false
	defer func() {
		if !returned {
			a.call.Fail(a.item, remote.DecodeError(a.call, remote.ErrGoexit))
		}
	}()
	err := w.in.dec.Shared(f, func(v *wire.Value) error {
		_ = a.call.Complete(a.item, v) // what fails is the item's error
		return nil
	})
	returned = true
	if errors.Is(err, carry.ErrLost) {
		a.call.Fail(a.item, remote.DecodeError(a.call, err))
		err = nil
	}
	if err == nil && a.n > 1 {
		err = errNotItsType
		a.item, a.n = a.item+1, a.n-1
	}
	if err == nil {
		return
	}
	w.refuse(err) // the worker is lost, and the items with it
	<-w.proc.Ended()
	for i := range a.n {
		a.call.Fail(a.item+i, w.lostError(a.call.Task(), nil))
	}
}

// errNotItsType is why plain results in a row are refused.
var errNotItsType = errors.New("plain results for a call that has others")
