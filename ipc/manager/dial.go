package manager

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A peer is the process at the other end of a unix socket, as it was when it connected or
// listened.
type peer struct {
	pid, uid int
}

var errNoPeer = errors.New("the system does not tell who the peer is")

// checkPeer returns an error if the process at the other end of conn is another user's. Root is
// let in, being able to do as it likes anyway. Systems that do not tell rely on the mode of the
// socket.
func checkPeer(conn net.Conn) error {
	who, err := peerOf(conn)
	switch {
	case errors.Is(err, errNoPeer):
		return nil
	case err != nil:
		return err
	case who.uid != os.Geteuid() && who.uid != 0:
		return fmt.Errorf("%w: it is user %d, and this is user %d", ErrAuth, who.uid, os.Geteuid())
	}
	return nil
}

// connect connects to a gate and has both sides prove themselves. It returns a session that the
// caller owns.
//
// ctx is for the attempt only, and so is HandshakeTimeout, which begins once there is a connection.
//
// Errors: one that matches [ErrAuth] when the keys differ or one side has none, when a certificate
// is refused, or the server's proof is wrong; one that matches ctx.Err(), or
// [os.ErrDeadlineExceeded] after HandshakeTimeout; those of [net.Dialer]. None has told the server
// more than a proof that is good for this connection alone.
func connect(ctx context.Context, network, addr string, cfg Config) (*session, error) {
	t, err := newTerms(network, addr, cfg)
	if err != nil {
		return nil, fmt.Errorf("manager: connect: %w", err)
	}
	var conf *tls.Config
	if t.secret != nil || cfg.TLS != nil {
		if conf, err = clientTLS(cfg.TLS, network, addr, t.secret != nil); err != nil {
			return nil, fmt.Errorf("manager: connect: %w", err)
		}
	} else if !t.file {
		return nil, fmt.Errorf("manager: connect to %s %q: %w: on this side there is neither an AuthKey nor TLS", network, addr, ErrAuth)
	}
	return t.connect(ctx, conf, t.method(), [idSize]byte{}, t.secret)
}

// connectTicket is connect for who has a ticket of the server, and pin, its fingerprint. Of cfg,
// AuthKey and TLS are not used. Where the server has no TLS both are nil, and it is connect.
//
// Errors: as of connect. A ticket is used up by success; ErrAuth also means that it is, or is too
// old.
func connectTicket(ctx context.Context, network, addr string, pin, ticket []byte, cfg Config) (*session, error) {
	cfg.AuthKey, cfg.TLS = nil, nil
	if ticket == nil && pin == nil {
		return connect(ctx, network, addr, cfg)
	}
	t, err := newTerms(network, addr, cfg)
	if err == nil && len(ticket) != ticketSize {
		err = fmt.Errorf("a ticket has %d bytes, and not %d", ticketSize, len(ticket))
	}
	if err != nil {
		return nil, fmt.Errorf("manager: connect: %w", err)
	}
	return t.connect(ctx, ticketTLS(pin), byTicket, ticketID(ticket), ticketSecret(ticket))
}

func (t *terms) connect(ctx context.Context, conf *tls.Config, how method, id [idSize]byte, secret []byte) (*session, error) {
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("manager: connect: %w", err)
	}
	_ = conn.SetDeadline(time.Now().Add(t.timeout)) // fails if it is closed, as what follows will
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	s, err := t.prove(conn, conf, how, id, secret)
	if !stop() || err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("manager: connect to %s %q: %w", t.network, t.addr, err)
	}
	_ = conn.SetDeadline(time.Time{})
	return s, nil
}

// dial is net.Dial, which does not wait where the queue of a unix socket is full.
func (t *terms) dial(ctx context.Context) (net.Conn, error) {
	for end, pause := time.Now().Add(t.timeout), time.Millisecond; ; pause = min(2*pause, backoffMax) {
		conn, err := new(net.Dialer).DialContext(ctx, t.network, t.addr)
		if err == nil || !errors.Is(err, syscall.EAGAIN) || time.Now().Add(pause).After(end) {
			return conn, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// prove has both ends of conn prove themselves. conf is nil on a plain socket.
func (t *terms) prove(conn net.Conn, conf *tls.Config, how method, id [idSize]byte, secret []byte) (*session, error) {
	s := &session{Conn: conn, raw: conn, peer: describe(conn)}
	if conf == nil {
		if err := checkPeer(conn); err != nil {
			return nil, err
		}
		opening := make([]byte, headSize)
		head(opening, statusFine, how)
		if _, err := conn.Write(opening); err != nil {
			return nil, err
		}
		return s, vetServer(conn, binding{}, how, id, secret)
	}

	in := &narrow{Conn: conn, left: quotaCertificates}
	secure := tls.Client(in, conf)
	if err := secure.Handshake(); err != nil {
		return nil, blame(err)
	}
	state := secure.ConnectionState()
	if state.NegotiatedProtocol != conf.NextProtos[0] {
		return nil, fmt.Errorf("%w: it does not speak the protocol of a manager", ErrAuth)
	}
	on, err := exporter(state)
	if err != nil {
		return nil, err
	}
	s.Conn = secure
	if err := vetServer(secure, on, how, id, secret); err != nil {
		return nil, blame(err)
	}
	in.open = true
	return s, nil
}

// blame makes err, of a TLS connection, match ErrAuth unless it is the network's.
func blame(err error) error {
	var op *net.OpError
	isOp := errors.As(err, &op)
	switch {
	case errors.Is(err, ErrAuth), errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the server hung up before it had proved itself: %w", err)
	case isOp && (op.Op == "read" || op.Op == "write"):
		return err
	case isOp && op.Op == "remote error": // an alert
		return fmt.Errorf("%w: the server refused: %w", ErrAuth, err)
	}
	return fmt.Errorf("%w: %w", ErrAuth, err)
}
