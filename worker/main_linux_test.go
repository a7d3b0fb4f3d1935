package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/proctest"
	"example.com/futures/worker"
)

func TestMain(m *testing.M) {
	worker.Main()
	proctest.Main(m, play)
}

// methods are those by which a process can be started.
var methods = map[string]worker.StartMethod{"Spawn": worker.Spawn, "ForkServer": worker.ForkServer}

// byEachMethod runs a test once for each of methods.
func byEachMethod(t *testing.T, test func(*testing.T, worker.Config)) {
	for name, method := range methods {
		t.Run(name, func(t *testing.T) { test(t, worker.Config{StartMethod: method}) })
	}
}

// hushed is for processes that fail on purpose, and say so.
var hushed = worker.Config{Output: func(int, string, []byte) {}}

func init() { executor.RegisterError("worker_test.errReason", errReason) }

var (
	double = executor.NewTask("double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })

	// look tells what a process sees.
	look = executor.NewTask("look", func(_ context.Context, what string) (string, error) {
		switch what {
		case "pids":
			return fmt.Sprint(os.Getpid(), os.Getppid()), nil
		case "worker":
			return fmt.Sprint(worker.InWorker(), worker.Index(), runtime.GOMAXPROCS(0)), nil
		case "env":
			return os.Getenv("WORKER_TEST_VALUE") + os.Getenv("FUTURES_WORKER_DEPTH"), nil
		case "dir":
			return os.Getwd()
		case "args":
			return fmt.Sprint(os.Args), nil
		case "descriptors":
			return strconv.Itoa(len(proctest.Descriptors())), nil
		case "stdin":
			cmd := exec.Command("cat")
			cmd.Stdin = os.Stdin
			out, err := cmd.CombinedOutput()
			return string(out), err
		case "goroutines":
			go func() { select {} }()
			return "", nil
		}
		return "", fmt.Errorf("look at %q?", what)
	})

	// befall is a task to which something happens.
	befall = executor.NewTask("befall", func(_ context.Context, fate string) (fragile, error) {
		switch fate {
		case "error":
			return 0, errReason
		case "panic":
			panic("a panic of the test")
		case "goexit":
			runtime.Goexit()
		case "exit 0":
			os.Exit(0)
		case "exit 3":
			fmt.Fprintln(os.Stderr, "about to exit")
			os.Exit(3)
		case "sigkill":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case "sigsegv":
			signal.Reset(syscall.SIGSEGV)
			_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
			select {}
		case "encode":
			return cannotEncode, nil
		case "decode":
			return cannotDecode, nil
		case "decode goexit":
			return goexitDecode, nil
		}
		return 0, nil
	})

	// deaf goes on for ever, whatever becomes of its context.
	deaf = executor.NewTask("deaf", func(_ context.Context, path string) (int, error) {
		proctest.Announce(path)
		select {}
	})

	// hurried is deaf with a time limit.
	hurried = executor.NewTask("hurried", func(context.Context, string) (int, error) { select {} }, executor.WithTimeout(20*time.Millisecond))

	// timely has a time limit and keeps to it.
	timely = executor.NewTask("timely", func(ctx context.Context, _ string) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}, executor.WithTimeout(20*time.Millisecond))

	// patient waits for the end of its context and tells what it saw.
	patient = executor.NewTask("patient", func(ctx context.Context, path string) (string, error) {
		proctest.Announce(path)
		<-ctx.Done()
		return fmt.Sprintf("%v|%v", ctx.Err(), context.Cause(ctx)), nil
	})

	// stubborn ignores SIGTERM.
	stubborn = executor.NewTask("stubborn", func(_ context.Context, path string) (int, error) {
		signal.Ignore(syscall.SIGTERM)
		proctest.Announce(path)
		select {}
	})

	// polite ends by itself on SIGINT.
	polite = executor.NewTask("polite", func(ctx context.Context, path string) (string, error) {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
		defer stop()
		proctest.Announce(path)
		<-ctx.Done()
		return "polite", nil
	})

	// until waits for a file and then announces itself.
	until = executor.NewTask("until", func(ctx context.Context, path string) (int, error) {
		_, err := proctest.Await(ctx, path)
		proctest.Announce(path + ".done")
		return 0, err
	})

	sum = executor.NewTask("sum", func(_ context.Context, b []byte) (int, error) {
		n := 0
		for _, x := range b {
			n += int(x)
		}
		return n, nil
	})
)

// A fragile is a number that some of its values cannot be sent by.
type fragile int

const (
	cannotEncode fragile = -1 - iota
	cannotDecode
	goexitDecode
)

func (f fragile) GobEncode() ([]byte, error) {
	if f == cannotEncode {
		return nil, errReason
	}
	return []byte(strconv.Itoa(int(f))), nil
}

func (f *fragile) GobDecode(b []byte) error {
	n, err := strconv.Atoi(string(b))
	*f = fragile(n)
	switch *f {
	case cannotDecode:
		return errReason
	case goexitDecode:
		runtime.Goexit()
	}
	return err
}

var takeFragile = executor.NewTask("takeFragile", func(_ context.Context, f fragile) (int, error) { return int(f), nil })

// A generation is an argument of descend.
type generation struct {
	Dir    string
	Level  int // how many are below
	Method worker.StartMethod
}

// descend starts a process that does the same, one level below, and goes on for ever.
// Each notes its process ID in a file, the lowest one that of a program that it runs.
var descend executor.Task[generation, int]

func init() {
	descend = executor.NewTask("descend", func(ctx context.Context, g generation) (int, error) {
		name := filepath.Join(g.Dir, strconv.Itoa(g.Level))
		if g.Level == 0 {
			cmd := exec.Command("sleep", "1000")
			if err := cmd.Start(); err != nil {
				return 0, err
			}
			proctest.Note(name+".sleep", cmd.Process.Pid)
		} else if _, err := worker.Start(ctx, descend, generation{g.Dir, g.Level - 1, g.Method}, worker.Config{StartMethod: g.Method}); err != nil {
			return 0, err
		}
		proctest.Announce(name)
		select {}
	})
}

// family waits until all of descend run, and returns them.
func family(t *testing.T, dir string, levels int) (pids []int) {
	t.Helper()
	for i := range levels + 1 {
		pid, err := proctest.Await(proctest.Within(t), filepath.Join(dir, strconv.Itoa(i)))
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	sleep, err := proctest.Await(proctest.Within(t), filepath.Join(dir, "0.sleep"))
	require.NoError(t, err)
	return append(pids, sleep)
}

// play is what this binary does in a role. It returns if there is no such role.
func play(role string) {
	var err error
	switch role {
	case "parent":
		method := methods[os.Args[2]]
		if _, err = worker.Start(context.Background(), descend, generation{os.Args[1], 2, method}, worker.Config{StartMethod: method}); err == nil {
			select {}
		}
	case "speechless":
		err = speechless()
	case "impostor":
		err = impostor(os.Args[1])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(0)
}

// speechless runs a task after it has closed what it could write to.
func speechless() error {
	p, err := worker.Start(context.Background(), double, 21, worker.Config{})
	if err != nil {
		return err
	}
	n, err := p.Future().Result(context.Background())
	if err != nil {
		return err
	}
	if n != 42 {
		return errors.New("a wrong result")
	}
	return p.Join(context.Background())
}

// silence discards what a fake worker is sent.
func silence(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
