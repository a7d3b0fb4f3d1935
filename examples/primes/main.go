// Primes checks numbers for being prime, by trial division: one after another, on
// a thread pool and on a process pool. The three differ by one constructor; see
// backends. It ends with a table that compares them.
//
//	go run ./examples/primes                       # forty large numbers of its own
//	go run ./examples/primes 97 112272535095293    # these
//	go run ./examples/primes -file numbers.txt     # those of a file
//	seq 1000000 1001000 | go run ./examples/primes -backend threads -json -
//
// Ctrl-C ends it with a table of what it has done so far.
//
// Exit codes: 0; 1 if a backend failed or two of them disagree; 2 for bad input;
// 130 after Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"example.com/futures/worker"
)

func main() {
	worker.Main() // a worker process stays in here
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// run is the program: results go to stdout, progress and complaints to stderr.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cfg, err := parse(args, stdin, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "primes:", err)
		return exitUsage
	}

	// From here on Ctrl-C ends ctx, and a second one the program. While the input
	// was read it simply ended the program: a read cannot be interrupted.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	rep := report{numbers: cfg.numbers, given: cfg.given}
	for _, b := range cfg.backends {
		var r result
		r, err = b.check(ctx, cfg.numbers, cfg.workers, stderr)
		rep.add(r)
		if err != nil {
			break
		}
	}
	interrupted := err != nil && ctx.Err() != nil
	if interrupted {
		rep.interrupted = true
		fmt.Fprintln(stderr, "primes: stopped:", context.Cause(ctx))
	} else if err != nil {
		fmt.Fprintln(stderr, "primes:", err)
	}

	write := rep.writeText
	if cfg.json {
		write = rep.writeJSON
	}
	if werr := write(stdout); werr != nil {
		fmt.Fprintln(stderr, "primes:", werr)
		return exitFailed
	}
	switch {
	case interrupted:
		return exitInterrupted
	case err != nil || rep.disagreement() != "":
		return exitFailed
	}
	return 0
}
