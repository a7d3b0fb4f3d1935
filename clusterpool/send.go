package clusterpool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// maxValue is how large an encoded argument or result may be, as in a process pool.
const maxValue = 1 << 30

// What the values of a task travel by, each message for itself: any worker may be the one
// that reads it.
type codec struct {
	args, results wire.Wholes
	signature     uint64
}

var codecs sync.Map // of *codec, by the name of the task

func codecOf(task string) *codec {
	if c, ok := codecs.Load(task); ok {
		return c.(*codec)
	}
	c := new(codec)
	if fn, ok := executor.Lookup(task); ok {
		c.signature = hashed(fn.Signature())
	} else {
		return c // there may be one later
	}
	kept, _ := codecs.LoadOrStore(task, c)
	return kept.(*codec)
}

func hashed(signature string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, signature)
	return h.Sum64()
}

// dispatch sends e: here and now, or by the sender if to encode it runs anybody else's code,
// which can panic, hang or end the goroutine, or if others wait for the sender.
func (p *Pool) dispatch(e *call) {
	if e.Direct() {
		p.sending.Lock()
		p.mu.Lock()
		waits := p.sender
		p.mu.Unlock()
		if !waits {
			defer p.sending.Unlock()
			p.send(e)
			return
		}
		p.sending.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toSend = append(p.toSend, e)
	if !p.sender {
		p.sender = true
		go p.sendAll() // ends when nothing is left to send
	}
}

// encodePatience is how long the calls behind one wait while it is encoded.
const encodePatience = 20 * time.Millisecond

// sendAll sends what dispatch has left to it, in order, but for calls whose encoding takes
// long: others go past them.
func (p *Pool) sendAll() {
	for {
		p.mu.Lock()
		if len(p.toSend) == 0 {
			p.toSend = nil
			p.sender = false
			p.mu.Unlock()
			return
		}
		e := p.toSend[0]
		p.toSend[0] = nil
		p.toSend = p.toSend[1:]
		p.mu.Unlock()
		sent := make(chan struct{})
		go func() { // ends with the encoding, which is the user's own
			returned := false
			defer close(sent)
			defer func() {
				if !returned { // it has ended this goroutine; its panics are errors
					e.fail(remote.EncodeError(e, remote.ErrGoexit))
				}
			}()
			p.send(e)
			returned = true
		}()
		timer := time.NewTimer(encodePatience)
		select {
		case <-sent:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// send encodes e and puts it into the queue.
func (p *Pool) send(e *call) {
	if body, ok := p.encode(e); ok {
		p.enqueue(e, body)
	}
}

// encode returns the message of e. If that is false e has failed, or is cancelled.
func (p *Pool) encode(e *call) (body []byte, ok bool) {
	c := codecOf(e.Task())
	h := head{
		task: e.Task(), signature: c.signature, timeout: e.Timeout(), retries: e.Retries(),
		keep: p.cfg.KeepResults, items: e.Len(), packed: true,
	}
	if d, ok := e.Context().Deadline(); ok {
		h.deadline = max(d.UnixNano(), 1)
	}
	b := h.append(make([]byte, 0, 128+8*e.Len()))
	b, n := e.PackPlain(b, 0, e.Len(), maxValue)
	if n == e.Len() {
		return b, true
	}
	h.packed = false
	b = h.append(b[:0])
	absent := 0
	for i := range e.Len() {
		err := c.args.Message(maxValue, func(enc *wire.Encoder) error { return e.Encode(i, enc) }, func(payload wire.Payload, flags uint8) {
			b = append(b, itemPresent, flags)
			b = binary.AppendUvarint(b, uint64(payload.Len()))
			b = append(b, payload.Bytes()...)
		})
		switch {
		case err == nil:
			continue
		case errors.Is(err, future.ErrCancelled) && e.IsDone():
			return nil, false
		}
		b = append(b, itemAbsent)
		absent++
		e.Fail(i, remote.EncodeError(e, err))
	}
	return b, absent < e.Len()
}

// What an argument begins with, unless all are packed: one that could not be encoded is
// left out, and its flags and length with it.
const (
	itemAbsent  = 0
	itemPresent = 1
)

// enqueue puts e into the queue. A message that is too large goes to the object store first,
// and its call behind those that come meanwhile.
func (p *Pool) enqueue(e *call, body []byte) {
	p.mu.Lock()
	if e.over || e.withdrawn {
		p.mu.Unlock()
		return
	}
	e.sent = true
	p.mu.Unlock()
	if len(body) <= p.inline() {
		p.publishTask(e, body, false)
		return
	}
	go func() { // ends when it is there, or cannot be: there is a limit
		if err := p.putBlob(e.id, body); err != nil {
			e.fail(fmt.Errorf("clusterpool: task %q: an argument of %d bytes, which is over the servers' limit for a message, could not be put into the object store: %w", e.Task(), len(body), err))
			return
		}
		h, _, err := parseHead(body)
		if err != nil {
			e.fail(err)
			return
		}
		p.mu.Lock()
		e.blobAt = time.Now()
		over := e.over
		p.mu.Unlock()
		if over { // meanwhile
			p.deleteBlob(e.id)
			return
		}
		h.blob = true
		p.publishTask(e, h.append(nil), true)
	}()
}

// keepBlob puts the argument of a call that has waited for long into the object store again,
// which keeps it for a time only.
func (p *Pool) keepBlob(e *call) {
	p.mu.Lock()
	e.blobAt = time.Now()
	p.mu.Unlock()
	go func() { // ends when it is there, or cannot be: there is a limit. To encode it may take its own time
		body, ok := p.encode(e)
		if ok {
			if err := p.putBlob(e.id, body); err != nil {
				p.log.Warn("clusterpool: keeping a large argument", "call", e.id, "err", err)
			}
		}
	}()
}

// publishTask publishes the message of e. The servers drop a second one of the same message
// ID for two minutes, so it may be sent again; one that was lost later needs another ID.
func (p *Pool) publishTask(e *call, body []byte, blob bool) {
	now := time.Now()
	p.mu.Lock()
	if e.over {
		p.mu.Unlock()
		return
	}
	msgID := e.id
	if e.again > 0 {
		msgID = fmt.Sprintf("%s.%d", e.id, e.again)
	}
	if e.sentAt.IsZero() {
		e.sentAt, e.conn = now, p.connection()
	}
	e.heard = now
	p.mu.Unlock()
	m := &nats.Msg{
		Subject: p.task(classOf(e.Priority()), p.cfg.Build, e.id),
		Header:  nats.Header{jetstream.MsgIDHeader: {msgID}},
		Data:    body,
	}
	if p.cfg.Inject != nil {
		p.cfg.Inject(e.Context(), func(k, v string) { m.Header.Set(k, v) })
	}
	pub := &publication{
		msg: m, reject: p.cfg.RejectWhenFull && !e.WaitsForRoom(), done: func(a ack) { p.enqueued(e, a) },
		once: e.Retries() == 0, bound: blob,
	}
	p.mu.Lock()
	if e.over { // while Inject ran
		p.mu.Unlock()
		return
	}
	e.pub = pub
	p.mu.Unlock()
	p.pub.begin(pub)
}

// enqueued hears what the servers say of the message of e.
func (p *Pool) enqueued(e *call, a ack) {
	p.mu.Lock()
	p.leaveWindow(e)
	e.acked, e.taskSeq, e.heard = a.err == nil, a.seq, time.Now()
	e.pub = nil
	if a.err == nil && a.tries == 1 { // so no streams before these have had it
		e.sentAt, e.conn = a.sent, a.conn
	}
	withdrawn := e.withdrawn
	p.mu.Unlock()
	p.highest(taskStream, a.seq)
	switch {
	case a.err == nil && withdrawn:
		p.deleteTask(a.seq)
	case a.err == nil:
	case errors.Is(a.err, errFull):
		e.fail(executor.ErrQueueFull)
	default:
		e.fail(fmt.Errorf("clusterpool: task %q could not be queued: %w", e.Task(), a.err))
	}
}
