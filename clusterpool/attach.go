package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"
	"weak"

	"github.com/nats-io/nats.go/jetstream"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/promise"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// ID returns the ID of the call that f is of: who knows it can [Attach] to the call, also
// from another program or machine, also when this one has ended. It is "" for a future that
// is not of a call of a Pool. The ID of a call is no secret that protects it.
func ID[T any](f *future.Future[T]) string {
	if id, ok := attachedIDs.Load(weak.Make(f)); ok {
		return id.(string)
	}
	c, ok := promise.OwnerOf((*promise.Cell[T])(f).Core()).(interface {
		executor.Call
		Host() executor.Host
	})
	if !ok {
		return ""
	}
	if _, ours := c.Host().(host); !ours { // others assign a call to whom they like, at any time
		return ""
	}
	return c.Assigned().(*call).id
}

// attachedIDs has the ID of each future that Attach has returned and that is in use, by a
// weak pointer to it.
var attachedIDs sync.Map

// An attachment is a future of a call that was submitted elsewhere, or before.
type attachment struct {
	id       string
	carryOut func(*record)
	reject   func(error)
	stop     func() // stops following its records, if it is another client's; may be nil; does not wait

	// The pool's mu guards the fields below.
	conn      uint64    // by which connection it was made: see Pool.connection
	made      time.Time // when
	seq       uint64
	heard     time.Time
	missing   int
	worker    string
	cancelled bool // its record says so
	asked     bool // the servers were asked to cancel it, and have not answered
}

// Attach returns a future of the call with this ID, which was submitted by any program,
// this one included, on a pool of the same name. It is done when the call is, and as the
// call is: at once, if the outcome is still kept. Cancel and Interrupt of it are those of the
// call. ctx is for attaching alone: if it ends before the servers have answered, the future
// is rejected with its cause.
//
// Errors, through the future: an ID that is none; a call of which the servers know nothing,
// since it never was, or its outcome is not kept any more; a result that is no R;
// executor.ErrShutdown if p is shut down first.
func Attach[R any](ctx context.Context, p *Pool, id string) *future.Future[R] {
	pr := future.NewPromise[R]()
	f := pr.Future()
	if err := checkID(id); err != nil {
		_ = pr.Reject(err)
		return f
	}
	if err := wire.CheckType(reflect.TypeFor[R]()); err != nil {
		_ = pr.Reject(fmt.Errorf("clusterpool: Attach: %w", err))
		return f
	}
	key := weak.Make(f)
	attachedIDs.Store(key, id)
	runtime.AddCleanup(f, func(key weak.Pointer[future.Future[R]]) { attachedIDs.Delete(key) }, key)

	a := &attachment{id: id, made: time.Now(), heard: time.Now()}
	var once sync.Once
	end := func(fn func()) {
		once.Do(func() {
			p.detach(a)
			fn()
		})
	}
	a.reject = func(err error) { end(func() { _ = pr.Reject(err) }) }
	a.carryOut = func(r *record) {
		if !p.attachmentHeard(a, r) {
			return
		}
		switch r.kind {
		case recRunning:
			pr.Start()
		case recCancelled:
			cause := error(nil)
			if len(r.items) > 0 {
				cause = executor.DecodeError(r.items)
			}
			end(func() { // cancelled, as Cancel has it: who cancels it at this moment is answered true
				p.mu.Lock()
				a.cancelled = true
				asked := a.asked
				p.mu.Unlock()
				if asked { // so it was perhaps by this attachment
					p.removeSoon(id)
				}
				callbacks, _ := (*promise.Cell[R])(f).Core().Cancel(promise.CancelledError(cause))
				callbacks.Go()
			})
		case recDone:
			pr.Start()
			done := *r
			go end(func() { // to decode may take long, and run somebody else's code
				var v R
				err := fmt.Errorf("clusterpool: Attach: decoding the result of call %s: %w", id, remote.ErrGoexit)
				defer func() { // also if decoding it has ended the goroutine
					if err != nil {
						_ = pr.Reject(err)
					} else {
						_ = pr.Resolve(v)
					}
				}()
				v, err = decodeOutcome[R](p, id, &done)
			})
		}
	}
	pr.OnCancel(func() bool { return p.cancelAttached(a) })
	pr.OnInterrupt(func(cause error) { p.interruptAttached(a, cause) })
	p.attach(ctx, a)
	return f
}

// decodeOutcome returns what the call with this ID has come to.
func decodeOutcome[R any](p *Pool, id string, r *record) (v R, err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("clusterpool: Attach: decoding the result of call %s: %w", id, &executor.PanicError{Value: x, Stack: debug.Stack()})
		}
	}()
	items, err := p.outcomes(id, r)
	if err != nil {
		return v, err
	}
	d := reader{b: items}
	kind := d.peekKind()
	o, flags, data := d.item()
	switch {
	case d.bad:
		return v, errRecord
	case len(d.b) > 0:
		return v, fmt.Errorf("clusterpool: Attach: call %s is a chunk of a map, of which a future cannot be made", id)
	case o == outError, o == outRest:
		return v, executor.DecodeError(data)
	case o == outSkipped:
		return v, promise.CancelledError(nil)
	}
	box := new(wire.Box[R])
	if k := wire.PlainOf(reflect.TypeFor[R]()); flags == wire.FlagPlain && k != kind && unsafe.Sizeof(box.V) > 0 {
		err = fmt.Errorf("it is of kind %v", reflect.Kind(kind))
	} else if flags == wire.FlagPlain {
		err = wire.DecodePlain(data, k, unsafe.Pointer(&box.V))
	} else {
		var whole wire.Wholes
		err = whole.Decode(wire.Frame{Header: wire.Header{Flags: flags}, Payload: data}, boxed(box))
	}
	if err != nil {
		return v, fmt.Errorf("clusterpool: Attach: the result of call %s as %v: %w", id, reflect.TypeFor[R](), err)
	}
	return box.V, nil
}

// boxed returns what is decoded into for b.
func boxed[T any](b *wire.Box[T]) any {
	if unsafe.Sizeof(b.V) == 0 {
		return new(wire.Unit)
	}
	return b
}

// attach has a hear of its call.
func (p *Pool) attach(ctx context.Context, a *attachment) {
	p.mu.Lock()
	stopping := p.stopping
	a.conn = p.connection()
	if !stopping {
		p.attached[a.id] = append(p.attached[a.id], a)
	}
	p.mu.Unlock()
	if stopping {
		a.reject(executor.ErrShutdown)
		return
	}
	if client, _, _ := strings.Cut(a.id, "."); client != p.cfg.Client { // ours are pushed anyway
		if err := p.follow(ctx, a); err != nil {
			a.reject(err)
			return
		}
	}
	if err := p.lookAfter(ctx, a, true); err != nil {
		a.reject(err)
	}
}

// follow has the records of another client's call pushed.
func (p *Pool) follow(ctx context.Context, a *attachment) error {
	try, cancel := p.denied.during(ctx, p.state())
	defer cancel()
	c, err := p.js.OrderedConsumer(try, p.state(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{p.record(a.id)}, DeliverPolicy: jetstream.DeliverAllPolicy,
		MaxResetAttempts: -1, InactiveThreshold: idleConsumer,
	})
	var following jetstream.ConsumeContext
	if err == nil {
		following, err = c.Consume(func(m jetstream.Msg) { p.receive(m.Subject(), m.Reply(), m.Data()) })
	}
	if err != nil {
		return fmt.Errorf("clusterpool: Attach: following call %s: %w", a.id, p.denied.explainUnder(ctx, err))
	}
	// Stop waits while the consumer is being made anew, which takes 20 s where there is no
	// quorum: nobody waits for it. It ends with the try that is under way, at the latest some
	// 20 s later, or when the connection is closed.
	stop := func() { go following.Stop() }
	p.mu.Lock()
	a.stop = stop
	there := slices.Contains(p.attached[a.id], a)
	p.mu.Unlock()
	if !there {
		stop() // it was over before
	}
	return nil
}

// lookAfter asks for the last record of a, and whether it waits in the queue if there is
// none. If there is neither, twice in a row or at first, there is nothing to wait for.
func (p *Pool) lookAfter(ctx context.Context, a *attachment, first bool) error {
	r, found, err := p.lastRecord(ctx, a.id)
	if err != nil {
		if first {
			return fmt.Errorf("clusterpool: Attach: call %s: %w", a.id, causeOf(ctx, err))
		}
		return nil // later
	}
	if found {
		a.carryOut(&r)
		return nil
	}
	_, found, err = p.last(ctx, p.tasks(), p.anyTask(a.id))
	if err != nil || found {
		if err != nil && first {
			return fmt.Errorf("clusterpool: Attach: call %s: %w", a.id, causeOf(ctx, err))
		}
		p.mu.Lock()
		a.missing, a.heard = 0, time.Now()
		p.mu.Unlock()
		return nil
	}
	if r, found, err = p.lastRecord(ctx, a.id); err == nil && found { // it was done between the looks
		a.carryOut(&r)
		return nil
	}
	p.mu.Lock()
	_, ours := p.calls[a.id] // on its way to the queue, perhaps; reconcile looks after it
	a.missing++
	gone := !ours && (first || a.missing > 1)
	p.mu.Unlock()
	if err != nil || !gone {
		return nil
	}
	return fmt.Errorf("clusterpool: the servers know nothing of call %s: it never was, its outcome is not kept any more, or it was lost with them", a.id)
}

// attachmentHeard notes that a was told r, and reports whether it is news.
func (p *Pool) attachmentHeard(a *attachment, r *record) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.kind == recRunning && r.seq <= a.seq {
		return false
	}
	a.seq, a.heard, a.missing = r.seq, time.Now(), 0
	if r.worker != "" {
		a.worker = r.worker
	}
	return true
}

func (p *Pool) detach(a *attachment) {
	p.mu.Lock()
	var left []*attachment
	for _, b := range p.attached[a.id] {
		if b != a {
			left = append(left, b)
		}
	}
	if p.attached[a.id] = left; len(left) == 0 {
		delete(p.attached, a.id)
	}
	stop := a.stop
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// cancelAttached is Withdraw for a call of somebody else: that learns it by the record.
func (p *Pool) cancelAttached(a *attachment) bool {
	p.mu.Lock()
	cancelled := a.cancelled
	since := call{conn: a.conn, sentAt: a.made}
	p.mu.Unlock()
	if cancelled {
		return true
	}
	// Streams that have lost something since do not say that it has not started.
	if !p.kept(&since) {
		return false
	}
	msg := p.recordMsg(a.id, &record{kind: recCancelled}, 0, p.cfg.KeepResults)
	k := p.pub.await(&publication{msg: msg, bound: true}, apiPatience)
	if errors.Is(k.err, errSequence) {
		if r, found, err := p.lastRecord(p.base, a.id); err == nil && found {
			if r.kind == recCancelled { // by this attachment before, whose answer was lost, or by another
				k.err = nil
			} else {
				a.carryOut(&r)
			}
		}
	}
	if k.err == nil {
		p.detach(a)
		if p.removeCancelled(a.id) != nil {
			p.removeSoon(a.id)
		}
		return true
	}
	p.mu.Lock()
	a.asked = !errors.Is(k.err, errSequence)
	cancelled = a.cancelled // by what was pushed meanwhile
	p.mu.Unlock()
	if cancelled {
		p.removeSoon(a.id)
	}
	return cancelled
}

// removeCancelled deletes the task of a call whose record says that it is cancelled, wherever
// it is in the queue. Its client may be gone, and the record goes after a time: whoever came
// across the task then would start it.
func (p *Pool) removeCancelled(id string) error {
	m, found, err := p.last(p.base, p.tasks(), p.anyTask(id))
	if err != nil || !found {
		return err
	}
	return p.removeTask(p.base, m.seq)
}

// removeTries is how often removeSoon tries.
const removeTries = 10

// removeSoon is removeCancelled for who does not wait: it tries again where the servers do
// not say that it is done.
func (p *Pool) removeSoon(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing { // and side is waited for
		return
	}
	p.side.Go(func() { // ends with quit
		var err error
		for n := range removeTries {
			if err = p.removeCancelled(id); err == nil {
				return
			}
			select {
			case <-p.quit:
				return
			case <-time.After(100 * time.Millisecond << min(n, 6)):
			}
		}
		p.log.Warn("clusterpool: a cancelled call is still in the queue", "call", id, "err", err)
	})
}

func (p *Pool) interruptAttached(a *attachment, cause error) {
	p.mu.Lock()
	worker := a.worker
	p.mu.Unlock()
	if worker != "" {
		m := interruption{id: a.id, cause: executor.EncodeError(cause)}
		_ = p.nc.Publish(p.control(worker), m.append(nil))
	}
}

// rejectAttached ends the futures that Attach has returned.
func (p *Pool) rejectAttached(err error) {
	p.mu.Lock()
	var all []*attachment
	for _, as := range p.attached {
		all = append(all, as...)
	}
	p.mu.Unlock()
	for _, a := range all {
		a.reject(err)
	}
}
