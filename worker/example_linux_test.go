package worker_test

import (
	"context"
	"fmt"

	"example.com/futures/worker"
)

// One call, in a process that is there for it alone.
func ExampleStart() {
	ctx := context.Background()
	p, err := worker.Start(ctx, double, 21, worker.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := p.Future().Result(ctx)
	fmt.Println(n, err)
	fmt.Println(p.Join(ctx))
	fmt.Println(p.ExitCode())
	// Output:
	// 42 <nil>
	// <nil>
	// 0 true
}

// What does not end by itself is ended.
func ExampleProcess_Terminate() {
	ctx := context.Background()
	p, err := worker.Start(ctx, until, "/a file that is not there", worker.Config{Name: "waiter"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Name(), p.IsAlive())
	fmt.Println(p.Terminate(), p.Join(ctx))
	fmt.Println(p.ExitCode())
	// Output:
	// waiter true
	// <nil> <nil>
	// -15 true
}
