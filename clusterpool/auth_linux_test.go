package clusterpool_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
)

// clientSubjects are what a client needs, and no more. P is the pool's name, C the client's;
// its inboxes begin with _INBOX_C.
func clientSubjects(pool, client string) (publish, subscribe []string) {
	return replaced(pool, client, []string{
			"P.q.*.*.C.>", // its calls
			"P.s.C.>",     // and what it says of them
			"P.c.*",       // interrupts
			"P.hi",
			"$JS.API.STREAM.CREATE.P_TASKS", // also if they are there
			"$JS.API.STREAM.CREATE.P_STATE",
			"$JS.API.STREAM.CREATE.OBJ_P_BLOBS",
			"$JS.API.STREAM.INFO.P_TASKS",
			"$JS.API.STREAM.INFO.P_STATE",
			"$JS.API.CONSUMER.CREATE.P_STATE.*.P.s.C.>", // what the workers say of its calls
			"$JS.API.CONSUMER.MSG.NEXT.P_STATE.*",
			"$JS.API.CONSUMER.DELETE.P_STATE.*",
			"$JS.API.DIRECT.GET.P_STATE.P.s.C.>",
			"$JS.API.STREAM.MSG.GET.P_STATE", // of all calls
			"$JS.API.STREAM.MSG.GET.P_TASKS",
			"$JS.API.STREAM.MSG.DELETE.P_TASKS", // of all calls
			"$JS.API.STREAM.PURGE.P_STATE",      // for who makes more than some 250,000 calls an hour
		}), replaced(pool, client, []string{
			"_INBOX_C.>",
			"P.w.*", // workers
			"P.p.C", // chunks
		})
}

// workerSubjects are what the worker W needs.
func workerSubjects(pool, worker string) (publish, subscribe []string) {
	return replaced(pool, worker, []string{
			"P.s.>",
			"P.p.*",
			"P.w.C",
			"P.a.*",
			"$JS.API.CONSUMER.CREATE.P_TASKS.*.P.q.>",
			"$JS.API.CONSUMER.MSG.NEXT.P_TASKS.*",
			"$JS.ACK.P_TASKS.>",
			"$JS.API.STREAM.MSG.GET.P_STATE",
			"$JS.API.STREAM.MSG.GET.P_TASKS", // after a connection was lost
		}), replaced(pool, worker, []string{
			"_INBOX_C.>",
			"P.c.C",
			"P.a.C",
			"P.hi",
		})
}

// blobSubjects are what both need for arguments and results that are larger than a message.
func blobSubjects(pool string) []string {
	return replaced(pool, "", []string{
		"$O.P_BLOBS.>",
		"$JS.API.STREAM.INFO.OBJ_P_BLOBS",
		"$JS.API.STREAM.PURGE.OBJ_P_BLOBS",
		"$JS.API.DIRECT.GET.OBJ_P_BLOBS.>",
		"$JS.API.CONSUMER.CREATE.OBJ_P_BLOBS.>",
		"$JS.FC.OBJ_P_BLOBS.>",
		"$JS.API.CONSUMER.DELETE.OBJ_P_BLOBS.*",
	})
}

// replaced puts names into subjects.
func replaced(pool, one string, subjects []string) []string {
	all := slices.Clone(subjects)
	for i, s := range all {
		tokens := strings.Split(s, ".")
		for k, token := range tokens {
			switch token {
			case "P":
				tokens[k] = pool
			case "C":
				tokens[k] = one
			case "_INBOX_C":
				tokens[k] = "_INBOX_" + one
			default:
				tokens[k] = strings.ReplaceAll(token, "P_", pool+"_")
			}
		}
		all[i] = strings.Join(tokens, ".")
	}
	return all
}

// A user is one of a server's configuration; nil subjects are all.
type user struct {
	Name               string
	Publish, Subscribe []string
}

func (u user) String() string {
	text := fmt.Sprintf(`{user: %q, password: "secret-%s"`, u.Name, u.Name)
	if u.Publish != nil {
		text += fmt.Sprintf(`, permissions: {publish: {allow: ["%s"]}, subscribe: {allow: ["%s"]}}`,
			strings.Join(u.Publish, `", "`), strings.Join(u.Subscribe, `", "`))
	}
	return text + "}"
}

// account returns the text of an account in a server's configuration.
func account(name string, users ...user) string {
	all := make([]string, len(users))
	for i, u := range users {
		all[i] = u.String()
	}
	return fmt.Sprintf("%s: {jetstream: enabled, users: [%s]}\n", name, strings.Join(all, ", "))
}

// as returns what user connects by.
func as(user string) []nats.Option {
	return []nats.Option{nats.UserInfo(user, "secret-"+user), nats.CustomInboxPrefix("_INBOX_" + user)}
}

// A grep is a logger that keeps what has a word in it.
type grep struct {
	word string
	mu   sync.Mutex
	text bytes.Buffer
}

func (g *grep) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if bytes.Contains(bytes.ToLower(b), []byte(g.word)) {
		g.text.Write(b)
	}
	return len(b), nil
}

func (g *grep) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

func (g *grep) logger() *slog.Logger { return slog.New(slog.NewTextHandler(g, nil)) }

// sizeTask returns as many bytes as it is given, and one.
var sizeTask = executor.NewTask("clustertest.size", func(_ context.Context, b []byte) ([]byte, error) {
	return append(b, 1), nil
})

// A wrong password is refused, by clients and workers.
func TestWrongPassword(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{Config: "accounts: {" + account("A", user{Name: "one"}) + "}"})
	for _, options := range [][]nats.Option{nil, {nats.UserInfo("one", "wrong")}, {nats.UserInfo("nobody", "secret-one")}} {
		_, err := clusterpool.New(t.Context(), clusterpool.Config{URL: s.URL(), Options: options})
		require.ErrorIs(t, err, nats.ErrAuthorization)
		err = clusterpool.Serve(t.Context(), clusterpool.ServeConfig{URL: s.URL(), Options: options})
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}
	u, err := url.Parse(s.URL())
	require.NoError(t, err)
	u.User = url.UserPassword("one", "geheim")
	_, err = clusterpool.New(t.Context(), clusterpool.Config{URL: u.String()})
	require.ErrorIs(t, err, nats.ErrAuthorization)
	require.NotContains(t, err.Error(), "geheim")
}

// Credentials that do not hold for a while, as when they are changed, are no end: clients and
// workers go on when they do again.
func TestPasswordChanged(t *testing.T) {
	dir := t.TempDir()
	s := clustertest.StartServer(t, clustertest.Options{Dir: dir, User: "one", Password: "right"})
	sockets := func() (n int) {
		for _, what := range proctest.Descriptors() {
			if strings.HasPrefix(what, "socket:") {
				n++
			}
		}
		return n
	}
	before := sockets()
	u, err := url.Parse(s.URL())
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	j := clustertest.NewJournal(t)
	name := poolName(t)
	refused := grep{word: "authorization"}
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Logger: refused.logger()})
	w := serve(t, job{URL: s.URL(), Name: name, Slots: 2})
	requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 0, 10), 0)
	s.Kill()
	fs := notes(t, p, note{Dir: j.Dir()}, 10, 20)
	other := clustertest.StartServer(t, clustertest.Options{Dir: dir, Port: port, User: "one", Password: "changed"})
	until(t, "the client was refused, more often than the NATS client bears by itself", func() bool {
		return strings.Count(refused.String(), "\n") > 4
	})
	other.Kill()
	clustertest.StartServer(t, clustertest.Options{Dir: dir, Port: port, User: "one", Password: "right"})
	requireNotes(t, fs, 10)
	require.Empty(t, clustertest.Twice(j.Starts()))
	require.NoError(t, p.Close())
	w.kill()
	until(t, "refused connections are closed", func() bool { // which the NATS client leaves to the garbage collector
		runtime.GC()
		return sockets() <= before
	})
}

// Users with the permissions that they need do all that there is to do, and are denied nothing.
func TestPermissions(t *testing.T) {
	const pool = "restricted"
	pub1, sub1 := clientSubjects(pool, "c1")
	pub2, sub2 := clientSubjects(pool, "c2")
	pubW, subW := workerSubjects(pool, "w")
	blobs := blobSubjects(pool)
	s := clustertest.StartServer(t, clustertest.Options{Config: "accounts: {" + account(
		"A",
		user{"c1", append(pub1, blobs...), sub1},
		user{"c2", append(pub2, blobs...), sub2},
		user{"w", append(pubW, blobs...), subW},
	) + "}"})
	denied := grep{word: "permission"}
	j := clustertest.NewJournal(t)
	open := func(client string) *clusterpool.Pool {
		return dial(t, clusterpool.Config{URL: s.URL(), Options: as(client), Name: pool, Client: client, Logger: denied.logger()})
	}
	one, two := open("c1"), open("c2")
	stop := serveHere(t, clusterpool.ServeConfig{URL: s.URL(), Options: as("w"), Name: pool, Worker: "w", Slots: 4, Logger: denied.logger()})
	awaitWorkers(t, one, 1)

	// All that there is to do.
	for i, p := range []*clusterpool.Pool{one, two} {
		requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 1000*i, 1000*i+300), 1000*i)
		sum := 0
		for _, err := range executor.Map(t.Context(), p, noteTask, func(yield func(note) bool) {
			for k := range int64(100) {
				if !yield(note{Dir: j.Dir(), Call: 5000 + k, Sleep: time.Millisecond}) {
					return
				}
			}
		}, executor.WithChunk(10)) {
			require.NoError(t, err)
			sum++
		}
		require.Equal(t, 100, sum)
		f := executor.Submit(t.Context(), p, noteTask, note{Dir: j.Dir(), Call: 9000, Sleep: time.Minute})
		until(t, "it runs", f.IsRunning)
		a := clusterpool.Attach[int64](t.Context(), p, clusterpool.ID(f))
		require.True(t, f.Interrupt(errAsked))
		require.ErrorIs(t, f.Exception(proctest.Within(t)), errAsked)
		require.ErrorIs(t, a.Exception(proctest.Within(t)), errAsked)
		large := make([]byte, 3<<20)
		b, err := executor.Apply(proctest.Within(t), p, sizeTask, large)
		require.NoError(t, err)
		require.Len(t, b, len(large)+1)
	}
	stop()
	awaitWorkers(t, one, 0)
	f := notes(t, one, note{Dir: j.Dir()}, 10_000, 10_001)[0]
	require.True(t, f.Cancel())
	require.Empty(t, denied.String())

	// The other client's calls are not this one's, and it is told so.
	waits := notes(t, two, note{Dir: j.Dir()}, 10_001, 10_002)[0]
	awaitCalls := clusterpool.Attach[int64](t.Context(), one, clusterpool.ID(waits))
	require.ErrorIs(t, awaitCalls.Exception(proctest.Within(t)), nats.ErrPermissionViolation)
	require.ErrorContains(t, awaitCalls.Exception(t.Context()), "do not permit")
	nc, err := nats.Connect(s.URL(), append(as("c1"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	require.NoError(t, err)
	defer nc.Close()
	for _, subject := range []string{pool + ".s." + clusterpool.ID(waits), pool + ".q.high._." + clusterpool.ID(waits), "other.s.c1.a.1"} {
		require.NoError(t, nc.Publish(subject, []byte("C")))
		require.NoError(t, nc.Flush())
		require.ErrorIs(t, nc.LastError(), nats.ErrPermissionViolation)
		require.ErrorContains(t, nc.LastError(), subject)
	}
	require.False(t, waits.IsDone())
	require.True(t, waits.Cancel())

	for what, cfg := range map[string]clusterpool.Config{
		"another client":  {Name: pool, Client: "c2", Options: as("c1")},
		"another pool":    {Name: "other", Client: "c1", Options: as("c1")},
		"a worker's user": {Name: pool, Client: "w", Options: as("w")},
		"another inbox":   {Name: pool, Client: "c1", Options: as("c1")[:1]},
	} {
		cfg.URL = s.URL()
		began := time.Now()
		_, err := clusterpool.New(t.Context(), cfg)
		require.ErrorIs(t, err, nats.ErrPermissionViolation, what)
		require.ErrorContains(t, err, "do not permit", what)
		require.Less(t, time.Since(began), 2*time.Second, what)
		t.Logf("%s: %v", what, err)
	}
	for what, cfg := range map[string]clusterpool.ServeConfig{
		"another worker":  {Name: pool, Worker: "v", Options: as("w")},
		"another pool":    {Name: "other", Worker: "w", Options: as("w")},
		"a client's user": {Name: pool, Worker: "c1", Options: as("c1")},
	} {
		cfg.URL, cfg.Lease = s.URL(), lease
		began := time.Now()
		err := clusterpool.Serve(t.Context(), cfg)
		require.ErrorIs(t, err, nats.ErrPermissionViolation, what)
		require.ErrorContains(t, err, "do not permit", what)
		require.Less(t, time.Since(began), 2*time.Second, what)
		t.Logf("%s: %v", what, err)
	}
}

// A call whose message the servers do not take fails, and says why.
func TestSubmitDenied(t *testing.T) {
	const pool = "denied"
	publish, subscribe := clientSubjects(pool, "c1")
	publish = slices.DeleteFunc(publish, func(s string) bool { return strings.HasPrefix(s, pool+".q.") })
	s := clustertest.StartServer(t, clustertest.Options{Config: "accounts: {" + account("A", user{"c1", publish, subscribe}) + "}"})
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: pool, Client: "c1", Options: as("c1")})
	fs := notes(t, p, note{}, 0, 100)
	fs = append(fs, notes(t, p, note{}, 0, 100, executor.WithRetries(1))...)
	for _, f := range fs {
		require.ErrorIs(t, f.Exception(proctest.Within(t)), nats.ErrPermissionViolation)
	}
	require.Equal(t, uint64(200), p.Stats().Failed)
}

// Tenants have an account each. Under the same names they do not see each other.
func TestTenants(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{Config: "accounts: {" + account("A", user{Name: "a"}) + account("B", user{Name: "b"}) + "}"})
	name := poolName(t)
	tenants := []string{"a", "b"}
	pools, journals := map[string]*clusterpool.Pool{}, map[string]*clustertest.Journal{}
	for _, tenant := range tenants {
		pools[tenant] = dial(t, clusterpool.Config{URL: s.URL(), Options: as(tenant), Name: name, Client: "me"})
		journals[tenant] = clustertest.NewJournal(t)
	}
	waits := notes(t, pools["b"], note{Dir: journals["b"].Dir()}, 0, 20)
	serveHere(t, clusterpool.ServeConfig{URL: s.URL(), Options: as("a"), Name: name, Worker: "w", Slots: 2})
	awaitWorkers(t, pools["a"], 1)
	fs := notes(t, pools["a"], note{Dir: journals["a"].Dir()}, 100, 300)
	requireNotes(t, fs, 100)
	require.Empty(t, pools["b"].Workers())
	require.Empty(t, journals["b"].Starts())
	for _, f := range waits {
		require.False(t, f.IsDone())
	}
	_, err := clusterpool.Attach[int64](t.Context(), pools["b"], clusterpool.ID(fs[0])).Result(proctest.Within(t))
	require.ErrorContains(t, err, "know nothing of call")
	serveHere(t, clusterpool.ServeConfig{URL: s.URL(), Options: as("b"), Name: name, Worker: "w", Slots: 2})
	requireNotes(t, waits, 0)
	require.Len(t, journals["a"].Starts(), 200)
	require.Len(t, journals["b"].Starts(), 20)
	for _, tenant := range tenants {
		f := clustertest.Follow(t, s.URL(), name+"_STATE", as(tenant)...)
		requireFinals(t, f, len(journals[tenant].Starts()))
	}
}

// A certificate and its key are files for a server.
type certificate struct{ cert, key, ca string }

// certify makes a certificate of 127.0.0.1 by an authority of its own.
func certify(t testing.TB) certificate {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	made := func(c, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) []byte {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey)
		require.NoError(t, err)
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		return key
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "one"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	caDER := made(ca, ca, caKey, caKey)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return certificate{
		cert: write("cert.pem", "CERTIFICATE", made(leaf, ca, key, caKey)),
		key:  write("key.pem", "EC PRIVATE KEY", keyDER),
		ca:   write("ca.pem", "CERTIFICATE", caDER),
	}
}

// With TLS both sides are verified: a client that does not know the authority refuses the
// server, and the server one that has no certificate.
func TestTLS(t *testing.T) {
	c := certify(t)
	s := clustertest.StartServer(t, clustertest.Options{Config: fmt.Sprintf("tls: {cert_file: %q, key_file: %q, ca_file: %q, verify: true}\n", c.cert, c.key, c.ca)})
	name := poolName(t)
	j := clustertest.NewJournal(t)
	good := []nats.Option{nats.RootCAs(c.ca), nats.ClientCert(c.cert, c.key)}
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name, Options: good})
	serveHere(t, clusterpool.ServeConfig{URL: s.URL(), Name: name, Options: good, Slots: 2})
	requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 0, 100), 0)

	other := certify(t)
	for what, options := range map[string][]nats.Option{
		"no authority":      {nats.ClientCert(c.cert, c.key)},
		"another authority": {nats.RootCAs(other.ca), nats.ClientCert(c.cert, c.key)},
		"no certificate":    {nats.RootCAs(c.ca)},
		"another's":         {nats.RootCAs(c.ca), nats.ClientCert(other.cert, other.key)},
	} {
		began := time.Now()
		_, err := clusterpool.New(t.Context(), clusterpool.Config{URL: s.URL(), Name: name, Options: options})
		require.Error(t, err, what)
		t.Logf("%s: %v", what, err)
		require.Error(t, clusterpool.Serve(t.Context(), clusterpool.ServeConfig{URL: s.URL(), Name: name, Options: options}), what)
		if strings.Contains(what, "authority") {
			require.ErrorContains(t, err, "unknown authority", what)
		}
		require.Less(t, time.Since(began), 10*time.Second, what)
	}
	requireNotes(t, notes(t, p, note{Dir: j.Dir()}, 100, 200), 100)
}
