package clusterpool

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A publisher stores messages in streams, many at a time, and sees each one through: it is
// sent again until the servers have said what became of it.
//
// That answer may be lost, and then the message was perhaps stored. Sent again, one with a
// message ID is answered as before. But a conditional one is then refused, for the last
// record is not the one that it names: it is itself (pitfall 2). So who is refused reads the
// record and looks whose it is.
type publisher struct {
	nc    *nats.Conn
	inbox string // with a dot at the end
	sub   *nats.Subscription
	log   *slog.Logger
	quit  chan struct{} // closed by close
	doubt func()        // told that something waits for trust; nil: nobody gives any
	ended sync.WaitGroup

	mu        sync.Mutex // guards the fields below; nothing is called under it
	closed    bool
	next      uint64
	unused    []uint64 // IDs for which no answer can be on its way any more
	pending   map[uint64]*publication
	trusted   time.Time // see trust
	trustedBy uint64    // the connection by which that was seen
}

// A publication is a message on its way to a stream.
type publication struct {
	msg    *nats.Msg
	reject bool      // a stream that is full is an answer; otherwise it is tried until there is room
	until  time.Time // given up then; zero: never
	done   func(ack)

	// once: it must not be stored twice, and the streams forget what they were sent if they
	// are lost. So it is sent again only when they have not been since it was sent.
	// bound: it makes no sense for others than those that it was sent to.
	once, bound bool

	id      uint64
	out     bool   // it may have been stored
	buffer  bool   // it waits, or has waited, in the connection's buffer
	copies  int    // that were sent and not answered; the buffer's is one
	retired bool   // see retire
	tries   int    // sends by which it may have been stored, at least 1
	conn    uint64 // connections that were lost before it was sent, if tries is 1
	first   time.Time
	sent    time.Time // the last time
	again   time.Time // when it is sent again
	failed  time.Duration
}

// An ack is what the servers say of a message.
type ack struct {
	conn  uint64 // by which connection, or an earlier one, if tries is 1
	again bool   // it was sent again: the servers were away, or did not answer in time
	seq   uint64 // in the stream
	tries int    // 1: it was sent once, since which the servers may have had it
	sent  time.Time
	err   error // errSequence, errFull, or another reason to give up
}

var (
	errSequence = errors.New("clusterpool: another record came first")
	errFull     = errors.New("clusterpool: the stream is full")
	errClosed   = errors.New("clusterpool: the connection was closed")
)

const (
	ackPatience  = 3 * time.Second        // after which a message is sent again
	resendPeriod = 100 * time.Millisecond // between two looks for such
	longestPause = time.Second
)

func newPublisher(nc *nats.Conn, log *slog.Logger, doubt func()) (*publisher, error) {
	p := &publisher{nc: nc, inbox: nc.NewInbox() + ".", log: log, doubt: doubt, quit: make(chan struct{}), pending: map[uint64]*publication{}}
	var err error
	if p.sub, err = nc.Subscribe(p.inbox+"*", p.answered); err != nil {
		return nil, err
	}
	if err := p.sub.SetPendingLimits(-1, -1); err != nil { // as many as were sent
		return nil, err
	}
	p.ended.Go(p.resend) // ends by close
	return p, nil
}

// publish sends msg, and calls done once, from a goroutine that others wait for, when its
// fate is known. It does not wait. The publisher owns msg from now on.
func (p *publisher) publish(msg *nats.Msg, reject bool, done func(ack)) {
	p.begin(&publication{msg: msg, reject: reject, done: done})
}

// store is publish, and waits for the answer, or for patience to pass.
func (p *publisher) store(msg *nats.Msg, patience time.Duration) ack {
	return p.await(&publication{msg: msg}, patience)
}

// await is store.
func (p *publisher) await(pub *publication, patience time.Duration) ack {
	answer := make(chan ack, 1)
	pub.done, pub.until = func(a ack) { answer <- a }, time.Now().Add(patience)
	p.begin(pub)
	return <-answer
}

// begin is publish.
func (p *publisher) begin(pub *publication) {
	now, conn := time.Now(), p.nc.Stats().Reconnects
	pub.conn, pub.tries, pub.out, pub.first, pub.sent, pub.again = conn, 1, true, now, now, now.Add(ackPatience)
	pub.copies = 1
	msg := pub.msg
	p.mu.Lock()
	if p.closed || pub.retired {
		p.mu.Unlock()
		pub.done(ack{err: errClosed})
		return
	}
	// An ID that was answered is used again, so that the servers know the subject.
	id := uint64(0)
	if n := len(p.unused); n > 0 {
		id = p.unused[n-1]
		p.unused = p.unused[:n-1]
	} else {
		p.next++
		id = p.next
	}
	pub.id = id
	msg.Reply = p.inbox + strconv.FormatUint(id, 36)
	p.pending[id] = pub
	p.mu.Unlock()
	down := !p.nc.IsConnected()
	if err := p.nc.PublishMsg(msg); err != nil {
		p.fail(pub, err)
	} else if down && !p.nc.IsConnected() { // it waits for a connection, in a buffer
		p.notOut(pub)
	}
}

// notOut notes that a message that was sent once cannot have been stored yet: it will be by
// the next connection.
func (p *publisher) notOut(pub *publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending[pub.id] == pub && pub.tries == 1 {
		pub.out = false
		pub.buffer = true
		pub.conn++
	}
}

// drop gives a message up, if it is still on its way. It may have been stored. Nobody is
// told. Of nil it does nothing.
func (p *publisher) drop(pub *publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pub != nil && p.pending[pub.id] == pub { // the ID may be another's by now
		delete(p.pending, pub.id)
	}
}

// retire says that the call of a message has ended: it is not sent again, for streams that do
// not have it would not know that. Of nil it does nothing.
func (p *publisher) retire(pub *publication) {
	if pub == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pub.retired, pub.until = true, time.Now().Add(ackPatience)
}

// fail says that a message could not even be sent: either never, or not now.
func (p *publisher) fail(pub *publication, err error) {
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) || errors.Is(err, nats.ErrConnectionClosed) {
		p.settle(pub.id, ack{err: err}, false)
	}
	// Otherwise the connection is down and its buffer is full: resend will come.
	p.notOut(pub)
}

// stored reports whether the message may have been stored already, as of the connection conn:
// it was sent, or it waited in the buffer, and a connection that is gone may have sent it from
// there.
func (pub *publication) stored(conn uint64) bool { return pub.out || pub.buffer && conn > pub.conn }

// tooOld reports whether a message that must not be stored twice is too old to be sent again:
// the servers know one that they had before for two minutes only.
func (pub *publication) tooOld(now time.Time) bool {
	return pub.once && pub.out && now.Sub(pub.first) > duplicates/2
}

// has reports whether a message is on its way, and is sent again if need be.
func (p *publisher) has(pub *publication) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pub != nil && p.pending[pub.id] == pub && !pub.tooOld(time.Now())
}

// mistrust takes back what trust has said: the connection is another one.
func (p *publisher) mistrust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trusted = time.Time{}
}

// trust says that nothing that was stored before now has been lost, as has been seen by the
// connection conn.
func (p *publisher) trust(now time.Time, conn uint64) {
	p.mu.Lock()
	p.trusted, p.trustedBy = now, conn
	p.mu.Unlock()
	p.sendWhere(func(pub *publication, _ time.Time) bool { return (pub.once || pub.bound) && pub.sent.Before(now) })
}

// distrust says that the streams have lost what was stored. What cannot be sent again is
// dropped: it is for its owner to say what becomes of it.
func (p *publisher) distrust() {
	var awaited []uint64
	p.mu.Lock()
	maps.DeleteFunc(p.pending, func(id uint64, pub *publication) bool {
		lost := pub.once && pub.out || pub.bound
		if lost && !pub.until.IsZero() {
			awaited = append(awaited, id)
			return false
		}
		return lost
	})
	p.mu.Unlock()
	for _, id := range awaited {
		p.settle(id, ack{err: errNoBroker}, false)
	}
}

// denied ends what was to be published under a subject that is not this program's.
func (p *publisher) denied(subject string, why error) {
	var ids []uint64
	p.mu.Lock()
	for id, pub := range p.pending {
		if pub.msg.Subject == subject {
			ids = append(ids, id)
		}
	}
	p.mu.Unlock()
	for _, id := range ids {
		p.settle(id, ack{err: why}, false)
	}
}

// settle ends a publication, which was answered or was not.
func (p *publisher) settle(id uint64, a ack, answered bool) {
	p.mu.Lock()
	pub := p.pending[id]
	delete(p.pending, id)
	if pub != nil && answered && pub.copies == 1 { // no other answer can come
		p.unused = append(p.unused, id)
	}
	p.mu.Unlock()
	if pub != nil {
		a.tries, a.conn, a.sent = pub.tries, pub.conn, pub.sent
		a.again = pub.tries > 1 || pub.buffer || pub.failed > 0
		pub.done(a)
	}
}

// answered hears what the servers say.
func (p *publisher) answered(m *nats.Msg) {
	id, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, p.inbox), 36, 64)
	if err != nil {
		return
	}
	a, again := parseAck(m)
	if again || errors.Is(a.err, errFull) {
		p.mu.Lock()
		pub := p.pending[id]
		if pub != nil && (again || !pub.reject) {
			if pub.copies--; pub.copies == 0 && pub.tries == 1 {
				pub.out = false
			}
			pub.failed = min(2*pub.failed+10*time.Millisecond, longestPause)
			pub.again = time.Now().Add(pub.failed)
			gone := again && pub.failed == longestPause // a new leader is there sooner
			p.mu.Unlock()
			if gone && p.doubt != nil {
				p.doubt()
			}
			return
		}
		p.mu.Unlock()
	}
	p.settle(id, a, true)
}

// parseAck returns what an answer says, or that it is to be tried again: nobody listens
// at the moment, or the servers are about to agree on who does.
func parseAck(m *nats.Msg) (a ack, again bool) {
	if len(m.Data) == 0 {
		return a, true // no responders
	}
	if !bytes.Contains(m.Data, []byte(`"error"`)) {
		if _, rest, ok := bytes.Cut(m.Data, []byte(`"seq":`)); ok {
			for _, c := range bytes.TrimLeft(rest, " ") {
				if c < '0' || c > '9' {
					break
				}
				a.seq = 10*a.seq + uint64(c-'0')
			}
			if a.seq > 0 {
				return a, false
			}
		}
	}
	var r struct {
		Error *jetstream.APIError `json:"error"`
		Seq   uint64              `json:"seq"`
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return ack{err: err}, false
	}
	switch e := r.Error; {
	case e == nil:
		return ack{seq: r.Seq}, false
	case e.ErrorCode == 10071:
		return ack{err: errSequence}, false
	case e.ErrorCode == 10077 || e.ErrorCode == 10023 || e.ErrorCode == 10028 || e.ErrorCode == 10047:
		// The stream's limit, or the account's or the server's memory or disk.
		return ack{err: errFull}, false
	case e.Code >= 500 || e.ErrorCode == 10158 || e.ErrorCode == 10164:
		// The last two: the same message, or one of the same subject, was sent before, and
		// the servers have yet to agree on it.
		return a, true
	default:
		return ack{err: e}, false
	}
}

// resend sends what was not answered again.
func (p *publisher) resend() {
	tick := time.NewTicker(resendPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.quit:
			return
		}
		p.sendWhere(func(pub *publication, now time.Time) bool { return now.After(pub.again) })
		p.expire()
	}
}

// expire gives up what was to be given up by now.
func (p *publisher) expire() {
	now := time.Now()
	var over []uint64
	p.mu.Lock()
	for id, pub := range p.pending {
		if !pub.until.IsZero() && now.After(pub.until) {
			over = append(over, id)
		}
	}
	p.mu.Unlock()
	for _, id := range over {
		p.settle(id, ack{err: errNoBroker}, false)
	}
}

// hurry sends all that was not answered again at once: the connection is another one.
func (p *publisher) hurry() {
	p.sendWhere(func(*publication, time.Time) bool { return true })
}

func (p *publisher) sendWhere(due func(*publication, time.Time) bool) {
	if !p.nc.IsConnected() {
		return
	}
	now, conn := time.Now(), p.nc.Stats().Reconnects
	doubtful := false
	var msgs []*nats.Msg
	p.mu.Lock()
	for _, pub := range p.pending {
		switch {
		case !due(pub, now), pub.retired, pub.tooOld(now):
		case (pub.once && pub.stored(conn) || pub.bound) && !(p.trustedBy == conn && p.trusted.After(pub.sent)):
			doubtful = true
		default:
			if pub.stored(conn) {
				pub.tries++
			}
			pub.conn = conn
			pub.copies++
			pub.out, pub.sent, pub.again = true, now, now.Add(ackPatience)
			msgs = append(msgs, pub.msg)
		}
	}
	p.mu.Unlock()
	if doubtful && p.doubt != nil {
		p.doubt()
	}
	for _, m := range msgs {
		if err := p.nc.PublishMsg(m); err != nil {
			return // it is down again
		}
	}
}

// close gives up what was not answered.
func (p *publisher) close() {
	close(p.quit)
	p.ended.Wait()
	_ = p.sub.Unsubscribe() // fails if the connection is closed
	p.mu.Lock()
	p.closed = true
	ids := slices.Collect(maps.Keys(p.pending))
	p.mu.Unlock()
	for _, id := range ids {
		p.settle(id, ack{err: errClosed}, false)
	}
}
