// Race has four processes add to one shared counter, and counts what they lose. It is the
// question of every lecture on processes: why is the sum too small, and what helps? To read
// and then to write is two steps, between which another process may have written; a lock
// makes one of them, and so does the processor's own addition.
//
//	go run ./examples/race
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/ipc"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

const (
	processes = 4
	times     = 50_000 // that each of them adds 1
	doublings = 10     // of that, if by luck nothing was lost
)

// A count is what a process is asked for.
type count struct {
	Times   int
	Counter *ipc.Value[int64]
	Lock    *ipc.Lock
	Start   *ipc.Barrier
}

// Python: v.value += 1
var unlocked = counting("unlocked", func(ctx context.Context, c count) error {
	c.Counter.Store(c.Counter.Load() + 1)
	return nil
})

// Python: with lock: v.value += 1
var locked = counting("locked", func(ctx context.Context, c count) error {
	if err := c.Lock.Lock(ctx); err != nil {
		return err
	}
	c.Counter.Store(c.Counter.Load() + 1)
	return c.Lock.Unlock()
})

// Python has none.
var added = counting("added", func(ctx context.Context, c count) error {
	ipc.Add(c.Counter, 1)
	return nil
})

// counting returns the task that adds so many times, and tells how long that took.
func counting(name string, add func(context.Context, count) error) executor.Task[count, time.Duration] {
	return executor.NewTask(name, func(ctx context.Context, c count) (time.Duration, error) {
		if _, err := c.Start.Wait(ctx); err != nil { // until all are here
			return 0, err
		}
		start := time.Now()
		for range c.Times {
			if err := add(ctx, c); err != nil {
				return 0, err
			}
		}
		return time.Since(start), nil
	})
}

func main() {
	worker.Main() // a worker process stays in here
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pool := must(processpool.New(processpool.Config{Workers: processes}))
	defer pool.Close()

	fmt.Printf("%d processes add 1 to a shared counter, again and again\n\n", processes)
	fmt.Printf("%-28s %9s %9s %9s %9s\n", "", "added", "counted", "lost", "each")
	n := times
	lost := run(ctx, pool, "Load, then Store", unlocked, n)
	for i := 0; lost == 0 && i < doublings; i++ {
		n *= 2
		lost = run(ctx, pool, "by luck; so once more", unlocked, n)
	}
	run(ctx, pool, "the same, under an ipc.Lock", locked, times)
	run(ctx, pool, "ipc.Add", added, times)
	if lost == 0 {
		fmt.Println("a lucky day: nothing was lost")
	}
}

// run has all processes run t at once, prints a line, and returns how many additions were lost.
func run(ctx context.Context, pool *processpool.Pool, what string, t executor.Task[count, time.Duration], n int) (lost int64) {
	c := count{n, must(ipc.NewValue[int64](0)), must(ipc.NewLock()), must(ipc.NewBarrier(processes))}
	defer c.Counter.Close()
	defer c.Lock.Close()
	defer c.Start.Close()
	var sum time.Duration
	for _, took := range must(future.All(ctx, executor.SubmitAll(ctx, pool, t, []count{c, c, c, c})...)) {
		sum += took
	}
	all, counted := int64(processes*n), c.Counter.Load()
	fmt.Printf("%-28s %9d %9d %9d %9v\n", what, all, counted, all-counted, sum/time.Duration(all))
	return all - counted
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal("race: ", err)
	}
	return v
}
