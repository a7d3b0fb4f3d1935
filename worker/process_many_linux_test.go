package worker_test

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// Goroutines that a task has left behind do not keep its process. // PRC-21
func TestProcessLeavesGoroutines(t *testing.T) {
	require.Zero(t, finished(t, start(t, look, "goroutines", worker.Config{})))
}

// Many processes at once all end as they should. // PRC-17
func TestManyProcesses(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		const n = 100
		var wg sync.WaitGroup
		all := make([]*worker.Process[int], n)
		for i := range all {
			wg.Go(func() {
				p, err := worker.Start(t.Context(), double, i, cfg)
				if err == nil {
					all[i] = p
				}
			})
		}
		wg.Wait()
		for i, p := range all {
			require.NotNil(t, p)
			v, err := p.Future().Result(proctest.Within(t))
			require.NoError(t, err)
			require.Equal(t, 2*i, v)
			require.Zero(t, finished(t, p))
		}
		stops := make([]*worker.Process[int], n)
		for i := range stops {
			wg.Go(func() {
				p, err := worker.Start(t.Context(), until, "/does/not/exist", cfg)
				if err == nil {
					_ = p.Terminate()
					stops[i] = p
				}
			})
		}
		wg.Wait()
		for _, p := range stops {
			require.NotNil(t, p)
			require.Equal(t, -int(syscall.SIGTERM), finished(t, p))
			require.ErrorAs(t, p.Future().Exception(t.Context()), new(*executor.WorkerLostError))
		}
	})
}

// A process has as many descriptors whatever its siblings are, and none that it was not
// given. // PRC-19, PRC-20
func TestProcessDescriptors(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		count := func() string {
			n, err := start(t, look, "descriptors", cfg).Future().Result(proctest.Within(t))
			require.NoError(t, err)
			return n
		}
		alone := count()
		for range 5 {
			running(t, deaf, cfg)
		}
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		open, err := syscall.Dup(int(r.Fd())) // without close-on-exec, as C would
		require.NoError(t, err)
		defer syscall.Close(open)
		require.Equal(t, alone, count())
	})
}

// A process that passes its memory limit is killed, and says so with the limit and the
// size. One that only makes garbage does not pass it.
func TestProcessMemoryLimit(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		cfg.MemoryLimit = 128 << 20
		p := start(t, devour, true, cfg)
		var lost *executor.WorkerLostError
		require.ErrorAs(t, p.Future().Exception(proctest.Within(t)), &lost)
		require.ErrorContains(t, lost.Cause, strconv.Itoa(128<<20))
		require.Greater(t, lost.RSS, cfg.MemoryLimit)
		require.Equal(t, -int(syscall.SIGKILL), finished(t, p))
		q := start(t, devour, false, cfg)
		require.NoError(t, q.Future().Exception(proctest.Within(t)))
		require.Zero(t, finished(t, q))
	})
}

// devour allocates 1 GiB, and keeps it or not.
var devour = executor.NewTask("devour", func(_ context.Context, keep bool) (int, error) {
	var kept [][]byte
	for range 256 {
		b := make([]byte, 4<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		if keep {
			kept = append(kept, b)
		}
	}
	return len(kept), nil
})

// A program without standard streams can have processes. // PRC-22
func TestProcessWithoutStreams(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	self := proctest.Self(proctest.Within(t), "speechless")
	cmd := exec.CommandContext(proctest.Within(t), "sh", "-c", `"$0" <&- >&- 2>&-`, exe)
	cmd.Env = self.Env
	require.NoError(t, cmd.Run())
}

// A signal that this program handles does not disturb a join. // PRC-38
func TestJoinAndSignals(t *testing.T) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	defer signal.Stop(got)
	p := running(t, patient, worker.Config{})
	joined := make(chan error, 1)
	go func() { joined <- p.Join(proctest.Within(t)) }()
	for range 100 {
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
		<-got
	}
	select {
	case err := <-joined:
		t.Fatal("joined before the end:", err)
	default:
	}
	p.Future().Interrupt(errReason)
	require.NoError(t, <-joined)
}

// A call of a pool may have a process of its own, and so may another
// process. // PRC-30
func TestNestedProcesses(t *testing.T) {
	ctx := proctest.Within(t)
	pool, err := processpool.New(processpool.Config{Workers: 1})
	require.NoError(t, err)
	defer pool.Close()
	n, err := executor.Apply(ctx, pool, nested, 3)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	p := start(t, nested, 3, worker.Config{})
	n, err = p.Future().Result(ctx)
	require.NoError(t, err)
	require.Equal(t, 3, n)
}

// nested returns how many processes are below, each of which it starts by another.
var nested executor.Task[int, int]

func init() {
	nested = executor.NewTask("nested", func(ctx context.Context, n int) (int, error) {
		if n == 0 {
			return 0, nil
		}
		p, err := worker.Start(ctx, nested, n-1, worker.Config{})
		if err != nil {
			return 0, err
		}
		below, err := p.Future().Result(ctx)
		return below + 1, err
	})
}

// Killing a process leaves nothing of those below it. // PRC-07, PRC-14, PRC-40
func TestKillTree(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		dir := t.TempDir()
		p := start(t, descend, generation{dir, 4, cfg.StartMethod}, cfg)
		all := family(t, dir, 4)
		require.Equal(t, p.PID(), all[4])
		require.NoError(t, p.Kill())
		killed := time.Now()
		for _, pid := range all {
			proctest.AwaitGone(t, pid)
		}
		require.Less(t, time.Since(killed), time.Second)
	})
}

// When the program is killed, its processes, theirs, and what those run are gone within
// a second.
func TestParentOfProcessesKilled(t *testing.T) {
	byEachMethod(t, func(t *testing.T, cfg worker.Config) {
		for range 3 {
			dir := t.TempDir()
			cmd := proctest.Self(proctest.Within(t), "parent", dir, cfg.StartMethod.String())
			cmd.Stderr = os.Stderr
			require.NoError(t, cmd.Start())
			all := family(t, dir, 2)
			require.NoError(t, cmd.Process.Kill())
			killed := time.Now()
			_ = cmd.Wait()
			for _, pid := range all {
				proctest.AwaitGone(t, pid)
			}
			require.Less(t, time.Since(killed), time.Second)
		}
	})
}

// A process that has ended costs little, however long its handle is kept.
func TestEndedProcessIsSmall(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what was finalized
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	all := make([]*worker.Process[int], 40)
	require.Zero(t, finished(t, start(t, double, 0, worker.Config{}))) // what is made once
	before := heap()
	for i := range all {
		all[i] = start(t, double, i, worker.Config{})
		require.Zero(t, finished(t, all[i]))
	}
	each := (int64(heap()) - int64(before)) / int64(len(all))
	require.Less(t, each, int64(16<<10), "bytes each")
	runtime.KeepAlive(all)
}
