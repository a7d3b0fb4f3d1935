package worker_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
	"example.com/futures/worker"
)

// Start says what is wrong, and leaves nothing.
func TestStartErrors(t *testing.T) {
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errReason)
	local := executor.LocalTask(func(context.Context, int) (int, error) { return 0, nil })
	try := func(cfg worker.Config) error {
		_, err := worker.Start(t.Context(), double, 1, cfg)
		return err
	}
	before := proctest.Descriptors()
	for name, tt := range map[string]struct {
		err  error
		want string
		is   error
	}{
		"ended context":    {errOf(worker.Start(over, double, 1, worker.Config{})), "the reason", future.ErrCancelled},
		"its cause":        {errOf(worker.Start(over, double, 1, worker.Config{})), "", errReason},
		"closure":          {errOf(worker.Start(t.Context(), local, 1, worker.Config{})), "make it a Task", executor.ErrNotPortable},
		"argument":         {errOf(worker.Start(t.Context(), takeFragile, cannotEncode, worker.Config{})), "encoding the argument", errReason},
		"large argument":   {errOf(worker.Start(t.Context(), sum, make([]byte, 1<<20), worker.Config{MaxMessage: 1000})), "limit of 1000", nil},
		"grace":            {try(worker.Config{MaxMessage: -1}), "Config.MaxMessage", nil},
		"start timeout":    {try(worker.Config{StartTimeout: -1}), "Config.StartTimeout", nil},
		"GOMAXPROCS":       {try(worker.Config{GOMAXPROCS: -1}), "Config.GOMAXPROCS", nil},
		"memory":           {try(worker.Config{MemoryLimit: -1}), "Config.MemoryLimit", nil},
		"fork":             {try(worker.Config{StartMethod: worker.Fork}), "without exec", nil},
		"no method":        {try(worker.Config{StartMethod: 7}), "StartMethod(7)", nil},
		"SysProcAttr":      {try(worker.Config{SysProcAttr: &syscall.SysProcAttr{Ptrace: true}}), "Ptrace", nil},
		"directory":        {try(worker.Config{Dir: "/does/not/exist"}), "no such file", os.ErrNotExist},
		"command":          {try(worker.Config{Command: []string{"/does/not/exist"}}), "no such file", os.ErrNotExist},
		"ends at once":     {try(worker.Config{Command: []string{"true"}}), "exit status 0", nil},
		"says nothing":     {try(worker.Config{Command: []string{"sleep", "1000"}, StartTimeout: 20 * time.Millisecond}), "within 20ms", nil},
		"something else":   {try(worker.Config{Command: []string{"sh", "-c", "yes | head -c 100000 >&3; sleep 1000"}}), "protocol", nil},
		"stderr goes home": {try(worker.Config{Command: []string{"sh", "-c", "echo woe >&2; exit 7"}, Output: hushed.Output}), "woe", nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, tt.err, "worker: Start of task")
			require.ErrorContains(t, tt.err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, tt.err, tt.is)
			}
		})
	}
	require.Empty(t, proctest.Opened(before))
	require.Panics(t, func() { _, _ = worker.Start(t.Context(), executor.Task[int, int]{}, 1, worker.Config{}) })
}

func errOf[R any](_ *worker.Process[R], err error) error { return err }

// A context that ends while the process starts ends the start, and the process.
func TestStartCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancelCause(t.Context())
	pid := make(chan int, 1)
	go func() {
		n, _ := proctest.Await(ctx, path)
		cancel(errReason)
		pid <- n
	}()
	_, err := worker.Start(ctx, double, 1, worker.Config{Command: []string{"sh", "-c", `echo -n $$ >"$0.new" && mv "$0.new" "$0" && sleep 1000`, path}})
	require.ErrorIs(t, err, future.ErrCancelled)
	require.ErrorIs(t, err, errReason)
	require.ErrorIs(t, syscall.Kill(<-pid, 0), syscall.ESRCH)
}

// A program that never calls worker.Main gets an error that says so, and starts
// nothing. // PRC-29
func TestProcessWithoutMain(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "nomain")
	out, err := exec.CommandContext(proctest.Within(t), "go", "build", "-o", binary, "../processpool/testdata/nomain").CombinedOutput()
	require.NoError(t, err, string(out))
	out, err = exec.CommandContext(proctest.Within(t), binary).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Regexp(t, `worker: Start of task "double": .*call worker.Main\(\) first in func main`, string(out))
	require.Contains(t, string(out), "started: 1\n")
}

// The argument has been sent when Start returns: what it points to is the caller's
// again.
func TestArgumentIsSent(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		b := make([]byte, 8<<20)
		for i := range b {
			b[i] = 1
		}
		p := start(t, sum, b, cfg)
		clear(b)
		n, err := p.Future().Result(proctest.Within(t))
		require.NoError(t, err)
		require.Equal(t, len(b), n)
	})
}

// Neither the argument nor the result is kept for longer than by the handle. // PRC-18
func TestProcessForgets(t *testing.T) {
	arg := new([1 << 20]byte)
	kept := weak.Make(arg)
	p := start(t, takePointer, arg, worker.Config{})
	require.Zero(t, finished(t, p)) // nothing here uses arg from here on
	for kept.Value() != nil {
		runtime.GC()
		require.NoError(t, proctest.Within(t).Err())
	}
	runtime.KeepAlive(p)
}

var takePointer = executor.NewTask("takePointer", func(context.Context, *[1 << 20]byte) (struct{}, error) { return struct{}{}, nil })

// A process whose handle is dropped goes on, and leaves nothing when it ends.
func TestProcessDropped(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		file := filepath.Join(t.TempDir(), "go on")
		p, err := worker.Start(t.Context(), until, file, cfg)
		require.NoError(t, err)
		pid := p.PID()
		dropped := weak.Make(p)
		p = nil
		for dropped.Value() != nil {
			runtime.GC()
			require.NoError(t, proctest.Within(t).Err())
		}
		proctest.Announce(file)
		got, err := proctest.Await(proctest.Within(t), file+".done")
		require.NoError(t, err)
		require.Equal(t, pid, got)
		proctest.AwaitGone(t, pid)
		for syscall.Kill(pid, 0) == nil { // until it was reaped
			require.NoError(t, proctest.Within(t).Err())
			runtime.Gosched()
		}
	})
}

// procsAtStart is GOMAXPROCS as the init of a program finds it.
var procsAtStart = runtime.GOMAXPROCS(0)

var procsSeen = executor.NewTask("procsSeen", func(context.Context, struct{}) ([]string, error) {
	seen := []string{strconv.Itoa(procsAtStart), strconv.Itoa(runtime.GOMAXPROCS(0))}
	for _, v := range os.Environ() {
		if strings.Contains(v, "GOMAXPROCS") || strings.HasPrefix(v, "FUTURES_WORKER") {
			seen = append(seen, v)
		}
	}
	return seen, nil
})

// A worker has its GOMAXPROCS from the start, and the environment that it was to have.
func TestGOMAXPROCSFromTheStart(t *testing.T) {
	for _, method := range []worker.StartMethod{worker.Spawn, worker.ForkServer} {
		for name, tt := range map[string]struct{ env, want []string }{
			"set":       {[]string{"GOMAXPROCS=7", "GOMAXPROCS=8"}, []string{"3", "3", "GOMAXPROCS=7"}},
			"set empty": {[]string{"GOMAXPROCS="}, []string{"3", "3", "GOMAXPROCS="}},
			"not set":   {[]string{"A=B"}, []string{"3", "3"}},
		} {
			t.Run(method.String()+" "+name, func(t *testing.T) {
				p := start(t, procsSeen, struct{}{}, worker.Config{StartMethod: method, Env: tt.env, GOMAXPROCS: 3})
				got, err := p.Future().Result(proctest.Within(t))
				require.NoError(t, err)
				require.Equal(t, tt.want, got)
			})
		}
	}
}
