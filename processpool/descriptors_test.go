//go:build linux

package processpool_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
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
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// holds returns the open descriptors of a process, but for those that the runtime makes
// for itself.
func holds(pid string) (fds []int, err error) {
	dir := "/proc/" + pid + "/fd/"
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		what, err := os.Readlink(dir + e.Name())
		if err != nil || what == "anon_inode:[eventpoll]" || what == "anon_inode:[eventfd]" || strings.HasPrefix(what, "/sys/fs/cgroup/") {
			continue // or the directory itself, which is closed by now
		}
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		fds = append(fds, n)
	}
	slices.Sort(fds)
	return fds, err
}

var (
	// ownDescriptors returns those of the worker.
	ownDescriptors = executor.NewTask("ownDescriptors", func(context.Context, struct{}) ([]int, error) { return holds("self") })

	// childDescriptors returns those of a program that the worker starts.
	childDescriptors = executor.NewTask("childDescriptors", func(context.Context, struct{}) (string, error) {
		out, err := exec.Command("sh", "-c", "for f in /proc/$$/fd/*; do if [ -e $f ]; then echo ${f##*/}; fi; done").Output()
		return string(out), err
	})
)

// leak opens descriptors of all kinds as C does, so that they survive an exec.
func leak(t *testing.T) {
	t.Helper()
	var fds []int
	add := func(fd int, err error) {
		require.NoError(t, err)
		fds = append(fds, fd)
	}
	t.Cleanup(func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	})
	add(unix.Open("/etc/passwd", unix.O_RDONLY, 0))
	add(unix.Open("/", unix.O_DIRECTORY, 0))
	add(unix.Open("/", unix.O_PATH, 0))
	add(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	add(unix.MemfdCreate("secret", 0))
	add(unix.TimerfdCreate(unix.CLOCK_MONOTONIC, 0))
	var pair [2]int
	require.NoError(t, unix.Pipe2(pair[:], 0))
	add(pair[0], nil)
	add(pair[1], nil)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	add(pair[0], err)
	add(pair[1], nil)
	for _, fd := range []int{100, 1000} {
		add(unix.FcntlInt(uintptr(pair[0]), unix.F_DUPFD, fd))
	}
}

// A worker, what it starts, and a fork server have no descriptors but those that they
// were given, whatever the program has open across exec, and however many siblings there
// are. // PRC-19, PRC-20
func TestLeakedDescriptors(t *testing.T) { byEach(t, testLeakedDescriptors) }

func testLeakedDescriptors(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	leak(t) // before a fork server starts
	for range 2 {
		for _, output := range []func(int, string, []byte){nil, hushed.Output} {
			p := open(t, by(m, processpool.Config{Workers: 3, Worker: worker.Config{Output: output}}))
			hold(t, p, 2)
			got, err := executor.Apply(ctx, p, ownDescriptors, struct{}{})
			require.NoError(t, err)
			require.Equal(t, []int{0, 1, 2, 3}, got)
			child, err := executor.Apply(ctx, p, childDescriptors, struct{}{})
			require.NoError(t, err)
			require.Equal(t, "0\n1\n2\n", child)
		}
		if m == worker.ForkServer {
			server, _ := awaitSpares(t, 4)
			awaitUnasked(t, server)
		}
		leak(t) // and while it runs
	}
}

// A terminal's SIGINT and SIGQUIT reach the program alone, and neither its workers nor
// its fork server.
func TestTerminalSignals(t *testing.T) {
	for name, m := range methods {
		t.Run(name, func(t *testing.T) {
			master, slave := terminal(t)
			cmd := self(within(t), "terminal", name, filepath.Join(t.TempDir(), "deaf"))
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			require.NoError(t, cmd.Start())
			slave.Close()
			defer func() { _ = cmd.Process.Kill() }() // if it fails, it has ended
			var said bytes.Buffer
			hear := func(what string) {
				for !strings.Contains(said.String(), what) {
					b := make([]byte, 100)
					n, err := master.Read(b)
					require.NoError(t, err, "heard %q", said.String())
					said.Write(b[:n])
				}
			}
			hear("ready for interrupt")
			server := forkServerOf(t, cmd.Process.Pid)
			require.Equal(t, m == worker.ForkServer, server != 0)
			_, err := master.WriteString("\x03")
			require.NoError(t, err)
			hear("saw interrupt")
			hear("ready for quit")
			_, err = master.WriteString("\x1c")
			require.NoError(t, err)
			hear("saw quit")
			hear("the workers are well")
			require.Equal(t, server, forkServerOf(t, cmd.Process.Pid))
			_, err = master.WriteString("bye\n")
			require.NoError(t, err)
			require.NoError(t, cmd.Wait())
		})
	}
}

// terminal returns both sides of a new one.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no terminal can be had here: %v", err)
	}
	require.NoError(t, unix.SetNonblock(fd, true))
	master = os.NewFile(uintptr(fd), "master")
	t.Cleanup(func() { master.Close() })
	require.NoError(t, master.SetDeadline(time.Now().Add(time.Minute)))
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// playTerminal is a program that handles the signals of its terminal.
func playTerminal() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := processpool.New(by(methods[os.Args[1]], processpool.Config{Workers: 2}))
	check(err)
	defer p.Close()
	busy := executor.Submit(ctx, p, deaf, os.Args[2])
	idle, err := executor.Apply(ctx, p, pid, struct{}{})
	check(err)
	for _, name := range []string{"interrupt", "quit"} {
		fmt.Println("ready for", name)
		fmt.Println("saw", <-signals)
		again, err := executor.Apply(ctx, p, pid, struct{}{})
		check(err)
		if again != idle || busy.IsDone() || p.Stats().WorkersLost != 0 {
			fmt.Println("a worker has died of it", again, idle, p.Stats())
			os.Exit(1)
		}
	}
	fmt.Println("the workers are well")
	_, _ = fmt.Scanln() // until the test has looked around
	check(p.Kill())
	os.Exit(0)
}

// A program whose standard streams are closed, from the start or later on, or have nobody
// at their other end, can have workers. What those write does not end it, nor does the
// death of a worker whose socket would have the number of a standard stream. // PRC-22
func TestWithoutStreams(t *testing.T) {
	for name := range methods {
		for _, how := range []string{"1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "later", "broken"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "done")
				redirect := how
				if how == "later" || how == "broken" {
					redirect = ""
				}
				exe, err := os.Executable()
				require.NoError(t, err)
				cmd := self(within(t), "streams")
				cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `exec "$0" "$@" ` + redirect, exe, name, how, path}
				var said bytes.Buffer
				if how == "broken" {
					r, w, err := os.Pipe()
					require.NoError(t, err)
					defer w.Close()
					r.Close()
					cmd.Stdout, cmd.Stderr = w, w
				} else {
					cmd.Stdout, cmd.Stderr = &said, &said
				}
				require.NoError(t, cmd.Run(), said.String())
				b, err := os.ReadFile(path)
				require.NoError(t, err, said.String())
				require.Equal(t, "well", string(b))
			})
		}
	}
}

// playStreams is a program without standard streams. It writes to a file how it fares.
func playStreams() {
	say := func(format string, args ...any) {
		if err := os.WriteFile(os.Args[3], fmt.Appendf(nil, format, args...), 0o600); err != nil {
			os.Exit(3)
		}
	}
	fail := func(args ...any) {
		say("%s", fmt.Sprintln(args...))
		os.Exit(0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if os.Args[2] == "later" { // when the runtime has the descriptors that it needs for a timer
		os.Stdin.Close()
		os.Stdout.Close()
		os.Stderr.Close()
	}
	quiet := slog.New(slog.DiscardHandler) // a line of a log is the program's own, and may end it
	p, err := processpool.New(by(methods[os.Args[1]], processpool.Config{Workers: 2, Logger: quiet}))
	if err != nil {
		fail(err)
	}
	for range 3 {
		if _, err := executor.Apply(ctx, p, clamour, 100); err != nil {
			fail("a worker that writes to its standard error:", err)
		}
		for _, w := range p.Workers() {
			_ = syscall.Kill(w.PID, syscall.SIGSTOP)
		}
		large := executor.Submit(ctx, p, echo, make([]byte, 8<<20), executor.WithRetries(3)) // more than a socket holds
		for writing := false; !writing && ctx.Err() == nil; time.Sleep(time.Millisecond) {   // between two looks
			for _, w := range p.Workers() {
				writing = writing || w.Task == "echo"
			}
		}
		for _, w := range p.Workers() {
			_ = syscall.Kill(w.PID, syscall.SIGKILL)
		}
		if err := large.Exception(ctx); err != nil {
			fail("a large call:", err)
		}
		for i, f := range executor.SubmitAll(ctx, p, double, []int{0, 1, 2, 3}, executor.WithRetries(3)) {
			if n, err := f.Result(ctx); err != nil || n != 2*i {
				fail("a call:", n, err)
			}
		}
		if n, err := executor.Apply(ctx, p, crashAt, crash{N: 1, At: 1}); err == nil {
			fail("a crash:", n)
		}
	}
	if err := p.Close(); err != nil {
		fail(err)
	}
	say("well")
	os.Exit(0)
}

// clamour writes lines to the standard error.
var clamour = executor.NewTask("clamour", func(_ context.Context, lines int) (int, error) {
	for range lines {
		if _, err := fmt.Fprintln(os.Stderr, strings.Repeat("x", 1000)); err != nil {
			return 0, err
		}
	}
	return lines, nil
})

// Output gets whole lines, however they are written and whoever writes at the same time,
// and the last one of each worker that is killed in the middle of it.
func TestOutputLines(t *testing.T) { byEach(t, testOutputLines) }

func testOutputLines(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	type source struct {
		pid    int
		stream string
	}
	var mu sync.Mutex
	lines := map[source][]string{}
	p := open(t, by(m, processpool.Config{Workers: 3, Worker: worker.Config{Output: func(pid int, stream string, line []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines[source{pid, stream}] = append(lines[source{pid, stream}], string(line))
	}}}))
	var pids []int
	for _, f := range executor.SubmitAll(ctx, p, stutter, make([]struct{}, 6)) {
		var lost *executor.WorkerLostError
		require.ErrorAs(t, f.Exception(ctx), &lost)
		require.Equal(t, syscall.SIGKILL, lost.Signal)
		require.True(t, strings.HasSuffix(lost.Stderr, "stderr 19\nthe end of st"), lost.Stderr)
		pids = append(pids, lost.PID)
	}
	require.NoError(t, p.Close()) // which waits for what is on its way
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, lines, 12)
	for _, n := range pids {
		for _, stream := range []string{"stdout", "stderr"} {
			got := lines[source{n, stream}]
			require.Len(t, got, 21)
			for i := range 20 {
				require.Equal(t, fmt.Sprintf("%s %d", stream, i), got[i])
			}
			require.Equal(t, "the end of st", got[20])
		}
	}
}

// stutter writes lines byte by byte, and is killed in the middle of one.
var stutter = executor.NewTask("stutter", func(context.Context, struct{}) (int, error) {
	write := func(text string) {
		for stream, f := range map[string]*os.File{"stdout": os.Stdout, "stderr": os.Stderr} {
			for _, c := range []byte(strings.ReplaceAll(text, "STREAM", stream)) {
				_, _ = f.Write([]byte{c})
			}
		}
	}
	for i := range 20 {
		write(fmt.Sprintf("STREAM %d\n", i))
	}
	write("the end of st")
	return 0, befall(sigkill)
})
