package threadpool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"

	"example.com/futures/executor"
	"example.com/futures/threadpool"
)

var square = executor.NewTask("threadpool_test.square", func(_ context.Context, n int) (int, error) {
	return n * n, nil
})

func Example() {
	ctx := context.Background()
	pool, err := threadpool.New(threadpool.Config{Workers: 4})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	f := executor.Submit(ctx, pool, square, 12) // does not wait
	n, err := f.Result(ctx)                     // waits
	fmt.Println(n, err)

	for n, err := range executor.Map(ctx, pool, square, slices.Values([]int{1, 2, 3})) {
		fmt.Println(n, err)
	}
	// Output:
	// 144 <nil>
	// 1 <nil>
	// 4 <nil>
	// 9 <nil>
}

// A call waits for another one of the same pool, of which only one runs at a time:
// it lends its place meanwhile, since it waits under the context that it was given.
func Example_nested() {
	ctx := context.Background()
	pool, err := threadpool.New(threadpool.Config{Workers: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	var factorial executor.Task[int, int]
	factorial = executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		if n == 0 {
			return 1, nil
		}
		below, err := executor.Apply(ctx, pool, factorial, n-1)
		return n * below, err
	})
	fmt.Println(executor.Apply(ctx, pool, factorial, 10))
	// Output: 3628800 <nil>
}

// A short queue that refuses calls protects a server from more work than it can do.
func ExampleConfig_rejectWhenFull() {
	ctx := context.Background()
	pool, err := threadpool.New(threadpool.Config{Workers: 1, QueueLimit: 1, RejectWhenFull: true})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	open := make(chan struct{})
	wait := executor.LocalTask(func(_ context.Context, n int) (int, error) {
		<-open
		return n, nil
	})
	running := executor.Submit(ctx, pool, wait, 1)
	queued := executor.Submit(ctx, pool, wait, 2)
	refused := executor.Submit(ctx, pool, wait, 3)
	fmt.Println(errors.Is(refused.Exception(ctx), executor.ErrQueueFull))
	close(open)
	fmt.Println(running.Result(ctx))
	fmt.Println(queued.Result(ctx))
	// Output:
	// true
	// 1 <nil>
	// 2 <nil>
}

// An initializer runs in each worker before its first call.
func ExampleConfig_initializer() {
	connect := executor.LocalTask(func(_ context.Context, addr string) (struct{}, error) {
		return struct{}{}, fmt.Errorf("nobody listens on %s", addr)
	})
	ctx := context.Background()
	pool, err := threadpool.New(threadpool.Config{
		Workers:     1,
		Initializer: executor.Bind(connect, "db:5432"),
		Logger:      quiet,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	_, err = executor.Submit(ctx, pool, square, 2).Result(ctx)
	fmt.Println(err)
	// Output: executor: broken: nobody listens on db:5432
}

func ExamplePool_Shutdown() {
	ctx := context.Background()
	pool, err := threadpool.New(threadpool.Config{})
	if err != nil {
		log.Fatal(err)
	}
	fs := executor.SubmitAll(ctx, pool, square, []int{1, 2, 3})
	if err := pool.Shutdown(ctx); err != nil { // waits
		log.Fatal(err)
	}
	for _, f := range fs {
		fmt.Println(f.State(), f.IsDone())
	}
	_, err = executor.Submit(ctx, pool, square, 4).Result(ctx)
	fmt.Println(err)
	// Output:
	// finished true
	// finished true
	// finished true
	// executor: shut down
}

func ExamplePool_Resize() {
	ctx := context.Background()
	pool, err := threadpool.New(threadpool.Config{Workers: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	// Each of these calls waits for the other, without the pool being told.
	meet := make(chan int)
	give := executor.LocalTask(func(_ context.Context, n int) (int, error) { meet <- n; return n, nil })
	take := executor.LocalTask(func(context.Context, int) (int, error) { return <-meet, nil })
	executor.Submit(ctx, pool, give, 7)
	f := executor.Submit(ctx, pool, take, 0)
	if err := pool.Resize(2); err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Result(ctx))
	fmt.Println(pool.Resize(0))
	// Output:
	// 7 <nil>
	// threadpool: Resize to 0 workers: want 1 or more
}

func ExamplePool_Stats() {
	ctx := context.Background()
	pool, err := threadpool.New(threadpool.Config{Workers: 2})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	for _, f := range executor.SubmitAll(ctx, pool, square, []int{1, 2, 3}) {
		fmt.Println(f.Result(ctx))
	}
	s := pool.Stats()
	fmt.Println("succeeded:", s.Succeeded, "running:", s.Running, "queued:", s.Queued)
	// Output:
	// 1 <nil>
	// 4 <nil>
	// 9 <nil>
	// succeeded: 3 running: 0 queued: 0
}
