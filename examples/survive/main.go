// Survive has a thousand calls pending while workers are killed at random from outside,
// and counts what is lost: here, and, where python3 is found, in the two process pools
// of Python's standard library under the same treatment.
//
//	go run ./examples/survive
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// work takes two milliseconds and returns its argument.
var work = executor.NewTask("work", func(ctx context.Context, n int) (int, error) {
	time.Sleep(2 * time.Millisecond)
	return n, nil
})

var (
	calls = flag.Int("calls", 1000, "how many calls are pending")
	kills = flag.Int("kills", 10, "how many workers are killed")
)

// pause is the mean time between two kills.
const pause = 50 * time.Millisecond

//go:embed survive.py
var python []byte

func main() {
	worker.Main() // a worker process stays in here
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // which would tell of each worker

	fmt.Printf("%d calls of 2 ms on two workers, of which %d are killed meanwhile\n\n", *calls, *kills)
	fmt.Printf("%-42s %6s %6s   %s\n", "", "kept", "lost", "the pool afterwards")
	for _, retries := range []int{0, 3} {
		name := "processpool"
		if retries > 0 {
			name += fmt.Sprintf(", WithRetries(%d)", retries)
		}
		o, err := survive(retries)
		if err != nil {
			fmt.Fprintln(os.Stderr, "survive:", err)
			os.Exit(1)
		}
		o.print(name)
	}
	if err := besides(); err != nil {
		fmt.Println("\nPython's are left out:", err)
	}
}

// An outcome is what came of the calls.
type outcome struct {
	Name       string
	Kept, Lost int
	Afterwards string
}

func (o outcome) print(name string) {
	fmt.Printf("%-42s %6d %6d   %s\n", name, o.Kept, o.Lost, o.Afterwards)
}

func survive(retries int) (outcome, error) {
	ctx := context.Background()
	pool, err := processpool.New(processpool.Config{Workers: 2})
	if err != nil {
		return outcome{}, err
	}
	defer pool.Close()

	args := make([]int, *calls)
	for i := range args {
		args[i] = i
	}
	fs := executor.SubmitAll(ctx, pool, work, args, executor.WithRetries(retries))
	over := make(chan struct{})
	killer := make(chan struct{})
	go func() { // ends when all are killed, or there is nothing left to do
		defer close(killer)
		for range *kills {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(rand.ExpFloat64() * float64(pause))):
				killOne(pool)
			}
		}
	}()

	var o outcome
	for i, f := range fs {
		n, err := f.Result(ctx)
		switch _, lost := errors.AsType[*executor.WorkerLostError](err); {
		case lost:
			o.Lost++
		case err != nil || n != i:
			return o, fmt.Errorf("call %d: %d, %w", i, n, err)
		default:
			o.Kept++
		}
	}
	close(over)
	<-killer
	o.Afterwards = "works"
	if _, err := executor.Apply(ctx, pool, work, 1); err != nil {
		o.Afterwards = err.Error()
	}
	return o, pool.Shutdown(ctx)
}

// killOne sends SIGKILL to any of the workers, as the system's out-of-memory killer or
// an administrator might.
func killOne(pool *processpool.Pool) {
	workers := pool.Workers()
	if len(workers) == 0 {
		return
	}
	if w := workers[rand.IntN(len(workers))]; w.PID > 0 {
		if p, err := os.FindProcess(w.PID); err == nil {
			_ = p.Kill() // it may have ended meanwhile
		}
	}
}

// besides does the same in Python, and prints what came of it.
func besides() error {
	path, err := exec.LookPath("python3")
	if err != nil {
		return errors.New("there is no python3")
	}
	dir, err := os.MkdirTemp("", "survive")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()   // what is left is in the system's temporary folder
	script := filepath.Join(dir, "survive.py") // a file, which workers of every start method can import
	if err := os.WriteFile(script, python, 0o600); err != nil {
		return err
	}
	for _, pool := range []string{"ProcessPoolExecutor", "multiprocessing.Pool"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, path, script, pool, strconv.Itoa(*calls), strconv.Itoa(*kills), fmt.Sprint(pause.Seconds()))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		cmd.WaitDelay = time.Second // what it has started may hold its output open
		out, err := cmd.Output()
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", pool, err, stderr.String())
		}
		var o outcome
		if err := json.Unmarshal(out, &o); err != nil {
			return fmt.Errorf("%s: %w", pool, err)
		}
		o.print(o.Name)
	}
	return nil
}
