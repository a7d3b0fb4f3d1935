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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/processpool"
)

// brood starts a child of its own and goes on for ever.
var brood = executor.NewTask("brood", func(_ context.Context, path string) (int, error) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if err := os.WriteFile(path+".child", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return 0, err
	}
	announce(path)
	select {}
})

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

// play is what this binary does in a role.
func play(r string) {
	if r == "echo" {
		socket := os.NewFile(3, "socket")
		_, _ = io.Copy(onlyWriter{socket}, onlyReader{socket})
		os.Exit(0)
	}
	if r != "parent" {
		fmt.Fprintln(os.Stderr, "no such role:", r)
		os.Exit(2)
	}
	ctx := context.Background()
	p, err := processpool.New(processpool.Config{Workers: 2})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	dir := os.Args[1]
	n, err := executor.Apply(ctx, p, pid, struct{}{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	executor.Submit(ctx, p, brood, filepath.Join(dir, "brood"))
	if _, err := await(ctx, filepath.Join(dir, "brood")); err != nil {
		os.Exit(2)
	}
	fmt.Println("ready", n)
	select {}
}

// onlyWriter and onlyReader keep io.Copy from leaving the bytes to the kernel.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// When the parent is killed its workers are gone within a second, and what they had
// started with them. // SHU-22, SHU-02
func TestParentKilled(t *testing.T) {
	for range 3 {
		ctx := within(t)
		dir := t.TempDir()
		cmd := self(ctx, "parent", dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "ready")
		idle, err := strconv.Atoi(strings.Fields(line)[1])
		require.NoError(t, err)
		busy, err := await(ctx, filepath.Join(dir, "brood"))
		require.NoError(t, err)
		grandchild, err := await(ctx, filepath.Join(dir, "brood.child"))
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Kill())
		killed := time.Now()
		_ = cmd.Wait()
		for _, n := range []int{idle, busy, grandchild} {
			awaitGone(t, n)
		}
		require.Less(t, time.Since(killed), time.Second)
	}
}

// awaitGone waits until process n has ended: it is no more, or a zombie that whoever
// adopted it has yet to reap.
func awaitGone(t *testing.T, n int) {
	t.Helper()
	for ctx := within(t); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n))
		if err != nil || strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " Z") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("process %d is still there: %s", n, stat)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// What a call has started in its process group dies with its worker.
func TestKillReachesTheGroup(t *testing.T) {
	ctx := within(t)
	path := filepath.Join(t.TempDir(), "brood")
	p := open(t, processpool.Config{Workers: 1})
	f := executor.Submit(ctx, p, brood, path)
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
func TestCrashReachesTheGroup(t *testing.T) {
	ctx := within(t)
	path := filepath.Join(t.TempDir(), "abandon")
	p := open(t, processpool.Config{Workers: 1})
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
