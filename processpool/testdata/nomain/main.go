// Command nomain makes a pool, and starts a process, without having called worker.Main.
// It says what it gets for each, and, in a file beside its binary, how often it was
// started.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

var double = executor.NewTask("double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })

func main() {
	log, err := os.OpenFile(os.Args[0]+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(log, os.Getpid())
	p, err := processpool.New(processpool.Config{Workers: 2})
	if err == nil {
		_, err = executor.Apply(context.Background(), p, double, 21)
	}
	fmt.Println(err)
	_, err = worker.Start(context.Background(), double, 21, worker.Config{})
	fmt.Println(err)
	starts, err := os.ReadFile(os.Args[0] + ".log")
	if err != nil {
		panic(err)
	}
	fmt.Println("started:", bytes.Count(starts, []byte("\n")))
}
