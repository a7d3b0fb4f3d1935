// Package executor runs tasks on whatever executor a program was given: goroutines,
// worker processes, a cluster. A task is written once; the backend is one
// constructor.
//
//	var isPrime = executor.NewTask("isPrime", func(ctx context.Context, n int64) (bool, error) {
//		for d := int64(2); d*d <= n; d++ {
//			if n%d == 0 {
//				return false, nil
//			}
//		}
//		return n > 1, nil
//	})
//
//	func main() {
//		worker.Main() // a worker process stays in here; the program goes on
//
//		ex, err := processpool.New(processpool.Config{}) // or threadpool.New, or clusterpool.New
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer ex.Close()
//
//		ctx := context.Background()
//		f := executor.Submit(ctx, ex, isPrime, 112272535095293)
//		prime, err := f.Result(ctx)
//		fmt.Println(prime, err)
//
//		for prime, err := range executor.Map(ctx, ex, isPrime, slices.Values(numbers)) {
//			fmt.Println(prime, err)
//		}
//	}
//
// # Rules
//
// Cancellation. The ctx given to Submit or Map is the calls' own. While a call is
// queued, the end of its ctx cancels it; while it runs, the ctx that the task sees
// ends with it, and so it does by Future.Interrupt, by [WithTimeout] and by Close.
// A task in this process must watch its ctx to be ended; a worker process is killed
// when it does not.
//
// Shutdown. Shutdown drains, Close cancels and interrupts; both leave no goroutine
// and no process behind. Whoever makes an executor closes it.
//
// Errors. What goes wrong with a call is its future's error. What a task returns
// comes back as it is; from another process, errors that are registered
// ([RegisterError], gob.Register) or well known keep errors.Is and errors.As, and
// the rest is a [*RemoteError]. A panic is a [*PanicError], on every backend.
//
// The process border. An argument and a result cross it as package gob carries
// them; a closure cannot cross it ([ErrNotPortable]).
//
// Nested calls. A task that waits under the ctx it was given, for a future or for
// room in a queue, lends its worker's place out while it waits, so tasks of one
// thread pool may submit to it and wait, at any depth.
//
// # Writing a backend
//
// A backend implements [Executor]; [Call] says what it does with a call, [Host] what
// it hears. Package executortest checks it.
//
// # When not to use it
//
// For a few goroutines with one result, errgroup is plainer. For work that must
// outlive the program, use a queue with a database under it.
package executor
