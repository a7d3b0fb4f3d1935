// Manager has four processes work on objects that live in a fifth: a queue, a dict, a list, a
// lock and a namespace. None of them shares memory with another; each has proxies, which came
// with its argument. It is the example of the lecture in which d[w] += 1 comes out too small:
// that is two calls, between which others write.
//
//	go run ./examples/manager
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/ipc/manager"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

const (
	processes = 4
	words     = 2000
)

// A desk is what the processes work at.
type desk struct {
	Words    *manager.Queue[string]
	Counts   *manager.Dict[string, int]
	Lock     *manager.Lock
	Rows     *manager.List[*manager.List[string]] // one for each process
	Settings *manager.Namespace
	Start    *manager.Barrier
	How      string
}

var count = executor.NewTask("count", func(ctx context.Context, d desk) (pid int, err error) {
	number, err := d.Start.Wait(ctx) // until all are here
	if err != nil {
		return 0, err
	}
	row, err := d.Rows.Get(ctx, number) // a proxy that was in the list
	if err != nil {
		return 0, err
	}
	defer row.Close()
	var unit int
	if _, err := d.Settings.Get(ctx, "unit", &unit); err != nil {
		return 0, err
	}
	for {
		word, err := d.Words.Get(ctx)
		if errors.Is(err, io.EOF) {
			return os.Getpid(), d.Settings.Set(ctx, "last", os.Getpid())
		}
		if err == nil {
			err = add(ctx, d, word, unit)
		}
		if err := errors.Join(err, row.Append(ctx, word), d.Words.TaskDone(ctx)); err != nil {
			return 0, err
		}
	}
})

// add adds to the count of a word, in one of three ways.
func add(ctx context.Context, d desk, word string, unit int) error {
	switch d.How {
	case "with lock: d[w] += 1":
		if err := d.Lock.Lock(ctx); err != nil {
			return err
		}
		defer func() { _ = d.Lock.Unlock(ctx) }()
	case "d.Update":
		return d.Counts.Update(ctx, word, func(n *int) { *n += unit })
	}
	n, _, err := d.Counts.Get(ctx, word)
	if err != nil {
		return err
	}
	return d.Counts.Set(ctx, word, n+unit)
}

func main() {
	worker.Main() // a worker process stays in here, and so does the manager's
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m := must(manager.Start(ctx, manager.Config{})) // m = multiprocessing.Manager()
	defer m.Close()
	pool := must(processpool.New(processpool.Config{Workers: processes}))
	defer pool.Close()

	fmt.Printf("%d processes take %d words from a queue, and count them in a dict\n\n", processes, words)
	fmt.Printf("%-22s %9s %9s %9s   %s\n", "", "counted", "lost", "in lists", "processes, the last among them")
	for _, how := range []string{"d[w] += 1", "with lock: d[w] += 1", "d.Update"} {
		run(ctx, m, pool, how)
	}
}

func run(ctx context.Context, m *manager.Manager, pool *processpool.Pool, how string) {
	d := desk{
		must(manager.NewQueue[string](ctx, m, words)), must(manager.NewDict[string, int](ctx, m)), must(manager.NewLock(ctx, m)),
		must(manager.NewList[*manager.List[string]](ctx, m)), must(manager.NewNamespace(ctx, m)), must(manager.NewBarrier(ctx, m, processes)), how,
	}
	for range processes {
		row := must(manager.NewList[string](ctx, m))
		check(d.Rows.Append(ctx, row), row.Close()) // it lives on in Rows
	}
	check(d.Settings.Set(ctx, "unit", 1))
	pids := executor.SubmitAll(ctx, pool, count, []desk{d, d, d, d})
	for i := range words {
		check(d.Words.Put(ctx, []string{"to", "be", "or", "not", "to", "be"}[i%6]))
	}
	check(d.Words.Join(ctx), d.Words.Shutdown(ctx)) // all are counted; the processes get io.EOF
	who := must(future.All(ctx, pids...))

	counted, listed, last := 0, 0, 0
	for _, n := range must(d.Counts.All(ctx)) {
		counted += n
	}
	for _, row := range must(d.Rows.All(ctx)) {
		listed += must(row.Len(ctx))
		check(row.Close())
	}
	must(d.Settings.Get(ctx, "last", &last))
	slices.Sort(who)
	fmt.Printf("%-22s %9d %9d %9d   %d %t\n", how, counted, words-counted, listed, len(slices.Compact(who)), slices.Contains(who, last))
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		log.Fatal("manager: ", err)
	}
}
