package manager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"example.com/futures/ipc"
	"example.com/futures/worker"
)

// A Manager is a way to a server of objects. It is made by [Start], [Serve] or [Connect].
//
// A Manager is safe for concurrent use. Whoever made it closes it. One that is dropped without
// that goes on as long as the program.
//
// Reference: multiprocessing.managers.BaseManager (Python 3.14).
type Manager struct {
	conn   *conn
	server *server                   // in this process; nil: elsewhere
	proc   *worker.Process[struct{}] // of Start
	stop   func()                    // ends what proc has of a context
	addr   net.Addr                  // nil after Start
	closed sync.Once
	over   chan struct{} // closed when nothing is left
}

// Start starts a server process of its own. Only this program can reach it, and those that it
// gives proxies to. The process ends with Close, and with this program, however that ends.
//
// The server's program is that of cfg.Worker: this one, unless it says otherwise. It serves all
// types of this package, and those that it has made by [NewType].
//
// ctx is for the start alone.
//
// Errors: those of [worker.Start], what to do if this program never called [worker.Main] among
// them; a field of cfg that makes no sense; one that matches errors.ErrUnsupported on systems
// other than Linux. No process is left then.
//
// Reference: multiprocessing.Manager, SyncManager.start.
func Start(ctx context.Context, cfg Config) (*Manager, error) {
	cfg, err := cfg.ready()
	if err != nil {
		return nil, fmt.Errorf("manager: start: %w", err)
	}
	m, err := start(ctx, &cfg)
	if err != nil {
		return nil, fmt.Errorf("manager: start: %w", err)
	}
	return m, nil
}

// Serve serves at an address, in this process, until Close; other processes and machines come
// there by [Connect]. The networks are "tcp", "tcp4", "tcp6" and "unix". An addr of ":0" takes a
// free port, which [Manager.Addr] tells.
//
// On TCP, and on an abstract unix socket ("@name"), clients must be known by cfg.AuthKey, or by
// a cfg.TLS that requires and verifies their certificates. Whoever is let in can use all objects:
// the names of [Publish] hide nothing from him.
//
// A client whose process ends is noticed at once. One whose machine or network is gone without a
// word is noticed by TCP's keep-alive, after about 15 seconds; then its locks are let go.
//
// ctx is for the call alone.
//
// Reference: BaseManager.get_server and Server.serve_forever, which have a process to themselves.
func Serve(ctx context.Context, network, addr string, cfg Config) (*Manager, error) {
	cfg, err := cfg.ready()
	if err != nil {
		return nil, fmt.Errorf("manager: serve: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("manager: serve: %w", err)
	}
	g, err := listen(network, addr, cfg)
	if err != nil {
		return nil, err
	}
	s := newServer(&cfg)
	s.listen(g)
	c, err := s.connect(ctx, false)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("manager: serve: %w", err)
	}
	return &Manager{conn: c, server: s, addr: g.address(), over: make(chan struct{})}, nil
}

// Connect connects to the address where a [Serve] serves.
//
// ctx is for the attempt alone.
//
// Errors: [ErrAuth] when the keys differ, or one side has none, or a certificate is refused; what
// net.Dialer says; one that matches ctx.Err().
//
// Reference: BaseManager.connect.
func Connect(ctx context.Context, network, addr string, cfg Config) (*Manager, error) {
	cfg, err := cfg.ready()
	if err != nil {
		return nil, fmt.Errorf("manager: connect: %w", err)
	}
	s, err := connect(ctx, network, addr, cfg)
	if err != nil {
		return nil, err
	}
	c, err := newConn(ctx, s, cfg.MaxMessage)
	if err != nil {
		return nil, fmt.Errorf("manager: connect to %s %s: %w", network, addr, err)
	}
	keepAlive(s)
	c.owned = true
	peer := s.RemoteAddr()
	c.how = &dialled{network, peer.String()}
	if network == "unix" {
		c.how.addr = whereUnix(addr)
	}
	atlas.add(c)
	return &Manager{conn: c, addr: peer, over: make(chan struct{})}, nil
}

// whereUnix returns an address that is good in other directories, too.
func whereUnix(addr string) string {
	if isAbstract(addr) {
		return addr
	}
	if abs, err := filepath.Abs(addr); err == nil {
		return abs
	}
	return addr // there is no working directory
}

// Addr returns the address of the server; nil after [Start], which has none.
func (m *Manager) Addr() net.Addr { return m.addr }

// connection returns that of m.
func (m *Manager) connection() (*conn, error) {
	if m == nil || m.conn == nil {
		return nil, ipc.ErrClosed
	}
	return m.conn, nil
}

// Shutdown waits until no call is under way, and closes the Manager. Calls that come meanwhile
// are answered ipc.ErrClosed. Where the Manager is that of Start or Serve, the calls are those of
// all clients; of Connect, those of this Manager.
//
// Errors: one that matches ctx.Err() if that ended first. The Manager is not closed then, and
// takes no new calls.
func (m *Manager) Shutdown(ctx context.Context) error {
	var err error
	switch {
	case m.server != nil:
		if err = await(ctx, m.server.drain()); err == nil {
			err = m.conn.drain(ctx) // until what was answered has been read
		}
	case m.proc != nil:
		if err = m.conn.call(ctx, 0, opDrain, nil, nil); ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
			err = nil // if there is one, it is gone, or has been closed
		}
	default:
		err = m.conn.drain(ctx)
	}
	if err != nil {
		return fmt.Errorf("manager: shutdown: %w", err)
	}
	return m.Close()
}

// Close ends the server, and all that it has; of a Manager of [Connect], its connection. Calls
// under way, and later ones, are answered ipc.ErrClosed in this process, and [ErrLost] in others.
// Close returns when nothing is left: no process, no socket, no goroutine but those of methods
// that go on though their context has ended, for which it waits.
//
// So it must not be called, nor Shutdown, within a method that runs in this process: it would wait
// for itself.
//
// It may be called again. The error is always nil.
func (m *Manager) Close() error {
	m.closed.Do(func() {
		m.conn.close()
		if m.server != nil {
			m.server.close()
		}
		if m.proc != nil {
			m.end()
			m.stop()
		}
		close(m.over)
	})
	<-m.over
	return nil
}
