// Package worker is what runs inside a worker process, and the settings by which
// one is started.
//
// A worker is the program's own binary, started once more. There it must serve
// calls instead of running the program, so a program that uses processes begins
// like this, and its tests likewise in TestMain:
//
//	var isPrime = executor.NewTask("isPrime", func(ctx context.Context, n int64) (bool, error) { … })
//
//	func main() {
//		worker.Main() // a worker process stays in here; the program goes on
//		pool, err := processpool.New(processpool.Config{})
//		…
//	}
//
// What comes before Main runs in every worker too: the init of packages, and with
// it the package variables that tasks live in. What comes behind it runs in the
// program only. In a program that never called Main, making a pool and [Start] answer
// with an error and start nothing.
//
// # What a worker has
//
//   - The program's tasks, found by their names. A task that is made later than
//     Main, in the program only, is not there: its calls fail and say so.
//   - The program's name as its only argument, its environment and directory unless
//     [Config] says otherwise, /dev/null as standard input, the program's standard
//     output and error. No other open file of the program reaches it.
//   - A process group of its own. Ctrl-C reaches the program alone, and when a worker
//     ends, what it started in its group is killed.
//   - Variables of its own: what a task writes to them stays in that process.
//
// # How it ends
//
// A worker ends when its pool does, or its only call, when a call crashes it, when a
// call that should end does not and is killed for it, and at once, with its group, when
// the program dies, however that happens.
//
// # One call in a process of its own
//
// [Start] needs no pool: it starts a process that calls one task, once, and ends. The
// [Process] tells its number, waits for it, ends it by force and says how it ended, and
// its future has the result:
//
//	p, err := worker.Start(ctx, isPrime, 112272535095293, worker.Config{})
//	…
//	prime, err := p.Future().Result(ctx)
//
// To run many calls that way costs a start each; package processpool starts its workers
// once.
//
// # Workers of workers
//
// A task may make pools, and start processes, of its own. They end with the worker.
package worker
