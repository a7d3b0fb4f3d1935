// Package processpool runs calls in worker processes: the program's own binary,
// started again.
//
// Goroutines already use every core, so a process is not for speed. It is for what a
// goroutine cannot give: a call that crashes (a fault in C, a fatal error of the
// runtime, os.Exit) takes only itself along; a call that never ends can be killed; a C
// library that is not safe for threads, a working directory, a user or an environment
// can be had once for each worker. Where nothing of that is needed, package threadpool
// runs the same tasks at a fraction of the cost.
//
//	var isPrime = executor.NewTask("isPrime", func(ctx context.Context, n int64) (bool, error) { … })
//
//	func main() {
//		worker.Main() // a worker process stays in here; the program goes on
//
//		pool, err := processpool.New(processpool.Config{})
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer pool.Close()
//		prime, err := executor.Apply(ctx, pool, isPrime, 112272535095293)
//		…
//	}
//
// # What crosses the border
//
// Arguments and results travel through gob, and are copies; see executor.NewTask for
// what that changes. Errors keep what errors.Is and errors.As ask for, see
// executor.RegisterError. Of a call's context its deadline, its end and the cause of
// its end travel, its values do not. Closures stay at home: executor.ErrNotPortable.
//
// # Waiting and running
//
// A busy worker is sent quick calls ahead, so that it need not wait for the next one.
// They are pending until it takes them up, wherever they lie: they can be cancelled, give
// way to calls of a higher priority, and run elsewhere if the call before them turns out
// long. A call is running, and State says so, from the moment in which its worker takes
// it up.
//
// # Death
//
// A worker that dies fails the call that it ran, with an *executor.WorkerLostError,
// and nothing else: what had ended keeps its result, in a chunk too, and what the
// worker had not taken up runs elsewhere. executor.WithRetries runs the call again.
// Another worker takes the place of the lost one. Only workers that die before they
// serve, three times in a row, break the pool.
//
// A call whose context has ended is told, and its worker is killed, with what it has
// started in its process group, if the call goes on for longer than
// Config.Worker.KillGrace. The same goes for a call over its time limit.
//
// When the program dies, however, its workers end at once.
//
// # The end
//
// Shutdown waits for what was accepted; Close cancels and interrupts; Terminate and
// Kill use force. All of them wait until every process has been reaped and leave no
// descriptor behind.
//
// # Systems
//
// Worker processes need Linux, 5.4 or later. Elsewhere [New] answers with an error that
// matches errors.ErrUnsupported.
package processpool
