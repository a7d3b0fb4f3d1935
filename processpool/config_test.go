//go:build linux

package processpool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// A field that makes no sense, or that is not supported yet, is refused by its name.
// // POL-19, POL-28, THR-19
func TestConfigRefused(t *testing.T) {
	tests := map[string]struct {
		cfg  processpool.Config
		want []string
	}{
		"workers":       {processpool.Config{Workers: -1}, []string{"Workers", "-1"}},
		"queue":         {processpool.Config{QueueLimit: -2}, []string{"QueueLimit", "-2"}},
		"tasks":         {processpool.Config{MaxTasksPerChild: -3}, []string{"MaxTasksPerChild", "-3"}},
		"keep alive":    {processpool.Config{KeepAlive: -4}, []string{"KeepAlive", "-4ns"}},
		"procs":         {processpool.Config{Worker: worker.Config{GOMAXPROCS: -5}}, []string{"Worker.GOMAXPROCS", "-5"}},
		"message":       {processpool.Config{Worker: worker.Config{MaxMessage: -6}}, []string{"Worker.MaxMessage", "-6"}},
		"start timeout": {processpool.Config{Worker: worker.Config{StartTimeout: -7}}, []string{"Worker.StartTimeout", "-7ns"}},
		"memory":        {processpool.Config{Worker: worker.Config{MemoryLimit: -8}}, []string{"Worker.MemoryLimit", "-8 bytes"}},
		"fork":          {processpool.Config{Worker: worker.Config{StartMethod: worker.Fork}}, []string{"Fork", "threads", "use Spawn"}},
		"method":        {processpool.Config{Worker: worker.Config{StartMethod: 9}}, []string{"StartMethod(9)"}},
		"initializer": {processpool.Config{Initializer: executor.Bind(executor.LocalTask(
			func(context.Context, int) (int, error) { return 0, nil }), 1)}, []string{"Initializer", "not portable"}},
		"group": {processpool.Config{Worker: worker.Config{SysProcAttr: &syscall.SysProcAttr{Pgid: 1}}}, []string{"SysProcAttr", "Pgid"}},
		"death": {processpool.Config{Worker: worker.Config{SysProcAttr: &syscall.SysProcAttr{Pdeathsig: 9}}}, []string{"SysProcAttr", "Pdeathsig"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := processpool.New(tt.cfg)
			require.Error(t, err)
			for _, w := range append(tt.want, "processpool: ") {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

// What Config says is what a worker has, and the parent keeps its own. // PRC-20, PRC-31, PRC-35, PRC-36
func TestWorkerSurroundings(t *testing.T) { byEach(t, testWorkerSurroundings) }

func testWorkerSurroundings(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	dir := t.TempDir()
	p := open(t, by(m, processpool.Config{Workers: 1, Worker: worker.Config{
		Name: "surroundings", Dir: dir, GOMAXPROCS: 3,
		Env:         []string{"PROCESSPOOL_TEST_VALUE=seen", "FUTURES_WORKER_DEPTH=77"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}}))
	exe, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	for what, want := range map[string]string{
		"env":    "seen", // and no marker
		"dir":    dir,
		"args":   "1 " + os.Args[0],
		"stdin":  "0 EOF",
		"worker": "true 0 3",
		"group":  "true",
		"exe":    exe,
	} {
		got, err := executor.Apply(ctx, p, look, what)
		require.NoError(t, err)
		require.Equal(t, want, got, what)
	}
	require.Empty(t, os.Getenv("PROCESSPOOL_TEST_VALUE"))
	require.False(t, worker.InWorker())
	require.Equal(t, -1, worker.Index())
}

// A worker has no descriptor but its own, whatever else the program has open and
// however many siblings it has. // PRC-19, PRC-20
func TestDescriptors(t *testing.T) { byEach(t, testDescriptors) }

func testDescriptors(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = unix.FcntlInt(r.Fd(), unix.F_SETFD, 0) // as if C had opened it
	require.NoError(t, err)
	first := open(t, by(m, processpool.Config{Workers: 1}))
	require.NoError(t, executor.Submit(ctx, first, double, 1).Exception(ctx))
	p := open(t, by(m, processpool.Config{Workers: 1}))
	got, err := executor.Apply(ctx, p, look, "descriptors")
	require.NoError(t, err)
	require.Regexp(t, `^map\[0:/dev/null 1:[^ ]+ 2:pipe:\S+ 3:socket:\S+\]$`, got)
}

// The defaults of a worker: a share of the cores, and the environment of the program.
func TestWorkerDefaults(t *testing.T) {
	t.Setenv("PROCESSPOOL_TEST_VALUE", "inherited")
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1 + runtime.GOMAXPROCS(0)})
	got, err := executor.Apply(ctx, p, look, "worker")
	require.NoError(t, err)
	require.Equal(t, "true 0 1", got)
	got, err = executor.Apply(ctx, p, look, "env")
	require.NoError(t, err)
	require.Equal(t, "inherited", got)
}

// A worker may have workers of its own. // PRC-30
func TestNestedPool(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	n, err := executor.Apply(ctx, p, nested, 21)
	require.NoError(t, err)
	require.Equal(t, 42, n)
}

// Output gets whole lines, and the last one of a worker that crashed, too.
func TestOutput(t *testing.T) { byEach(t, testOutput) }

func testOutput(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	var mu sync.Mutex
	lines := map[string][]string{}
	p := open(t, by(m, processpool.Config{Workers: 1, Worker: worker.Config{Output: func(_ int, stream string, line []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines[stream] = append(lines[stream], string(line))
	}}}))
	err := executor.Submit(ctx, p, say, exit3).Exception(ctx)
	var lost *executor.WorkerLostError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, "err one\nerr without an endabout to exit\n", lost.Stderr)
	require.NoError(t, p.Close()) // which waits for what is on its way
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string][]string{"stdout": {"out one"}, "stderr": {"err one", "err without an endabout to exit"}}, lines)
}

// The excerpt of a long standard error has its beginning and its end.
func TestStderrExcerpt(t *testing.T) { byEach(t, testStderrExcerpt) }

func testStderrExcerpt(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 1, Worker: hushed}))
	var lost *executor.WorkerLostError
	require.ErrorAs(t, executor.Submit(ctx, p, explode, bomb{run: overflow}).Exception(ctx), &lost)
	require.Contains(t, lost.Stderr, "stack overflow")
	require.Contains(t, lost.Stderr, " bytes …]")
	require.Less(t, len(lost.Stderr), 10<<10)
	require.Less(t, strings.Index(lost.Stderr, "stack overflow"), 4<<10)
}

// Another binary can be the worker. One that is none says so, soon, and breaks the
// pool: what was submitted fails with the cause, and nothing waits for a worker that
// can never come. So does one with a task of the same name and other types.
// PRC-37, PRO-13, PRO-15, PRO-17
func TestCommand(t *testing.T) { byEach(t, testCommand) }

func testCommand(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	t.Run("this binary", func(t *testing.T) {
		p := open(t, by(m, processpool.Config{Workers: 1, Worker: worker.Config{Command: []string{"/proc/self/exe", "a", "b"}}}))
		got, err := executor.Apply(ctx, p, look, "args")
		require.NoError(t, err)
		require.Equal(t, "3 /proc/self/exe", got)
	})
	for name, tt := range map[string]struct {
		cfg  worker.Config
		want string
	}{
		"not there":        {worker.Config{Command: []string{"/does/not/exist"}}, "no such file"},
		"ends at once":     {worker.Config{Command: []string{"true"}}, "exit status 0"},
		"says nothing":     {worker.Config{Command: []string{"sleep", "1000"}, StartTimeout: 20 * time.Millisecond}, "within 20ms"},
		"something else":   {worker.Config{Command: []string{"sh", "-c", "yes | head -c 100000 >&3; sleep 1000"}}, "protocol"},
		"other directory":  {worker.Config{Dir: "/does/not/exist"}, "no such file"},
		"other types":      {worker.Config{Command: []string{otherTypes(t)}}, `task "double" is`},
		"stderr goes home": {worker.Config{Command: []string{"sh", "-c", "echo woe >&2; exit 7"}, Output: hushed.Output}, "woe"},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, by(m, processpool.Config{Workers: 2, Worker: tt.cfg}))
			fs := executor.SubmitAll(ctx, p, double, []int{1, 2, 3})
			errs := map[*executor.BrokenError]bool{}
			for _, f := range fs {
				var broken *executor.BrokenError
				err := f.Exception(ctx)
				require.ErrorAs(t, err, &broken)
				require.ErrorContains(t, err, tt.want)
				errs[broken] = true
			}
			require.Len(t, errs, 3, "each call has an error of its own") // PRO-02
			require.ErrorAs(t, executor.Submit(ctx, p, double, 1).Exception(ctx), new(*executor.BrokenError))
			require.NoError(t, p.Terminate()) // PRO-21
			require.NoError(t, p.Shutdown(ctx))
		})
	}
}

// otherTypes builds a worker with a task of one of our names and other types.
func otherTypes(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "othertypes")
	build(t, "othertypes", binary)
	return binary
}

var lates atomic.Int32

// A task that is made when the worker runs already is missing there: its calls fail
// and say what to do, and nothing else does.
func TestMissingTask(t *testing.T) {
	ctx := within(t)
	p := open(t, processpool.Config{Workers: 1})
	require.NoError(t, executor.Submit(ctx, p, double, 1).Exception(ctx))
	name := fmt.Sprintf("late %d", lates.Add(1)) // another in each run of this test
	late := executor.NewTask(name, func(context.Context, int) (int, error) { return 1, nil })
	err := executor.Submit(ctx, p, late, 1).Exception(ctx)
	require.ErrorContains(t, err, fmt.Sprintf("no task %q", name))
	require.ErrorContains(t, err, "package variable")
	require.NoError(t, executor.Submit(ctx, p, double, 1).Exception(ctx))
	require.Zero(t, p.Stats().WorkersLost)
}

// An initializer runs once in each worker, and what it sets is there and not here.
// // INI-01, INI-05, INI-07
func TestInitializer(t *testing.T) { byEach(t, testInitializer) }

func testInitializer(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	p := open(t, by(m, processpool.Config{Workers: 2, Initializer: executor.Bind(prepare, none)}))
	for _, f := range executor.SubmitAll(ctx, p, isPrepared, make([]struct{}, 20)) {
		n, err := f.Result(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	require.Zero(t, prepared)
}

// An initializer that fails breaks the pool, at once; a worker that dies in it is tried
// again a few times. The cause is in the error. // INI-02, INI-03, INI-06
func TestInitializerFails(t *testing.T) { byEach(t, testInitializerFails) }

func testInitializerFails(t *testing.T, m worker.StartMethod) {
	ctx := within(t)
	for f, want := range map[fate]string{
		anError: errFate.Error(), aPanic: errFate.Error(), goexit: "Goexit", exit3: "exit status 3", sigkill: "killed",
	} {
		t.Run(string(f), func(t *testing.T) {
			p := open(t, by(m, processpool.Config{Workers: 1, Worker: hushed, Initializer: executor.Bind(prepare, f)}))
			err := executor.Submit(ctx, p, double, 1).Exception(ctx)
			require.ErrorAs(t, err, new(*executor.BrokenError))
			require.ErrorContains(t, err, want)
			require.Equal(t, f == anError, errors.Is(err, errFate))
		})
	}
}
