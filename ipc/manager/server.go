package manager

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"example.com/futures/ipc"
)

// A server has the objects, and a guest for each of its clients.
//
// An object lives as long as somebody counts it: a client that has a hold, a datum in another
// object that names it, a call that runs, a proxy that travels. Who counts it no more may have
// a thing's mutex held, and so the object is dropped by another goroutine.
type server struct {
	id    managerID
	limit int64
	log   *slog.Logger
	gate  *gate          // nil: nobody can come but by a socket that was handed over
	wg    sync.WaitGroup // of all goroutines
	over  chan struct{}  // closed by close

	// mu guards the fields below, and guest.held. It is not held during I/O, and no thing is
	// called under it. Lock order: that of a thing, then server.mu.
	mu      sync.Mutex
	objects map[uint64]*entry
	last    uint64 // number of an object
	names   map[string]*entry
	guests  map[*guest]struct{}
	tokens  map[token]*travel
	running int           // calls
	idle    chan struct{} // closed when none runs; nil: nobody asks. No new ones then
	doomed  []*entry
	reaping bool
	closed  bool
	self    *conn // this process's own; nil: not yet

	selfMu sync.Mutex // held by who makes self. Before mu
}

// An entry is an object.
type entry struct {
	id    uint64
	thing thing
	name  string // of the type
	count int    // who counts it
	names []string
}

func newServer(cfg *Config) *server {
	s := &server{
		limit: cfg.MaxMessage, log: cfg.Logger, over: make(chan struct{}),
		objects: map[uint64]*entry{}, names: map[string]*entry{}, guests: map[*guest]struct{}{}, tokens: map[token]*travel{},
	}
	_, _ = rand.Read(s.id[:]) // it does not fail
	return s
}

// listen serves who comes to g, which the server owns.
func (s *server) listen(g *gate) {
	s.gate = g
	s.wg.Go(func() { // ends with the gate
		for {
			c, err := g.accept()
			if err != nil {
				return
			}
			s.admit(c, nil)
		}
	})
}

// admit serves a client that is who it should be. ended, if it is not nil, is called when it
// has gone.
func (s *server) admit(raw io.ReadWriteCloser, ended func()) { s.welcome(newGuest(s, raw), ended) }

func (s *server) welcome(p *guest, ended func()) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = p.raw.Close()
		if ended != nil {
			ended()
		}
		return
	}
	defer s.mu.Unlock()
	s.guests[p] = struct{}{}
	s.wg.Go(func() { // ends with the connection
		p.serve()
		if ended != nil {
			ended()
		}
	})
}

// close ends the server. It may be called again, and returns when nothing is left.
func (s *server) close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	guests := make([]*guest, 0, len(s.guests))
	for p := range s.guests {
		guests = append(guests, p)
	}
	self, drained := s.self, s.idle != nil
	var travels []*travel
	for _, t := range s.tokens {
		travels = append(travels, t)
	}
	s.mu.Unlock()
	if !first {
		s.wg.Wait()
		return
	}
	close(s.over)
	if s.gate != nil {
		_ = s.gate.close()
	}
	if drained {
		sent(guests)
	}
	for _, p := range guests {
		_ = p.raw.Close()
	}
	for _, t := range travels {
		t.end()
	}
	if self != nil {
		self.close()
	}
	s.wg.Wait()
	s.mu.Lock()
	for _, e := range s.objects { // those in a circle
		s.doom(e)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// sentTime is how long a server that has drained waits until its last answers are written.
const sentTime = time.Second

// sent waits until what guests were answered is written.
func sent(guests []*guest) {
	var wg sync.WaitGroup
	for _, p := range guests {
		wg.Go(func() { // ends with the connection at the latest
			_ = p.out.alone(func(before []byte) error {
				if len(before) == 0 {
					return nil
				}
				_, err := p.raw.Write(before)
				return err
			})
		})
	}
	all := make(chan struct{})
	go func() { // likewise
		wg.Wait()
		close(all)
	}()
	t := time.NewTimer(sentTime)
	defer t.Stop()
	select {
	case <-all:
	case <-t.C:
	}
}

// ownConn returns the connection of this process by which methods have their proxies.
func (s *server) ownConn(ctx context.Context) (*conn, error) {
	s.selfMu.Lock()
	defer s.selfMu.Unlock()
	if s.self != nil {
		return s.self, nil
	}
	c, err := s.connect(ctx, true)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.self = c
	closed := s.closed
	s.mu.Unlock()
	if closed {
		c.close()
		return nil, ErrLost
	}
	return c, nil
}

// connect makes a connection in this process.
func (s *server) connect(ctx context.Context, methods bool) (*conn, error) {
	raw, err := s.local(methods)
	if err != nil {
		return nil, err
	}
	c, err := newConn(ctx, raw, s.limit)
	if err != nil {
		return nil, err
	}
	c.owned, c.serve = true, s
	atlas.add(c)
	return c, nil
}

// use finds an object for a call of p, and counts it until done. A call by a proxy that was being
// closed may come after the last hold was given back.
func (s *server) use(p *guest, id uint64, op uint8) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.objects[id]
	switch {
	case s.idle != nil && !p.methods && !(e != nil && endsWaits(e.thing, op)):
		return nil, ipc.ErrClosed
	case p.held[id] == 0:
		return nil, ipc.ErrClosed
	case e == nil:
		return nil, errGone
	}
	e.count++
	s.running++
	return e, nil
}

// done ends what use, or begin, has begun.
func (s *server) done(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e != nil {
		s.less(e, 1)
	}
	s.running--
	s.settled()
}

// begin is use for a call of the manager itself.
func (s *server) begin(p *guest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil && !p.methods {
		return ipc.ErrClosed
	}
	s.running++
	return nil
}

// settled tells who waits for the end of all calls. mu is held.
func (s *server) settled() {
	if s.idle != nil && s.running == 0 {
		select {
		case <-s.idle:
		default:
			close(s.idle)
		}
	}
}

// drain returns a channel that is closed when no call is under way. New ones are refused, but for
// those of methods that are under way, and those that others may wait for, see endsWaits.
func (s *server) drain() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = make(chan struct{})
		s.settled()
	}
	return s.idle
}

// leave takes back all holds of p, which has gone.
func (s *server) leave(p *guest) {
	s.mu.Lock()
	p.left.Store(true)
	delete(s.guests, p)
	things := make([]thing, 0, len(s.objects))
	for _, e := range s.objects {
		things = append(things, e.thing)
	}
	s.mu.Unlock()
	for _, t := range things {
		t.gone(&p.client)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held := p.held
	p.held = nil
	for id, n := range held {
		if e := s.objects[id]; e != nil {
			s.less(e, int(n))
		}
	}
}

// publish gives an object of p's a name.
func (s *server) publish(p *guest, name string, id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.has(p, id); err != nil {
		return err
	}
	e := s.objects[id]
	if s.names[name] != nil {
		return fs.ErrExist
	}
	s.names[name] = e
	e.names = append(e.names, name)
	return nil
}

// lookup finds an object by its name, and counts it.
func (s *server) lookup(name string) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.names[name]
	if e == nil {
		return nil, fs.ErrNotExist
	}
	e.count++
	return e, nil
}

// A token stands for an object that travels.
type token [16]byte

// A travel is an object on its way to another process.
type travel struct {
	object uint64
	end    func() // at once
}

// depart counts an object as travelling under a token that who sends it knows, until arrive.
func (s *server) depart(t token, id uint64, end func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.objects[id]
	switch {
	case s.closed:
		return ErrLost
	case e == nil:
		return errGone
	case s.tokens[t] != nil:
		return errBadRequest
	}
	e.count++
	s.tokens[t] = &travel{id, end}
	return nil
}

// arrive ends that.
func (s *server) arrive(t token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tr := s.tokens[t]
	if tr == nil {
		return
	}
	delete(s.tokens, t)
	if e := s.objects[tr.object]; e != nil {
		s.less(e, 1)
	}
}

// claim counts the object of a token once more.
func (s *server) claim(t token) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tr := s.tokens[t]
	if tr == nil {
		return 0, errors.New("manager: the proxy has been on its way for too long")
	}
	e := s.objects[tr.object]
	if e == nil {
		return 0, errGone
	}
	e.count++
	return e.id, nil
}

// ticketTime is how long a proxy may be on its way where its sender cannot be asked.
const ticketTime = time.Minute

// numbers is what there is, for tests.
type numbers struct{ objects, counts, names, guests, tokens, running int }

func (s *server) stat() (n numbers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = numbers{len(s.objects), 0, len(s.names), len(s.guests), len(s.tokens), s.running}
	for _, e := range s.objects {
		n.counts += e.count
	}
	return n
}
