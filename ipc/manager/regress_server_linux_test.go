package manager

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/processpool"
)

// servedAs returns a server and a Manager of this process, and its address for others.
func servedAs(t *testing.T, cfg Config) (m *Manager, addr string) {
	t.Helper()
	addr = filepath.Join(t.TempDir(), "s")
	m, err := Serve(t.Context(), "unix", addr, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m, addr
}

func joined(t *testing.T, addr string, cfg Config) *Manager {
	t.Helper()
	m, err := Connect(t.Context(), "unix", addr, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// naming writes a Dict.Set of a value that names objects.
func naming(refs ...uint64) func(*writer) {
	return func(w *writer) {
		w.int(1)
		w.text("k")
		w.datum(datum{refs: refs})
	}
}

// A client that names objects that were never made is cut off, and nobody else notices.
func TestRequestNamesWhatNeverWas(t *testing.T) {
	m, addr := servedAs(t, Config{})
	before := m.server.stat()
	for name, hostile := range map[string]func(c *Manager, d *Dict[string, int], next uint64) error{
		"value": func(_ *Manager, d *Dict[string, int], next uint64) error {
			return d.do(t.Context(), "x", opDictSet, naming(d.id(), next))
		},
		"zero": func(_ *Manager, d *Dict[string, int], _ uint64) error {
			return d.do(t.Context(), "x", opDictSet, naming(0))
		},
		"ended ctx": func(_ *Manager, d *Dict[string, int], next uint64) error {
			return d.do(ended(), "x", opDictSet, naming(next))
		},
		"new value": func(c *Manager, _ *Dict[string, int], next uint64) error {
			return c.conn.call(t.Context(), 0, opNew, func(w *writer) {
				w.uint(uint64(kindValue))
				w.text("x")
				w.datum(datum{refs: []uint64{next}})
			}, nil)
		},
		"new cond": func(c *Manager, _ *Dict[string, int], next uint64) error {
			return c.conn.call(t.Context(), 0, opNew, func(w *writer) {
				w.uint(uint64(kindCond))
				w.text("x")
				w.uint(next)
			}, nil)
		},
		"publish": func(c *Manager, _ *Dict[string, int], next uint64) error {
			return c.conn.call(t.Context(), 0, opPublish, func(w *writer) {
				w.text("x")
				w.uint(next)
			}, nil)
		},
		"hold": func(c *Manager, d *Dict[string, int], next uint64) error {
			err := c.conn.call(t.Context(), 0, opHold, func(w *writer) {
				w.uint(1)
				w.uint(d.id())
			}, nil)
			require.Error(t, err)
			return d.do(t.Context(), "x", opDictSet, naming(next))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := joined(t, addr, Config{})
			d, err := NewDict[string, int](t.Context(), c)
			require.NoError(t, err)
			require.ErrorIs(t, hostile(c, d, d.id()+1), ErrLost)
			l, err := NewList[int](t.Context(), m)
			require.NoError(t, err)
			require.NoError(t, l.Append(t.Context(), 1), "others go on")
			require.NoError(t, l.Close())
			require.Eventually(t, func() bool { return m.server.stat() == before }, 5*time.Second, time.Millisecond)
		})
	}
}

// One that names objects that it has no proxy of, or that are gone, is refused; another
// connection of its process does.
func TestRequestNamesWhatIsNotHeld(t *testing.T) {
	m, addr := servedAs(t, Config{})
	c := joined(t, addr, Config{})
	d, err := NewDict[string, *List[int]](t.Context(), c)
	require.NoError(t, err)
	gone, err := NewList[int](t.Context(), m)
	require.NoError(t, err)
	require.NoError(t, d.Set(t.Context(), "k", gone), "by another connection")
	require.NoError(t, d.Delete(t.Context(), "k"))
	require.NoError(t, gone.Close())
	require.Eventually(t, func() bool { return m.server.stat().objects == 1 }, 5*time.Second, time.Millisecond)
	require.ErrorIs(t, d.do(t.Context(), "x", opDictSet, naming(gone.id())), ipc.ErrClosed)
	theirs, err := NewList[int](t.Context(), m)
	require.NoError(t, err)
	s := m.server
	s.mu.Lock()
	for p := range s.guests {
		if p.held[theirs.id()] > 0 {
			p.pid = -1 // of another process
		}
	}
	s.mu.Unlock()
	require.ErrorIs(t, d.do(t.Context(), "x", opDictSet, naming(theirs.id())), ipc.ErrClosed)
	require.ErrorIs(t, c.conn.call(t.Context(), 0, opPublish, func(w *writer) {
		w.text("x")
		w.uint(theirs.id())
	}, nil), ipc.ErrClosed)
	n, err := d.Len(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, theirs.Append(t.Context(), 1))
}

// What a client may get at an object that is gone is an error.
func TestServerObjectGone(t *testing.T) {
	m, _ := servedAs(t, Config{})
	s := m.server
	l, err := NewList[int](t.Context(), m)
	require.NoError(t, err)
	tok, err := s.departTimed(l.id())
	require.NoError(t, err)
	s.mu.Lock()
	s.doom(s.objects[l.id()])
	s.mu.Unlock()
	_, err = s.claim(tok)
	require.ErrorIs(t, err, errGone)
	require.NoError(t, l.Close())
	d, err := NewDict[string, int](t.Context(), m)
	require.NoError(t, err)
	require.NoError(t, d.Set(t.Context(), "k", 1))
}

// A panic in the server's half of a connection ends that alone.
func TestGuestPanics(t *testing.T) {
	m, addr := servedAs(t, Config{})
	c := joined(t, addr, Config{})
	e, err := NewEvent(t.Context(), c)
	require.NoError(t, err)
	s := m.server
	s.mu.Lock()
	s.objects[s.last].thing = panics{once: make(chan struct{}, 1)}
	s.objects[s.last].count++ // so that takeBack tells it
	s.mu.Unlock()
	require.NoError(t, e.Close())
	require.Eventually(t, func() bool { return !c.conn.alive() || s.stat().guests == 1 }, 5*time.Second, time.Millisecond)
	_, err = NewEvent(t.Context(), m)
	require.NoError(t, err)
}

type panics struct {
	thing
	once chan struct{}
}

func (p panics) gone(*client) {
	select {
	case p.once <- struct{}{}:
		panic("gone")
	default: // the second time, in leave
	}
}
func (panics) drop() []datum { return nil }

type largeArg struct {
	D *Dict[int, []byte]
	N int
}

var setLarge = executor.NewTask("manager_test.setLarge", func(ctx context.Context, a largeArg) (int, error) {
	return a.N, a.D.Set(ctx, 1, make([]byte, a.N))
})

// Config.MaxMessage is that of processes that get a proxy, too.
func TestMaxMessageOfWorker(t *testing.T) {
	const n = 65 << 20
	m, err := Start(t.Context(), Config{MaxMessage: n})
	require.NoError(t, err)
	defer m.Close()
	d, err := NewDict[int, []byte](t.Context(), m)
	require.NoError(t, err)
	p, err := processpool.New(processpool.Config{Workers: 1})
	require.NoError(t, err)
	defer p.Close()
	_, err = executor.Submit(t.Context(), p, setLarge, largeArg{d, n}).Result(t.Context())
	require.NoError(t, err)
	_, err = executor.Submit(t.Context(), p, setLarge, largeArg{d, n + 1}).Result(t.Context())
	require.ErrorContains(t, err, "over the limit")
}

// A connection by a ticket notices, too, that the server's machine is gone.
func TestTicketKeepAlive(t *testing.T) {
	cfg := Config{AuthKey: []byte("0123456789abcdef")}
	m, err := Serve(t.Context(), "tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	defer m.Close()
	c, err := Connect(t.Context(), "tcp", m.Addr().String(), cfg)
	require.NoError(t, err)
	defer c.Close()
	e, err := NewEvent(t.Context(), c)
	require.NoError(t, err)
	fd, err := c.conn.exportTicket(t.Context(), e.id())
	require.NoError(t, err)
	defer unix.Close(fd)
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &st))
	k, err := readTicket(fd, st.Size)
	require.NoError(t, err)
	by, err := k.dial(t.Context())
	require.NoError(t, err)
	defer by.close()
	options := func(c *conn) (set []int) {
		raw, err := c.raw.(*session).raw.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			for _, o := range []int{unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT, unix.TCP_USER_TIMEOUT} {
				x, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, o)
				require.NoError(t, err)
				set = append(set, x)
			}
		}))
		return set
	}
	require.Equal(t, options(c.conn), options(by))
}

// The cause of a context may be larger than values.
func TestLongCauseOfHostileClient(t *testing.T) {
	_, addr := servedAs(t, Config{MaxMessage: 1 << 10})
	c := joined(t, addr, Config{MaxMessage: 1 << 10})
	e, err := NewEvent(t.Context(), c)
	require.NoError(t, err)
	cause := errors.New(strings.Repeat("x", 300<<10))
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	err = e.Wait(ctx)
	require.ErrorIs(t, err, cause)
	require.NotErrorIs(t, err, ErrLost)
	_, err = e.IsSet(t.Context())
	require.NoError(t, err)
}

// What is too large for who would take it stays for others.
func TestTooLargeStays(t *testing.T) {
	m, addr := servedAs(t, Config{})
	c := joined(t, addr, Config{MaxMessage: 1 << 10})
	ctx := t.Context()
	large := make([]byte, 1<<10+1)
	q, err := NewQueue[[]byte](ctx, m, 5)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, m, "q", q))
	d, err := NewDict[int, []byte](ctx, m)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, m, "d", d))
	l, err := NewList[[]byte](ctx, m)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, m, "l", l))
	q2, err := Lookup[*Queue[[]byte]](ctx, c, "q")
	require.NoError(t, err)
	d2, err := Lookup[*Dict[int, []byte]](ctx, c, "d")
	require.NoError(t, err)
	l2, err := Lookup[*List[[]byte]](ctx, c, "l")
	require.NoError(t, err)

	waits := make(chan error, 1)
	go func() {
		_, err := q2.Get(ctx)
		waits <- err
	}()
	require.Eventually(t, func() bool { return m.server.stat().running > 0 }, 5*time.Second, time.Millisecond)
	require.NoError(t, q.Put(ctx, large))
	require.ErrorContains(t, <-waits, "over the limit")
	require.NoError(t, d.Set(ctx, 1, large))
	require.NoError(t, l.Append(ctx, large))
	_, err = q2.Get(ctx)
	require.ErrorContains(t, err, "over the limit")
	_, err = q2.TryGet(ctx)
	require.ErrorContains(t, err, "over the limit")
	_, _, err = d2.Pop(ctx, 1)
	require.ErrorContains(t, err, "over the limit")
	_, _, err = d2.Get(ctx, 1)
	require.ErrorContains(t, err, "over the limit")
	_, err = l2.Pop(ctx, 0)
	require.ErrorContains(t, err, "over the limit")
	require.ErrorContains(t, q2.Put(ctx, large), "over the limit", "nor does it send such")
	require.NoError(t, q2.Put(ctx, large[1:]))

	got, err := q.TryGet(ctx)
	require.NoError(t, err)
	require.Equal(t, large, got)
	got, ok, err := d.Pop(ctx, 1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, large, got)
	got, err = l.Pop(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, large, got)
	got, err = q2.Get(ctx)
	require.NoError(t, err)
	require.Equal(t, large[1:], got)
}

// Shutdown waits for a Lock that waits, whose holder may let go meanwhile.
func TestShutdownLetsGo(t *testing.T) {
	m, addr := servedAs(t, Config{})
	a, b := joined(t, addr, Config{}), joined(t, addr, Config{})
	l, err := NewLock(t.Context(), a)
	require.NoError(t, err)
	require.NoError(t, Publish(t.Context(), a, "l", l))
	other, err := Lookup[*Lock](t.Context(), b, "l")
	require.NoError(t, err)
	require.NoError(t, l.Lock(t.Context()))
	locked := make(chan error, 1)
	go func() { locked <- other.Lock(context.Background()) }()
	require.Eventually(t, func() bool { return m.server.stat().running > 0 }, 5*time.Second, time.Millisecond)
	down := make(chan error, 1)
	go func() { down <- m.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool { return errors.Is(l.Lock(ended()), ipc.ErrClosed) }, 5*time.Second, time.Millisecond)
	require.NoError(t, l.Unlock(t.Context()))
	require.NoError(t, <-locked, "it is answered before the connection ends")
	require.NoError(t, <-down)
}

// A drain of an idle server need not wait.
func TestDrainIdle(t *testing.T) {
	for range 40 {
		cfg, err := Config{}.ready()
		require.NoError(t, err)
		s := newServer(&cfg)
		c, err := s.connect(t.Context(), false)
		require.NoError(t, err)
		require.NoError(t, c.call(ended(), 0, opDrain, nil, nil))
		c.close()
		s.close()
	}
}

// The first end of a call's context is the one.
func TestCallCtxFirstEnd(t *testing.T) {
	p := &guest{}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	c := p.newCallCtx()
	c.end(false, io.EOF)
	c.end(true, io.ErrUnexpectedEOF)
	require.Equal(t, context.Canceled, c.Err())
	require.Equal(t, io.EOF, context.Cause(c))
	c = p.newCallCtx()
	require.NoError(t, c.Err())
	c.end(true, io.EOF)
	c.end(false, io.ErrUnexpectedEOF)
	require.Equal(t, context.DeadlineExceeded, c.Err())
	c = p.newCallCtx()
	p.cancel(errLeft)
	require.Equal(t, context.Canceled, c.Err())
	c.end(true, io.EOF)
	require.Equal(t, context.Canceled, c.Err())
	require.Equal(t, errLeft, context.Cause(c))
}

type elsewhere struct{ m *Manager }

var (
	elsewheres   = NewType("manager_test.elsewhere", func(context.Context, int) (*elsewhere, error) { return &elsewhere{elsewhereMgr.Load()}, nil })
	elsewhereNew = NewMethod(elsewheres, "new", func(e *elsewhere, ctx context.Context, _ int) (*Event, error) { return NewEvent(ctx, e.m) })

	elsewhereMgr atomic.Pointer[Manager]
)

// A method cannot return a proxy of another manager.
func TestMethodReturnsOther(t *testing.T) {
	m, _ := servedAs(t, Config{})
	other, _ := servedAs(t, Config{})
	elsewhereMgr.Store(other)
	o, err := elsewheres.New(t.Context(), m, 0)
	require.NoError(t, err)
	_, err = elsewhereNew.Call(t.Context(), o, 0)
	require.ErrorIs(t, err, executor.ErrNotPortable)
}
