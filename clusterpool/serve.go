package clusterpool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/futures/executor"
	"example.com/futures/processpool"
)

// Serve makes this program a worker of the pool that cfg names: it takes calls from the
// queue and runs them, as many at a time as it has slots, until ctx ends. The program has the
// tasks, by [executor.NewTask], of those that submit them, and has called worker.Main if its
// calls are isolated. The servers must be there at first; when they go away later, or no
// program has made the pool's streams yet, it waits for them.
//
// When ctx ends, Serve takes no more calls and waits for those that run, for as long as the
// Grace of cfg. What goes on then is interrupted; calls with retries are given back to the
// queue, and another worker runs them, without a retry being used up.
//
// Errors: nil after ctx has ended. A field of cfg that makes no sense; servers that cannot
// be reached at first, or refuse the credentials; a [*executor.BrokenError] if there can be no
// worker processes any more, as when their Initializer fails: the calls in hand are given back;
// calls that go on in this process although they were interrupted, of which Serve does not wait
// for the end.
func Serve(ctx context.Context, cfg ServeConfig) error {
	if err := cfg.prepare(); err != nil {
		return err
	}
	s := &server{cfg: cfg, attempts: map[*attempt]struct{}{}, byID: map[string]*attempt{}, quit: make(chan struct{}), next: make(chan *attempt), broken: make(chan error, 1)}
	s.free = cfg.Slots
	if cfg.Isolate != nil {
		iso, err := processpool.New(*cfg.Isolate)
		if err != nil {
			return fmt.Errorf("clusterpool: ServeConfig.Isolate: %w", err)
		}
		s.iso = iso
		defer iso.Close()
	}
	denied := new(denials)
	nc, err := connect(ctx, cfg.URL, "worker "+cfg.Worker, cfg.Logger, s.quit, s.reconnected, denied, cfg.Options)
	if err != nil && ctx.Err() != nil {
		return nil // it has ended before there was anything to do
	}
	if err != nil {
		return err
	}
	defer nc.Close()
	if s.link, err = newLink(nc, cfg.Name, cfg.Logger, denied, nil); err != nil {
		return err
	}
	s.linked.Store(true)
	s.mu.Lock()
	s.conn = nc.Stats().Reconnects
	s.mu.Unlock()
	defer s.pub.close()
	return s.serve(ctx)
}

// A server is a worker: its half of the conversation.
//
// It asks each class's consumer for as many calls as it has free slots, not for one more:
// what it held would wait for it, while another worker is idle, and its lease would run. So
// when calls of several classes come at once it is given too many, and gives those back.
type server struct {
	cfg ServeConfig
	link
	iso    *processpool.Pool    // nil: calls run here
	subs   []*nats.Subscription // of calls
	open   sync.WaitGroup       // those of subs by which something may still come
	inbox  string
	quit   chan struct{} // closed when nothing is left to do
	broken chan error    // holds one: why no calls can be run any more
	next   chan *attempt // for goroutines that have nothing to do
	side   sync.WaitGroup
	tokens atomic.Uint64
	linked atomic.Bool // link is there

	// mu guards the fields below. It is not held while anybody else's code runs, or
	// during requests.
	mu       sync.Mutex
	ready    bool               // there are consumers
	made     [classes]time.Time // when they were made
	draining bool
	free     int // slots
	queues   [classes]queue
	attempts map[*attempt]struct{} // what is in hand, to the last answer of the servers
	byID     map[string]*attempt   // those that run, for interrupts
	running  int                   // taken slots
	idle     chan struct{}         // closed when nothing is in hand; nil: nobody waits
	conn     uint64                // connections that were lost
	upset    time.Time             // when something was last lost: see late
	beat     time.Time             // when keep was last seen to run
	asks     uint64
}

func (s *server) serve(ctx context.Context) error {
	s.inbox = s.nc.NewInbox()
	for c := range class(classes) {
		sub, err := s.nc.Subscribe(s.inbox+"."+c.String()+".*", func(m *nats.Msg) { s.deliver(c, m) })
		if err != nil {
			return fmt.Errorf("clusterpool: %w", err)
		}
		s.open.Add(1)
		sub.SetClosedHandler(func(string) { s.open.Done() })
		s.subs = append(s.subs, sub)
	}
	if _, err := s.nc.Subscribe(s.control(s.cfg.Worker), s.interrupt); err != nil {
		return fmt.Errorf("clusterpool: %w", err)
	}
	if _, err := s.nc.Subscribe(s.asked(s.cfg.Worker), func(m *nats.Msg) {
		if s.has(string(m.Data), nil) {
			_ = m.Respond([]byte("+"))
		} else {
			_ = m.Respond([]byte("-"))
		}
	}); err != nil {
		return fmt.Errorf("clusterpool: %w", err)
	}
	if _, err := s.nc.Subscribe(s.hello(), func(*nats.Msg) { s.greet(false) }); err != nil {
		return fmt.Errorf("clusterpool: %w", err)
	}
	s.mu.Lock()
	s.beat = time.Now()
	s.mu.Unlock()
	s.side.Go(s.keep)                                        // ends with quit
	if err := s.begin(ctx); err != nil && ctx.Err() == nil { // it has waited for the streams
		close(s.quit)
		s.side.Wait()
		return err
	}
	s.greet(false)
	for _, stream := range []string{s.tasks(), s.state()} { // what is mostly asked after a fault only: is it permitted?
		_ = s.nc.PublishRequest("$JS.API.STREAM.MSG.GET."+stream, s.inbox, []byte(`{"seq":1}`))
	}
	err := s.permitted(ctx)
	if !errors.Is(err, nats.ErrPermissionViolation) { // servers that do not answer now will
		select {
		case <-ctx.Done():
			err = nil
		case err = <-s.broken:
		}
	}
	if derr := s.drain(err); err == nil {
		err = derr
	}
	return err
}

// begin waits until there are consumers, and asks for calls.
func (s *server) begin(ctx context.Context) error {
	said := false
	for {
		try, stop := s.denied.during(ctx, "")
		try, cancel := context.WithTimeout(try, 5*time.Second)
		made, err := s.consumers(try, &s.cfg)
		err = s.denied.explainUnder(ctx, err)
		cancel()
		stop()
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.made != ([classes]time.Time{}) {
				s.upset = time.Now()
			}
			s.ready = true
			for a := range s.attempts {
				if made != s.made {
					a.stale = true // it may be another call that has its number by now
				} else { // the servers that were away may think that its time is up
					s.answer(a.reply, "+WPI")
				}
			}
			s.made = made
			s.ask()
			return nil
		}
		if errors.Is(err, nats.ErrPermissionViolation) {
			return err
		}
		if !said {
			s.log.Info("clusterpool: waiting for the pool's streams", "worker", s.cfg.Worker, "err", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.quit:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// deliver takes a message of a class's consumer: a call, or why there is none.
func (s *server) deliver(c class, m *nats.Msg) {
	if status := m.Header.Get("Status"); status != "" && len(m.Data) == 0 {
		s.status(c, status, m)
		return
	}
	d, err := parseDelivery(m.Reply)
	if err != nil {
		s.log.Warn("clusterpool: a call", "subject", m.Subject, "err", err)
		return
	}
	s.mu.Lock()
	q := &s.queues[c]
	q.take(1, 0)
	q.backlog = d.pending
	if s.draining || s.free == 0 {
		s.mu.Unlock()
		s.answer(m.Reply, "-NAK")
		return
	}
	s.free--
	s.running++
	a := &attempt{server: s, reply: m.Reply, subject: m.Subject, delivery: d, body: m.Data, header: m.Header}
	a.id, a.err = taskID(m.Subject)
	s.attempts[a] = struct{}{}
	s.ask() // for what a request that is over has left
	s.mu.Unlock()
	select {
	case s.next <- a:
	default:
		go s.work(a) // ends with quit; there are at most twice as many as slots
	}
}

// taskID returns the ID of the call whose task has this subject.
func taskID(subject string) (string, error) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 7 {
		return "", fmt.Errorf("clusterpool: a call under the subject %q", subject)
	}
	id := strings.Join(tokens[4:], ".")
	return id, checkID(id)
}

// again makes the consumers once more: the servers have none. mu is held.
func (s *server) again() {
	s.upset = time.Now()
	if !s.ready || s.draining {
		return
	}
	s.ready = false
	s.side.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if err := s.begin(ctx); err != nil { // it ends with quit
			s.log.Error("clusterpool: the worker takes no more calls", "worker", s.cfg.Worker, "err", err)
			s.breakDown(err) // with the credentials that it has
		}
	})
}

// reconnected asks again for everything: a request that was under way is lost with the
// connection.
func (s *server) reconnected() {
	if !s.linked.Load() {
		return // it is only being made
	}
	s.pub.hurry()
	s.mu.Lock()
	s.conn, s.upset = s.nc.Stats().Reconnects, time.Now()
	for c := range s.queues {
		s.queues[c].forget()
		s.queues[c].backlog = 0
	}
	s.again() // they may be gone with the servers' memory
	s.mu.Unlock()
	s.greet(false)
}

// answer answers the delivery, unless the servers have lost it, or nobody knows.
func (a *attempt) answer(reply, what string) {
	a.server.mu.Lock()
	defer a.server.mu.Unlock()
	if a.ready && !a.stale && a.nc.IsConnected() { // what waits for a connection goes to who knows whom
		a.server.answer(reply, what)
	}
}

// answer answers a delivery. Such an answer may get lost: then the call is delivered again.
func (s *server) answer(reply, what string) { _ = s.nc.Publish(reply, []byte(what)) }

// keep keeps the leases of what is in hand, from a goroutine of its own, whatever calls do;
// the lease runs from delivery on (pitfall 6). And it looks for requests that got lost.
func (s *server) keep() {
	period := s.cfg.Lease / 3
	tick := time.NewTicker(period)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-tick.C:
		case <-s.quit:
			return
		}
		now := time.Now()
		frozen := now.Sub(last) > s.cfg.Lease
		last = now
		var replies []string
		var held []*attempt
		s.mu.Lock()
		if elapsed(s.beat) > 2*period {
			s.upset = now
		}
		s.beat = now
		for a := range s.attempts {
			if s.ready && !a.stale {
				replies = append(replies, a.reply)
			}
			held = append(held, a)
		}
		for c := range s.queues {
			s.queues[c].lose(now)
		}
		s.ask()
		s.mu.Unlock()
		if frozen { // others may have taken over what this worker had
			for _, a := range held {
				s.side.Go(a.lookWhose)
			}
		}
		for _, r := range replies {
			s.answer(r, "+WPI")
		}
		s.greet(false)
	}
}

// late reports whether a delivery in hand may be from before something was lost: by another
// connection, from consumers that were made anew since, or before this process stood still.
// Within a lease after any of these, all may: they wait in the memory of the connection, or
// here.
func (s *server) late() bool {
	conn := s.nc.Stats().Reconnects
	s.mu.Lock()
	defer s.mu.Unlock()
	return conn != s.conn || !s.ready || time.Since(s.upset) < s.cfg.Lease || elapsed(s.beat) > 2*s.cfg.Lease/3
}

// elapsed is time.Since, also of time in which the machine was suspended.
func elapsed(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// greet says that this worker is there, or that it goes: then nothing else any more, whoever
// asks, or it would be missed after its end.
func (s *server) greet(bye bool) {
	host, _ := os.Hostname() // only a label
	s.mu.Lock()
	defer s.mu.Unlock() // until it is on its way: no greeting overtakes the last one
	b, err := json.Marshal(greeting{
		Worker: s.cfg.Worker, Host: host, PID: os.Getpid(), Slots: s.cfg.Slots, Build: s.cfg.Build, Lease: s.cfg.Lease, Bye: bye || s.draining,
	})
	if err == nil {
		_ = s.nc.Publish(s.presence(s.cfg.Worker), b)
	}
}

// interrupt ends the context of a call.
func (s *server) interrupt(m *nats.Msg) {
	i, ok := parseInterruption(m.Data)
	if !ok {
		return
	}
	s.mu.Lock()
	a := s.byID[i.id]
	if a == nil { // its client has heard of the claim before this worker has
		for b := range s.attempts {
			if b.id == i.id {
				b.early = &i
			}
		}
	}
	s.mu.Unlock()
	if a != nil {
		go a.interrupt(i.deadline, executor.DecodeError(i.cause)) // the task's own code may hear of it
	}
}

// done frees the slot of an attempt that has ended.
func (s *server) done(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[a.id] == a {
		delete(s.byID, a.id)
	}
	s.free++
	s.running--
	s.rested()
	s.ask()
}

// has reports whether a call is in hand, by another attempt than except.
func (s *server) has(id string, except *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.attempts {
		if a != except && a.id == id {
			return true
		}
	}
	return false
}

// drop forgets an attempt: the servers know what became of it, or it is none of this
// worker's any more.
func (s *server) drop(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attempts, a)
	s.rested()
}
