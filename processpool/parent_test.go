//go:build linux

package processpool_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// brood starts a child of its own, which has a child too, and goes on for ever, or returns.
var brood = executor.NewTask("brood", func(ctx context.Context, b litter) (int, error) {
	cmd := exec.Command("sh", "-c", `sleep 1000 & echo; wait`)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1)) // it has its child
	}
	if err != nil {
		return 0, err
	}
	proctest.Note(b.Path+".child", cmd.Process.Pid)
	announce(b.Path)
	if b.Until == "" {
		select {}
	}
	return await(ctx, b.Until)
})

// A litter is an argument of brood.
type litter struct {
	Path  string
	Until string // a file: when it is there, brood returns, and its children stay
}

// abandon starts a child of its own and dies.
var abandon = executor.NewTask("abandon", func(_ context.Context, path string) (int, error) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return 0, err
	}
	os.Exit(3)
	return 0, nil
})

// play is what this binary does in a role. It returns if there is no such role.
func play(r string) {
	switch r {
	case "echo":
		socket := os.NewFile(3, "socket")
		_, _ = io.Copy(onlyWriter{socket}, onlyReader{socket})
		os.Exit(0)
	case "stranger":
		stranger()
	case "parent":
		playParent()
	case "expectant":
		playExpectant()
	case "terminal":
		playTerminal()
	case "streams":
		playStreams()
	}
}

// playParent is a program with two workers that have children, and idle or go on.
func playParent() {
	ctx := context.Background()
	p, err := processpool.New(by(methods[os.Args[2]], processpool.Config{Workers: 2}))
	check(err)
	dir, until := os.Args[1], ""
	if os.Args[3] == "idle" {
		until = filepath.Join(dir, "until")
	}
	var fs []*future.Future[int]
	for i := range 2 {
		path := filepath.Join(dir, strconv.Itoa(i))
		fs = append(fs, executor.Submit(ctx, p, brood, litter{path, until}))
		_, err := await(ctx, path)
		check(err)
	}
	if until != "" {
		announce(until)
		_, err := future.All(ctx, fs...)
		check(err)
	}
	fmt.Println("ready")
	select {}
}

// check ends a program that plays a role if something went wrong.
func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// onlyWriter and onlyReader keep io.Copy from leaving the bytes to the kernel.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// When the parent is killed its workers, and its fork server with those that nobody has
// taken, are gone within a second, and what they had started with them, down to the last
// grandchild. // SHU-22, SHU-02
func TestParentKilled(t *testing.T) {
	for name, m := range methods {
		for _, state := range []string{"idle", "busy"} {
			t.Run(name+"/"+state, func(t *testing.T) {
				var slowest time.Duration
				for range 20 {
					slowest = max(slowest, killParent(t, name, state, m))
				}
				t.Logf("the slowest of 20 took %v", slowest)
			})
		}
	}
}

func killParent(t *testing.T, name, state string, m worker.StartMethod) time.Duration {
	cmd := self(within(t), "parent", t.TempDir(), name, state)
	ready(t, cmd)
	all := descendants(t, cmd.Process.Pid)
	want := 6 // two workers, each with a child and that one's child
	if m == worker.ForkServer {
		want++
	}
	require.GreaterOrEqual(t, len(all), want)
	require.NoError(t, cmd.Process.Kill())
	killed := time.Now()
	_ = cmd.Wait()
	for _, n := range all {
		awaitGone(t, n)
	}
	took := time.Since(killed)
	require.Less(t, took, time.Second)
	return took
}

// ready starts a program that plays a role and waits until it says that it is ready.
func ready(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
}

// descendants returns the children of a process, theirs, and so on.
func descendants(t *testing.T, n int) (all []int) {
	t.Helper()
	for _, r := range family(t, n) {
		all = append(append(all, r.pid), descendants(t, r.pid)...)
	}
	return all
}

// Workers that are not yet as far as to serve end with the parent, too.
func TestParentKilledBeforeMain(t *testing.T) {
	for name := range methods {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			path := filepath.Join(t.TempDir(), "stuck")
			cmd := self(ctx, "expectant", path, name)
			ready(t, cmd)
			n, err := await(ctx, path)
			require.NoError(t, err)
			require.NoError(t, cmd.Process.Kill())
			killed := time.Now()
			_ = cmd.Wait()
			awaitGone(t, n)
			require.Less(t, time.Since(killed), time.Second)
		})
	}
}

// stuckName is the variable that keeps a worker from coming to its main.
const stuckName = "PROCESSPOOL_TEST_STUCK"

func init() {
	if path := os.Getenv(stuckName); path != "" {
		announce(path)
		select {}
	}
}

// playExpectant is a program that waits for a worker which does not come to its main.
func playExpectant() {
	cfg := by(methods[os.Args[2]], processpool.Config{Workers: 1})
	cfg.Worker.Env = append(os.Environ(), stuckName+"="+os.Args[1])
	p, err := processpool.New(cfg)
	check(err)
	executor.Submit(context.Background(), p, double, 1)
	fmt.Println("ready")
	select {}
}

// What a call has started in its process group dies with its worker.
func TestKillReachesTheGroup(t *testing.T) { byEach(t, testKillReachesTheGroup) }

func testKillReachesTheGroup(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	path := filepath.Join(t.TempDir(), "brood")
	p := open(t, by(m, processpool.Config{Workers: 1}))
	f := executor.Submit(ctx, p, brood, litter{Path: path})
	_, err := await(ctx, path)
	require.NoError(t, err)
	grandchild, err := await(ctx, path+".child")
	require.NoError(t, err)
	require.NoError(t, p.Kill())
	var lost *executor.WorkerLostError
	require.ErrorAs(t, f.Exception(ctx), &lost)
	require.Equal(t, syscall.SIGKILL, lost.Signal)
	awaitGone(t, grandchild)
}

// So it does when the worker dies by itself.
func TestCrashReachesTheGroup(t *testing.T) { byEach(t, testCrashReachesTheGroup) }

func testCrashReachesTheGroup(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	path := filepath.Join(t.TempDir(), "abandon")
	p := open(t, by(m, processpool.Config{Workers: 1}))
	require.ErrorAs(t, executor.Submit(ctx, p, abandon, path).Exception(ctx), new(*executor.WorkerLostError))
	child, err := await(ctx, path)
	require.NoError(t, err)
	awaitGone(t, child)
}

// A program that never calls worker.Main gets an error that says so, and starts
// nothing. // PRC-29
func TestProgramWithoutMain(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "nomain")
	build(t, "nomain", binary)
	out, err := exec.CommandContext(within(t), binary).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "call worker.Main() first in func main")
	require.Contains(t, string(out), "started: 1\n")
}

// A binary that is replaced or removed while its program runs does no harm: workers
// are what the program is.
func TestBinaryReplaced(t *testing.T) {
	ctx := within(t)
	binary := filepath.Join(t.TempDir(), "replaced")
	build(t, "replaced", binary)
	out, err := exec.CommandContext(ctx, binary).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "42\n", string(out))
}

// build builds a program of testdata.
func build(t *testing.T, name, binary string) {
	t.Helper()
	cmd := exec.CommandContext(within(t), "go", "build", "-o", binary, "./"+filepath.Join("testdata", name))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}
