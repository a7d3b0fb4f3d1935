package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"
	"example.com/futures/worker"
)

// MGR-04: it starts, is closed twice, and every call of it and its proxies says so.
func TestStartAndClose(t *testing.T) {
	ctx := t.Context()
	m, err := Start(ctx, Config{})
	require.NoError(t, err)
	require.Nil(t, m.Addr())
	c, err := counters.New(ctx, m, 0)
	require.NoError(t, err)
	n, err := counterPID.Call(ctx, c, struct{}{})
	require.NoError(t, err)
	require.Equal(t, m.proc.PID(), n)
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	code, exited := m.proc.ExitCode()
	require.True(t, exited)
	require.Zero(t, code)
	_, err = counterAdd.Call(ctx, c, 1)
	require.ErrorIs(t, err, ipc.ErrClosed)
	_, err = counters.New(ctx, m, 0)
	require.ErrorIs(t, err, ipc.ErrClosed)
	require.NoError(t, c.Close())
	require.NoError(t, m.Shutdown(ctx))
}

func TestStartUnderEndedCtx(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Config{})
	require.ErrorIs(t, err, context.Canceled)
	for d := time.Millisecond; d < 40*time.Millisecond; d += 5 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		m, err := Start(ctx, Config{})
		if err == nil {
			require.NoError(t, m.Close())
		} else {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		cancel()
	}
}

// ctx is for the start alone.
func TestStartOutlivesItsCtx(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m, err := Start(ctx, Config{})
	require.NoError(t, err)
	defer m.Close()
	cancel()
	c, err := counters.New(t.Context(), m, 1)
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond) // time for a mistake: that nothing happens has no event
	_, err = counterAdd.Call(t.Context(), c, 1)
	require.NoError(t, err)
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]Config{
		"MaxMessage":       {MaxMessage: -1},
		"HandshakeTimeout": {HandshakeTimeout: -1},
		"AuthKey":          {AuthKey: []byte{}},
	} {
		_, err := Start(t.Context(), cfg)
		require.ErrorContains(t, err, name)
		_, err = Serve(t.Context(), "unix", t.TempDir()+"/s", cfg)
		require.ErrorContains(t, err, name)
		_, err = Connect(t.Context(), "unix", t.TempDir()+"/s", cfg)
		require.ErrorContains(t, err, name)
	}
	_, err := Start(t.Context(), Config{Worker: worker.Config{StartMethod: worker.Fork}})
	require.ErrorContains(t, err, "Fork")
}

// MGR-08: the address can be served again at once.
func TestServeAgain(t *testing.T) {
	addr := t.TempDir() + "/s"
	for range 5 {
		s, err := Serve(t.Context(), "unix", addr, Config{})
		require.NoError(t, err)
		c, err := Connect(t.Context(), "unix", addr, Config{})
		require.NoError(t, err)
		d, err := newRawDict[int](t.Context(), c)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		_, _, err = d.Get(t.Context(), "k")
		require.ErrorIs(t, err, ErrLost)
		require.NoError(t, c.Close())
		_, _, err = d.Get(t.Context(), "k")
		require.Error(t, err)
	}
}

func TestPublish(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		d, err := newRawDict[int](ctx, m)
		require.NoError(t, err)
		require.NoError(t, Publish(ctx, m, "d", d))
		require.ErrorIs(t, Publish(ctx, m, "d", d), fs.ErrExist)
		require.NoError(t, Publish(ctx, m, "also d", d))
		require.NoError(t, d.Set(ctx, "k", 7))
		same, err := Lookup[*rawDict[int]](ctx, m, "d")
		require.NoError(t, err)
		v, _, err := same.Get(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, 7, v)
		_, err = Lookup[*rawDict[string]](ctx, m, "d")
		require.ErrorContains(t, err, "rawDict[int]")
		require.ErrorContains(t, err, "rawDict[string]")
		_, err = Lookup[*rawDict[int]](ctx, m, "e")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.NoError(t, d.Close())
		again, err := Lookup[*rawDict[int]](ctx, m, "also d")
		require.NoError(t, err)
		require.NoError(t, again.Close())
		require.ErrorIs(t, Publish(ctx, m, "x", d), ipc.ErrClosed)
		require.NoError(t, same.Close())
		empty(t, m)
		_, err = Lookup[*rawDict[int]](ctx, m, "d")
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

// MGR-23: a call that waits blocks nobody else.
func TestWaitingBlocksNobody(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l, err := newRawLock(ctx, m)
		require.NoError(t, err)
		d, err := newRawDict[int](ctx, m)
		require.NoError(t, err)
		c, err := counters.New(ctx, m, 0)
		require.NoError(t, err)
		require.NoError(t, l.Lock(ctx))
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				var err error
				if i%2 == 0 {
					err = l.Lock(ctx)
				} else {
					_, err = counterWait.Call(ctx, c, struct{}{})
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("a call that was to wait = %v", err)
				}
			})
		}
		for i := range 100 {
			require.NoError(t, d.Set(ctx, "k", i))
			v, _, err := d.Get(ctx, "k")
			require.NoError(t, err)
			require.Equal(t, i, v)
		}
		cancel()
		wg.Wait()
		require.NoError(t, l.Unlock(t.Context()))
		require.NoError(t, l.Lock(t.Context())) // nobody has it by mistake
	})
}

// An error that matches ctx.Err() has done nothing, however the two meet.
func TestCancelRaces(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		l, err := newRawLock(t.Context(), m)
		require.NoError(t, err)
		var wg sync.WaitGroup
		var mu sync.Mutex
		held, got, gave := 0, 0, 0
		for g := range 8 {
			wg.Go(func() {
				for i := range 100 {
					ctx, cancel := context.WithCancelCause(t.Context())
					stop := time.AfterFunc(time.Duration(i%20)*20*time.Microsecond, func() { cancel(errNegative) })
					err := l.Lock(ctx)
					stop.Stop()
					mu.Lock()
					switch {
					case err == nil:
						got++
						if held++; held != 1 {
							t.Errorf("%d hold it", held)
						}
						held--
					case !errors.Is(err, context.Canceled) || !errors.Is(err, errNegative):
						t.Errorf("Lock = %v", err)
					default:
						gave++
					}
					mu.Unlock()
					if err == nil {
						if g%2 == 0 {
							time.Sleep(50 * time.Microsecond) // it holds the lock for a while
						}
						if err := l.Unlock(ctx); err != nil {
							t.Errorf("Unlock = %v", err)
						}
					}
					cancel(nil)
				}
			})
		}
		wg.Wait()
		t.Logf("%d got it, %d gave up", got, gave)
		require.NoError(t, l.Lock(t.Context()))
	})
}

// A server that is killed: all that wait, and all that come, are answered ErrLost.
func TestServerKilled(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	l, err := newRawLock(ctx, m)
	require.NoError(t, err)
	require.NoError(t, l.Lock(ctx))
	errs := make(chan error)
	for range 20 {
		go func() { errs <- l.Lock(ctx) }()
	}
	waitHeld(t, l)
	require.NoError(t, syscall.Kill(m.proc.PID(), syscall.SIGKILL))
	begin := time.Now()
	for range 20 {
		require.ErrorIs(t, <-errs, ErrLost)
	}
	require.Less(t, time.Since(begin), 2*time.Second)
	require.ErrorIs(t, l.Unlock(ctx), ErrLost)
	_, err = newRawLock(ctx, m)
	require.ErrorIs(t, err, ErrLost)
	require.NoError(t, l.Close())
	require.NoError(t, m.Close())
}

// One that is frozen is noticed by who gives up.
func TestServerFrozen(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for patience to end")
	}
	m := started(t)
	l, err := newRawLock(t.Context(), m)
	require.NoError(t, err)
	require.NoError(t, l.Lock(t.Context()))
	require.NoError(t, syscall.Kill(m.proc.PID(), syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err = l.Lock(ctx)
	require.ErrorIs(t, err, ErrLost)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, syscall.Kill(m.proc.PID(), syscall.SIGKILL))
}

func init() {
	roles["client"] = func() {
		ctx := context.Background()
		m, err := Connect(ctx, "unix", os.Args[1], Config{})
		if err != nil {
			panic(err)
		}
		l, err := Lookup[*rawLock](ctx, m, "lock")
		if err != nil {
			panic(err)
		}
		d, err := newRawDict[int](ctx, m)
		if err != nil {
			panic(err)
		}
		if err := l.Lock(ctx); err != nil {
			panic(err)
		}
		fmt.Println("held")
		c, err := Lookup[*Object[*counter]](ctx, m, "counter")
		if err != nil {
			panic(err)
		}
		_, err = counterWait.Call(ctx, c, struct{}{})
		panic(fmt.Sprint(d, err))
	}
}

// A client that is killed: its calls end, its locks go to the next, its objects go.
func TestClientKilled(t *testing.T) {
	ctx := t.Context()
	addr := t.TempDir() + "/s"
	s, err := Serve(ctx, "unix", addr, Config{})
	require.NoError(t, err)
	defer s.Close()
	l, err := newRawLock(ctx, s)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, s, "lock", l))
	c, err := counters.New(ctx, s, 0)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, s, "counter", c))
	cmd := self("client", addr)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	b := make([]byte, 5)
	_, err = out.Read(b)
	require.NoError(t, err)
	require.Equal(t, "held\n", string(b))
	require.Equal(t, 3, stat(t, s).objects)
	got := make(chan error, 1)
	go func() { got <- l.Lock(ctx) }()
	proctest.Blocked(t, 1, "manager.(*rawLock).Lock(")
	require.NoError(t, cmd.Process.Kill())
	require.ErrorIs(t, <-got, ipc.ErrOwnerDied)
	_ = cmd.Wait()
	require.Eventually(t, func() bool { return stat(t, s).objects == 2 }, 5*time.Second, time.Millisecond)
	require.NoError(t, l.Close())
	require.NoError(t, c.Close())
	empty(t, s)
}

func TestLimits(t *testing.T) {
	ctx := t.Context()
	addr := t.TempDir() + "/s"
	s, err := Serve(ctx, "unix", addr, Config{MaxMessage: 1 << 20})
	require.NoError(t, err)
	defer s.Close()
	small, err := Connect(ctx, "unix", addr, Config{MaxMessage: 256 << 10})
	require.NoError(t, err)
	defer small.Close()
	large, err := Connect(ctx, "unix", addr, Config{})
	require.NoError(t, err)
	defer large.Close()
	d, err := newRawDict[[]byte](ctx, large)
	require.NoError(t, err)
	require.NoError(t, Publish(ctx, large, "d", d))
	err = d.Set(ctx, "k", make([]byte, 2<<20))
	require.ErrorContains(t, err, "over the limit")
	require.NoError(t, d.Set(ctx, "k", make([]byte, 1<<20)))
	theirs, err := Lookup[*rawDict[[]byte]](ctx, small, "d")
	require.NoError(t, err)
	_, _, err = theirs.Get(ctx, "k")
	require.ErrorContains(t, err, "over the limit")
	require.ErrorContains(t, theirs.Set(ctx, "k", make([]byte, 512<<10)), "over the limit")
	require.NoError(t, theirs.Set(ctx, "k", make([]byte, 200<<10)))
	v, _, err := theirs.Get(ctx, "k")
	require.NoError(t, err)
	require.Len(t, v, 200<<10)
}

func TestShutdownWaits(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		c, err := counters.New(ctx, m, 0)
		require.NoError(t, err)
		got := make(chan error, 1)
		go func() {
			_, err := counterSleep.Call(ctx, c, 200*time.Millisecond)
			got <- err
		}()
		require.Eventually(t, func() bool { return stat(t, m).running == 2 }, 10*time.Second, time.Millisecond)
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, m.Shutdown(short), context.DeadlineExceeded)
		_, err = counterAdd.Call(ctx, c, 1)
		require.ErrorIs(t, err, ipc.ErrClosed)
		require.NoError(t, m.Shutdown(ctx))
		require.NoError(t, <-got)
	})
}

var (
	lateType   = sync.OnceValue(func() Type[int, *counter] { return NewType("late", newCounter) })
	lateMethod = sync.OnceValue(func() Method[*counter, int, int] { return NewMethod(counters, "late", (*counter).Add) })
)

// What is missing in the server's program is named.
func TestMissingType(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	late := lateType()
	_, err := late.New(ctx, m, 1)
	require.ErrorContains(t, err, `"late"`)
	method := lateMethod()
	c, err := counters.New(ctx, m, 1)
	require.NoError(t, err)
	_, err = method.Call(ctx, c, 1)
	require.ErrorContains(t, err, `"late"`)
	require.ErrorContains(t, err, `"counter"`)
}

func TestTypeMisuse(t *testing.T) {
	require.PanicsWithValue(t, `manager: NewType "counter": the name is used twice`, func() { NewType("counter", newCounter) })
	require.Panics(t, func() { NewType[int, int]("nil", nil) })
	require.Panics(t, func() { NewType("", newCounter) })
	require.PanicsWithValue(t, `manager: NewMethod "Add" of "counter": the name is used twice`, func() { NewMethod(counters, "Add", (*counter).Add) })
	require.Panics(t, func() { NewMethod[int, *counter, int, int](counters, "nil", nil) })
	require.Panics(t, func() { NewMethod(Type[int, *counter]{}, "zero", (*counter).Add) })
}

// An object with a Close is closed when it is dropped.
func TestDroppedIsClosed(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	a, err := counters.New(ctx, m, 0)
	require.NoError(t, err)
	b, err := counters.New(ctx, m, 0)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	require.Eventually(t, func() bool {
		n, err := counterClosed.Call(ctx, a, struct{}{})
		require.NoError(t, err)
		return n == 1
	}, 10*time.Second, time.Millisecond)
}

func TestManyGoroutines(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		d, err := newRawDict[string](ctx, m)
		require.NoError(t, err)
		c, err := counters.New(ctx, m, 0)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for g := range 64 {
			wg.Go(func() {
				key := fmt.Sprint(g)
				for i := range 100 {
					v := strings.Repeat(key, 1+i*i*g/8)
					if err := d.Set(ctx, key, v); err != nil {
						t.Error(err)
						return
					}
					got, _, err := d.Get(ctx, key)
					if err != nil || got != v {
						t.Errorf("Get = %d bytes, %v, want %d", len(got), err, len(v))
						return
					}
					if _, err := counterAdd.Call(ctx, c, 1); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		n, err := counterAdd.Call(ctx, c, 0)
		require.NoError(t, err)
		require.Equal(t, 6400, n)
		require.NoError(t, c.Close())
		require.NoError(t, d.Close())
		empty(t, m)
	})
}

// A panic of a method has its stack, an error its identity; what ends its goroutine is an error.
func TestGoexit(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	c, err := counters.New(ctx, m, 0)
	require.NoError(t, err)
	_, err = counterGoexit.Call(ctx, c, struct{}{})
	require.ErrorContains(t, err, "Goexit")
	_, err = counterAdd.Call(ctx, c, 1)
	require.NoError(t, err)
	_, err = counterFail.Call(ctx, c, struct{}{})
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorIs(t, err, executor.ErrShutdown)
}
