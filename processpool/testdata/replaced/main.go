// Command replaced replaces its own binary by something else and then makes a pool.
package main

import (
	"context"
	"fmt"
	"os"

	"example.com/futures/executor"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

var double = executor.NewTask("double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })

func main() {
	worker.Main()
	must(os.WriteFile(os.Args[0]+".new", []byte("#!/bin/false\n"), 0o700))
	must(os.Rename(os.Args[0]+".new", os.Args[0]))
	p, err := processpool.New(processpool.Config{Workers: 1})
	must(err)
	n, err := executor.Apply(context.Background(), p, double, 21)
	must(err)
	fmt.Println(n)
	must(p.Close())
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
