package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/remote"
	"example.com/futures/worker"
)

// A socketEnd is one end of a connection, as the argument of a task.
type socketEnd struct {
	fd int
	id carry.ID
}

// A serverArg is what the process of Start is told.
type serverArg struct {
	Socket     *socketEnd // of the program, whose end is the server's
	MaxMessage int64
}

// serverTask is what the process of Start runs.
var serverTask = executor.NewTask("example.com/futures/ipc/manager.server", func(ctx context.Context, arg serverArg) (struct{}, error) {
	if arg.Socket == nil {
		return struct{}{}, errors.New("manager: a server without a socket")
	}
	fd, err := arg.Socket.take()
	if err != nil {
		return struct{}{}, err
	}
	raw, err := socketOf(fd)
	if err != nil {
		return struct{}{}, err
	}
	cfg, err := Config{MaxMessage: arg.MaxMessage}.ready()
	if err != nil {
		_ = raw.Close()
		return struct{}{}, err
	}
	s := newServer(&cfg)
	over := make(chan struct{})
	s.admit(raw, sync.OnceFunc(func() { close(over) }))
	select {
	case <-over:
	case <-ctx.Done():
	}
	s.shut()
	return struct{}{}, nil
})

// start is Start.
func start(ctx context.Context, cfg *Config) (*Manager, error) {
	a, b, err := pair()
	if err != nil {
		return nil, err
	}
	theirs := &socketEnd{fd: b, id: carry.ID(newToken())}
	raw, err := socketOf(a)
	if err != nil {
		_ = theirs.Close()
		return nil, err
	}
	// The process must not end with ctx.
	callCtx, cancel := context.WithCancelCause(context.Background())
	unwatch := context.AfterFunc(ctx, func() { cancel(remote.Ended(ctx)) })
	defer unwatch()
	p, err := worker.Start(callCtx, serverTask, serverArg{theirs, cfg.MaxMessage}, cfg.Worker)
	_ = theirs.Close()
	if err != nil {
		_ = raw.Close()
		cancel(nil)
		return nil, err
	}
	c, err := newConn(ctx, raw, cfg.MaxMessage)
	if err == nil && !unwatch() {
		c.close()
		err = remote.Ended(ctx)
	}
	if err != nil {
		_ = p.Kill()
		<-p.Done()
		cancel(nil)
		if lost := p.Future().Exception(context.Background()); lost != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", err, lost)
		}
		return nil, err
	}
	c.owned = true
	atlas.add(c)
	m := &Manager{conn: c, proc: p, over: make(chan struct{}), stop: func() { cancel(nil) }}
	return m, nil
}

// end waits for the process of Start, which ends since its socket was closed.
func (m *Manager) end() {
	select {
	case <-m.proc.Done():
	case <-time.After(endTime):
		_ = m.proc.Kill()
		<-m.proc.Done()
	}
}

// CarryID, Export and Exported are for the encoders of this module.
func (s *socketEnd) CarryID() carry.ID { return s.id }

// Export is for the encoders of this module.
func (s *socketEnd) Export() ([]int, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return []int{fd}, nil
}

// Exported is for the encoders of this module.
func (s *socketEnd) Exported() {}

// GobEncode is for the encoders of this module.
func (s *socketEnd) GobEncode() ([]byte, error) { return s.id[:], nil }

// GobDecode is for the decoders of this module.
func (s *socketEnd) GobDecode(b []byte) error {
	if len(b) != len(s.id) {
		return errBadRequest
	}
	copy(s.id[:], b)
	s.fd = -1
	fds, ok, err := carry.Claim(s.id)
	switch {
	case err != nil:
		return err
	case !ok || len(fds) != 1:
		carry.CloseAll(fds)
		return errBadRequest
	}
	s.fd = fds[0]
	return nil
}

// take returns the descriptor, which is the caller's then.
func (s *socketEnd) take() (int, error) {
	fd := s.fd
	s.fd = -1
	if fd < 0 {
		return fd, errBadRequest
	}
	return fd, nil
}

// Close closes the descriptor, unless it was taken.
func (s *socketEnd) Close() error {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
	return nil
}

// shut is close for a process that ends, and does not wait for methods that go on.
func (s *server) shut() {
	done := make(chan struct{})
	go func() {
		s.close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(endTime - time.Second):
	}
}

// endTime is how long a server process may take to close what it has.
const endTime = 5 * time.Second
