package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/futures/executor"
)

// An attempt is a delivery of a call to this worker, and what it makes of it:
//
//	claim the call's record ─▶ run its items ─▶ make the outcome the record ─▶ ack the task
//
// Up to the ack the servers deliver the task again whenever this worker is silent for longer
// than its lease. The record decides what that is worth: see record.
type attempt struct {
	*server
	id       string
	err      error // the delivery makes no sense
	reply    string
	delivery delivery
	body     []byte
	header   nats.Header
	subject  string
	stale    bool // the servers have lost the delivery; guarded by server.mu

	head  head
	args  []byte
	fn    executor.Function
	codec *codec

	ctx      *callContext // of the call; made once it is claimed
	cancel   context.CancelCauseFunc
	end      func()      // lets go of ctx
	deadline atomic.Bool // the caller's context has passed its deadline

	// What runs is a worker goroutine's own.
	begun bool
	runs  bool
	since time.Time // since when the items run
	items []argument
	next  int           // the first that has not begun
	outs  []byte        // the outcomes of those that are done, one after another
	early *interruption // that came before ctx was made; guarded by the server's mu

	mu     sync.Mutex // guards the fields below, while items run
	rec    record     // the last that this attempt has made
	told   told
	back   atomic.Bool
	fenced atomic.Bool // the record is somebody else's
}

// work makes attempts, the first of them a, until none comes any more. A task that ends the
// goroutine ends its item alone: another goroutine goes on where it was.
func (s *server) work(a *attempt) {
	defer func() {
		if a != nil {
			go s.work(a)
		}
	}()
	for a != nil {
		if !a.begun {
			a.begun = true
			a.runs = a.begin()
		}
		if a.runs {
			a.run()
			a.end()
		}
		s.done(a)
		select {
		case a = <-s.next:
		case <-s.quit:
			a = nil
		}
	}
}

// begin prepares the call to run. If that is false, the attempt is over.
func (a *attempt) begin() bool {
	if !a.read() || !a.claim() {
		return false
	}
	a.open()
	a.server.mu.Lock()
	a.byID[a.id] = a
	early := a.early
	a.server.mu.Unlock()
	if a.back.Load() { // giveBack has come before
		a.interrupt(false, executor.ErrShutdown)
	}
	var err error
	if early != nil {
		a.interrupt(early.deadline, executor.DecodeError(early.cause))
	}
	if a.head.blob {
		var b []byte
		if b, err = a.getBlob(a.id); err == nil {
			_, a.args, err = parseHead(b)
		}
		if err != nil {
			err = fmt.Errorf("clusterpool: task %q: the argument could not be read from the object store: %w", a.head.task, err)
		}
	}
	if err == nil {
		err = a.unpack()
	}
	if err != nil {
		a.end()
		a.failAll(err)
		return false
	}
	return true
}

// run runs what is left of the call, and ends it.
func (a *attempt) run() {
	ok := true
	if a.since.IsZero() {
		a.since = time.Now()
	}
	if a.iso != nil {
		ok = a.isolated()
	} else {
		a.runHere()
	}
	outs := a.endProgress()
	a.rec.ran = time.Since(a.since)
	switch {
	case a.fenced.Load():
		a.drop(a)
	case !ok || a.back.Load() && a.head.retries > 0 && !complete(outs, a.head.items):
		a.handBack()
	default:
		a.finish(outs)
	}
}

// spent reports whether item i must not begin again, though others of its chunk may: its
// worker processes have died before, and now the worker that had it.
func (a *attempt) spent(i int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rec.takeovers > 0 && a.rec.runs(i) > a.head.retries
}

// complete reports whether all items have come to a value: then there is nothing to begin
// again.
func complete(outs []byte, items int) bool {
	d := reader{b: outs}
	for range items {
		if o, _, _ := d.item(); d.bad || o != outValue {
			return false
		}
	}
	return true
}

// unknownTries is how often a call is given back by workers without its task, or with one of
// other types, before one of them says so to the caller. There may be others, of another
// build: with 24 tries, in some 7 s, a call is failed wrongly once in 15,000 times if only one
// of three workers has its task.
const unknownTries = 24

// read takes the message apart and finds the task. If that is false, the attempt is over.
func (a *attempt) read() bool {
	if a.err != nil {
		a.log.Error("clusterpool: a call that does not make sense", "err", a.err)
		a.answer(a.reply, "+TERM")
		a.drop(a)
		return false
	}
	var err error
	if a.head, a.args, err = parseHead(a.body); err != nil {
		a.head = head{items: 1, keep: defaultKeep}
		a.unfit(err)
		return false
	}
	a.body = nil
	fn, ok := executor.Lookup(a.head.task)
	switch {
	case !ok:
		a.unfit(fmt.Errorf("clusterpool: no task %q in the program of worker %s: make it in a package variable, with what submits it", a.head.task, a.cfg.Worker))
		return false
	case a.head.signature != 0 && a.head.signature != codecOf(a.head.task).signature:
		a.unfit(fmt.Errorf("clusterpool: task %q is %s in the program of worker %s and has other types in the program that submits it", a.head.task, fn.Signature(), a.cfg.Worker))
		return false
	}
	a.fn, a.codec = fn, codecOf(a.head.task)
	return true
}

// unfit has another worker try, or says why none will do.
func (a *attempt) unfit(why error) {
	if a.delivery.times < unknownTries {
		a.later(20 * time.Millisecond << min(a.delivery.times, 4))
		return
	}
	a.failAll(why)
}

// later gives the call back for d.
func (a *attempt) later(d time.Duration) {
	a.answer(a.reply, fmt.Sprintf(`-NAK {"delay": %d}`, d))
	a.drop(a)
}

// open makes the call's context.
func (a *attempt) open() {
	ctx := context.Background()
	if a.cfg.Extract != nil {
		ctx = a.cfg.Extract(ctx, a.header.Get)
	}
	stop := context.CancelFunc(func() {})
	if a.head.deadline != 0 {
		ctx, stop = context.WithDeadline(ctx, time.Unix(0, a.head.deadline))
	}
	ctx, a.cancel = context.WithCancelCause(ctx)
	a.ctx = &callContext{ctx, &a.deadline}
	a.end = func() {
		a.cancel(nil)
		stop()
	}
}

// interrupt ends the call's context with cause.
func (a *attempt) interrupt(deadline bool, cause error) {
	if deadline {
		a.deadline.Store(true)
	}
	a.cancel(cause)
}

// A callContext is a context that may have been cancelled because the caller's own has
// passed its deadline, which this one has as well: it says so, however their clocks differ.
type callContext struct {
	context.Context
	deadline *atomic.Bool
}

func (c *callContext) Err() error {
	err := c.Context.Err()
	if err != nil && c.deadline.Load() {
		return context.DeadlineExceeded
	}
	return err
}

// within returns c with a time limit.
func (c *callContext) within(d time.Duration) (*callContext, context.CancelFunc) {
	ctx, stop := context.WithTimeoutCause(c.Context, d, executor.ErrTimeout)
	return &callContext{ctx, c.deadline}, stop
}

// giveBack is what the end of the worker does to the call: its context ends, and if it may
// run again, another worker runs it.
func (a *attempt) giveBack() {
	a.back.Store(true)
	a.server.mu.Lock()
	running := a.byID[a.id] == a
	a.server.mu.Unlock()
	if running {
		go a.interrupt(false, executor.ErrShutdown)
	}
}

// errFenced is why a call is interrupted whose record is somebody else's.
var errFenced = errors.New("clusterpool: this worker was silent for longer than its lease, and another one has the call")

// lookWhose interrupts the call if its record is somebody else's by now: its outcome would
// be refused.
func (a *attempt) lookWhose() {
	a.server.mu.Lock()
	running := a.byID[a.id] == a
	a.server.mu.Unlock()
	if !running {
		return
	}
	r, found, err := a.lastRecord(context.Background(), a.id)
	if err == nil && found && (r.kind != recRunning || r.token != a.tokenNow()) {
		a.fence()
	}
}

func (a *attempt) tokenNow() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rec.token
}

func (a *attempt) fence() {
	a.fenced.Store(true)
	go a.interrupt(false, errFenced)
}

// again makes the record say that item is begun once more, since its process died, and
// reports whether it may be.
func (a *attempt) again(item int, lost error, retry bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rec.lost++
	if !retry || a.rec.runs(item) >= a.head.retries || a.fenced.Load() {
		return false
	}
	r := a.rec
	r.losses = nil
	there := false
	for _, l := range a.rec.losses {
		if l.item == item {
			l.times++
			there = true
		}
		r.losses = append(r.losses, l)
	}
	if !there {
		r.losses = append(r.losses, loss{item, 1})
	}
	r.retried++
	r.token = a.token()
	r.why = executor.EncodeError(lost)
	k := a.pub.store(a.recordMsg(a.id, &r, a.rec.seq, 0), a.cfg.Lease)
	if errors.Is(k.err, errSequence) {
		if last, found, err := a.lastRecord(context.Background(), a.id); err == nil && found && last.token == r.token {
			k = ack{seq: last.seq}
		} else {
			a.fence()
		}
	}
	if k.err != nil {
		return false
	}
	r.seq = k.seq
	a.rec = r
	return true
}
