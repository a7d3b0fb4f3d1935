// Cluster checks numbers for being prime on the workers of a cluster: processes that need
// not be on this machine, over a NATS server. Without flags it is all in one command: the
// server is in this process, and the workers are two more of it.
//
//	go run ./examples/cluster                        # forty large numbers of its own
//	go run ./examples/cluster -kill                  # a worker is killed while it runs a call
//	go run ./examples/cluster 97 112272535095293     # these numbers
//
// The same against servers of their own, here and on other machines. FILE has their URL, with
// the password in it, which everybody would see in an argument:
//
//	go run ./examples/cluster -url @FILE -worker     # a worker, until Ctrl-C
//	go run ./examples/cluster -url @FILE             # the numbers, to be checked by workers
//
// From examples/primes, where the same check runs on goroutines and on processes, it
// differs by the constructor, and by who starts the workers.
//
// Ctrl-C ends it with a table of what it has done so far.
//
// Exit codes: 0; 1 if a call failed or an answer is wrong; 2 for bad input; 130 after Ctrl-C,
// which is the ordinary end of a worker, and 0 there.
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
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// run is the program: results go to stdout, progress and complaints to stderr.
func run(args []string, stdout, stderr io.Writer) int {
	cfg, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "cluster:", err)
		return exitUsage
	}
	// Ctrl-C ends ctx, and a second one the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	if cfg.worker {
		fmt.Fprintf(stderr, "process %d is a worker of the pool %s until Ctrl-C\n", os.Getpid(), cfg.name)
		if _, err := serve(ctx, cfg.job()); err != nil {
			fmt.Fprintln(stderr, "cluster:", err)
			return exitFailed
		}
		return 0
	}

	rep := newReport(cfg)
	err = cfg.check(ctx, rep, stderr)
	interrupted := err != nil && ctx.Err() != nil
	if interrupted {
		fmt.Fprintln(stderr, "cluster: stopped:", context.Cause(ctx))
	} else if err != nil {
		fmt.Fprintln(stderr, "cluster:", err)
	}
	switch werr := rep.write(stdout); {
	case werr != nil:
		fmt.Fprintln(stderr, "cluster:", werr)
		return exitFailed
	case interrupted:
		return exitInterrupted
	case err != nil || len(rep.wrong) > 0:
		return exitFailed
	}
	return 0
}
