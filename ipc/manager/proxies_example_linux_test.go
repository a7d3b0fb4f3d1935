package manager_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"

	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/ipc/manager"
	"example.com/futures/processpool"
)

// start is for the examples: a server process of its own, until done is called.
func start() (ctx context.Context, m *manager.Manager, done func()) {
	ctx = context.Background()
	m, err := manager.Start(ctx, manager.Config{})
	if err != nil {
		log.Fatal(err)
	}
	return ctx, m, func() { m.Close() }
}

// check is for the examples.
func check(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		log.Fatal(err)
	}
}

type words struct {
	Text   string
	Counts *manager.Dict[string, int]
}

var countWords = executor.NewTask("manager_test.countWords", func(ctx context.Context, w words) (struct{}, error) {
	return struct{}{}, w.Counts.Update(ctx, w.Text, func(n *int) { *n++ })
})

func ExampleDict() {
	ctx, m, done := start()
	defer done()
	counts, err := manager.NewDict[string, int](ctx, m)
	check(err)
	pool, err := processpool.New(processpool.Config{Workers: 2})
	check(err)
	defer pool.Close()

	for _, text := range []string{"to", "be", "or", "not", "to", "be"} {
		_, err := executor.Submit(ctx, pool, countWords, words{text, counts}).Result(ctx)
		check(err)
	}
	fmt.Println(counts.All(ctx))
	// Output: map[be:2 not:1 or:1 to:2] <nil>
}

func ExampleList() {
	ctx, m, done := start()
	defer done()
	rows, err := manager.NewList[*manager.List[int]](ctx, m)
	check(err)
	row, err := manager.NewList[int](ctx, m)
	check(err, rows.Append(ctx, row), row.Close())

	row, err = rows.Get(ctx, 0) // live, though its first proxy is closed
	check(err, row.Append(ctx, 1, 2), row.Insert(ctx, 0, 0))
	fmt.Println(row.All(ctx))
	_, err = row.Get(ctx, 3)
	fmt.Println(err)
	// Output:
	// [0 1 2] <nil>
	// manager: list get: index 3 is out of range: the length is 3
}

func ExampleNamespace() {
	ctx, m, done := start()
	defer done()
	settings, err := manager.NewNamespace(ctx, m)
	check(err, settings.Set(ctx, "depth", 3), settings.Set(ctx, "name", "deep"))

	var depth int
	fmt.Println(settings.Get(ctx, "depth", &depth))
	_, err = settings.Get(ctx, "name", &depth)
	fmt.Println(depth, err)
	// Output:
	// true <nil>
	// 3 manager: namespace get "name": its type is string, not int
}

func ExampleQueue() {
	ctx, m, done := start()
	defer done()
	jobs, err := manager.NewQueue[string](ctx, m, 10)
	check(err, jobs.Put(ctx, "one"), jobs.Put(ctx, "two"), jobs.Shutdown(ctx))
	for {
		job, err := jobs.Get(ctx)
		if err == io.EOF {
			break
		}
		check(err, jobs.TaskDone(ctx))
		fmt.Println(job)
	}
	check(jobs.Join(ctx))
	// Output:
	// one
	// two
}

func ExampleValue() {
	ctx, m, done := start()
	defer done()
	best, err := manager.NewValue(ctx, m, "")
	check(err)
	for _, name := range []string{"long", "longest", "longer"} {
		check(best.Update(ctx, func(so *string) {
			if len(name) > len(*so) {
				*so = name
			}
		}))
	}
	fmt.Println(best.Load(ctx))
	// Output: longest <nil>
}

func ExampleArray() {
	ctx, m, done := start()
	defer done()
	seats, err := manager.NewArray[string](ctx, m, 3)
	check(err, seats.Set(ctx, 1, "Ada"))
	all, err := seats.All(ctx)
	fmt.Printf("%q %v\n", all, err)
	// Output: ["" "Ada" ""] <nil>
}

func ExampleLock() {
	ctx, m, done := start()
	defer done()
	l, err := manager.NewLock(ctx, m)
	check(err, l.Lock(ctx))
	fmt.Println(l.TryLock(ctx))
	check(l.Unlock(ctx))
	err = l.Unlock(ctx)
	fmt.Println(errors.Is(err, ipc.ErrNotHeld))
	// Output:
	// false <nil>
	// true
}

func ExampleRLock() {
	ctx, m, done := start()
	defer done()
	l, err := manager.NewRLock(ctx, m)
	check(err)
	mine, err := l.Lock(ctx)
	check(err)
	_, err = l.Lock(mine) // enters again
	check(err, l.Unlock(ctx), l.Unlock(ctx))
	fmt.Println(errors.Is(l.Unlock(ctx), ipc.ErrNotHeld))
	// Output: true
}

func ExampleSemaphore() {
	ctx, m, done := start()
	defer done()
	s, err := manager.NewBoundedSemaphore(ctx, m, 2)
	check(err, s.Acquire(ctx, 2))
	fmt.Println(s.TryAcquire(ctx, 1))
	check(s.Release(ctx, 1))
	fmt.Println(s.TryAcquire(ctx, 1))
	// Output:
	// false <nil>
	// true <nil>
}

func ExampleEvent() {
	ctx, m, done := start()
	defer done()
	ready, err := manager.NewEvent(ctx, m)
	check(err)
	var waits sync.WaitGroup
	waits.Go(func() {
		check(ready.Wait(ctx))
		fmt.Println("it has happened")
	})
	check(ready.Set(ctx))
	waits.Wait()
	// Output: it has happened
}

func ExampleCond() {
	ctx, m, done := start()
	defer done()
	l, err := manager.NewLock(ctx, m)
	check(err)
	changed, err := manager.NewCond(ctx, m, l)
	check(err)
	stock, err := manager.NewValue(ctx, m, 0)
	check(err)

	var buyer sync.WaitGroup
	buyer.Go(func() {
		check(changed.L.Lock(ctx))
		for {
			n, err := stock.Load(ctx)
			check(err)
			if n > 0 {
				break
			}
			check(changed.Wait(ctx))
		}
		check(stock.Store(ctx, 0), changed.L.Unlock(ctx))
		fmt.Println("bought")
	})
	check(l.Lock(ctx), stock.Store(ctx, 1), changed.Notify(ctx, 1), l.Unlock(ctx))
	buyer.Wait()
	// Output: bought
}

func ExampleBarrier() {
	ctx, m, done := start()
	defer done()
	b, err := manager.NewBarrier(ctx, m, 2)
	check(err)
	var other sync.WaitGroup
	other.Go(func() { _, err := b.Wait(ctx); check(err) })
	_, err = b.Wait(ctx)
	check(err)
	other.Wait()

	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = b.Wait(ended)
	fmt.Println(errors.Is(err, ipc.ErrBrokenBarrier), errors.Is(err, context.Canceled))
	// Output: true true
}
