package worker_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/proctest"
	"example.com/futures/worker"
)

// start starts a process that is joined at the end of the test.
func start[A, R any](tb testing.TB, t executor.Task[A, R], arg A, cfg worker.Config) *worker.Process[R] {
	tb.Helper()
	p, err := worker.Start(proctest.Within(tb), t, arg, cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, p.Kill())
		require.NoError(tb, p.Join(context.Background()))
	})
	return p
}

// finished joins p and returns its exit code.
func finished[R any](t *testing.T, p *worker.Process[R]) int {
	t.Helper()
	require.NoError(t, p.Join(proctest.Within(t)))
	code, exited := p.ExitCode()
	require.True(t, exited)
	return code
}

// running starts a task that announces itself, and returns when it has.
func running[R any](t *testing.T, task executor.Task[string, R], cfg worker.Config) *worker.Process[R] {
	t.Helper()
	path := filepath.Join(t.TempDir(), "running")
	p := start(t, task, path, cfg)
	pid, err := proctest.Await(proctest.Within(t), path)
	require.NoError(t, err)
	require.Equal(t, p.PID(), pid)
	return p
}

// A process lives from Start to the end of its task, and tells what came of
// it. // PRC-02, PRC-03, PRC-08, PRC-15, PRC-28
func TestProcess(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		ctx := proctest.Within(t)
		file := filepath.Join(t.TempDir(), "go on")
		cfg.Name = "a name"
		p := start(t, until, file, cfg)
		require.Equal(t, "a name", p.Name())
		require.True(t, p.IsAlive())
		_, exited := p.ExitCode()
		require.False(t, exited)
		require.Equal(t, future.Running, p.Future().State())
		require.False(t, p.Future().Cancel())
		select {
		case <-p.Done():
			t.Fatal("done while it runs")
		default:
		}
		over, cancel := context.WithCancelCause(ctx)
		cancel(errReason)
		for range 2 {
			err := p.Join(over)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, errReason)
			require.ErrorContains(t, err, strconv.Itoa(p.PID()))
		}
		require.True(t, p.IsAlive())

		proctest.Announce(file)
		select {
		case <-p.Done():
		case <-ctx.Done():
			t.Fatal("not done")
		}
		require.NoError(t, p.Join(over), "it has ended")
		require.True(t, p.Future().IsDone())
		require.NoError(t, p.Future().Exception(over))
		require.False(t, p.IsAlive())
		code, exited := p.ExitCode()
		require.True(t, exited)
		require.Zero(t, code)
		require.ErrorIs(t, syscall.Kill(p.PID(), 0), syscall.ESRCH, "it was reaped")
		require.NoError(t, p.Terminate())
		require.NoError(t, p.Kill())
		require.Equal(t, "double", start(t, double, 1, worker.Config{StartMethod: cfg.StartMethod}).Name())
	})
}

// What a process is, and what it has from its parent. // PRC-01, PRC-03, PRC-06, PRC-31, PRC-35, PRC-36
func TestProcessSees(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		t.Setenv("WORKER_TEST_VALUE", "inherited")
		dir := t.TempDir()
		wd, err := os.Getwd()
		require.NoError(t, err)
		for name, tt := range map[string]struct {
			what string
			cfg  worker.Config
			want string
		}{
			"worker":      {"worker", worker.Config{}, fmt.Sprint(true, 0, runtime.GOMAXPROCS(0))},
			"GOMAXPROCS":  {"worker", worker.Config{GOMAXPROCS: 3}, "true 0 3"},
			"environment": {"env", worker.Config{}, "inherited"},
			"its own":     {"env", worker.Config{Env: []string{"WORKER_TEST_VALUE=own"}}, "own"},
			"directory":   {"dir", worker.Config{}, wd},
			"another":     {"dir", worker.Config{Dir: dir}, dir},
			"arguments":   {"args", worker.Config{Command: []string{"/proc/self/exe", "a", "b"}}, "[/proc/self/exe a b]"},
			"stdin":       {"stdin", worker.Config{}, ""},
		} {
			t.Run(name, func(t *testing.T) {
				tt.cfg.StartMethod = cfg.StartMethod
				got, err := start(t, look, tt.what, tt.cfg).Future().Result(proctest.Within(t))
				require.NoError(t, err)
				require.Equal(t, tt.want, got)
			})
		}
		require.Equal(t, "inherited", os.Getenv("WORKER_TEST_VALUE"))
		require.False(t, worker.InWorker())
		p := start(t, look, "pids", cfg)
		got, err := p.Future().Result(proctest.Within(t))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(p.PID(), os.Getpid()), got)
	})
}

// How a task ends decides how its process does, and what its future
// answers. // PRC-25, PRC-26
func TestProcessEnds(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		isLost := func(code int, sig os.Signal, stderr string) func(*testing.T, int, error) {
			return func(t *testing.T, pid int, err error) {
				var lost *executor.WorkerLostError
				require.ErrorAs(t, err, &lost)
				require.Equal(t, pid, lost.PID)
				require.Equal(t, "befall", lost.Task)
				require.Equal(t, code, lost.ExitCode)
				require.Equal(t, sig, lost.Signal)
				require.Contains(t, lost.Stderr, stderr)
				require.Error(t, lost.Cause)
			}
		}
		says := func(text string) func(*testing.T, int, error) {
			return func(t *testing.T, _ int, err error) { require.ErrorContains(t, err, text) }
		}
		for _, tt := range []struct {
			fate   string
			code   int
			check  func(t *testing.T, pid int, err error)
			stderr string
		}{
			{"value", 0, func(t *testing.T, _ int, err error) { require.NoError(t, err) }, ""},
			{"error", 1, func(t *testing.T, _ int, err error) { require.ErrorIs(t, err, errReason) }, `worker: task "befall": the reason`},
			{"panic", 1, func(t *testing.T, _ int, err error) {
				var p *executor.PanicError
				require.ErrorAs(t, err, &p)
				require.Equal(t, "a panic of the test", p.Value)
			}, "main_linux_test.go:"},
			{"goexit", 1, says("runtime.Goexit"), "runtime.Goexit"},
			{"encode", 1, says("encoding the result"), "encoding the result"},
			{"decode", 0, says("decoding the result"), ""},
			{"decode goexit", 0, says("decoding the result"), ""},
			{"exit 0", 0, isLost(0, nil, ""), ""},
			{"exit 3", 3, isLost(3, nil, "about to exit"), "about to exit"},
			{"sigkill", -int(syscall.SIGKILL), isLost(-1, syscall.SIGKILL, ""), ""},
			{"sigsegv", 2, isLost(2, nil, "SIGSEGV"), "SIGSEGV"},
		} {
			t.Run(tt.fate, func(t *testing.T) {
				var mu sync.Mutex
				var stderr strings.Builder
				cfg.Output = func(_ int, _ string, line []byte) {
					mu.Lock()
					defer mu.Unlock()
					fmt.Fprintf(&stderr, "%s\n", line)
				}
				p := start(t, befall, tt.fate, cfg)
				tt.check(t, p.PID(), p.Future().Exception(proctest.Within(t)))
				require.Equal(t, tt.code, finished(t, p))
				mu.Lock()
				defer mu.Unlock()
				require.Contains(t, stderr.String(), tt.stderr)
				if tt.stderr == "" {
					require.Empty(t, stderr.String())
				}
			})
		}
	})
}

// Terminate and Kill end a process by their signals, and the call with
// it. // PRC-09, PRC-10
func TestProcessForced(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		for name, tt := range map[string]struct {
			task  executor.Task[string, int]
			end   func(*worker.Process[int]) error
			grace time.Duration
			sig   syscall.Signal
		}{
			"terminate":          {deaf, (*worker.Process[int]).Terminate, time.Hour, syscall.SIGTERM},
			"terminate stubborn": {stubborn, (*worker.Process[int]).Terminate, 20 * time.Millisecond, syscall.SIGKILL},
			"terminate at once":  {stubborn, (*worker.Process[int]).Terminate, -1, syscall.SIGKILL},
			"kill":               {stubborn, (*worker.Process[int]).Kill, time.Hour, syscall.SIGKILL},
		} {
			t.Run(name, func(t *testing.T) {
				cfg.KillGrace = tt.grace
				p := running(t, tt.task, cfg)
				require.NoError(t, tt.end(p))
				require.NoError(t, tt.end(p), "again")
				require.Equal(t, -int(tt.sig), finished(t, p))
				var lost *executor.WorkerLostError
				require.ErrorAs(t, p.Future().Exception(t.Context()), &lost)
				require.Equal(t, tt.sig, lost.Signal)
				require.Equal(t, -1, lost.ExitCode)
				require.NoError(t, tt.end(p), "too late")
			})
		}
	})
}

// SIGINT ends a process as it ends any program: by the signal, unless the task handles
// it. // PRC-11
func TestProcessSIGINT(t *testing.T) {
	p := running(t, deaf, worker.Config{})
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGINT))
	require.Equal(t, -int(syscall.SIGINT), finished(t, p))
	q := running(t, polite, worker.Config{})
	require.NoError(t, syscall.Kill(q.PID(), syscall.SIGINT))
	got, err := q.Future().Result(proctest.Within(t))
	require.NoError(t, err)
	require.Equal(t, "polite", got)
	require.Zero(t, finished(t, q))
}

// Interrupt, and the end of the context of Start, end the context that the task sees,
// with their cause. // PRC-11
func TestProcessInterrupted(t *testing.T) {
	t.Run("interrupt", func(t *testing.T) {
		p := running(t, patient, worker.Config{})
		require.True(t, p.Future().Interrupt(errReason))
		got, err := p.Future().Result(proctest.Within(t))
		require.NoError(t, err)
		require.Equal(t, "context canceled|the reason", got)
		require.Zero(t, finished(t, p))
		require.False(t, p.Future().Interrupt(errReason))
	})
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		path := filepath.Join(t.TempDir(), "running")
		p, err := worker.Start(ctx, patient, path, worker.Config{})
		require.NoError(t, err)
		_, err = proctest.Await(proctest.Within(t), path)
		require.NoError(t, err)
		cancel(errReason)
		got, err := p.Future().Result(proctest.Within(t))
		require.NoError(t, err)
		require.Equal(t, "context canceled|the reason", got)
		require.Zero(t, finished(t, p))
	})
	t.Run("time limit", func(t *testing.T) {
		p := start(t, timely, "", hushed)
		err := p.Future().Exception(proctest.Within(t))
		require.ErrorIs(t, err, executor.ErrTimeout)
		require.NotErrorAs(t, err, new(*executor.WorkerLostError))
		require.Equal(t, 1, finished(t, p))
	})
}

// A call that goes on after it was to end is killed when the grace is over, with all it
// has started, and its error matches both.
func TestProcessKilledForItsCall(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		cfg.KillGrace = 10 * time.Millisecond
		isKilled := func(t *testing.T, p *worker.Process[int], reason error) {
			t.Helper()
			err := p.Future().Exception(proctest.Within(t))
			var lost *executor.WorkerLostError
			require.ErrorAs(t, err, &lost)
			require.Equal(t, syscall.SIGKILL, lost.Signal)
			require.ErrorContains(t, lost.Cause, "after it was to end")
			require.ErrorIs(t, err, reason)
			require.Equal(t, -int(syscall.SIGKILL), finished(t, p))
		}
		t.Run("interrupt", func(t *testing.T) {
			p := running(t, deaf, cfg)
			require.True(t, p.Future().Interrupt(errReason))
			isKilled(t, p, errReason)
		})
		t.Run("interrupt at once", func(t *testing.T) {
			p := running(t, deaf, worker.Config{StartMethod: cfg.StartMethod, KillGrace: -1})
			require.True(t, p.Future().Interrupt(errReason))
			isKilled(t, p, errReason)
		})
		t.Run("deadline", func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			p, err := worker.Start(ctx, descend, generation{dir, 0, cfg.StartMethod}, cfg)
			require.NoError(t, err)
			all := family(t, dir, 0)
			isKilled(t, p, context.DeadlineExceeded)
			for _, pid := range all {
				proctest.AwaitGone(t, pid)
			}
		})
		t.Run("time limit", func(t *testing.T) {
			isKilled(t, start(t, hurried, "", cfg), executor.ErrTimeout)
		})
	})
}
