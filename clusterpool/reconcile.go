package clusterpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"example.com/futures/executor"
)

// The client is the owner of its calls. As long as it lives it asks the servers, now and
// then and whenever the connection was lost, what they know of each call of which nothing
// was heard for a while. So no lost message and no lost server leaves a future waiting for
// ever:
//
//	record      task      what the client does
//	final       any       ends the call
//	running     there     nothing: it is delivered again if its worker is lost
//	running     missing   with retries puts it into the queue again; or else ends it as lost
//	none        there     nothing: it waits
//	none        missing   likewise; but while the first try to queue it is not answered that
//	                      goes on, unless the servers have lost something since
//
// Missing means twice in a row, by the leaders of the streams: the first look may have
// come between the ack of a task and its record, or to a leader of yesterday.

// idleConsumer is how long the servers keep what pushes records to a client that is gone, or
// that has made itself another one. Until then it shows in listings (pitfall 10).
const idleConsumer = time.Minute

const (
	mostChecks = 256 // calls that are looked at in a round for which nothing has happened
	checkers   = 32  // at a time
)

// The streams, by the index that the pool knows them by.
const (
	taskStream = iota
	stateStream
)

func (p *Pool) reconnected() {
	if !p.linked.Load() {
		return // it is only being made
	}
	p.pub.mistrust()
	p.pub.hurry()
	p.mu.Lock()
	for _, w := range p.peers {
		w.heard = time.Now() // nobody could be heard
	}
	p.mu.Unlock()
	p.doubt()
}

// doubt has reconcile look whether the streams are what they were.
func (p *Pool) doubt() {
	p.mu.Lock()
	p.suspect = true
	p.mu.Unlock()
	p.checkSoon()
}

// connection counts the connections that there were. What arrives by one of the same number
// comes from servers that have lost nothing since, unless they have lost it among them.
func (p *Pool) connection() uint64 { return p.nc.Stats().Reconnects }

// certain reports whether the streams are those that e was sent to, so that no record of e
// was lost: then its absence means that e has not started. mu is held.
func (p *Pool) certain(e *call) bool {
	now := p.connection()
	kept := !p.lossAt.After(e.sentAt)
	return e.conn == now && (kept || !p.lostUnder) || p.inspected == now && kept
}

// known reports whether it is known by now what certain reports. mu is held.
func (p *Pool) known(e *call) bool { return p.inspected == p.connection() || p.certain(e) }

// kept is certain, and waits until that is known, though not for long.
func (p *Pool) kept(e *call) bool {
	ctx, cancel := context.WithTimeout(p.base, apiPatience)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.nc.IsConnected() {
			if p.known(e) {
				return p.certain(e)
			}
		}
		if p.wait(ctx) != nil {
			return false
		}
	}
}

// checkSoon has reconcile begin a round.
func (p *Pool) checkSoon() {
	select {
	case p.check <- struct{}{}:
	default:
	}
}

// highest notes that a stream has had the sequence number seq.
func (p *Pool) highest(stream int, seq uint64) {
	for {
		old := p.seen[stream].Load()
		if seq <= old || p.seen[stream].CompareAndSwap(old, seq) {
			return
		}
	}
}

func (p *Pool) reconcile() {
	period := min(p.cfg.Lease/2, 2*time.Second)
	tick := time.NewTicker(period)
	defer tick.Stop()
	var last time.Time
	for {
		soon := false
		select {
		case <-tick.C:
		case <-p.check:
			soon = true
		case <-p.quit:
			return
		}
		if !p.nc.IsConnected() {
			continue
		}
		if soon { // several at a time are one
			if wait := 50*time.Millisecond - time.Since(last); wait > 0 {
				select {
				case <-time.After(wait):
				case <-p.quit:
					return
				}
			}
		}
		last = time.Now()
		p.round()
	}
}

// round looks at all that may be wrong.
func (p *Pool) round() {
	p.missPeers()
	p.mu.Lock()
	suspect := p.suspect
	p.suspect = false // what comes to be doubted from now on is looked at in the next round
	p.mu.Unlock()
	if suspect {
		if err := p.inspect(); err != nil {
			p.log.Warn("clusterpool: looking at the streams again", "err", err)
			p.doubt()
			return
		}
	}
	wait := min(keepLeases*p.cfg.Lease, p.cfg.KeepResults) / 2
	p.mu.Lock()
	due := p.gens.due(wait)
	p.mu.Unlock()
	for _, g := range due {
		p.sweep(g)
	}
	p.mu.Lock()
	names := p.gens.release(wait, keepLeases*p.cfg.Lease, p.cfg.KeepResults+2*time.Second)
	p.mu.Unlock()
	var left []string
	for _, g := range append(p.unpurged, names...) {
		if !p.purge(g) {
			left = append(left, g) // in the next round: the servers may be away
		}
	}
	p.unpurged = left
	p.checkCalls(suspect)
}

// inspect looks whether the streams are what they were, makes them if they are gone, and
// follows records anew if they are others: the one that follows them goes by sequence
// numbers, and would wait for one that is far off (pitfall 9).
func (p *Pool) inspect() error {
	ctx, cancel := context.WithTimeout(p.base, 5*time.Second)
	defer cancel()
	began, conn := time.Now(), p.connection()
	made, err := p.streams(ctx, &p.cfg)
	if err != nil {
		return err
	}
	lost, anew := false, false
	for i, name := range []string{p.tasks(), p.state()} {
		seen := p.seen[i].Load() // before it is asked, since others come meanwhile
		s, err := p.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		p.mu.Lock()
		other := !made[i].Equal(p.made[i])
		p.mu.Unlock()
		if last := s.CachedInfo().State.LastSeq; other || last < seen {
			lost = true
			anew = anew || i == stateStream
			p.seen[i].Store(last)
		}
	}
	p.mu.Lock()
	if lost {
		p.lossAt, p.lostUnder = time.Now(), p.inspected == conn
	}
	p.made, p.inspected = made, conn
	p.wake()
	p.mu.Unlock()
	if lost {
		p.pub.distrust()
		p.log.Warn("clusterpool: the servers have lost records or calls", "pool", p.cfg.Name)
	}
	if !lost {
		p.pub.trust(began, conn)
	}
	if !anew {
		return nil
	}
	if err := p.watch(ctx, true); err != nil {
		p.mu.Lock()
		p.suspect = true // nothing follows the records that are to come
		p.mu.Unlock()
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The stream counts from one again: what a record says is news although one with a
	// higher number was carried out.
	for _, e := range p.calls {
		e.seq, e.taskSeq = 0, 0
	}
	for _, as := range p.attached {
		for _, a := range as {
			a.seq = 0
		}
	}
	return nil
}

// sweep removes the tasks that calls of a generation have left in the queue although they
// have ended.
func (p *Pool) sweep(g *generation) {
	ctx, cancel := context.WithTimeout(p.base, 5*time.Second)
	defer cancel()
	began := time.Now()
	s, err := p.js.Stream(ctx, p.tasks())
	if err != nil {
		return // in the next round
	}
	in, err := s.Info(ctx, jetstream.WithSubjectFilter(p.generationTasks(p.cfg.Client, g.name)))
	if err != nil {
		return
	}
	var left []string // of calls that had ended before the servers were asked, or since
	p.mu.Lock()
	for subject := range in.State.Subjects {
		if id, err := taskID(subject); err == nil && p.calls[id] == nil {
			left = append(left, subject)
		}
	}
	p.mu.Unlock()
	for _, subject := range left {
		m, found, err := p.last(ctx, p.tasks(), subject)
		if err == nil && found {
			err = p.removeTask(ctx, m.seq)
		}
		if err != nil {
			return
		}
	}
	p.mu.Lock()
	g.swept, g.gone = began, time.Now()
	p.mu.Unlock()
}

// purge lets go of the records of a generation, and reports whether they are gone.
func (p *Pool) purge(generation string) bool {
	ctx, cancel := context.WithTimeout(p.base, apiPatience)
	defer cancel()
	s, err := p.js.Stream(ctx, p.state())
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(p.generation(p.cfg.Client, generation)))
	}
	if err != nil {
		p.log.Debug("clusterpool: letting go of old records", "err", err)
	}
	return err == nil
}

// checkCalls looks at calls of which nothing was heard for a while, or at all.
func (p *Pool) checkCalls(all bool) {
	now := time.Now()
	patience := 2 * p.cfg.Lease
	var calls []*call
	var attached []*attachment
	p.mu.Lock()
	for _, e := range p.calls {
		quiet := now.Sub(e.heard)
		if e.sent && (e.wanted || e.missing > 0 || all || quiet > patience && len(calls) < mostChecks) {
			calls = append(calls, e)
		}
	}
	for _, as := range p.attached {
		for _, a := range as {
			if all || now.Sub(a.heard) > patience || a.missing > 0 {
				attached = append(attached, a)
			}
		}
	}
	p.mu.Unlock()
	p.each(calls, p.checkCall)
	var group errgroup.Group
	group.SetLimit(checkers)
	for _, a := range attached {
		group.Go(func() error {
			if err := p.lookAfter(p.base, a, false); err != nil {
				a.reject(err)
			}
			return nil
		})
	}
	_ = group.Wait() // nil
}

// checkCall looks at one.
func (p *Pool) checkCall(e *call) {
	p.mu.Lock()
	wanted, over := e.wanted, e.over
	if wanted && !p.known(e) { // Withdraw would wait for this goroutine
		p.mu.Unlock()
		return
	}
	e.wanted = false
	worker, cause := e.worker, e.cause
	p.mu.Unlock()
	if over {
		return
	}
	if wanted && e.Context().Err() != nil { // who has called Cancel was told that it is not
		if e.Cancel(context.Cause(e.Context())) {
			return
		}
	}
	r, found, err := p.lastRecord(p.base, e.id)
	if isStreamGone(err) {
		p.doubt()
	}
	if err != nil {
		return // later
	}
	if found {
		p.carryOut(e, &r)
		if r.kind != recRunning {
			return
		}
		if cause != nil && worker == r.worker {
			p.tell(e, worker) // it may not have heard
		}
	}
	task, there, err := p.last(p.base, p.tasks(), p.task(classOf(e.Priority()), p.cfg.Build, e.id))
	if err != nil {
		return
	}
	if !there && !found { // it was done between the two looks, perhaps
		if r, found, err = p.lastRecord(p.base, e.id); err != nil {
			return
		}
		if found {
			p.carryOut(e, &r)
			return
		}
	}
	p.mu.Lock()
	if there && !found && e.acked && e.Retries() == 0 && p.known(e) && !p.certain(e) {
		p.mu.Unlock()
		p.giveUp(e, errBrokerLost) // the task is there, and its record was lost, if it had one
		return
	}
	if there {
		e.missing, e.heard, e.taskSeq = 0, time.Now(), task.seq
		fade := !e.blobAt.IsZero() && time.Since(e.blobAt) > p.cfg.KeepResults
		p.mu.Unlock()
		if fade {
			p.keepBlob(e)
		}
		return
	}
	e.missing++
	missing, acked, pub := e.missing, e.acked, e.pub
	over = e.over || e.sentAt.IsZero()
	p.mu.Unlock()
	switch {
	case over:
	case missing < 2:
		p.checkSoon()
	case !acked && p.pub.has(pub):
		// Its first message is still on its way: the publisher sees to that.
	case e.Retries() > 0:
		p.enqueueAgain(e)
	default:
		p.giveUp(e, errBrokerLost)
	}
}

var errBrokerLost = errors.New("the servers have lost the call, and whether it has started cannot be known")

// enqueueAgain puts a call that may run twice into the queue once more.
func (p *Pool) enqueueAgain(e *call) {
	p.mu.Lock()
	e.again++
	e.acked, e.missing = false, 0
	e.sentAt = time.Time{}
	p.pub.drop(e.pub)
	first := p.begun(e) // perhaps: so it cannot be cancelled as one that never did
	p.mu.Unlock()
	if first {
		e.Start()
		p.observe(e, executor.Event{Kind: executor.EventStart, Items: e.Len()})
	}
	p.log.Info("clusterpool: a call was lost by the servers, and is queued again", "call", e.id, "task", e.Task())
	if e.Direct() {
		p.send(e)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		returned := false
		defer func() {
			if !returned {
				e.fail(fmt.Errorf("clusterpool: task %q: encoding the argument once more: runtime.Goexit was called", e.Task()))
			}
		}()
		p.send(e)
		returned = true
	}()
	select {
	case <-done:
	case <-time.After(apiPatience): // others go on
	}
}
