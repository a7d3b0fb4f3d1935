// Process runs one function in a process of its own, by each start method: its PID and
// its parent's, its end and its exit code. It is the first example of every lecture on
// Python's multiprocessing, which stands at the left of each line.
//
//	go run ./examples/process
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"example.com/futures/executor"
	"example.com/futures/worker"
)

// who returns the process that it runs in, and that one's parent.
var who = executor.NewTask("who", func(ctx context.Context, _ struct{}) (pids, error) {
	return pids{os.Getpid(), os.Getppid()}, nil
})

type pids struct{ Own, Parent int }

// refuse always fails.
var refuse = executor.NewTask("refuse", func(ctx context.Context, name string) (struct{}, error) {
	return struct{}{}, errors.New("no " + name + " today")
})

// leave ends its process on its own account.
var leave = executor.NewTask("leave", func(ctx context.Context, code int) (struct{}, error) {
	os.Exit(code)
	return struct{}{}, nil
})

// nap sleeps for so long, whatever its context says.
var nap = executor.NewTask("nap", func(ctx context.Context, d time.Duration) (struct{}, error) {
	time.Sleep(d)
	return struct{}{}, nil
})

func main() {
	worker.Main() // a worker process stays in here

	show("os.getpid()", os.Getpid())
	for _, method := range []worker.StartMethod{worker.Spawn, worker.ForkServer, worker.Fork} {
		fmt.Println()
		show("set_start_method", method)
		if err := lecture(worker.Config{StartMethod: method}); err != nil {
			show("which answers", err)
		}
	}
}

// show prints what Python's expression is here.
func show(python string, got ...any) {
	fmt.Printf("%-42s %s", python, fmt.Sprintln(got...))
}

func lecture(cfg worker.Config) error {
	ctx := context.Background()

	// p = Process(target=who); p.start()
	p, err := worker.Start(ctx, who, struct{}{}, cfg)
	if err != nil {
		return err
	}
	show("p = Process(target=who); p.start(); p.pid", p.PID())
	pids, err := p.Future().Result(ctx) // Python would need a Queue for it
	show("and inside: os.getpid(), os.getppid()", pids.Own, pids.Parent, err)
	show("p.join()", p.Join(ctx))
	code, _ := p.ExitCode()
	show("p.name, p.is_alive(), p.exitcode", p.Name(), p.IsAlive(), code)

	if err := ends(ctx, "p.exitcode of an exception", refuse, "lecture", cfg); err != nil {
		return err
	}
	if err := ends(ctx, "p.exitcode of sys.exit(3)", leave, 3, cfg); err != nil {
		return err
	}

	// What does not end by itself is ended.
	sleeper, err := worker.Start(ctx, nap, time.Hour, cfg)
	if err != nil {
		return err
	}
	show("p = Process(target=nap); p.is_alive()", sleeper.IsAlive())
	show("p.terminate(); p.join()", sleeper.Terminate(), sleeper.Join(ctx))
	code, _ = sleeper.ExitCode()
	show("p.is_alive(), p.exitcode", sleeper.IsAlive(), code)
	return nil
}

// ends runs t in a process to its end, and shows how it ended and what its future says.
func ends[A any](ctx context.Context, python string, t executor.Task[A, struct{}], arg A, cfg worker.Config) error {
	cfg.Output = func(int, string, []byte) {} // the error is shown here
	p, err := worker.Start(ctx, t, arg, cfg)
	if err != nil {
		return err
	}
	if err := p.Join(ctx); err != nil {
		return err
	}
	code, _ := p.ExitCode()
	show(python, code)
	_, lost := errors.AsType[*executor.WorkerLostError](p.Future().Exception(ctx))
	show("which its future tells from a crash", lost, p.Future().Exception(ctx))
	return nil
}
