package manager

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var gateKey = []byte("a key that is long enough, 0123456789")

// gateAuthority signs certificates for tests.
type gateAuthority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newGateAuthority(tb testing.TB) *gateAuthority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(tb, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(tb, err)
	return &gateAuthority{cert, key}
}

func (a *gateAuthority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *gateAuthority) sign(tb testing.TB, name string) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"manager.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(tb, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// server and client are configs by which each verifies the other.
func (a *gateAuthority) server(tb testing.TB) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.sign(tb, "server")},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: a.pool(),
	}
}

func (a *gateAuthority) client(tb testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.sign(tb, "client")}, RootCAs: a.pool(), ServerName: "manager.test"}
}

// A gateLog is where logs go to, and is looked through for secrets.
type gateLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *gateLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *gateLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *gateLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// gateNoSecret fails if text has a secret in it.
func gateNoSecret(tb testing.TB, text string, secrets ...[]byte) {
	tb.Helper()
	for _, s := range secrets {
		for _, part := range [][]byte{s, keySecret(s), ticketSecret(s)} {
			for _, form := range []string{
				string(part), hex.EncodeToString(part), base64.StdEncoding.EncodeToString(part), base64.URLEncoding.EncodeToString(part),
				strings.Trim(fmt.Sprint(part), "[]"), fmt.Sprintf("% x", part), strings.Trim(fmt.Sprintf("%q", part), `"`),
			} {
				require.NotContains(tb, strings.ToLower(text), strings.ToLower(form))
			}
		}
	}
}

// gateLeaks fails the test if goroutines or descriptors are left at its end.
func gateLeaks(tb testing.TB) {
	tb.Helper()
	opt := goleak.IgnoreCurrent()
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // Go's own descriptors are made for the first
		ln.Close()
	}
	before := gateFDs()
	tb.Cleanup(func() {
		goleak.VerifyNone(tb, opt)
		if after := gateFDs(); after > before {
			tb.Errorf("%d descriptors before the test, and %d after it", before, after)
		}
	})
}

func gateFDs() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	return len(fds)
}

// gateAddr returns an address to listen on.
func gateAddr(tb testing.TB, family string) (network, addr string) {
	tb.Helper()
	switch family {
	case "tcp":
		return "tcp", "127.0.0.1:0"
	case "unix":
		dir, err := os.MkdirTemp("", "gate") //nolint:usetesting // the name of a test's own is too long for a socket
		require.NoError(tb, err)
		tb.Cleanup(func() { os.RemoveAll(dir) })
		return "unix", filepath.Join(dir, "s")
	}
	if runtime.GOOS != "linux" {
		tb.Skip("abstract sockets are Linux's")
	}
	name := "gate-" + rand.Text()
	if family == "nul" {
		return "unix", "\x00" + name
	}
	return "unix", "@" + name
}

// gateOpen listens until the end of the test.
func gateOpen(tb testing.TB, network, addr string, cfg Config) *gate {
	tb.Helper()
	if cfg.Logger == nil {
		log := new(gateLog)
		cfg.Logger = log.logger()
		tb.Cleanup(func() {
			if tb.Failed() {
				tb.Logf("the server's log:\n%s", log)
			}
		})
	}
	g, err := listen(network, addr, cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, g.close()) })
	return g
}

// gateAt returns where g is, as a client says it.
func gateAt(g *gate) string {
	if g.network == "unix" {
		return g.addr
	}
	return g.address().String()
}

// gateTalk sees that an honest client can connect, and that each side hears the other.
func gateTalk(tb testing.TB, g *gate, cfg Config) {
	tb.Helper()
	c, err := connect(tb.Context(), g.network, gateAt(g), cfg)
	require.NoError(tb, err)
	gateHear(tb, g, c)
}

// gateHear sees that the session c is one of g's, and closes both ends.
func gateHear(tb testing.TB, g *gate, c *session) {
	tb.Helper()
	defer c.Close()
	s, err := g.accept()
	require.NoError(tb, err)
	defer s.Close()
	for _, pair := range [][2]*session{{c, s}, {s, c}} {
		msg := make([]byte, 100<<10) // more than an unproven peer may send
		rand.Read(msg)
		sent := make(chan error, 1)
		go func() {
			_, err := pair[0].Write(msg)
			sent <- err
		}()
		got := make([]byte, len(msg))
		_, err = io.ReadFull(pair[1], got)
		require.NoError(tb, err)
		require.NoError(tb, <-sent)
		require.True(tb, bytes.Equal(msg, got))
	}
	require.NotEmpty(tb, s.peer)
}

// gateNone fails if g has let anybody in.
func gateNone(tb testing.TB, g *gate) {
	tb.Helper()
	select {
	case s := <-g.ready:
		tb.Fatalf("%s was let in", s.peer)
	default:
	}
}

var gateFamilies = []string{"tcp", "unix", "abstract", "nul"}

// TestGate: CON-16, CON-19, CON-22, over every family and proof.
func TestGate(t *testing.T) {
	ca := newGateAuthority(t)
	for _, tc := range []struct {
		name           string
		server, client Config
		fileOnly       bool
	}{
		{"key", Config{AuthKey: gateKey}, Config{AuthKey: gateKey}, false},
		{"short key", Config{AuthKey: []byte{0}}, Config{AuthKey: []byte{0}}, false},
		{"certificates", Config{TLS: ca.server(t)}, Config{TLS: ca.client(t)}, false},
		{"both", Config{AuthKey: gateKey, TLS: ca.server(t)}, Config{AuthKey: gateKey, TLS: ca.client(t)}, false},
		{"key, and a server's certificate", Config{AuthKey: gateKey, TLS: &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "server")}}}, Config{AuthKey: gateKey, TLS: ca.client(t)}, false},
		{"key, and a server's certificate that the client does not look at", Config{AuthKey: gateKey, TLS: &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "server")}}}, Config{AuthKey: gateKey}, false},
		{"plain", Config{}, Config{}, true},
		{"plain, with TLS", Config{TLS: &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "server")}}}, Config{TLS: ca.client(t)}, true},
	} {
		for _, family := range gateFamilies {
			if tc.fileOnly && family != "unix" {
				continue
			}
			t.Run(tc.name+"/"+family, func(t *testing.T) {
				gateLeaks(t)
				network, addr := gateAddr(t, family)
				g := gateOpen(t, network, addr, tc.server)
				for range 3 {
					gateTalk(t, g, tc.client)
				}
			})
		}
	}
}

// TestGateRefusesToOpen: an address that strangers reach needs a proof, CON-18, CON-26.
func TestGateRefusesToOpen(t *testing.T) {
	ca := newGateAuthority(t)
	with := func(change func(*tls.Config)) Config {
		c := ca.server(t)
		change(c)
		return Config{TLS: c}
	}
	for _, tc := range []struct {
		name, network, addr string
		cfg                 Config
		text                string
	}{
		{"udp", "udp", "127.0.0.1:0", Config{AuthKey: gateKey}, "neither"},
		{"unixgram", "unixgram", "/tmp/x", Config{AuthKey: gateKey}, "neither"},
		{"unixpacket", "unixpacket", "/tmp/x", Config{AuthKey: gateKey}, "neither"},
		{"no network", "", "127.0.0.1:0", Config{AuthKey: gateKey}, "neither"},
		{"no path", "unix", "", Config{AuthKey: gateKey}, "path"},
		{"tcp without proof", "tcp", "127.0.0.1:0", Config{}, "AuthKey"},
		{"tcp4 without proof", "tcp4", "127.0.0.1:0", Config{}, "AuthKey"},
		{"abstract without proof", "unix", "@gate-x", Config{}, "AuthKey"},
		{"abstract by NUL without proof", "unix", "\x00gate-x", Config{}, "AuthKey"},
		{"empty key", "tcp", "127.0.0.1:0", Config{AuthKey: []byte{}}, "empty"},
		{"empty key, file", "unix", "/tmp/gate-x", Config{AuthKey: []byte{}}, "empty"},
		{"empty key, certificates", "tcp", "127.0.0.1:0", Config{AuthKey: []byte{}, TLS: ca.server(t)}, "empty"},
		{"certificates not required", "tcp", "127.0.0.1:0", with(func(c *tls.Config) { c.ClientAuth = tls.VerifyClientCertIfGiven }), "ClientAuth"},
		{"certificates not verified", "tcp", "127.0.0.1:0", with(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }), "ClientAuth"},
		{"every authority", "tcp", "127.0.0.1:0", with(func(c *tls.Config) { c.ClientCAs = nil }), "ClientCAs"},
		{"no certificate", "tcp", "127.0.0.1:0", with(func(c *tls.Config) { c.Certificates = nil }), "no certificate"},
		{"old TLS", "tcp", "127.0.0.1:0", with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), "TLS 1.3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gateLeaks(t)
			if strings.Contains(tc.name, "abstract") && runtime.GOOS != "linux" {
				t.Skip("abstract sockets are Linux's")
			}
			_, err := listen(tc.network, tc.addr, tc.cfg)
			require.ErrorContains(t, err, tc.text)
			require.NotErrorIs(t, err, ErrAuth)
		})
	}
}

func TestGateRefusesToConnect(t *testing.T) {
	gateLeaks(t)
	for _, tc := range []struct {
		name, network, addr string
		cfg                 Config
		text                string
		auth                bool
	}{
		{"udp", "udp", "127.0.0.1:1", Config{AuthKey: gateKey}, "neither", false},
		{"empty key", "tcp", "127.0.0.1:1", Config{AuthKey: []byte{}}, "empty", false},
		{"tcp without proof", "tcp", "127.0.0.1:1", Config{}, "neither an AuthKey nor TLS", true},
		{"nobody to verify", "tcp", "127.0.0.1:1", Config{TLS: &tls.Config{InsecureSkipVerify: true}}, "InsecureSkipVerify", false},
		{"no name", "unix", "/tmp/gate-x", Config{TLS: &tls.Config{}}, "ServerName", false},
		{"no port", "tcp", "127.0.0.1", Config{TLS: &tls.Config{}}, "port", false},
		{"old TLS", "tcp", "127.0.0.1:1", Config{AuthKey: gateKey, TLS: &tls.Config{MaxVersion: tls.VersionTLS11}}, "TLS 1.3", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := connect(t.Context(), tc.network, tc.addr, tc.cfg)
			require.ErrorContains(t, err, tc.text)
			require.Equal(t, tc.auth, errors.Is(err, ErrAuth))
		})
	}
	_, err := connect(t.Context(), "unix", filepath.Join(t.TempDir(), "none"), Config{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestGateWrongPeers: whoever lacks what the other side demands gets ErrAuth, nobody is let in, the
// gate goes on, and nobody tells a secret. MGR-24, CON-20.
func TestGateWrongPeers(t *testing.T) {
	ca, other := newGateAuthority(t), newGateAuthority(t)
	key2 := []byte("another key that is long enough, 98765")
	noCert := ca.client(t)
	noCert.Certificates = nil
	otherCert := ca.client(t)
	otherCert.Certificates = []tls.Certificate{other.sign(t, "client")}
	otherRoot := ca.client(t)
	otherRoot.RootCAs = other.pool()
	otherName := ca.client(t)
	otherName.ServerName = "other.test"
	relaxed := ca.server(t)
	relaxed.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: relaxed.Certificates, ClientAuth: tls.RequestClientCert}, nil
	}
	withKey, withCert := Config{AuthKey: gateKey}, Config{TLS: ca.server(t)}
	both := Config{AuthKey: gateKey, TLS: ca.server(t)}

	for _, tc := range []struct {
		name           string
		server, client Config
		families       string
	}{
		{"another key", withKey, Config{AuthKey: key2}, "tcp unix abstract"},
		{"a key with a zero behind it", withKey, Config{AuthKey: append(bytes.Clone(gateKey), 0)}, "tcp"},
		{"a part of the key", withKey, Config{AuthKey: gateKey[:len(gateKey)-1]}, "tcp"},
		{"the proof's own secret as key", withKey, Config{AuthKey: keySecret(gateKey)}, "tcp"},
		{"no key", withKey, Config{}, "tcp unix abstract"},
		{"a certificate for a key", withKey, Config{TLS: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return nil }}}, "tcp unix"},
		{"a key for nothing", Config{}, withKey, "unix"},
		{"certificates for nothing", Config{}, Config{TLS: ca.client(t)}, "unix"},
		{"a key for a certificate", withCert, withKey, "tcp unix abstract"},
		{"nothing for a certificate", withCert, Config{}, "unix"},
		{"a key and a certificate for a certificate", withCert, Config{AuthKey: gateKey, TLS: ca.client(t)}, "tcp"},
		{"no certificate", withCert, Config{TLS: noCert}, "tcp unix"},
		{"a certificate of another authority", withCert, Config{TLS: otherCert}, "tcp unix"},
		{"a server of another authority", withCert, Config{TLS: otherRoot}, "tcp unix"},
		{"a server of another name", withCert, Config{TLS: otherName}, "tcp"},
		{"no certificate, and the server has been talked out of it", Config{TLS: relaxed}, Config{TLS: noCert}, "tcp"},
		{"a certificate for both", both, Config{TLS: ca.client(t)}, "tcp unix"},
		{"a certificate and another key for both", both, Config{AuthKey: key2, TLS: ca.client(t)}, "tcp"},
		{"a key for both", both, withKey, "tcp unix"},
		{"a key and another certificate for both", both, Config{AuthKey: gateKey, TLS: otherCert}, "tcp"},
	} {
		for family := range strings.FieldsSeq(tc.families) {
			t.Run(tc.name+"/"+family, func(t *testing.T) {
				gateLeaks(t)
				network, addr := gateAddr(t, family)
				log := new(gateLog)
				tc.server.Logger = log.logger()
				g := gateOpen(t, network, addr, tc.server)
				for range 20 { // an alert must not get lost on the way
					_, err := connect(t.Context(), network, gateAt(g), tc.client)
					require.ErrorIs(t, err, ErrAuth)
					gateNoSecret(t, err.Error(), gateKey, key2)
				}
				gateNone(t, g)
				require.Zero(t, g.tickets.line.Len())
				good := tc.server
				if good.TLS == relaxed {
					return
				}
				if good.TLS != nil {
					good.TLS = ca.client(t)
				}
				gateTalk(t, g, good)
				gateNoSecret(t, log.String(), gateKey, key2)
			})
		}
	}
}

// TestGateAddressInUse: CON-15, and MGR-08 right after.
func TestGateAddressInUse(t *testing.T) {
	for _, family := range gateFamilies {
		t.Run(family, func(t *testing.T) {
			gateLeaks(t)
			cfg := Config{AuthKey: gateKey, Logger: new(gateLog).logger()}
			network, addr := gateAddr(t, family)
			for range 20 {
				g, err := listen(network, addr, cfg)
				require.NoError(t, err)
				addr = gateAt(g)
				_, err = listen(network, addr, cfg)
				require.ErrorIs(t, err, syscall.EADDRINUSE)

				// The server's end is closed first, which TCP does not forget for a minute.
				c, err := connect(t.Context(), network, addr, cfg)
				require.NoError(t, err)
				s, err := g.accept()
				require.NoError(t, err)
				require.NoError(t, g.close())
				s.Close()
				_, err = c.Read(make([]byte, 1))
				require.Error(t, err)
				c.Close()
			}
		})
	}
}

// TestGateClose: CON-17. It ends those that wait, and those that are half in.
func TestGateClose(t *testing.T) {
	gateLeaks(t)
	g, err := listen("tcp", "127.0.0.1:0", Config{AuthKey: gateKey, Logger: new(gateLog).logger()})
	require.NoError(t, err)
	half, err := net.Dial("tcp", gateAt(g))
	require.NoError(t, err)
	defer half.Close()
	c, err := connect(t.Context(), "tcp", gateAt(g), Config{AuthKey: gateKey}) // nobody accepts it
	require.NoError(t, err)
	defer c.Close()
	early, err := connect(t.Context(), "tcp", gateAt(g), Config{AuthKey: gateKey})
	require.NoError(t, err)
	defer early.Close()
	s, err := g.accept()
	require.NoError(t, err)
	defer s.Close()

	waits := make(chan error, 1)
	go func() {
		for {
			s, err := g.accept()
			if err != nil {
				waits <- err
				return
			}
			s.Close()
		}
	}()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { _ = g.close() })
	}
	wg.Wait()
	require.ErrorIs(t, <-waits, net.ErrClosed)
	_, err = g.accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = half.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = connect(t.Context(), "tcp", gateAt(g), Config{AuthKey: gateKey})
	require.ErrorIs(t, err, syscall.ECONNREFUSED)

	_, err = s.Write([]byte("still there"))
	require.NoError(t, err, "a session that was accepted is the caller's")
}

// gateSlowLog takes its time.
type gateSlowLog struct{ done atomic.Int32 }

func (l *gateSlowLog) Write(b []byte) (int, error) {
	time.Sleep(50 * time.Millisecond) // the time that it takes
	l.done.Add(1)
	return len(b), nil
}

// TestGateCloseWaits: nothing of a gate runs on after close.
func TestGateCloseWaits(t *testing.T) {
	gateLeaks(t)
	log := new(gateSlowLog)
	g := gateOpen(t, "tcp", "127.0.0.1:0", Config{
		AuthKey: gateKey, Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	half, err := net.Dial("tcp", gateAt(g))
	require.NoError(t, err)
	defer half.Close()
	gateTalk(t, g, Config{AuthKey: gateKey}) // half has been accepted before
	require.NoError(t, g.close())
	require.EqualValues(t, 1, log.done.Load())
}

// TestGateSentAndGone: CON-16, of a client that has left before accept.
func TestGateSentAndGone(t *testing.T) {
	for _, family := range gateFamilies {
		t.Run(family, func(t *testing.T) {
			gateLeaks(t)
			network, addr := gateAddr(t, family)
			g := gateOpen(t, network, addr, Config{AuthKey: gateKey})
			c, err := connect(t.Context(), network, gateAt(g), Config{AuthKey: gateKey})
			require.NoError(t, err)
			_, err = c.Write([]byte("hello"))
			require.NoError(t, err)
			require.NoError(t, c.Close())
			s, err := g.accept()
			require.NoError(t, err)
			defer s.Close()
			b, err := io.ReadAll(s)
			require.NoError(t, err)
			require.Equal(t, "hello", string(b))
		})
	}
}

// gateFaulty is a listener that fails for some time.
type gateFaulty struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (l *gateFaulty) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

// TestGateOutOfDescriptors: accept fails, and goes on later. Who has proved nothing makes room.
func TestGateOutOfDescriptors(t *testing.T) {
	gateLeaks(t)
	log := new(gateLog)
	g, err := newGate("tcp", "127.0.0.1:0", Config{AuthKey: gateKey, HandshakeTimeout: 5 * time.Minute, Logger: log.logger()})
	require.NoError(t, err)
	require.NoError(t, g.open())
	g.ln = &gateFaulty{Listener: g.ln, errs: []error{
		&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)},
		&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.ECONNABORTED)},
		errors.New("something else"),
	}}
	half, peer := net.Pipe()
	defer peer.Close()
	require.NoError(t, peer.SetDeadline(time.Now().Add(30*time.Second)))
	g.take(half)
	g.start()
	t.Cleanup(func() { require.NoError(t, g.close()) })
	_, err = peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	gateTalk(t, g, Config{AuthKey: gateKey})
	require.Equal(t, 3, strings.Count(log.String(), "level=WARN"))
}

// TestGateImpatientClient: a server that says nothing is given up, by timeout and by ctx.
func TestGateImpatientClient(t *testing.T) {
	gateLeaks(t)
	for _, family := range []string{"tcp", "unix"} {
		network, addr := gateAddr(t, family)
		ln, err := net.Listen(network, addr)
		require.NoError(t, err)
		defer ln.Close()
		addr = ln.Addr().String()
		cfgs := []Config{{AuthKey: gateKey}}
		if family == "unix" {
			cfgs = append(cfgs, Config{})
		}
		for _, cfg := range cfgs {
			cfg.HandshakeTimeout = 50 * time.Millisecond
			_, err = connect(t.Context(), network, addr, cfg)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NotErrorIs(t, err, ErrAuth)

			cfg.HandshakeTimeout = 0
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, err = connect(ctx, network, addr, cfg)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()

			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			_, err = connect(ctx, network, addr, cfg)
			require.ErrorIs(t, err, context.Canceled)
			_, err = connect(ctx, network, addr, cfg)
			require.ErrorIs(t, err, context.Canceled)
		}
	}
}

// TestGateStrangeServers: what answers is no manager.
func TestGateStrangeServers(t *testing.T) {
	gateLeaks(t)
	version2 := make([]byte, greetingSize)
	head(version2, statusFine, byPlace)
	version2[len(magic)+1] = 2
	for _, tc := range []struct {
		name, says string
		auth       bool
	}{
		{"hangs up", "", false},
		{"ssh", "SSH-2.0-OpenSSH_9.6\r\n", true},
		{"http", "HTTP/1.1 400 Bad Request\r\n\r\n", true},
		{"another version", string(version2), true},
		{"garbage", strings.Repeat("\xff", 1000), true},
	} {
		for _, cfg := range []Config{{}, {AuthKey: gateKey}} {
			t.Run(fmt.Sprintf("%s, key %t", tc.name, cfg.AuthKey != nil), func(t *testing.T) {
				network, addr := gateAddr(t, "unix")
				ln, err := net.Listen(network, addr)
				require.NoError(t, err)
				defer ln.Close()
				go func() {
					c, err := ln.Accept()
					if err == nil {
						_, _ = io.WriteString(c, tc.says)
						_ = c.(*net.UnixConn).CloseWrite()
						_, _ = io.Copy(io.Discard, c)
						c.Close()
					}
				}()
				_, err = connect(t.Context(), network, addr, cfg)
				require.Error(t, err)
				require.Equal(t, tc.auth, errors.Is(err, ErrAuth), "%v", err)
				if tc.name == "another version" && cfg.AuthKey == nil {
					require.ErrorContains(t, err, "version 2")
				}
			})
		}
	}
}

// TestGateOtherProtocol: somebody who speaks TLS and has the right certificate, but wants something
// else.
func TestGateOtherProtocol(t *testing.T) {
	gateLeaks(t)
	ca := newGateAuthority(t)
	g := gateOpen(t, "tcp", "127.0.0.1:0", Config{TLS: ca.server(t)})
	for _, protos := range [][]string{nil, {"h2"}, {"h2", "http/1.1"}} {
		conf := ca.client(t)
		conf.NextProtos = protos
		c, err := tls.Dial("tcp", gateAt(g), conf)
		if err == nil {
			var n int
			n, err = c.Read(make([]byte, 1))
			require.Zero(t, n)
			c.Close()
		}
		require.Error(t, err)
	}
	old := ca.client(t)
	old.MaxVersion = tls.VersionTLS12
	_, err := tls.Dial("tcp", gateAt(g), old)
	require.ErrorContains(t, err, "protocol version")
	transport := &http.Transport{}
	_, err = (&http.Client{Transport: transport}).Get("http://" + gateAt(g) + "/")
	require.Error(t, err)
	transport.CloseIdleConnections()
	gateNone(t, g)
	gateTalk(t, g, Config{TLS: ca.client(t)})
}
