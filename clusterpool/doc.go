// Package clusterpool runs calls on the workers of many machines, over NATS JetStream: the
// third backend, beside goroutines and worker processes. The tasks stay the same, and so do
// futures; one constructor is another.
//
// One machine has so many cores, and dies as a whole. A cluster has as many as there are
// programs that call [Serve], they come and go while calls wait, and the death of any of them
// costs at most what it ran. What waits is with the servers, which outlive the program that
// submitted it.
//
// One program is both, a client or, with an argument, a worker:
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"log"
//		"os"
//		"os/signal"
//		"slices"
//
//		"example.com/futures/clusterpool"
//		"example.com/futures/executor"
//		"example.com/futures/processpool"
//		"example.com/futures/worker"
//	)
//
//	var square = executor.NewTask("square", func(ctx context.Context, n int) (int, error) {
//		return n * n, nil
//	})
//
//	func main() {
//		worker.Main() // for Isolate: a worker process stays in here
//		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
//		defer stop()
//		url := os.Getenv("NATS_URL")
//
//		if len(os.Args) > 1 { // on any machine: runs calls until Ctrl-C
//			cfg := clusterpool.ServeConfig{URL: url, Isolate: &processpool.Config{}}
//			if err := clusterpool.Serve(ctx, cfg); err != nil {
//				log.Fatal(err)
//			}
//			return
//		}
//
//		pool, err := clusterpool.New(ctx, clusterpool.Config{URL: url})
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer pool.Close()
//		numbers := slices.Values([]int{1, 2, 3})
//		for n, err := range executor.Map(ctx, pool, square, numbers, executor.WithRetries(3)) {
//			fmt.Println(n, err)
//		}
//	}
//
// Package clusterpool/embed has the server in the program itself, and with embed.New all of
// this in one call: for a first look, for tests, and where one machine is enough.
//
// # Once, or retried
//
// A call that was taken up is not run again: if its worker is killed, is frozen or cut off
// for longer than the lease, it ends with an [*executor.WorkerLostError]. It may have run in
// part, or to its end. With [executor.WithRetries] another worker begins it instead, at most so
// many times, so it is for tasks that may run twice. What a lost worker had not taken up is
// run by others in any case. Either way a future ends once, and a worker that comes back
// from the dead is refused with what it brings.
//
// A chunk of a map is one call to the servers, and shares the fate of its worker. With
// [ServeConfig].Isolate calls run in processes of the worker's machine: one that crashes, hangs
// or eats the memory then costs itself, and no other item of its chunk.
//
// # Cancelling
//
// Cancel asks the servers: a call that they say is cancelled never starts, anywhere. If they
// do not answer within 2 s it is false, and the call is pending as before. Interrupt, and the
// end of a call's ctx, reach the worker that runs it. One that does not listen is killed
// where calls are isolated, and otherwise goes on.
//
// # Priorities
//
// There are three classes: above 0, 0 and below 0. While calls of all of them wait, a worker
// takes 16, 4 and 1 of them; so low waits longer, and not for ever. Within a class those that were
// submitted first start first, except for what is retried, or is large.
//
// # What crosses
//
// What crosses to worker processes, crosses to other machines: see package processpool.
// But not handles of package ipc: a call with one fails. And programs of several versions may
// be at work: where a task's argument or result has other types in the worker's program, or the
// task is not in it, others are given the call, some times, before it fails and says so.
// [Config].Build keeps versions apart.
//
// A message has 1 MiB with most servers. What is larger, up to 1 GiB, goes through their object
// store, by itself, and takes longer. Traces travel in headers: [Config].Inject and
// [ServeConfig].Extract.
//
// # Attaching
//
// The servers keep outcomes for [Config].KeepResults. [ID] names a call, and [Attach] makes a
// future of it in any program with a pool of the same name: after a restart, or on another
// machine. Not of a chunk of a map.
//
// # The end
//
// [Pool.Shutdown] waits for what this client has submitted, [Pool.Close] cancels and interrupts
// it; neither ends a worker, which may have other clients. To leave calls to themselves, end
// Shutdown's ctx, and the program. A worker ends with the ctx of Serve, after the
// calls that it runs, or hands back those with retries.
//
// If servers are lost with what they had in memory, the client queues its calls with retries
// again, and ends the others as lost, as long as it lives. With files they are found again
// after a crash of the server; after a loss of power, only if it syncs always.
//
// # Trust
//
// Who may publish to a pool's subjects can have its workers run any of their tasks. Users,
// permissions and TLS are those of NATS: [Config].Options.
//
// # When not to use it
//
// A call takes a fraction of a millisecond and some messages: what is quicker belongs into
// chunks of an [executor.Map], and what fits one machine on a processpool or a threadpool. It
// is no workflow engine: nobody goes on with the code behind a call when its client is gone.
// For steps that depend on one another and survive for days there is Temporal; for jobs that
// are to be queued in the transaction that causes them, a queue in that database.
package clusterpool
