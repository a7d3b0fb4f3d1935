package manager

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// A fuzzConn is a connection to somebody who sends what the fuzzer says, and listens to nothing.
type fuzzConn struct {
	in             []byte
	read, wrote    int
	writes, closed int
}

func (c *fuzzConn) Read(b []byte) (int, error) {
	if len(c.in) == c.read {
		return 0, io.EOF
	}
	n := copy(b, c.in[c.read:])
	c.read += n
	return n, nil
}

func (c *fuzzConn) Write(b []byte) (int, error) {
	c.wrote += len(b)
	c.writes++
	return len(b), nil
}

func (c *fuzzConn) Close() error                     { c.closed++; return nil }
func (c *fuzzConn) LocalAddr() net.Addr              { return &net.UnixAddr{Net: "unix"} }
func (c *fuzzConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Net: "unix"} }
func (c *fuzzConn) SetDeadline(time.Time) error      { return nil }
func (c *fuzzConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fuzzConn) SetWriteDeadline(time.Time) error { return nil }

// The sides that the fuzzer talks to.
const (
	fuzzWhole       = iota // with a key: TLS first
	fuzzPlain              // without
	fuzzInner              // what is inside of TLS, by key
	fuzzInnerTicket        // by ticket
	fuzzSides
)

func fuzzMessages() (opening, greeting, answer, verdict []byte) {
	opening, greeting = make([]byte, headSize), make([]byte, greetingSize)
	answer, verdict = make([]byte, answerSize), make([]byte, verdictSize)
	head(opening, statusFine, byPlace)
	head(greeting, statusFine, byKey)
	head(answer, statusFine, byKey)
	head(verdict, statusFine, byKey)
	copy(answer[provenSize:], proof(keySecret(gateKey), clientRole, binding{}, greeting, answer))
	copy(verdict[headSize:], proof(keySecret(gateKey), serverRole, binding{}, greeting, answer))
	return opening, greeting, answer, verdict
}

// FuzzHandshakeServer: nothing that is sent without the secret gets in, or is read or answered at
// length. A server's nonce is fresh each time, so the right bytes cannot be found by chance.
func FuzzHandshakeServer(f *testing.F) {
	opening, _, answer, _ := fuzzMessages()
	f.Add(byte(fuzzWhole), authHello(f))
	f.Add(byte(fuzzWhole), opening)
	f.Add(byte(fuzzWhole), []byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(byte(fuzzPlain), slices.Concat(opening, answer))
	f.Add(byte(fuzzPlain), authHello(f))
	f.Add(byte(fuzzInner), answer)
	f.Add(byte(fuzzInnerTicket), answer)
	short := slices.Clone(answer)
	short[headSize-1] = byte(byTicket)
	f.Add(byte(fuzzInnerTicket), short)

	keyed, err := newGate("tcp", "", Config{AuthKey: gateKey})
	if err != nil {
		f.Fatal(err)
	}
	plain, err := newGate("unix", "x", Config{})
	if err != nil {
		f.Skip(err) // the system has no such sockets
	}
	f.Fuzz(func(t *testing.T, side byte, in []byte) {
		c := &fuzzConn{in: in}
		n := &narrow{Conn: c, left: quotaKey}
		var err error
		switch side % fuzzSides {
		case fuzzWhole:
			_, err = keyed.admit(n)
		case fuzzPlain:
			_, err = plain.admit(n)
		case fuzzInner:
			err = vetClient(n, binding{}, byKey, keyed.byKey)
		case fuzzInnerTicket:
			keyed.ticket()
			err = vetClient(n, binding{}, byTicket, keyed.tickets.redeem)
		}
		if err == nil {
			t.Fatalf("it was let in")
		}
		if c.read > quotaKey || c.wrote > quotaKey || c.writes > 16 || c.closed > 0 {
			t.Fatalf("read %d, wrote %d in %d, closed %d", c.read, c.wrote, c.writes, c.closed)
		}
	})
}

// FuzzHandshakeClient: nothing that is sent without the secret makes a client believe that this is
// its server.
func FuzzHandshakeClient(f *testing.F) {
	_, greeting, _, verdict := fuzzMessages()
	good := slices.Concat(greeting, verdict)
	f.Add(byte(fuzzWhole), good)
	f.Add(byte(fuzzWhole), []byte{21, 3, 3, 0, 2, 2, 49})
	f.Add(byte(fuzzWhole), authServerHello(f))
	f.Add(byte(fuzzInner), good)
	f.Add(byte(fuzzInnerTicket), good)
	place := slices.Clone(good)
	place[headSize-1] = byte(byPlace)
	f.Add(byte(fuzzPlain), place)

	secret := keySecret(gateKey)
	conf, err := clientTLS(nil, "unix", "x", true)
	if err != nil {
		f.Fatal(err)
	}
	at := terms{network: "unix", addr: "x", file: true}
	f.Fuzz(func(t *testing.T, side byte, in []byte) {
		c := &fuzzConn{in: in}
		var err error
		switch side % fuzzSides {
		case fuzzWhole:
			_, err = at.prove(c, conf, byKey, [idSize]byte{}, secret)
		case fuzzPlain:
			_, err = at.prove(c, nil, byPlace, [idSize]byte{}, nil)
		case fuzzInner:
			err = vetServer(c, binding{}, byKey, [idSize]byte{}, secret)
		case fuzzInnerTicket:
			err = vetServer(c, binding{}, byTicket, [idSize]byte{1}, secret)
		}
		if err == nil {
			t.Fatalf("it was believed")
		}
		if c.read > quotaCertificates || c.wrote > quotaKey || c.writes > 16 {
			t.Fatalf("read %d, wrote %d in %d", c.read, c.wrote, c.writes)
		}
	})
}

// authServerHello is what a server answers to the first message of a client.
func authServerHello(tb testing.TB) []byte {
	tb.Helper()
	own, err := throwAway()
	if err != nil {
		tb.Fatal(err)
	}
	out := &fuzzOut{fuzzConn: fuzzConn{in: authHello(tb)}}
	_ = tls.Server(out, serverTLS(nil, own, false)).Handshake()
	return out.sent
}

type fuzzOut struct {
	fuzzConn
	sent []byte
}

func (c *fuzzOut) Write(b []byte) (int, error) {
	c.sent = append(c.sent, b...)
	return len(b), nil
}
