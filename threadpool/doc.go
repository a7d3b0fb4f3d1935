// Package threadpool runs tasks on goroutines: a thread here is a goroutine. The
// name is Python's, whose ThreadPoolExecutor it corresponds to.
//
// A go statement is enough to run something at the same time. A pool is for what
// comes after that: no more than so many at once, a result and an error for each
// call, a call that panics costing only itself, cancelling what has not begun,
// priorities, a queue that pushes back, and an end that waits for everything.
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"log"
//		"slices"
//
//		"example.com/futures/executor"
//		"example.com/futures/threadpool"
//	)
//
//	var square = executor.NewTask("square", func(ctx context.Context, n int) (int, error) {
//		return n * n, nil
//	})
//
//	func main() {
//		ctx := context.Background()
//		pool, err := threadpool.New(threadpool.Config{Workers: 4})
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer pool.Close()
//
//		f := executor.Submit(ctx, pool, square, 12) // does not wait
//		n, err := f.Result(ctx)                     // waits
//		fmt.Println(n, err)
//
//		for n, err := range executor.Map(ctx, pool, square, slices.Values([]int{1, 2, 3})) {
//			fmt.Println(n, err)
//		}
//	}
//
// # Workers
//
// A worker is a goroutine. It is started when a call comes and all others are busy,
// up to Config.Workers, and then kept for later calls; [Config].KeepAlive ends it when
// it has had none for so long. An idle worker is parked: it takes no time. Calls start in
// the order in which they were submitted, higher priorities first.
//
// A task that calls runtime.Goexit, as testing.T.FailNow does, ends its worker too:
// the call ends with an error, and another worker, which runs the initializer
// again, goes on with the rest. A task that calls runtime.LockOSThread and leaves it at
// that leaves its worker locked to that thread, and slower, for all calls that come after.
//
// # Calls that wait for calls
//
// A task may submit to its own pool and wait for the result. As long as it waits
// under the context that it was given, or one derived from it, it lends its place to
// another call, so that the pool does not run dry whatever the depth:
//
//	func(ctx context.Context, n int) (int, error) {
//		f := executor.Submit(ctx, pool, child, n-1)
//		return f.Result(ctx) // under ctx: the pool knows that this worker waits
//	}
//
// The place is taken back at once when the wait is over, without waiting for its
// borrower: the two may need one another. So for a moment more calls may run than
// there are places, and [executor.Stats] shows more workers; these end with the calls
// that they run. Under another context the place stays taken, and a pool whose calls
// all wait like that for calls behind them stands still.
//
// # Cancelling
//
// A call that waits in the queue is cancelled at once and forgotten. One that runs
// sees its context end; a goroutine cannot be stopped from outside, so a task that
// ignores its context runs on, and its future is done when it returns. Where that
// is not good enough, use package processpool.
//
// # The end
//
// [Pool.Shutdown] lets all that was accepted run, [Pool.Close] cancels and interrupts;
// both wait, and leave no goroutine behind. A pool that is dropped without either
// finishes what it was given and is then collected, its goroutines with it: handles
// kept by a running task, by a ticker or in a global variable hold it up.
//
// # When not to use it
//
// For a handful of goroutines that fail together, golang.org/x/sync/errgroup is
// less to learn. For calls that may crash, never end or eat the machine's memory,
// take package processpool: the same tasks run there.
package threadpool
