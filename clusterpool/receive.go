package clusterpool

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/futures/executor"
	"example.com/futures/internal/promise"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// watch has the records of this client pushed: those that come from now on, or, of a stream
// that was made anew, all. Results come only this way or by asking: what is published beside
// a consumer arrives at most once (pitfall 13).
func (p *Pool) watch(ctx context.Context, all bool) error {
	s, err := p.js.Stream(ctx, p.state())
	if err != nil {
		return fmt.Errorf("clusterpool: the stream %s: %w", p.state(), err)
	}
	from := uint64(1)
	if !all {
		from = s.CachedInfo().State.LastSeq + 1
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects:    []string{p.records(p.cfg.Client)},
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		MaxResetAttempts:  -1,
		InactiveThreshold: idleConsumer,
	})
	if err != nil {
		return fmt.Errorf("clusterpool: following %s: %w", p.state(), err)
	}
	watching, err := c.Consume(func(m jetstream.Msg) { p.receive(m.Subject(), m.Reply(), m.Data()) },
		jetstream.PullMaxMessages(4096),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			p.log.Debug("clusterpool: following records", "err", err)
			p.doubt() // what is followed may be others
		}))
	if err != nil {
		return fmt.Errorf("clusterpool: following %s: %w", p.state(), err)
	}
	p.mu.Lock()
	before := p.watching
	p.watching = watching
	p.mu.Unlock()
	if before != nil {
		go before.Stop() // it may wait for servers, but not longer than for the connection
	}
	return nil
}

// receive takes a record in.
func (p *Pool) receive(subject, reply string, data []byte) {
	id, ok := p.id(subject)
	if !ok {
		return
	}
	d, err := parseDelivery(reply)
	if err != nil {
		p.log.Warn("clusterpool: a record", "subject", subject, "err", err)
		return
	}
	p.highest(stateStream, d.seq)
	p.mu.Lock()
	e := p.calls[id]
	attached := p.attached[id]
	p.mu.Unlock()
	if e == nil && len(attached) == 0 {
		return // of a client before, or told before
	}
	r, err := parseRecord(data, d.seq)
	if err != nil {
		p.log.Warn("clusterpool: a record", "subject", subject, "err", err)
		if e != nil {
			e.fail(err)
		}
		return
	}
	for _, a := range attached {
		a.carryOut(&r)
	}
	switch {
	case e == nil:
	case r.kind == recDone && (r.blob || !e.Direct()):
		go p.carryOut(e, &r) // it takes long, or runs somebody else's code
	default:
		p.carryOut(e, &r)
	}
}

// complete ends e as a final record says.
func (p *Pool) complete(e *call, r *record) {
	items, err := p.outcomes(e.id, r)
	if isAbsent(err) && p.lookAgain(e) {
		return
	}
	if err != nil {
		e.fail(fmt.Errorf("clusterpool: task %q: %w", e.Task(), err))
		return
	}
	e.Ran(r.ran)
	if !p.completeItems(e, 0, e.Len(), items) {
		e.fail(errRecord) // those that have not ended
	}
}

// lookAgain has reconcile look once more for the outcome of e, which is not in the object
// store, and reports whether it will. If the servers have lost the call's record too, it is
// a lost call like others.
func (p *Pool) lookAgain(e *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.absent++; e.absent > 2 {
		return false
	}
	e.missing = max(e.missing, 1)
	p.suspect = true
	p.checkSoon()
	return true
}

// completeItems ends the items of e from from up to end, but for those that have ended
// ahead. b are their outcomes. It is false if those make no sense. The caller has e.step.
func (p *Pool) completeItems(e *call, from, end int, b []byte) bool {
	c := codecOf(e.Task())
	d := reader{b: b}
	var plain [][]byte // results of the items before i, one after another
	flush := func(i int) {
		if len(plain) == 0 {
			return
		}
		first := i - len(plain)
		for k := first + e.CompletePlain(first, plain); k < i; k++ {
			e.Fail(k, fmt.Errorf("clusterpool: task %q: a result of another type", e.Task()))
		}
		plain = plain[:0]
	}
	for i := from; i < end; i++ {
		o, flags, data := d.item()
		switch {
		case d.bad:
			flush(i)
			return false
		case o == outRest:
			flush(i)
			for ; i < end; i++ {
				e.Fail(i, executor.DecodeError(data)) // those ahead have ended, and stay as they are
			}
			return true
		case i < e.ahead:
			continue
		case o == outValue && flags == wire.FlagPlain:
			plain = append(plain, data)
			continue
		}
		flush(i)
		switch o {
		case outValue:
			p.completeOne(e, c, i, flags, data)
		case outError:
			e.Fail(i, executor.DecodeError(data))
		default:
			p.mu.Lock()
			cause := e.cause
			p.mu.Unlock()
			if cause == nil {
				cause = context.Cause(e.Context())
			}
			e.Fail(i, promise.CancelledError(cause)) // or it was absent, and has failed before
		}
	}
	flush(end)
	return true
}

// progress takes in what a worker says of a chunk that it runs: outcomes of its first items.
// That is for those who wait for one of these; it may get lost, and all outcomes come with the
// record in the end. It is the worker's word as long as the call is its own.
func (p *Pool) progress(m *nats.Msg) {
	d := reader{b: m.Data}
	id, token := d.text(), d.word()
	from, n := d.int(), d.int()
	p.mu.Lock()
	e := p.calls[string(id)]
	p.mu.Unlock()
	if d.bad || e == nil || from+n > e.Len() || !e.Direct() {
		return
	}
	items := reader{b: d.b}
	for range n {
		items.item()
	}
	if items.bad {
		return
	}
	e.step.Lock()
	defer e.step.Unlock()
	p.mu.Lock()
	valid := !e.over && e.state == recRunning && e.token == token
	p.mu.Unlock()
	if valid && from <= e.ahead && from+n > e.ahead && p.completeItems(e, from, from+n, d.b) {
		e.ahead = from + n
	}
}

func (p *Pool) completeOne(e *call, c *codec, i int, flags uint8, data []byte) {
	returned := false
	defer func() {
		if !returned { // decoding it has ended the goroutine, which is none but its own
			e.Fail(i, remote.DecodeError(e, remote.ErrGoexit))
		}
	}()
	err := c.results.Read(wire.Frame{Header: wire.Header{Flags: flags}, Payload: data}, func(v *wire.Value) error {
		_ = e.Complete(i, v) // what fails is the item's error
		return nil
	})
	returned = true
	if err != nil {
		e.Fail(i, remote.DecodeError(e, err))
	}
}

// outcomes returns the items of a final record.
func (l *link) outcomes(id string, r *record) ([]byte, error) {
	if !r.blob {
		return r.items, nil
	}
	b, err := l.getBlob(string(r.items))
	if err != nil {
		return nil, fmt.Errorf("the result of call %s could not be read from the object store: %w", id, err)
	}
	return b, nil
}
