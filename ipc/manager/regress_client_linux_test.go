package manager

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/proctest"
	"example.com/futures/internal/wire"
)

// within returns what fn returns, which it must do in time.
func within(t *testing.T, d time.Duration, fn func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		require.FailNow(t, "it hangs")
		return nil
	}
}

// A call that is alone and finds another writing does not keep the answers of others from being
// read, while its argument waits until one has been.
func TestLargeBothWays(t *testing.T) {
	m, err := Start(t.Context(), Config{})
	require.NoError(t, err)
	defer m.Close()
	ctx := context.Background()
	d, err := NewDict[int, []byte](ctx, m)
	require.NoError(t, err)
	big := make([]byte, 4<<20)
	require.NoError(t, d.Set(ctx, 0, big))
	for range 2*mostLone + 2 {
		_, err := d.Len(ctx)
		require.NoError(t, err)
	}
	for _, arg := range [][]byte{big, big[:largeLen-1]} {
		o := m.conn.out
		o.mu.Lock()
		o.take()
		o.mu.Unlock()
		set, get := make(chan error, 1), make(chan error, 1)
		go func() { set <- d.Set(ctx, 1, arg) }()
		proctest.Blocked(t, 1, "manager.(*conn).")
		go func() {
			_, _, err := d.Get(ctx, 0)
			get <- err
		}()
		proctest.Blocked(t, 2, "manager.(*conn).")
		o.mu.Lock()
		o.give()
		o.mu.Unlock()
		require.NoError(t, within(t, 20*time.Second, func() error { return errors.Join(<-set, <-get) }))
	}
}

// mute returns a connection to a server that greets, and then does nothing.
func mute(t *testing.T) *conn {
	t.Helper()
	mine, theirs := socketPair(t)
	g := greeting{limit: 64 << 20}
	require.NoError(t, newOutbox(theirs).frame(g.header(wire.KindHello), g.append(nil), now))
	c, err := newConn(t.Context(), mine, 64<<20)
	require.NoError(t, err)
	c.owned, c.quiet = true, 200*time.Millisecond
	t.Cleanup(c.close)
	return c
}

func socketPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer ln.Close()
	a, err = net.Dial("unix", ln.Addr().String())
	require.NoError(t, err)
	b, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return a, b
}

// A call ends with its context though its request cannot be written, or other calls' cannot.
func TestBlockedWriteEnds(t *testing.T) {
	c := mute(t)
	large := func(w *writer) { w.bytes(make([]byte, 4<<20)) }
	blocked := make(chan error, 1)
	go func() { blocked <- c.call(context.Background(), 1, opDictSet, large, nil) }()
	proctest.Blocked(t, 1, "manager.(*outbox).")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := within(t, 10*time.Second, func() error { return c.call(ctx, 1, opDictSet, large, nil) })
	require.ErrorIs(t, err, ErrLost)
	require.ErrorIs(t, within(t, 10*time.Second, func() error { return <-blocked }), ErrLost)
}

// So does one that is alone.
func TestBlockedLoneWriteEnds(t *testing.T) {
	c := mute(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := within(t, 10*time.Second, func() error {
		return c.call(ctx, 1, opDictSet, func(w *writer) { w.bytes(make([]byte, 4<<20)) }, nil)
	})
	require.ErrorIs(t, err, ErrLost)
}

// A call whose context has ended before does not wait for a server that is dead.
func TestEndedCtxOfDeadServer(t *testing.T) {
	c := mute(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := within(t, 10*time.Second, func() error { return c.call(ctx, 1, opDictLen, nil, nil) })
	require.ErrorIs(t, err, ErrLost)
}

// A slowConn takes and gives no more than some 400 KB/s.
type slowConn struct{ net.Conn }

const slowPart = 8 << 10

func (s slowConn) Read(b []byte) (int, error) {
	time.Sleep(20 * time.Millisecond) // its pace
	return s.Conn.Read(b[:min(len(b), slowPart)])
}

func (s slowConn) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		time.Sleep(20 * time.Millisecond) // its pace
		n, err := s.Conn.Write(b[:min(len(b), slowPart)])
		written += n
		if err != nil {
			return written, err
		}
		b = b[n:]
	}
	return written, nil
}

// A link that is slow, but works, is not given up when a context ends.
func TestSlowLink(t *testing.T) {
	cfg, err := Config{}.ready()
	require.NoError(t, err)
	s := newServer(&cfg)
	defer s.close()
	mine, theirs := socketPair(t)
	s.admit(theirs, nil)
	c, err := newConn(t.Context(), slowConn{mine}, cfg.MaxMessage)
	require.NoError(t, err)
	c.owned, c.quiet = true, time.Second
	atlas.add(c)
	m := &Manager{conn: c, over: make(chan struct{})}
	defer m.Close()
	d, err := NewDict[int, []byte](t.Context(), m)
	require.NoError(t, err)
	e, err := NewEvent(t.Context(), m)
	require.NoError(t, err)

	// The interruption waits behind an argument, and then its answer behind a result.
	big := make([]byte, 1<<20)
	for _, way := range []struct {
		method string // as stacks have it
		call   func() error
	}{
		{"]).Set(", func() error { return d.Set(context.Background(), 0, big) }},
		{"]).Get(", func() error { _, _, err := d.Get(context.Background(), 0); return err }},
	} {
		done := make(chan error, 1)
		go func() { done <- way.call() }()
		proctest.Blocked(t, 1, way.method) // it is under way, which takes two seconds and more
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		require.ErrorIs(t, e.Wait(ctx), context.DeadlineExceeded)
		cancel()
		require.NoError(t, <-done)
	}
}

// What Shutdown answers matches ctx.Err(), and the cause of its end.
func TestShutdownCause(t *testing.T) {
	mine := errors.New("my cause")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(mine)
	for name, m := range bothManagers(t) {
		t.Run(name, func(t *testing.T) {
			e, err := NewEvent(t.Context(), m)
			require.NoError(t, err)
			waits := make(chan error, 1)
			go func() { waits <- e.Wait(context.Background()) }()
			proctest.Blocked(t, 1, "manager.(*Event).Wait(")
			err = m.Shutdown(ctx)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, mine)
			require.NoError(t, m.Close())
			require.Error(t, <-waits)
		})
	}
	_, err := Start(ctx, Config{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, mine)
}

// bothManagers returns one of Serve and one of Start.
func bothManagers(t *testing.T) map[string]*Manager {
	t.Helper()
	served, err := Serve(t.Context(), "unix", filepath.Join(t.TempDir(), "s"), Config{})
	require.NoError(t, err)
	started, err := Start(t.Context(), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = served.Close(), started.Close() })
	return map[string]*Manager{"Serve": served, "Start": started}
}

// Where no call is under way, Shutdown does not ask whether its context has ended.
func TestShutdownIdle(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 20 {
		path := filepath.Join(t.TempDir(), "s")
		m, err := Serve(t.Context(), "unix", path, Config{})
		require.NoError(t, err)
		c, err := Connect(t.Context(), "unix", path, Config{})
		require.NoError(t, err)
		require.NoError(t, c.Shutdown(ctx))
		require.NoError(t, m.Shutdown(ctx))
	}
}

// A cause that is larger than a message may be costs its text, and not the connection.
func TestLongCause(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	cfg := Config{MaxMessage: 1 << 10}
	m, err := Serve(t.Context(), "unix", path, cfg)
	require.NoError(t, err)
	defer m.Close()
	c, err := Connect(t.Context(), "unix", path, cfg)
	require.NoError(t, err)
	defer c.Close()
	e, err := NewEvent(t.Context(), c)
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New(strings.Repeat("ä", 300<<10))) })
	require.ErrorIs(t, e.Wait(ctx), context.Canceled)
	_, err = e.IsSet(t.Context())
	require.NoError(t, err)
}

// A relative path is told to others as an absolute one: they may be in another directory.
func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	m, err := Serve(t.Context(), "unix", "s", Config{})
	require.NoError(t, err)
	defer m.Close()
	c, err := Connect(t.Context(), "unix", "s", Config{})
	require.NoError(t, err)
	defer c.Close()
	dir, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "s"), c.conn.how.addr)
	require.Equal(t, "@name", whereUnix("@name"))
}
