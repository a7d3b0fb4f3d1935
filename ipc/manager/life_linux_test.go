package manager

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

func init() {
	roles["program"] = func() {
		m, err := Start(context.Background(), Config{})
		if err != nil {
			panic(err)
		}
		fmt.Println(m.proc.PID())
		select {}
	}
}

// The server process ends with the program, however that ends.
func TestProgramKilled(t *testing.T) {
	cmd := self("program")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, 0))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }, 5*time.Second, time.Millisecond)
}

func TestStartByForkServer(t *testing.T) {
	m, err := Start(t.Context(), Config{Worker: worker.Config{StartMethod: worker.ForkServer}})
	require.NoError(t, err)
	defer m.Close()
	testOwn(t, m)
}

var nestedStart = executor.NewTask("manager_test.start", func(ctx context.Context, n int) (int, error) {
	m, err := Start(ctx, Config{})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	c, err := counters.New(ctx, m, n)
	if err != nil {
		return 0, err
	}
	return counterAdd.Call(ctx, c, 1)
})

func TestStartInWorker(t *testing.T) {
	p, err := processpool.New(processpool.Config{Workers: 1})
	require.NoError(t, err)
	defer p.Close()
	n, err := executor.Submit(t.Context(), p, nestedStart, 41).Result(t.Context())
	require.NoError(t, err)
	require.Equal(t, 42, n)
}

// A proxy that travels holds its object though the sender lets go of it at once, and though it
// never arrives.
func TestTravellingHolds(t *testing.T) {
	ways(t, func(t *testing.T, m *Manager) {
		ctx := t.Context()
		c, err := counters.New(ctx, m, 0)
		require.NoError(t, err)
		fds, err := c.Export()
		require.NoError(t, err)
		c.Exported()
		b := c.h.encoded()
		id := c.h.id
		require.NoError(t, c.Close())
		at := place{id: m.conn.id, object: id}
		require.Len(t, b, 24+len(c.describe()))
		h, err := imported(at, c.describe(), fds)
		require.NoError(t, err)
		again := &Object[*counter]{object{h}}
		n, err := counterAdd.Call(ctx, again, 3)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		fds, err = again.Export()
		require.NoError(t, err)
		again.Exported()
		require.NoError(t, syscall.Close(fds[0]))
		require.NoError(t, again.Close())
		empties(t, m)
	})
}

// A queue of a pool holds what is in it: whoever is served late finds his object.
func TestSentAhead(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	p, err := processpool.New(processpool.Config{Workers: 1})
	require.NoError(t, err)
	defer p.Close()
	c, err := counters.New(ctx, m, 0)
	require.NoError(t, err)
	for range 100 {
		f := executor.Submit(ctx, p, addTask, c)
		defer func() {
			_, err := f.Result(ctx)
			require.NoError(t, err)
		}()
	}
}

// A closed proxy, and the zero one, are ErrClosed; a nil one as an element is an error.
func TestClosedProxies(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	var zero Object[*counter]
	_, err := counterAdd.Call(ctx, &zero, 1)
	require.ErrorIs(t, err, ipc.ErrClosed)
	_, err = counterAdd.Call(ctx, nil, 1)
	require.ErrorIs(t, err, ipc.ErrClosed)
	require.NoError(t, zero.Close())
	_, err = counters.New(ctx, &Manager{}, 1)
	require.ErrorIs(t, err, ipc.ErrClosed)
	d, err := NewDict[string, []*Object[*counter]](ctx, m)
	require.NoError(t, err)
	require.ErrorContains(t, d.Set(ctx, "k", []*Object[*counter]{nil}), "nil proxy")
	require.ErrorIs(t, d.Set(ctx, "k", []*Object[*counter]{&zero}), ipc.ErrClosed)
}

// A value of which the names are found and the bytes are not leaves nothing behind.
func TestHoldsOfWhatIsNotDecoded(t *testing.T) {
	ctx := t.Context()
	m := started(t)
	d, err := newRawDict[*Object[*counter]](ctx, m)
	require.NoError(t, err)
	c, err := counters.New(ctx, m, 1)
	require.NoError(t, err)
	require.NoError(t, d.Set(ctx, "k", c))
	require.NoError(t, c.Close())
	other := &rawDict[*rawDict[int]]{object{d.h}}
	_, _, err = other.Get(ctx, "k")
	require.ErrorContains(t, err, "rawDict[int]")
	require.ErrorContains(t, err, "Object[")
	require.NoError(t, d.Delete(ctx, "k"))
	require.Eventually(t, func() bool { return stat(t, m).objects == 1 }, 10*time.Second, time.Millisecond)
}

// Where there are no socket pairs, a process talks to its own server by a pipe.
func TestPiped(t *testing.T) {
	cfg, err := Config{}.ready()
	require.NoError(t, err)
	s := newServer(&cfg)
	defer s.close()
	a, b := net.Pipe()
	s.admit(a, nil)
	c, err := newConn(t.Context(), piped{b}, s.limit)
	require.NoError(t, err)
	c.owned = true
	atlas.add(c)
	defer c.close()
	m := &Manager{conn: c, server: s}
	testOwn(t, m)
}
