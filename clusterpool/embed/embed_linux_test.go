package embed_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
	"example.com/futures/worker"
)

// Nothing is left after the tests: goroutines, processes, descriptors.
func TestMain(m *testing.M) {
	worker.Main()
	proctest.Main(m, func(string) {}, clustertest.IgnoreListeners())
}

var double = executor.NewTask("embedtest.double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })

var processID = executor.NewTask("embedtest.pid", func(context.Context, struct{}) (int, error) { return os.Getpid(), nil })

// hang runs until its context ends, and says that it runs by making a file.
var hang = executor.NewTask("embedtest.hang", func(ctx context.Context, file string) (int, error) {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return 0, err
	}
	<-ctx.Done()
	return 0, context.Cause(ctx)
})

var serveTask = executor.NewTask("embedtest.serve", func(ctx context.Context, url string) (struct{}, error) {
	return struct{}{}, clusterpool.Serve(ctx, clusterpool.ServeConfig{URL: url, Lease: lease})
})

const lease = time.Second

func start(t *testing.T, cfg embed.Config) *embed.Server {
	t.Helper()
	s, err := embed.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// The pool of one call has its workers in processes of their own, and Close ends all of it.
func TestNew(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p, err := embed.New(t.Context(), clusterpool.Config{Lease: lease}, 2)
	require.NoError(t, err)
	require.Equal(t, 2, p.Stats().Workers, "they are there when New returns")
	pid, err := executor.Apply(t.Context(), p, processID, struct{}{})
	require.NoError(t, err)
	require.NotEqual(t, os.Getpid(), pid)
	file := filepath.Join(t.TempDir(), "runs")
	running := executor.Submit(t.Context(), p, hang, file)
	require.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, time.Minute, time.Millisecond)

	require.NoError(t, p.Close())
	require.ErrorIs(t, running.Exception(t.Context()), executor.ErrShutdown)
	require.ErrorIs(t, executor.Submit(t.Context(), p, double, 1).Exception(t.Context()), executor.ErrShutdown)
	require.NoError(t, p.Close(), "twice")
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// Shutdown lets what was accepted run, and then ends the workers and the server, too.
func TestNewShutdown(t *testing.T) {
	p, err := embed.New(t.Context(), clusterpool.Config{}, 1)
	require.NoError(t, err)
	f := executor.Submit(t.Context(), p, double, 21)
	require.NoError(t, p.Shutdown(t.Context()))
	v, err := f.Result(t.Context())
	require.NoError(t, err)
	require.Equal(t, 42, v)
	require.Empty(t, p.Workers())
}

func TestNewRefuses(t *testing.T) {
	_, err := embed.New(t.Context(), clusterpool.Config{}, -1)
	require.ErrorContains(t, err, "embed: workers is -1")
	_, err = embed.New(t.Context(), clusterpool.Config{Name: "a.b"}, 1)
	require.ErrorContains(t, err, `clusterpool: Config.Name is "a.b"`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = embed.New(ctx, clusterpool.Config{}, 1)
	require.ErrorIs(t, err, context.Canceled)
}

// A program that does not call worker.Main is told so, as by a process pool, and starts
// nothing.
func TestNewWithoutMain(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "nomain")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./testdata/nomain").CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.CommandContext(t.Context(), binary).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "call worker.Main() first in func main")
}

// A call that waits in a server with a directory is still there when the server is started
// again on the same one. The client that submitted it hears of its end, and so does one
// that knows its ID.
func TestDirKeepsWhatIsQueued(t *testing.T) {
	cfg := embed.Config{
		Dir: t.TempDir(), Listen: freeAddress(t), SyncAlways: true,
		Options: func(o *server.Options) { o.Username, o.Password = "me", "the same again" }, // so that the client comes back
	}
	s := start(t, cfg)
	p, err := clusterpool.New(t.Context(), clusterpool.Config{URL: s.URL(), Lease: lease})
	require.NoError(t, err)
	defer p.Close()
	f := executor.Submit(t.Context(), p, double, 4)
	var before *nats.StreamInfo
	require.Eventually(t, func() bool {
		before = tasks(t, s)
		return before.State.Msgs == 1
	}, time.Minute, time.Millisecond, "it is in the queue")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "twice")

	again := start(t, cfg)
	after := tasks(t, again)
	require.EqualValues(t, 1, after.State.Msgs)
	require.Equal(t, before.Created, after.Created, "it is the same stream")
	q, err := clusterpool.New(t.Context(), clusterpool.Config{Options: again.Options(), Lease: lease})
	require.NoError(t, err)
	defer q.Close()
	attached := clusterpool.Attach[int](t.Context(), q, clusterpool.ID(f))
	require.NoError(t, embed.Serve(t.Context(), q, clusterpool.ServeConfig{Options: again.Options(), Lease: lease}))
	for _, f := range []*future.Future[int]{f, attached} {
		v, err := f.Result(t.Context())
		require.NoError(t, err)
		require.Equal(t, 8, v)
	}
}

// tasks tells about the stream of queued calls.
func tasks(t *testing.T, s *embed.Server) *nats.StreamInfo {
	t.Helper()
	nc := connect(t, s.Options()...)
	defer nc.Close()
	js, err := nc.JetStream()
	require.NoError(t, err)
	info, err := js.StreamInfo("futures_TASKS")
	require.NoError(t, err)
	return info
}

// freeAddress returns one of the loopback interface that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer free.Close()
	return free.Addr().String()
}

func TestDirIsAnothers(t *testing.T) {
	dir := t.TempDir()
	s := start(t, embed.Config{Dir: dir, Listen: "none"})
	_, err := embed.Start(t.Context(), embed.Config{Dir: dir, Listen: "none"})
	require.ErrorContains(t, err, "embed: Config.Dir is ")
	require.ErrorContains(t, err, "another server uses it")
	require.NoError(t, s.Close())
	start(t, embed.Config{Dir: dir, Listen: "none"})
}

// A server that does not listen is there for its own program alone.
func TestListenNone(t *testing.T) {
	s := start(t, embed.Config{Listen: "none"})
	require.Empty(t, s.URL())
	p, err := clusterpool.New(t.Context(), clusterpool.Config{Options: s.Options(), Memory: true})
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, embed.Serve(t.Context(), p, clusterpool.ServeConfig{Options: s.Options()}))
	v, err := executor.Apply(t.Context(), p, double, 3)
	require.NoError(t, err)
	require.Equal(t, 6, v)
}

func TestListen(t *testing.T) {
	addr := freeAddress(t)
	s := start(t, embed.Config{Listen: addr})
	require.True(t, strings.HasPrefix(s.URL(), "nats://futures:"), "a user and a password")
	require.True(t, strings.HasSuffix(s.URL(), "@"+addr), s.URL())
	other := start(t, embed.Config{Listen: "127.0.0.1:0"})
	require.NotEqual(t, s.URL(), other.URL())
	_, port, err := net.SplitHostPort(other.URL()[strings.LastIndexByte(other.URL(), '@')+1:])
	require.NoError(t, err)
	require.NotEqual(t, "0", port)
}

func TestStartRefuses(t *testing.T) {
	taken := start(t, embed.Config{})
	addr := taken.URL()[strings.LastIndexByte(taken.URL(), '@')+1:]
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		cfg  embed.Config
		want []string
	}{
		"MaxMemory":     {t.Context(), embed.Config{MaxMemory: -1}, []string{"Config.MaxMemory is -1"}},
		"MaxStore":      {t.Context(), embed.Config{MaxStore: -2}, []string{"MaxStore -2"}},
		"MaxPayload":    {t.Context(), embed.Config{MaxPayload: -3}, []string{"MaxPayload -3"}},
		"no port":       {t.Context(), embed.Config{Listen: "127.0.0.1"}, []string{`Config.Listen is "127.0.0.1"`, "host:port"}},
		"no number":     {t.Context(), embed.Config{Listen: "127.0.0.1:nats"}, []string{`Config.Listen is "127.0.0.1:nats"`}},
		"address taken": {t.Context(), embed.Config{Listen: addr}, []string{addr, "address already in use"}},
		"not ours":      {t.Context(), embed.Config{Listen: "192.0.2.1:4222"}, []string{"192.0.2.1:4222", "cannot assign requested address"}},
		"no directory":  {t.Context(), embed.Config{Dir: "/proc/none"}, []string{`Config.Dir is "/proc/none"`}},
		"ended":         {ended, embed.Config{Listen: "none"}, []string{"context canceled"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			began := time.Now()
			s, err := embed.Start(tt.ctx, tt.cfg)
			require.Nil(t, s)
			for _, want := range append(tt.want, "embed: ") {
				require.ErrorContains(t, err, want)
			}
			require.Less(t, time.Since(began), 20*time.Second, "it used to wait for 30 s")
			left, err := os.ReadDir(os.Getenv("TMPDIR"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// Who is not of this process needs the user and password of the URL.
func TestCredentials(t *testing.T) {
	s := start(t, embed.Config{})
	host := s.URL()[strings.LastIndexByte(s.URL(), '@')+1:]
	for name, url := range map[string]string{
		"none":             "nats://" + host,
		"another password": "nats://futures:guess@" + host,
		"another user":     strings.Replace(s.URL(), "futures:", "root:", 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := clusterpool.New(t.Context(), clusterpool.Config{URL: url})
			require.ErrorIs(t, err, nats.ErrAuthorization)
			err = clusterpool.Serve(t.Context(), clusterpool.ServeConfig{URL: url})
			require.ErrorIs(t, err, nats.ErrAuthorization)
			require.NotContains(t, err.Error(), "guess")
		})
	}

	// With them a worker in a process of its own serves the client in this one.
	p, err := clusterpool.New(t.Context(), clusterpool.Config{Options: s.Options(), Lease: lease, Memory: true})
	require.NoError(t, err)
	defer p.Close()
	w, err := worker.Start(t.Context(), serveTask, s.URL(), worker.Config{Output: func(int, string, []byte) {}})
	require.NoError(t, err)
	pid, err := executor.Apply(t.Context(), p, processID, struct{}{})
	require.NoError(t, err)
	require.Equal(t, w.PID(), pid)
	require.NoError(t, w.Terminate())
	require.NoError(t, w.Join(t.Context()))
}

// The server's own options are at hand: here, that nobody is asked for a password, and that
// its streams are held to a limit.
func TestOptions(t *testing.T) {
	s := start(t, embed.Config{MaxPayload: 4096, MaxMemory: 1 << 20, Options: func(o *server.Options) { o.Username, o.Password = "", "" }})
	require.NotContains(t, s.URL(), "@")
	nc := connect(t, s.Options()...)
	defer nc.Close()
	require.EqualValues(t, 4096, nc.MaxPayload())
	js, err := nc.JetStream()
	require.NoError(t, err)
	_, err = js.AddStream(&nats.StreamConfig{Name: "LARGE", Storage: nats.MemoryStorage, MaxBytes: 1 << 30})
	require.ErrorContains(t, err, "insufficient memory resources")
	other, err := nats.Connect(s.URL())
	require.NoError(t, err)
	other.Close()
}

// Serve says why a worker could not begin.
func TestServeRefuses(t *testing.T) {
	s := start(t, embed.Config{Listen: "none"})
	p, err := clusterpool.New(t.Context(), clusterpool.Config{Options: s.Options(), Memory: true})
	require.NoError(t, err)
	defer p.Close()
	err = embed.Serve(t.Context(), p, clusterpool.ServeConfig{Options: s.Options(), Slots: -1})
	require.ErrorContains(t, err, "ServeConfig.Slots is -1")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("too late"))
	defer cancel()
	err = embed.Serve(ctx, p, clusterpool.ServeConfig{Options: s.Options(), Name: "another"}) // of whom p does not hear
	require.EqualError(t, err, "too late")
}

func TestLogger(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	told := make(chan string, 1)
	go func() { // ends with the pipe
		text, _ := io.ReadAll(r)
		told <- string(text)
	}()
	s, err := embed.Start(t.Context(), embed.Config{Listen: "none", Logger: slog.New(slog.NewTextHandler(w, nil))})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	w.Close()
	text := <-told
	require.Contains(t, text, "nats: Server is ready")
	require.NotContains(t, text, "level=ERROR")
}

func connect(t *testing.T, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", options...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}
