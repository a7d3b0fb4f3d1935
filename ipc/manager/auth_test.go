package manager

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// authDial connects without a word.
func authDial(tb testing.TB, g *gate) net.Conn {
	tb.Helper()
	c, err := net.Dial(g.network, gateAt(g))
	require.NoError(tb, err)
	tb.Cleanup(func() { c.Close() })
	require.NoError(tb, c.SetDeadline(time.Now().Add(30*time.Second)))
	return c
}

// authTLS connects, and goes as far as the TLS handshake.
func authTLS(tb testing.TB, g *gate, proto string) (*tls.Conn, binding) {
	tb.Helper()
	c := tls.Client(authDial(tb, g), harden(&tls.Config{InsecureSkipVerify: true}, proto))
	require.NoError(tb, c.Handshake())
	on, err := exporter(c.ConnectionState())
	require.NoError(tb, err)
	return c, on
}

// authRefused sees that a client does not take what is at addr for its server.
func authRefused(tb testing.TB, addr string, cfg Config, what string) {
	tb.Helper()
	c, err := connect(tb.Context(), "tcp", addr, cfg)
	if err == nil {
		c.raw.Close()
	}
	require.ErrorIs(tb, err, ErrAuth, what)
}

// authServe is a server of the attacker's own, who has no key: play gets each connection once TLS is
// done.
func authServe(tb testing.TB, play func(c *tls.Conn, on binding)) (addr string) {
	tb.Helper()
	own, err := throwAway()
	require.NoError(tb, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer raw.Close()
				c := tls.Server(raw, harden(&tls.Config{Certificates: []tls.Certificate{own}}, alpn))
				if c.Handshake() == nil {
					on, _ := exporter(c.ConnectionState())
					play(c, on)
				}
			})
		}
	})
	tb.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// authRecorder passes bytes on and keeps those of the client.
type authRecorder struct {
	net.Conn
	mu   sync.Mutex
	sent bytes.Buffer
}

func (r *authRecorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.sent.Write(b)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// authRelay is a man in the middle who changes nothing and keeps all that the client sends.
func authRelay(tb testing.TB, g *gate) (addr string, recorded func() []byte) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	rec := &authRecorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		client, err := ln.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", gateAt(g))
		if err != nil {
			return
		}
		defer server.Close()
		rec.Conn = server
		// Not as *net.TCPConn, for which io.Copy uses pipes that Go keeps for later.
		go func() { _, _ = io.Copy(client, struct{ io.Reader }{server}); client.Close() }()
		_, _ = io.Copy(rec, client)
	}()
	return ln.Addr().String(), func() []byte {
		ln.Close()
		<-done
		return rec.sent.Bytes()
	}
}

// TestAuthReplay: all that a good client has sent is sent once more.
func TestAuthReplay(t *testing.T) {
	gateLeaks(t)
	for _, byTicket := range []bool{false, true} {
		g := gateOpen(t, "tcp", "127.0.0.1:0", Config{AuthKey: gateKey})
		addr, recorded := authRelay(t, g)
		var c *session
		var err error
		if byTicket {
			c, err = connectTicket(t.Context(), "tcp", addr, g.fingerprint(), g.ticket(), Config{})
		} else {
			c, err = connect(t.Context(), "tcp", addr, Config{AuthKey: gateKey})
		}
		require.NoError(t, err)
		_, err = c.Write([]byte("an order"))
		require.NoError(t, err)
		s, err := g.accept()
		require.NoError(t, err)
		_, err = io.ReadFull(s, make([]byte, 8))
		require.NoError(t, err)
		c.Close()
		s.Close()
		sent := recorded()
		require.NotContains(t, string(sent), "an order")

		again := authDial(t, g)
		_, _ = again.Write(sent)
		_ = again.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, again)
		again.Close()
		gateNone(t, g)
		gateTalk(t, g, Config{AuthKey: gateKey})
	}
}

// TestAuthReplayInside: the proof of one exchange is none in the next, even on the same TLS session.
func TestAuthReplayInside(t *testing.T) {
	secret := keySecret(gateKey)
	secretOf := func(_ [idSize]byte, try func([]byte) bool) bool { return try(secret) }
	var on binding
	client, server := net.Pipe()
	rec := &authRecorder{Conn: client}
	got := make(chan error, 1)
	go func() { got <- vetClient(server, on, byKey, secretOf) }()
	require.NoError(t, vetServer(rec, on, byKey, [idSize]byte{}, secret))
	require.NoError(t, <-got)

	go func() { got <- vetClient(server, on, byKey, secretOf) }()
	_, err := io.ReadFull(client, make([]byte, greetingSize))
	require.NoError(t, err)
	_, err = client.Write(rec.sent.Bytes())
	require.NoError(t, err)
	verdict := make([]byte, verdictSize)
	s, _, err := readMessage(client, verdict)
	require.NoError(t, err)
	require.Equal(t, statusProof, s)
	require.Equal(t, make([]byte, proofSize), verdict[headSize:])
	require.ErrorIs(t, <-got, ErrAuth)
}

// TestAuthManInTheMiddle: he has a certificate of his own for the client, a session of his own with
// the server, and passes on what both say inside.
func TestAuthManInTheMiddle(t *testing.T) {
	gateLeaks(t)
	g := gateOpen(t, "tcp", "127.0.0.1:0", Config{AuthKey: gateKey})
	passed := make(chan int, 1)
	addr := authServe(t, func(c *tls.Conn, _ binding) {
		raw, err := net.Dial("tcp", gateAt(g))
		if err != nil {
			return
		}
		defer raw.Close()
		inner := tls.Client(raw, harden(&tls.Config{InsecureSkipVerify: true}, alpn))
		go func() { _, _ = io.Copy(c, inner); c.Close() }()
		n, _ := io.Copy(inner, c)
		passed <- int(n)
	})
	authRefused(t, addr, Config{AuthKey: gateKey}, "by the key")
	require.Equal(t, answerSize, <-passed, "the proof was passed on")
	gateNone(t, g)

	// The certificates tell him apart before he gets as far as that.
	ca := newGateAuthority(t)
	g2 := gateOpen(t, "tcp", "127.0.0.1:0", Config{TLS: ca.server(t)})
	authRefused(t, addr, Config{TLS: ca.client(t)}, "by the certificate")
	gateNone(t, g2)
	gateTalk(t, g, Config{AuthKey: gateKey})
}

// TestAuthReflection: somebody without the key sends the client's own proof back, in every way that
// there is.
func TestAuthReflection(t *testing.T) {
	gateLeaks(t)
	var mu sync.Mutex
	var how string
	addr := authServe(t, func(c *tls.Conn, _ binding) {
		greeting, answer, verdict := make([]byte, greetingSize), make([]byte, answerSize), make([]byte, verdictSize)
		head(greeting, statusFine, byKey)
		_, _ = c.Write(greeting)
		if _, err := io.ReadFull(c, answer); err != nil {
			return
		}
		head(verdict, statusFine, byKey)
		mu.Lock()
		switch how {
		case "proof":
			copy(verdict[headSize:], answer[provenSize:])
		case "nonce":
			copy(verdict[headSize:], answer[headSize+idSize:])
		case "answer":
			copy(verdict, answer[answerSize-verdictSize:])
		}
		mu.Unlock()
		_, _ = c.Write(verdict)
		_, _ = io.Copy(io.Discard, c)
	})
	for _, h := range []string{"proof", "nonce", "zeros", "answer"} {
		mu.Lock()
		how = h
		mu.Unlock()
		authRefused(t, addr, Config{AuthKey: gateKey}, h)
	}

	// The same greeting and nonce as the other side's do not make the two proofs one.
	secret, greeting, answer := keySecret(gateKey), make([]byte, greetingSize), make([]byte, answerSize)
	require.NotEqual(t, proof(secret, clientRole, binding{}, greeting, answer), proof(secret, serverRole, binding{}, greeting, answer))
	require.Len(t, serverRole, len(clientRole))
}

// TestAuthEachByte: a proof that is wrong in one bit is wrong, of either side, and so is one about
// another message, session or method.
func TestAuthEachByte(t *testing.T) {
	gateLeaks(t)
	g := gateOpen(t, "tcp", "127.0.0.1:0", Config{AuthKey: gateKey})
	try := func(change func(answer []byte)) (status, []byte) {
		c, on := authTLS(t, g, alpn)
		defer c.NetConn().Close()
		greeting, answer, verdict := make([]byte, greetingSize), make([]byte, answerSize), make([]byte, verdictSize)
		_, _, err := readMessage(c, greeting)
		require.NoError(t, err)
		head(answer, statusFine, byKey)
		copy(answer[provenSize:], proof(g.secret, clientRole, on, greeting, answer))
		change(answer)
		_, err = c.Write(answer)
		require.NoError(t, err)
		s, _, err := readMessage(c, verdict)
		require.NoError(t, err)
		return s, verdict[headSize:]
	}
	s, _ := try(func([]byte) {})
	require.Equal(t, statusFine, s)
	session, err := g.accept()
	require.NoError(t, err)
	session.Close()
	for i := headSize; i < answerSize; i++ {
		s, rest := try(func(answer []byte) { answer[i] ^= 1 << (i % 8) })
		require.Equal(t, statusProof, s, "byte %d", i)
		require.Equal(t, make([]byte, proofSize), rest)
	}
	for _, tc := range []struct {
		name   string
		change func([]byte)
		want   status
	}{
		{"no magic", func(b []byte) { b[0] = 0 }, statusVersion},
		{"version 0", func(b []byte) { b[len(magic)+1] = 0 }, statusVersion},
		{"version 2", func(b []byte) { b[len(magic)+1] = 2 }, statusVersion},
		{"version 257", func(b []byte) { b[len(magic)] = 1 }, statusVersion},
		{"a status", func(b []byte) { b[headSize-2] = 1 }, statusMethod},
		{"no key", func(b []byte) { b[headSize-1] = byte(byPlace) }, statusMethod},
		{"ticket", func(b []byte) { b[headSize-1] = byte(byTicket) }, statusMethod},
		{"nothing known", func(b []byte) { b[headSize-1] = 77 }, statusMethod},
		{"zeros", func(b []byte) { clear(b[headSize:]) }, statusProof},
		{"proof without a key", func(b []byte) { copy(b[provenSize:], proof(nil, clientRole, binding{}, make([]byte, greetingSize), b)) }, statusProof},
	} {
		s, rest := try(tc.change)
		require.Equal(t, tc.want, s, tc.name)
		require.Equal(t, make([]byte, proofSize), rest)
	}
	gateNone(t, g)

	var flip int
	addr := authServe(t, func(c *tls.Conn, on binding) {
		greeting, answer, verdict := make([]byte, greetingSize), make([]byte, answerSize), make([]byte, verdictSize)
		head(greeting, statusFine, byKey)
		_, _ = c.Write(greeting)
		if _, err := io.ReadFull(c, answer); err != nil {
			return
		}
		head(verdict, statusFine, byKey)
		copy(verdict[headSize:], proof(keySecret(gateKey), serverRole, on, greeting, answer))
		if flip >= 0 {
			verdict[flip] ^= 1
		}
		_, _ = c.Write(verdict)
		_, _ = io.Copy(io.Discard, c)
	})
	for flip = range verdictSize {
		if flip == headSize-1 {
			continue // the method, which the server has said before
		}
		authRefused(t, addr, Config{AuthKey: gateKey}, fmt.Sprint("byte ", flip))
	}
	flip = -1
	c, err := connect(t.Context(), "tcp", addr, Config{AuthKey: gateKey})
	require.NoError(t, err)
	c.raw.Close()
}

// TestAuthTickets: a ticket is good once, for a minute, at its own server.
func TestAuthTickets(t *testing.T) {
	ca := newGateAuthority(t)
	for _, tc := range []struct {
		name string
		cfg  Config
	}{
		{"key", Config{AuthKey: gateKey}},
		{"certificates", Config{TLS: ca.server(t)}},
		{"both", Config{AuthKey: gateKey, TLS: ca.server(t)}},
	} {
		for _, family := range []string{"tcp", "unix", "abstract"} {
			t.Run(tc.name+"/"+family, func(t *testing.T) {
				gateLeaks(t)
				network, addr := gateAddr(t, family)
				log := new(gateLog)
				tc.cfg.Logger = log.logger()
				g := gateOpen(t, network, addr, tc.cfg)
				_, addr2 := gateAddr(t, family)
				g2 := gateOpen(t, network, addr2, tc.cfg)
				tk := g.ticket()
				at, pin := gateAt(g), g.fingerprint()
				refused := func(pin, ticket []byte) {
					t.Helper()
					_, err := connectTicket(t.Context(), network, at, pin, ticket, Config{})
					require.ErrorIs(t, err, ErrAuth)
					gateNoSecret(t, err.Error(), tk, ticket)
				}

				refused(g2.fingerprint(), tk) // and does not use it up
				refused(nil, tk)
				refused(pin, g2.ticket())
				refused(pin, make([]byte, ticketSize))
				refused(pin, keySecret(gateKey))
				_, err := connectTicket(t.Context(), network, at, pin, tk[:31], Config{})
				require.ErrorContains(t, err, "32")
				_, err = connect(t.Context(), network, at, Config{AuthKey: tk})
				require.ErrorIs(t, err, ErrAuth)

				c, err := connectTicket(t.Context(), network, at, pin, tk, Config{})
				require.NoError(t, err)
				gateHear(t, g, c)
				refused(pin, tk)

				// Of many who have the same, one gets in.
				tk = g.ticket()
				var wg sync.WaitGroup
				in := make(chan *session, 8)
				for range cap(in) {
					wg.Go(func() {
						if c, err := connectTicket(t.Context(), network, at, pin, tk, Config{}); err == nil {
							in <- c
						}
					})
				}
				wg.Wait()
				require.Len(t, in, 1)
				gateHear(t, g, <-in)
				gateNone(t, g)
				gateNoSecret(t, log.String(), tk, gateKey)
			})
		}
	}
	t.Run("plain", func(t *testing.T) {
		gateLeaks(t)
		network, addr := gateAddr(t, "unix")
		g := gateOpen(t, network, addr, Config{})
		require.Nil(t, g.ticket())
		require.Nil(t, g.fingerprint())
		c, err := connectTicket(t.Context(), network, addr, nil, nil, Config{AuthKey: gateKey})
		require.NoError(t, err)
		gateHear(t, g, c)
	})
}

// TestAuthTicketMethod: who comes as the holder of a ticket cannot go on as somebody else.
func TestAuthTicketMethod(t *testing.T) {
	gateLeaks(t)
	ca := newGateAuthority(t)
	for _, cfg := range []Config{{AuthKey: gateKey}, {TLS: ca.server(t)}} {
		g := gateOpen(t, "tcp", "127.0.0.1:0", cfg)
		for _, how := range []method{byPlace, byKey} {
			c, on := authTLS(t, g, alpnTicket)
			err := vetServer(c, on, how, [idSize]byte{}, g.secret)
			require.ErrorContains(t, err, "demands a ticket")
			c.NetConn().Close()

			c, on = authTLS(t, g, alpnTicket)
			greeting, answer, verdict := make([]byte, greetingSize), make([]byte, answerSize), make([]byte, verdictSize)
			_, _, err = readMessage(c, greeting)
			require.NoError(t, err)
			head(answer, statusFine, how)
			copy(answer[provenSize:], proof(g.secret, clientRole, on, greeting, answer))
			_, err = c.Write(answer)
			require.NoError(t, err)
			s, _, err := readMessage(c, verdict)
			require.NoError(t, err)
			require.Equal(t, statusMethod, s)
			c.NetConn().Close()
		}
		gateNone(t, g)
	}
}

func TestAuthTicketLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts tickets
		yes := func([]byte) bool { return true }
		no := func([]byte) bool { return false }
		old := ts.issue()
		time.Sleep(ticketLife - 1) // virtual time
		require.False(t, ts.redeem(ticketID(old), no))
		require.True(t, ts.redeem(ticketID(old), yes))
		require.False(t, ts.redeem(ticketID(old), yes))

		old = ts.issue()
		time.Sleep(ticketLife) // virtual time
		require.False(t, ts.redeem(ticketID(old), yes))
		require.Zero(t, ts.line.Len())

		var all [][]byte
		for range maxTickets + 10 {
			all = append(all, ts.issue())
		}
		require.Equal(t, maxTickets, ts.line.Len())
		require.Len(t, ts.byID, maxTickets)
		require.False(t, ts.redeem(ticketID(all[9]), yes))
		require.True(t, ts.redeem(ticketID(all[10]), yes))
		require.True(t, ts.redeem(ticketID(all[len(all)-1]), yes))

		// What a try gets where there is no ticket is nobody's.
		var seen [][]byte
		for range 2 {
			ts.redeem([idSize]byte{}, func(secret []byte) bool {
				seen = append(seen, secret)
				return true
			})
		}
		require.NotEqual(t, seen[0], seen[1])
		require.Len(t, seen[0], len(ticketSecret(old)))
	})
}

// authHello is what a client sends first.
func authHello(tb testing.TB) []byte {
	tb.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, harden(&tls.Config{InsecureSkipVerify: true}, alpn)).Handshake()
		client.Close()
	}()
	header := make([]byte, 5)
	_, err := io.ReadFull(server, header)
	require.NoError(tb, err)
	rest := make([]byte, int(header[3])<<8|int(header[4]))
	_, err = io.ReadFull(server, rest)
	require.NoError(tb, err)
	return slices.Concat(header, rest)
}

// TestAuthSlow: who sends a byte now and then is held to HandshakeTimeout all in all.
func TestAuthSlow(t *testing.T) {
	gateLeaks(t)
	hello := authHello(t)
	for _, family := range []string{"tcp", "unix"} {
		network, addr := gateAddr(t, family)
		g := gateOpen(t, network, addr, Config{AuthKey: gateKey, HandshakeTimeout: 300 * time.Millisecond})
		c := authDial(t, g)
		began := time.Now()
		var err error
		for i := 0; err == nil; i++ {
			require.Less(t, i, len(hello))
			_, err = c.Write(hello[i : i+1])
			time.Sleep(10 * time.Millisecond) // the pace of who sends a byte at a time
		}
		require.Less(t, time.Since(began), 10*time.Second)
		c.Close()
		gateTalk(t, g, Config{AuthKey: gateKey})
	}
}

// TestAuthGarbage: what is no handshake, and what is too much of one.
func TestAuthGarbage(t *testing.T) {
	gateLeaks(t)
	ca := newGateAuthority(t)
	opening := make([]byte, headSize)
	head(opening, statusFine, byPlace)
	endless := bytes.Repeat([]byte{1}, 1<<20)
	for name, cfg := range map[string]Config{"plain": {}, "key": {AuthKey: gateKey}, "certificates": {TLS: ca.server(t)}} {
		for i, sent := range [][]byte{
			endless, bytes.Repeat([]byte{0xff}, 1<<20), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("f"), []byte("futM"),
			opening, slices.Concat(opening, endless),
			{22},
			{22, 3, 1},
			{22, 3, 1, 0x40, 0},
			slices.Concat([]byte{22, 3, 1, 0x40, 0}, endless),
			{22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff},
			slices.Concat([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff}, endless),
			{21, 3, 3, 0, 2, 2, 40},
			{0x0c, 0xff, 0x81, 2, 1, 2, 0xff, 0x82},
			bytes.Repeat([]byte{22, 3, 1, 0, 0}, 1<<16), bytes.Repeat([]byte{22, 3, 3, 0, 1, 0}, 1<<16),
		} {
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				network, addr := gateAddr(t, "unix")
				g := gateOpen(t, network, addr, cfg)
				c := authDial(t, g)
				n, _ := c.Write(sent)
				require.Less(t, n, 1<<20, "all was taken") // the system keeps some 200 KiB for the server to read
				_ = c.(*net.UnixConn).CloseWrite()
				_, err := io.Copy(io.Discard, c)
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
				c.Close()
				gateNone(t, g)
				good := cfg
				if good.TLS != nil {
					good.TLS = ca.client(t)
				}
				gateTalk(t, g, good)
			})
		}
	}
}

// TestAuthRefusalArrives: who is refused can read so, even if he had more to say.
func TestAuthRefusalArrives(t *testing.T) {
	gateLeaks(t)
	g := gateOpen(t, "tcp", "127.0.0.1:0", Config{AuthKey: gateKey})
	c := authDial(t, g)
	opening := make([]byte, headSize)
	head(opening, statusFine, byPlace)
	_, err := c.Write(slices.Concat(opening, make([]byte, 2000)))
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Len(t, b, greetingSize)
	c.Close()
}

// TestAuthQuota: a handshake that is right so far, but too long.
func TestAuthQuota(t *testing.T) {
	server, client := net.Pipe()
	in := &narrow{Conn: server, left: 10, unread: []byte("ab")}
	go func() { _, _ = client.Write([]byte("0123456789xyz")) }()
	b, err := io.ReadAll(in)
	require.ErrorIs(t, err, errQuota)
	require.Equal(t, "ab0123456789", string(b))
	in.open = true
	n, err := io.ReadFull(in, b[:3])
	require.NoError(t, err)
	require.Equal(t, "xyz", string(b[:n]))
	client.Close()
	server.Close()
}

// TestAuthDisconnects: a client that leaves at each step, in each way.
func TestAuthDisconnects(t *testing.T) {
	gateLeaks(t)
	hello := authHello(t)
	network, addr := gateAddr(t, "unix")
	keyed := gateOpen(t, "tcp", "127.0.0.1:0", Config{AuthKey: gateKey})
	plain := gateOpen(t, network, addr, Config{})
	inner := func(n int) func(*testing.T) net.Conn {
		return func(t *testing.T) net.Conn {
			c, on := authTLS(t, keyed, alpn)
			greeting, answer := make([]byte, greetingSize), make([]byte, answerSize)
			if n >= 0 {
				_, _, err := readMessage(c, greeting)
				require.NoError(t, err)
				head(answer, statusFine, byKey)
				copy(answer[provenSize:], proof(keyed.secret, clientRole, on, greeting, answer))
				_, err = c.Write(answer[:n])
				require.NoError(t, err)
			}
			return c.NetConn()
		}
	}
	sends := func(g *gate, b []byte) func(*testing.T) net.Conn {
		return func(t *testing.T) net.Conn {
			c := authDial(t, g)
			_, err := c.Write(b)
			require.NoError(t, err)
			return c
		}
	}
	opening := make([]byte, headSize)
	head(opening, statusFine, byPlace)
	for _, tc := range []struct {
		name string
		g    *gate
		step func(*testing.T) net.Conn
	}{
		{"connected", keyed, sends(keyed, nil)},
		{"one byte", keyed, sends(keyed, hello[:1])},
		{"half a hello", keyed, sends(keyed, hello[:len(hello)/2])},
		{"hello", keyed, sends(keyed, hello)},
		{"TLS", keyed, inner(-1)},
		{"greeting", keyed, inner(0)},
		{"half a head", keyed, inner(headSize / 2)},
		{"head", keyed, inner(headSize)},
		{"all but a byte", keyed, inner(answerSize - 1)},
		{"connected, plain", plain, sends(plain, nil)},
		{"half an opening", plain, sends(plain, opening[:3])},
		{"opening", plain, sends(plain, opening)},
		{"half an answer, plain", plain, sends(plain, slices.Concat(opening, opening))},
	} {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reset %t", tc.name, reset), func(t *testing.T) {
				c := tc.step(t)
				if tcp, ok := c.(*net.TCPConn); ok && reset {
					require.NoError(t, tcp.SetLinger(0))
				}
				c.Close()
				cfg := Config{}
				if tc.g == keyed {
					cfg.AuthKey = gateKey
				}
				gateTalk(t, tc.g, cfg)
				gateNone(t, tc.g)
			})
		}
	}
	t.Run("answer", func(t *testing.T) { // it has proved itself, so it is a session, of somebody gone
		inner(answerSize)(t).Close()
		s, err := keyed.accept()
		require.NoError(t, err)
		defer s.Close()
		_, err = s.Read(make([]byte, 1))
		require.Error(t, err)
	})
}

// TestAuthBlame: what is the network's fault is nobody's key.
func TestAuthBlame(t *testing.T) {
	read := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, read, os.ErrDeadlineExceeded, fmt.Errorf("tls: %w", read)} {
		require.NotErrorIs(t, blame(err), ErrAuth)
		require.ErrorIs(t, blame(err), err)
	}
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}
	for _, err := range []error{alert, errors.New("tls: nonsense"), &tls.CertificateVerificationError{Err: io.ErrNoProgress}} {
		require.ErrorIs(t, blame(err), ErrAuth)
	}
}
