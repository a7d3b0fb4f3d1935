//go:build linux

package processpool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/executor/executortest"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// methods are the ways to start a worker, for tests of how workers start and end.
var methods = map[string]worker.StartMethod{"Spawn": worker.Spawn, "ForkServer": worker.ForkServer}

// byEach runs a test by each start method.
func byEach(t *testing.T, test func(t *testing.T, m worker.StartMethod)) {
	t.Helper()
	for name, m := range methods {
		t.Run(name, func(t *testing.T) { test(t, m) })
	}
}

// by returns cfg with the start method m.
func by(m worker.StartMethod, cfg processpool.Config) processpool.Config {
	cfg.Worker.StartMethod = m
	return cfg
}

// A pool on a fork server keeps every promise of an executor.
func TestExecutorOnForkServer(t *testing.T) {
	executortest.Run(t, func(tb testing.TB, cfg executortest.Config) executor.Executor {
		p, err := processpool.New(processpool.Config{
			Workers:        cfg.Workers,
			Worker:         worker.Config{StartMethod: worker.ForkServer},
			QueueLimit:     cfg.QueueLimit,
			RejectWhenFull: cfg.RejectWhenFull,
			Initializer:    cfg.Initializer,
			Observer:       cfg.Observer,
			Logger:         cfg.Logger,
		})
		if err != nil {
			tb.Fatal(err)
		}
		return p
	})
}

// A relative is a process of the program.
type relative struct{ pid, parent, group int }

// family returns the children of a process that are alive.
func family(t *testing.T, parent int) (all []relative) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		number := func(s string) int {
			n, err := strconv.Atoi(s)
			require.NoError(t, err)
			return n
		}
		r := relative{number(filepath.Base(filepath.Dir(f))), number(fields[1]), number(fields[2])}
		if r.parent == parent && fields[0] != "Z" {
			all = append(all, r)
		}
	}
	return all
}

// forkServer returns the fork server of this process, or 0.
func forkServer(t *testing.T) int {
	t.Helper()
	return forkServerOf(t, os.Getpid())
}

// forkServerOf returns that of a program.
func forkServerOf(t *testing.T, program int) int {
	t.Helper()
	server := 0
	for _, r := range family(t, program) {
		if r.group != r.pid {
			continue // a worker: until it executes its program, it looks like the server that makes it
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.pid)) // as it was at its start
		if err == nil && bytes.Contains(env, []byte("FUTURES_WORKER_DEPTH=1 server\x00")) {
			require.Zero(t, server, "one server")
			server = r.pid
		}
	}
	return server
}

// awaitSpares waits until there is a server, and as many workers that nobody has taken,
// and returns them. Those are not yet in a group of their own, but in a server's.
func awaitSpares(t *testing.T, n int) (server int, spares []int) {
	t.Helper()
	for ctx := within(t); ; {
		server, spares = forkServer(t), nil
		for _, r := range family(t, os.Getpid()) {
			if r.group != r.pid && r.group != syscall.Getpgrp() {
				spares = append(spares, r.pid)
			}
		}
		if server != 0 && len(spares) == n {
			return server, spares
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d spare workers of server %d, want %d", len(spares), server, n)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// forking is a Config by which workers come from a fork server.
func forking(workers int) processpool.Config {
	return by(worker.ForkServer, processpool.Config{Workers: workers})
}

// The first pool that names it starts the server, the others share it, and it ends with
// the last. The first call is taken by a worker that was ready.
func TestForkServerLife(t *testing.T) {
	ctx := within(t)
	require.Empty(t, family(t, os.Getpid()))
	first := open(t, forking(1))
	server, spares := awaitSpares(t, 2)
	second := open(t, forking(1))
	n, err := executor.Apply(ctx, second, pid, struct{}{})
	require.NoError(t, err)
	require.Contains(t, spares, n)
	again, spares := awaitSpares(t, 2)
	require.Equal(t, server, again)
	require.NotContains(t, spares, n)
	require.NoError(t, second.Close())
	again, _ = awaitSpares(t, 2)
	require.Equal(t, server, again, "the first pool still has it")
	require.NoError(t, first.Close())
	require.Empty(t, family(t, os.Getpid()), "when Close has returned, nothing is left")
	require.ErrorIs(t, syscall.Kill(server, 0), syscall.ESRCH)
}

// Who does not wait for the server to be ready has his call run all the same, and who
// closes the pool before it was used leaves nothing.
func TestForkServerAtOnce(t *testing.T) {
	ctx := within(t)
	for range 10 {
		p := open(t, forking(3))
		for i, f := range executor.SubmitAll(ctx, p, double, []int{1, 2, 3, 4, 5, 6}) {
			n, err := f.Result(ctx)
			require.NoError(t, err)
			require.Equal(t, 2*(i+1), n)
		}
		require.NoError(t, p.Close())
		require.NoError(t, open(t, forking(1)).Close())
		require.Empty(t, family(t, os.Getpid()))
	}
}

// The server is killed, again and again: no call is lost, and another one is started.
// PRC-23
func TestForkServerKilled(t *testing.T) {
	ctx := within(t)
	p := open(t, forking(3))
	_, before := awaitSpares(t, 2)
	require.Len(t, before, 2)
	for range 20 {
		fs := executor.SubmitAll(ctx, p, crashAt, []crash{{N: 1, At: 1}, {N: 2}, {N: 3}, {N: 4, At: 4}, {N: 5}})
		if server := forkServer(t); server != 0 { // 0: between two
			require.NoError(t, syscall.Kill(server, syscall.SIGKILL))
		}
		for i, f := range fs {
			n, err := f.Result(ctx)
			if i == 0 || i == 3 {
				var lost *executor.WorkerLostError
				require.ErrorAs(t, err, &lost)
				require.Equal(t, 3, lost.ExitCode)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, i+1, n)
		}
	}
	require.Equal(t, executor.Stats{Submitted: 100, Succeeded: 60, Failed: 40, WorkersLost: 40}, counts(p))
	require.NoError(t, p.Close())
	require.Empty(t, family(t, os.Getpid()))
	requireNoChildren(t)
}

// requireNoChildren fails if there is a child, a zombie included.
func requireNoChildren(t *testing.T) {
	t.Helper()
	var status syscall.WaitStatus
	n, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	require.ErrorIs(t, err, syscall.ECHILD, "process %d", n)
}

// A server that is stopped while workers are wanted, and killed then, was asked for one
// that nobody can tell whether it was started: it is asked for again.
func TestForkServerKilledWhileAsked(t *testing.T) {
	ctx := within(t)
	for range 5 {
		p := open(t, forking(8))
		server, _ := awaitSpares(t, 2)
		require.NoError(t, syscall.Kill(server, syscall.SIGSTOP))
		fs := executor.SubmitAll(ctx, p, double, make([]int, 50))
		require.NoError(t, fs[0].Exception(ctx)) // by a worker that was ready
		require.NoError(t, syscall.Kill(server, syscall.SIGKILL))
		for _, f := range fs {
			require.NoError(t, f.Exception(ctx))
		}
		require.NoError(t, p.Close())
		require.Empty(t, family(t, os.Getpid()))
		requireNoChildren(t)
	}
}

// A server that is killed before it has introduced itself is replaced, and no call is
// lost.
func TestForkServerKilledAtItsStart(t *testing.T) {
	ctx := within(t)
	path := filepath.Join(t.TempDir(), "server")
	cfg := forking(1)
	exe, err := os.Executable()
	require.NoError(t, err)
	cfg.Worker.Command = []string{"sh", "-c", `if [ -e "$0" ]; then exec "$1"; fi; echo -n $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 1000`, path, exe}
	started := startDouble(ctx, cfg.Worker)
	server, err := await(ctx, path)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(server, syscall.SIGKILL))
	require.NoError(t, <-started)
	requireNoChildren(t)
}

// startDouble has a process double 21, which a pool would try again where it cannot be
// started, and says how that went.
func startDouble(ctx context.Context, cfg worker.Config) <-chan error {
	done := make(chan error, 1)
	go func() { // ends with the process
		p, err := worker.Start(ctx, double, 21, cfg)
		if err == nil {
			var n int
			if n, err = p.Future().Result(ctx); err == nil && n != 42 {
				err = fmt.Errorf("the double of 21 is %d", n)
			}
			err = errors.Join(err, p.Join(ctx))
		}
		done <- err
	}()
	return done
}

// A server that is killed while it reads a request has another one asked: the half of it
// that the dead one had is of no account.
func TestForkServerKilledInMidRequest(t *testing.T) {
	ctx := within(t)
	p := open(t, forking(1))
	server, _ := awaitSpares(t, 2)
	awaitUnasked(t, server)
	require.NoError(t, syscall.Kill(server, syscall.SIGSTOP))
	cfg := forking(1)
	cfg.Worker.Env = os.Environ()
	for i := range 10 { // more than a socket holds
		cfg.Worker.Env = append(cfg.Worker.Env, fmt.Sprintf("FILLER_%d=%s", i, strings.Repeat("x", 100<<10)))
	}
	started := startDouble(ctx, cfg.Worker)
	awaitFull(t, controlOf(t))
	require.NoError(t, syscall.Kill(server, syscall.SIGKILL))
	require.NoError(t, <-started)
	require.NoError(t, p.Close())
	requireNoChildren(t)
}

// awaitUnasked waits until a server has done what it was asked for: it has no descriptors
// but its own.
func awaitUnasked(t *testing.T, server int) {
	t.Helper()
	require.Eventually(t, func() bool {
		got, err := holds(strconv.Itoa(server))
		return err == nil && slices.Equal(got, []int{0, 1, 2, 3})
	}, time.Minute, time.Millisecond)
}

// awaitFull waits until a socket takes no more.
func awaitFull(t *testing.T, socket *os.File) {
	t.Helper()
	defer socket.Close()
	conn, err := socket.SyscallConn()
	require.NoError(t, err)
	for full, ctx := false, within(t); !full; {
		require.NoError(t, conn.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			n, err := unix.Poll(fds, 0)
			full = err == nil && n == 0
		}))
		select {
		case <-ctx.Done():
			t.Fatal("nobody writes to the socket")
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// A pool whose server hangs, before it has introduced itself or later, is closed at once.
func TestCloseWhileServerHangs(t *testing.T) {
	soon := func(p *processpool.Pool) {
		began := time.Now()
		require.NoError(t, p.Close())
		require.Less(t, time.Since(began), 5*time.Second)
		requireNoChildren(t)
	}
	path := filepath.Join(t.TempDir(), "server")
	cfg := forking(1)
	cfg.Worker.Command = []string{"sh", "-c", `echo -n $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 1000`, path}
	p := open(t, cfg)
	_, err := await(within(t), path)
	require.NoError(t, err)
	soon(p)

	p = open(t, forking(1))
	server, _ := awaitSpares(t, 2)
	require.NoError(t, syscall.Kill(server, syscall.SIGSTOP))
	require.NoError(t, executor.Submit(within(t), p, double, 1).Exception(within(t))) // which has a spare made
	soon(p)
}

// A pool is closed at once, too, where it shares a server that hangs with another, and a
// worker of it is being started; and so ends a process whose context does.
func TestCloseWhileSharedServerHangs(t *testing.T) {
	keeper := open(t, forking(1))
	server, spares := awaitSpares(t, 2)
	require.NoError(t, syscall.Kill(server, syscall.SIGSTOP))
	for _, s := range spares { // so that the server is asked
		require.NoError(t, syscall.Kill(s, syscall.SIGKILL))
		awaitGone(t, s)
	}
	p := open(t, forking(1))
	executor.Submit(within(t), p, double, 1)
	began := time.Now()
	require.NoError(t, p.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := worker.Start(ctx, double, 1, worker.Config{StartMethod: worker.ForkServer})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), 5*time.Second)
	require.NoError(t, keeper.Close())
}

// Pools that come and go at the same time share a server or do not, and leave none.
func TestForkServerOpenAndRelease(t *testing.T) {
	ctx := within(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 25 {
				p, err := processpool.New(forking(1))
				if err == nil && i%2 == 0 {
					_, err = executor.Apply(ctx, p, double, 1)
				}
				if err == nil {
					err = p.Close()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Empty(t, family(t, os.Getpid()))
	requireNoChildren(t)
}

// A worker that was made ready has the standard output that the program has when it is
// taken, not the one of before.
func TestForkServerOtherStdout(t *testing.T) {
	ctx := within(t)
	p := open(t, forking(1))
	awaitSpares(t, 2)
	for processpool.Spares(p) < 2 { // whoever makes them ready has read os.Stdout by then
		require.NoError(t, ctx.Err())
		time.Sleep(time.Millisecond) // between two looks
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	before := os.Stdout
	os.Stdout = w
	_, err = executor.Apply(ctx, p, printLine, "a line")
	os.Stdout = before
	w.Close()
	require.NoError(t, err)
	require.NoError(t, p.Close()) // the worker has the other descriptor
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "a line\n", string(got))
}

var printLine = executor.NewTask("printLine", func(_ context.Context, s string) (int, error) { return fmt.Println(s) })

// Workers that are ready and are killed before anybody takes them cost no call.
func TestSparesKilled(t *testing.T) {
	ctx := within(t)
	p := open(t, forking(2))
	_, spares := awaitSpares(t, 2)
	for _, n := range spares {
		require.NoError(t, syscall.Kill(n, syscall.SIGKILL))
		awaitGone(t, n) // one that is taken while it dies is a lost worker, though no lost call
	}
	for _, f := range executor.SubmitAll(ctx, p, double, make([]int, 10)) {
		require.NoError(t, f.Exception(ctx))
	}
	require.Zero(t, p.Stats().WorkersLost)
}

// Environment and directory are those of the server's start, unless Config has others,
// and attributes are applied, too. // PRC-35, PRC-36
func TestForkServerSurroundings(t *testing.T) {
	ctx := within(t)
	home, err := os.Getwd()
	require.NoError(t, err)
	t.Setenv("PROCESSPOOL_TEST_VALUE", "then")
	first := open(t, forking(1))
	t.Setenv("PROCESSPOOL_TEST_VALUE", "now")
	t.Chdir(t.TempDir())
	see := func(p *processpool.Pool, what string) string {
		got, err := executor.Apply(ctx, p, look, what)
		require.NoError(t, err)
		return got
	}
	require.Equal(t, "then", see(first, "env"))
	require.Equal(t, home, see(first, "dir"))

	dir := t.TempDir()
	cfg := forking(1)
	cfg.Worker.Dir, cfg.Worker.SysProcAttr = dir, &syscall.SysProcAttr{Setsid: true}
	second := open(t, cfg)
	require.Equal(t, "then", see(second, "env"))
	require.Equal(t, dir, see(second, "dir"))
	require.Equal(t, "true", see(second, "group"))
	require.Equal(t, "true", see(second, "session"))
	require.Equal(t, "false", see(first, "session"))
	require.Equal(t, "true", see(first, "group"))

	cfg = forking(1)
	cfg.Worker.Env = []string{"PROCESSPOOL_TEST_VALUE=mine", "FUTURES_WORKER_DEPTH=7 server"}
	third := open(t, cfg)
	require.Equal(t, "mine", see(third, "env"))
	require.Equal(t, home, see(third, "dir"))
	require.Equal(t, strconv.Itoa(os.Getpid()), see(third, "parent"))
}

// A worker that cannot be started because of its Config leaves nothing behind, not even
// a zombie that nobody knows, and says what failed.
func TestForkServerStartFails(t *testing.T) {
	ctx := within(t)
	for range 3 {
		cfg := forking(1)
		cfg.Worker.Dir = "/does/not/exist"
		p := open(t, cfg)
		err := executor.Submit(ctx, p, double, 1).Exception(ctx)
		require.ErrorAs(t, err, new(*executor.BrokenError))
		require.ErrorIs(t, err, syscall.ENOENT)
		require.NoError(t, p.Close())
		requireNoChildren(t)
	}
}

// Lines that a worker prints before it is taken are not lost, nor is the output of one
// that was taken ready-made.
func TestForkServerOutput(t *testing.T) {
	ctx := within(t)
	var mu sync.Mutex
	lines := map[string][]string{}
	cfg := forking(1)
	cfg.Worker.Output = func(_ int, stream string, line []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines[stream] = append(lines[stream], string(line))
	}
	p := open(t, cfg)
	awaitSpares(t, 2)
	var lost *executor.WorkerLostError
	require.ErrorAs(t, executor.Submit(ctx, p, say, exit3).Exception(ctx), &lost)
	require.Equal(t, "err one\nerr without an endabout to exit\n", lost.Stderr)
	require.NoError(t, p.Close())
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string][]string{"stdout": {"out one"}, "stderr": {"err one", "err without an endabout to exit"}}, lines)
}

// Nobody but the program is listened to by a fork server: not even a process that got
// hold of the program's own end of the socket. // PRC-24
func TestForkServerIgnoresStrangers(t *testing.T) {
	ctx := within(t)
	p := open(t, forking(1))
	server, _ := awaitSpares(t, 2)
	socket := controlOf(t)
	defer socket.Close()
	cmd := self(ctx, "stranger")
	cmd.ExtraFiles = []*os.File{socket}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	awaitGone(t, server) // it has ended rather than do what it was told
	require.NoError(t, executor.Submit(ctx, p, double, 1).Exception(ctx))
	awaitSpares(t, 2)
}

// controlOf returns another descriptor of this process's end of its fork server's
// socket, which is the only one that asks for credentials.
func controlOf(t *testing.T) *os.File {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED); err == nil && on == 1 {
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			require.NoError(t, err)
			return os.NewFile(uintptr(dup), "control")
		}
	}
	t.Fatal("no control socket")
	return nil
}

// stranger writes a request, as the program would, to a fork server's socket that it
// should not have.
func stranger() {
	type startRequest struct {
		HasEnv bool
		Env    []string
		Dir    string
	}
	b := bytes.NewBuffer(make([]byte, 4))
	check(gob.NewEncoder(b).Encode(startRequest{Dir: "/"}))
	binary.BigEndian.PutUint32(b.Bytes(), uint32(b.Len()-4))
	if _, err := unix.Write(3, b.Bytes()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The workers of a worker's own fork server end with it, and it with its program.
func TestForkServerNested(t *testing.T) {
	ctx := within(t)
	p := open(t, forking(1))
	n, err := executor.Apply(ctx, p, nestedByServer, 21)
	require.NoError(t, err)
	require.Equal(t, 42, n)
}

var nestedByServer = executor.NewTask("nestedByServer", func(ctx context.Context, n int) (int, error) {
	p, err := processpool.New(forking(1))
	if err != nil {
		return 0, err
	}
	n, err = executor.Apply(ctx, p, double, n)
	return n, errors.Join(err, p.Close())
})

// BenchmarkFirstCall is what a pool's first call waits for.
func BenchmarkFirstCall(b *testing.B) {
	for name, m := range methods {
		b.Run("method="+name, func(b *testing.B) {
			ctx := b.Context()
			keep, err := processpool.New(forking(1)) // so that the server stays
			require.NoError(b, err)
			defer keep.Close()
			for b.Loop() {
				b.StopTimer()
				p, err := processpool.New(processpool.Config{Workers: 1, Worker: worker.Config{StartMethod: m}})
				require.NoError(b, err)
				time.Sleep(5 * time.Millisecond) // what was taken is replaced meanwhile
				b.StartTimer()
				_, err = executor.Apply(ctx, p, double, 1)
				b.StopTimer()
				require.NoError(b, err)
				require.NoError(b, p.Close())
				b.StartTimer()
			}
		})
	}
}
