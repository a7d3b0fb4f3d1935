package manager

import (
	"bytes"
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	maxUnproven             = 1024             // peers that have not proved themselves; the oldest makes room
	quotaKey                = 8 << 10          // bytes that such a peer may send
	quotaCertificates       = 32 << 10         // the same, where it has to send certificates
	defaultHandshakeTimeout = 10 * time.Second // for a peer to prove itself
	lingerTime              = time.Second      // for a peer that was refused to read so
	backoffMin, backoffMax  = 5 * time.Millisecond, time.Second
)

// A session is a connection to a peer that has proved itself. Of a TLS connection the embedded
// Conn is the *tls.Conn, else the system's own.
type session struct {
	net.Conn
	raw  net.Conn // the system's own. Closing it ends Conn at once, whoever writes to it
	peer string   // who it is, for logs
}

// terms are what a Config comes to at one address.
type terms struct {
	network, addr string
	file          bool   // a unix socket in the file system
	secret        []byte // of the key; nil without one
	timeout       time.Duration
	log           *slog.Logger
}

func newTerms(network, addr string, cfg Config) (terms, error) {
	t := terms{network: network, addr: addr, timeout: cfg.HandshakeTimeout, log: cfg.Logger}
	switch network {
	case "tcp", "tcp4", "tcp6":
	case "unix":
		if addr == "" {
			return t, errors.New("a unix socket needs a path or an abstract name")
		}
		t.file = !isAbstract(addr)
	default:
		return t, fmt.Errorf("network %q is neither tcp, tcp4, tcp6 nor unix", network)
	}
	if cfg.AuthKey != nil {
		if len(cfg.AuthKey) == 0 {
			return t, errors.New("AuthKey is empty: nil means none, and an empty key would be everybody's")
		}
		t.secret = keySecret(cfg.AuthKey)
	}
	if t.timeout <= 0 {
		t.timeout = defaultHandshakeTimeout
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	return t, checkTLS(cfg.TLS)
}

// method is how clients prove themselves under t.
func (t *terms) method() method {
	if t.secret != nil {
		return byKey
	}
	return byPlace
}

// A gate listens, and lets in who has proved that he may come.
//
// What a peer can do before that: hold one of maxUnproven places for the HandshakeTimeout, or
// until younger ones need it; send quota bytes, of which crypto/tls reads a handshake; and be
// told no.
type gate struct {
	terms
	tls         *tls.Config // nil on a plain socket
	certificate []byte      // which holders of a ticket are shown
	mustVerify  bool        // clients have to come with a certificate; crypto/tls sees to it, and we look again
	checkUser   bool        // what clients can prove is only which user they are
	quota       int
	ln          net.Listener
	path        string      // of the socket to remove, if file is set
	file        fs.FileInfo // the socket as it was made
	tickets     tickets
	ready       chan *session // unbuffered
	done        chan struct{} // closed by close
	wg          sync.WaitGroup

	mu      sync.Mutex // guards what follows; not held during I/O
	closed  bool
	waiting list.List // of net.Conn: those that have not proved themselves, the oldest first
}

// listen listens on addr. The networks are "tcp", "tcp4", "tcp6" and "unix", where addr is a path
// or, on Linux, an abstract name: "@name" or "\x00name".
//
// Errors: without an AuthKey, and without a TLS config that requires and verifies client
// certificates, only a unix socket in the file system is possible; an address in use matches
// [syscall.EADDRINUSE]. That is also what a socket gets whose server was killed: to remove it is
// left to who knows that, because of two servers that start at once the second would remove what
// the first has just made.
//
// A socket in the file system has mode 0600 before anybody can connect; on Linux from the moment
// that it is there.
func listen(network, addr string, cfg Config) (*gate, error) {
	g, err := newGate(network, addr, cfg)
	if err == nil {
		err = g.open()
	}
	if err != nil {
		return nil, fmt.Errorf("manager: serve: %w", err)
	}
	g.start()
	return g, nil
}

// newGate returns a gate that has yet to be opened, and started.
func newGate(network, addr string, cfg Config) (*gate, error) {
	t, err := newTerms(network, addr, cfg)
	if err != nil {
		return nil, err
	}
	g := &gate{terms: t, quota: quotaKey, ready: make(chan *session), done: make(chan struct{})}
	unverified := checkVerifies(cfg.TLS)
	if t.secret == nil {
		if unverified != nil {
			switch {
			case !t.file:
				return nil, fmt.Errorf("%s %q can be reached by anybody: %w", network, addr, unverified)
			case !privateFiles:
				return nil, fmt.Errorf("a unix socket is not private on this system: %w", unverified)
			}
			g.checkUser = true
		}
		if cfg.TLS == nil {
			return g, nil
		}
		if !hasCertificate(cfg.TLS) && cfg.TLS.GetConfigForClient == nil {
			return nil, errors.New("TLS has no certificate")
		}
	}
	g.mustVerify = unverified == nil
	if cfg.TLS != nil && (cfg.TLS.ClientAuth != tls.NoClientCert || cfg.TLS.GetConfigForClient != nil) {
		g.quota = quotaCertificates
	}
	own, err := throwAway()
	if err != nil {
		return nil, err
	}
	g.certificate = own.Certificate[0]
	g.tls = serverTLS(cfg.TLS, own, g.mustVerify)
	return g, nil
}

// open makes the listener.
func (g *gate) open() error {
	var err error
	if !g.terms.file {
		g.ln, err = net.Listen(g.network, g.addr)
		return err
	}
	// The directory of the process may be another one when the socket is to be removed.
	if g.path, err = filepath.Abs(g.addr); err != nil {
		return err
	}
	g.ln, g.file, err = listenFile(g.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w%s", err, whyInUse(g.addr))
	}
	return err
}

// start begins to accept.
func (g *gate) start() {
	g.wg.Go(g.run) // ends when the listener is closed
}

// whyInUse says more about a path that is in use.
func whyInUse(path string) string {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return ": what is there is no socket"
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return ""
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return ": the socket is left from a server that is gone, and has to be removed"
	}
	return ""
}

// address returns where the gate listens.
func (g *gate) address() net.Addr { return g.ln.Addr() }

// accept returns the next peer that has proved itself. The caller owns the session.
//
// It is safe for concurrent use. Errors: one that matches [net.ErrClosed] after close.
func (g *gate) accept() (*session, error) {
	select {
	case <-g.done:
	default:
		select {
		case s := <-g.ready:
			return s, nil
		case <-g.done:
		}
	}
	return nil, fmt.Errorf("manager: accept: %w", net.ErrClosed)
}

// ticket returns a ticket for connectTicket: good for one connection within a minute, and until
// 1,024 younger ones are there. It is as good as the key meanwhile. A gate without TLS has none,
// and returns nil: its peers need nothing.
func (g *gate) ticket() []byte {
	if g.tls == nil {
		return nil
	}
	return g.tickets.issue()
}

// fingerprint returns by what the holder of a ticket knows the server; nil without TLS.
func (g *gate) fingerprint() []byte {
	if g.tls == nil {
		return nil
	}
	return fingerprint(g.certificate)
}

// close stops listening, disconnects who has not been accepted, and waits for all goroutines of
// the gate. Sessions that accept has returned stay. A unix socket is removed, if what is there is
// still the one that the gate has made; nothing keeps somebody who may write to the directory
// from putting another there between that look and the removal.
func (g *gate) close() error {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	g.mu.Unlock()
	var err error
	if first {
		close(g.done)
		// As long as the listener is open, no other file gets the number of its socket.
		if g.file != nil {
			if now, err := os.Lstat(g.path); err == nil && os.SameFile(now, g.file) {
				_ = os.Remove(g.path) // who has no right to it any more leaves it
			}
		}
		err = g.ln.Close()
		for g.dropOldest() {
		}
	}
	g.wg.Wait()
	return err
}

// run accepts until the listener is closed.
func (g *gate) run() {
	pause := backoffMin
	for {
		conn, err := g.ln.Accept()
		switch {
		case err == nil:
			pause = backoffMin
			g.take(conn)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		// Whatever it is, it is the system's or that one client's: to stop would help nobody.
		g.log.Warn("manager: accepting connections", "error", err, "pause", pause)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			g.dropOldest() // who has proved nothing has no right to the last descriptors
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, backoffMax)
		case <-g.done:
			return
		}
	}
}

// take gives conn a place among those that have not proved themselves, and starts its handshake.
func (g *gate) take(conn net.Conn) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		conn.Close()
		return
	}
	full := g.waiting.Len() >= maxUnproven
	place := g.waiting.PushBack(conn)
	g.mu.Unlock()
	if full {
		g.dropOldest()
	}
	// It ends by the deadline, when conn is closed by dropOldest, or by done. Nobody has come to
	// the end of wg.Wait: run, which calls take, is waited for, too.
	g.wg.Go(func() { g.handle(conn, place) })
}

// dropOldest disconnects who has been waiting longest, and reports whether there was anybody.
func (g *gate) dropOldest() bool {
	g.mu.Lock()
	e := g.waiting.Front()
	if e != nil {
		g.waiting.Remove(e)
	}
	g.mu.Unlock()
	if e == nil {
		return false
	}
	e.Value.(net.Conn).Close() // nothing else is put in
	return true
}

// leave gives up a place, and reports whether nobody else had done so.
func (g *gate) leave(place *list.Element) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	// An element that was removed is of no list, and Remove does nothing.
	before := g.waiting.Len()
	g.waiting.Remove(place)
	return g.waiting.Len() < before
}

// handle owns conn until it is a session that accept has returned.
func (g *gate) handle(conn net.Conn, place *list.Element) {
	_ = conn.SetDeadline(time.Now().Add(g.timeout)) // fails if it is closed, as what follows will
	in := &narrow{Conn: conn, left: g.quota}
	s, err := g.admit(in)
	if err != nil {
		g.log.Debug("manager: a peer was turned away", "peer", describe(conn), "error", err)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			linger(in)
		}
		g.leave(place)
		conn.Close()
		return
	}
	if !g.leave(place) { // others needed the place, just now
		conn.Close()
		return
	}
	in.open = true
	_ = conn.SetDeadline(time.Time{})
	select {
	case g.ready <- s:
	case <-g.done:
		conn.Close()
	}
}

// admit has whoever is at the other end prove himself.
func (g *gate) admit(in *narrow) (*session, error) {
	s := &session{Conn: in.Conn, raw: in.Conn, peer: describe(in.Conn)}
	if g.checkUser {
		if err := checkPeer(in.Conn); err != nil {
			return nil, err
		}
	}

	// Who comes without TLS, where the other side has it, is told so in a way that he understands.
	first := make([]byte, headSize)
	if _, err := io.ReadFull(in, first[:1]); err != nil {
		return nil, err
	}
	const record = 22 // of a TLS handshake: RFC 8446, 5.1
	switch {
	case first[0] == magic[0]:
		if _, err := io.ReadFull(in, first[1:]); err != nil {
			return nil, err
		}
		if _, _, err := readMessage(bytes.NewReader(first), first); err != nil {
			return nil, err
		}
		if g.tls == nil {
			return s, vetClient(in, binding{}, byPlace, g.byPlace)
		}
		greeting := make([]byte, greetingSize)
		head(greeting, statusMethod, g.method())
		_, _ = in.Write(greeting) // who has left need not know
		return nil, fmt.Errorf("%w: it comes without TLS", ErrAuth)
	case first[0] != record:
		return nil, fmt.Errorf("%w: it does not speak the protocol of a manager", ErrAuth)
	case g.tls == nil:
		_, _ = in.Write([]byte{21, 3, 3, 0, 2, 2, 49}) // fatal alert, access_denied: RFC 8446, 6
		return nil, fmt.Errorf("%w: it comes with TLS, and the server has neither a key nor certificates", ErrAuth)
	}

	in.unread = first[:1]
	conn := tls.Server(in, g.tls)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	on, err := exporter(state)
	if err != nil {
		return nil, err
	}
	s.Conn = conn
	how, secretOf := g.method(), g.byKey
	switch {
	case state.NegotiatedProtocol == alpnTicket:
		how, secretOf = byTicket, g.tickets.redeem
		s.peer += ", by ticket"
	case state.NegotiatedProtocol != alpn:
		return nil, fmt.Errorf("%w: it does not ask for the protocol of a manager", ErrAuth)
	case g.mustVerify && len(state.VerifiedChains) == 0:
		return nil, fmt.Errorf("%w: it has no certificate", ErrAuth)
	case how == byPlace:
		secretOf = g.byPlace
	}
	if len(state.VerifiedChains) > 0 {
		s.peer += fmt.Sprintf(", certificate of %q", state.PeerCertificates[0].Subject)
	}
	return s, vetClient(conn, on, how, secretOf)
}

func (g *gate) byKey(_ [idSize]byte, try func([]byte) bool) bool { return try(g.secret) }

// byPlace is for who has shown already that he may come. Then the proofs show that both sides
// have seen the same messages, and no more.
func (g *gate) byPlace(_ [idSize]byte, try func([]byte) bool) bool { return try(nil) }

// A narrow is a connection of which only some bytes may be read until it is open.
type narrow struct {
	net.Conn
	unread []byte // is read once more
	left   int
	open   bool // set before anybody else has the connection
}

var errQuota = errors.New("it sent too much before it had proved itself")

func (n *narrow) Read(b []byte) (int, error) {
	if n.open {
		return n.Conn.Read(b)
	}
	if len(n.unread) > 0 {
		m := copy(b, n.unread)
		n.unread = n.unread[m:]
		return m, nil
	}
	if n.left == 0 {
		return 0, errQuota
	}
	m, err := n.Conn.Read(b[:min(len(b), n.left)])
	n.left -= m
	return m, err
}

// linger lets a peer read that it was refused. A connection closed at once, with something
// unread, is reset, and what was written last is lost on the way.
func linger(n *narrow) {
	if c, ok := n.Conn.(interface{ CloseWrite() error }); !ok || c.CloseWrite() != nil {
		return
	}
	_ = n.SetReadDeadline(time.Now().Add(lingerTime)) // fails if it is closed, and so does Read
	for b := make([]byte, 512); ; {
		if _, err := n.Read(b); err != nil {
			return
		}
	}
}

// describe says who is at the other end of conn, as far as the system knows.
func describe(conn net.Conn) string {
	if who, err := peerOf(conn); err == nil {
		return fmt.Sprintf("unix pid %d uid %d", who.pid, who.uid)
	}
	return conn.RemoteAddr().Network() + " " + conn.RemoteAddr().String()
}
