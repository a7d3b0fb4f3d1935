package embed_test

import (
	"context"
	"fmt"
	"log"
	"slices"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/embed"
	"example.com/futures/executor"
)

var square = executor.NewTask("square", func(_ context.Context, n int) (int, error) { return n * n, nil })

// A pool with its server and two worker processes, in one call: used like any other pool. The
// program calls worker.Main first, as this test's does.
func ExampleNew() {
	ctx := context.Background()
	pool, err := embed.New(ctx, clusterpool.Config{}, 2)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	fmt.Println(executor.Submit(ctx, pool, square, 12).Result(ctx))
	for n, err := range executor.Map(ctx, pool, square, slices.Values([]int{1, 2, 3})) {
		fmt.Println(n, err)
	}
	// Output:
	// 144 <nil>
	// 1 <nil>
	// 4 <nil>
	// 9 <nil>
}

// A server in this process, a worker of it and a client. The worker would run on any machine
// that reaches the server, as would the client; they know each other by the pool's name.
func ExampleStart() {
	ctx := context.Background()
	server, err := embed.Start(ctx, embed.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() {
		worked <- clusterpool.Serve(working, clusterpool.ServeConfig{URL: server.URL(), Name: "squares"})
	}()

	pool, err := clusterpool.New(ctx, clusterpool.Config{URL: server.URL(), Name: "squares", Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(executor.Apply(ctx, pool, square, 12))
	fmt.Println(pool.Close())
	stop()
	fmt.Println(<-worked)
	// Output:
	// 144 <nil>
	// <nil>
	// <nil>
}
