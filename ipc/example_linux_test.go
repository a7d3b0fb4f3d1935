package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"example.com/futures/executor"
	"example.com/futures/ipc"
	"example.com/futures/worker"
)

var doubler = executor.NewTask("ipc_test.doubler", func(ctx context.Context, conn *ipc.Conn[int]) (struct{}, error) {
	for {
		n, err := conn.Recv(ctx)
		if errors.Is(err, io.EOF) { // nobody has the other end any more
			return struct{}{}, nil
		} else if err != nil {
			return struct{}{}, err
		}
		if err := conn.Send(ctx, 2*n); err != nil {
			return struct{}{}, err
		}
	}
})

// A process answers until its parent closes the pipe.
func ExamplePipe() {
	ctx := context.Background()
	here, there, err := ipc.Pipe[int](true)
	if err != nil {
		log.Fatal(err)
	}
	p, err := worker.Start(ctx, doubler, there, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	there.Close() // the process has its own, and would be the last to have one
	for n := range 3 {
		if err := here.Send(ctx, n); err != nil {
			log.Fatal(err)
		}
		fmt.Println(here.Recv(ctx))
	}
	here.Close()
	fmt.Println(p.Join(ctx))
	fmt.Println(p.ExitCode())
	// Output:
	// 0 <nil>
	// 2 <nil>
	// 4 <nil>
	// <nil>
	// 0 true
}

var adder = executor.NewTask("ipc_test.adder", func(ctx context.Context, numbers *ipc.Queue[int]) (sum int, err error) {
	for {
		n, err := numbers.Get(ctx)
		if errors.Is(err, io.EOF) { // nothing is left, and nothing comes
			return sum, nil
		} else if err != nil {
			return sum, err
		}
		sum += n
		if err := numbers.TaskDone(); err != nil {
			return sum, err
		}
	}
})

// Two processes take what is put, each item for one of them.
func ExampleNewQueue() {
	ctx := context.Background()
	numbers, err := ipc.NewQueue[int](10)
	if err != nil {
		log.Fatal(err)
	}
	defer numbers.Close()
	var adders [2]*worker.Process[int]
	for i := range adders {
		if adders[i], err = worker.Start(ctx, adder, numbers, worker.Config{}); err != nil {
			log.Fatal(err)
		}
	}
	for n := range 101 {
		if err := numbers.Put(ctx, n); err != nil { // waits while there is no room
			log.Fatal(err)
		}
	}
	fmt.Println(numbers.Join(ctx), numbers.Len())
	fmt.Println(numbers.Shutdown(), errors.Is(numbers.Put(ctx, 101), io.ErrClosedPipe))
	sum := 0
	for _, p := range adders {
		n, err := p.Future().Result(ctx)
		if err != nil {
			log.Fatal(err)
		}
		sum += n
	}
	fmt.Println(sum)
	// Output:
	// <nil> 0
	// <nil> true
	// 5050
}

type accounts struct {
	Lock    *ipc.Lock
	Balance *ipc.Array[int]
}

// halfway takes 30 from one account, and dies before it has given them to the other.
var halfway = executor.NewTask("ipc_test.halfway", func(ctx context.Context, a accounts) (struct{}, error) {
	if err := a.Lock.Lock(ctx); err != nil {
		return struct{}{}, err
	}
	a.Balance.Set(0, a.Balance.At(0)-30)
	os.Exit(1)
	return struct{}{}, nil
})

// A process dies while it holds a lock. Nobody waits for it, and nobody goes on unawares.
func ExampleNewLock() {
	ctx := context.Background()
	lock, err := ipc.NewLock()
	if err != nil {
		log.Fatal(err)
	}
	defer lock.Close()
	balance, err := ipc.ArrayOf([]int{100, 0})
	if err != nil {
		log.Fatal(err)
	}
	defer balance.Close()

	p, err := worker.Start(ctx, halfway, accounts{lock, balance}, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Join(ctx); err != nil {
		log.Fatal(err)
	}

	if err := lock.Lock(ctx); errors.Is(err, ipc.ErrOwnerDied) {
		fmt.Println(err)
		if err := lock.Recover(ctx); err != nil {
			log.Fatal(err)
		}
		balance.Set(1, 100-balance.At(0)) // mends what is half-written
	}
	fmt.Println(lock, balance.At(0), balance.At(1))
	fmt.Println(lock.Unlock(), lock)
	// Output:
	// ipc: the holder of the lock died
	// ipc.Lock(held by this process) 70 30
	// <nil> ipc.Lock(free)
}

// Functions that each take the lock can call one another.
func ExampleNewRLock() {
	lock, err := ipc.NewRLock()
	if err != nil {
		log.Fatal(err)
	}
	defer lock.Close()
	balance := map[string]int{"Ada": 100}

	add := func(ctx context.Context, who string, amount int) error {
		if _, err := lock.Lock(ctx); err != nil {
			return err
		}
		balance[who] += amount
		return lock.Unlock()
	}
	move := func(ctx context.Context, from, to string, amount int) error {
		ctx, err := lock.Lock(ctx) // this ctx owns the lock: add enters under it
		if err != nil {
			return err
		}
		return errors.Join(add(ctx, from, -amount), add(ctx, to, amount), lock.Unlock())
	}
	fmt.Println(move(context.Background(), "Ada", "Bob", 30), balance, lock)
	// Output: <nil> map[Ada:70 Bob:30] ipc.RLock(free)
}

// Who has something ready releases, once for each; who needs three of them acquires three.
func ExampleNewSemaphore() {
	ready, err := ipc.NewSemaphore(0)
	if err != nil {
		log.Fatal(err)
	}
	defer ready.Close()
	fmt.Println(ready.TryAcquire(1))
	for range 4 {
		if err := ready.Release(1); err != nil { // in any process
			log.Fatal(err)
		}
	}
	fmt.Println(ready.Acquire(context.Background(), 3))
	fmt.Println(ready.TryAcquire(2))
	fmt.Println(ready.TryAcquire(1))
	// Output:
	// false <nil>
	// <nil>
	// false <nil>
	// true <nil>
}

// hog takes all there is, and dies.
var hog = executor.NewTask("ipc_test.hog", func(ctx context.Context, licences *ipc.Semaphore) (struct{}, error) {
	if err := licences.Acquire(ctx, 2); err != nil {
		return struct{}{}, err
	}
	os.Exit(1)
	return struct{}{}, nil
})

// What a process held when it died comes back.
func ExampleNewBoundedSemaphore() {
	ctx := context.Background()
	licences, err := ipc.NewBoundedSemaphore(2)
	if err != nil {
		log.Fatal(err)
	}
	defer licences.Close()
	p, err := worker.Start(ctx, hog, licences, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Join(ctx))
	fmt.Println(licences.Acquire(ctx, 2))
	fmt.Println(licences.TryAcquire(1))
	fmt.Println(licences.Release(2))
	fmt.Println(errors.Is(licences.Release(1), ipc.ErrNotHeld))
	// Output:
	// <nil>
	// <nil>
	// false <nil>
	// <nil>
	// true
}

var runner = executor.NewTask("ipc_test.runner", func(ctx context.Context, start *ipc.Event) (string, error) {
	return "ran", start.Wait(ctx)
})

// A process waits for the word to start.
func ExampleNewEvent() {
	ctx := context.Background()
	start, err := ipc.NewEvent()
	if err != nil {
		log.Fatal(err)
	}
	defer start.Close()
	p, err := worker.Start(ctx, runner, start, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(start.IsSet(), p.Future().IsDone())
	fmt.Println(start.Set(), start.IsSet())
	fmt.Println(p.Future().Result(ctx))
	// Output:
	// false false
	// <nil> true
	// ran <nil>
}

type tank struct {
	Changed *ipc.Cond
	Litres  *ipc.Value[int]
}

// full waits until there are 10 litres.
var full = executor.NewTask("ipc_test.full", func(ctx context.Context, t tank) (int, error) {
	if err := t.Changed.L.Lock(ctx); err != nil {
		return 0, err
	}
	for t.Litres.Load() < 10 {
		if err := t.Changed.Wait(ctx); err != nil {
			return 0, err
		}
	}
	return t.Litres.Load(), t.Changed.L.Unlock()
})

// A process waits until what another changes is as it needs it.
func ExampleNewCond() {
	ctx := context.Background()
	lock, err := ipc.NewLock()
	if err != nil {
		log.Fatal(err)
	}
	defer lock.Close()
	changed, err := ipc.NewCond(lock)
	if err != nil {
		log.Fatal(err)
	}
	defer changed.Close()
	litres, err := ipc.NewValue(0)
	if err != nil {
		log.Fatal(err)
	}
	defer litres.Close()

	p, err := worker.Start(ctx, full, tank{changed, litres}, worker.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for range 5 {
		if err := lock.Lock(ctx); err != nil {
			log.Fatal(err)
		}
		ipc.Add(litres, 2)
		if err := errors.Join(changed.NotifyAll(), lock.Unlock()); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(p.Future().Result(ctx))
	// Output: 10 <nil>
}

type shares struct {
	Party int
	Done  *ipc.Barrier
	Words *ipc.Array[int]
}

// share counts a share of the words, and then, when all are counted, has the sum.
var share = executor.NewTask("ipc_test.share", func(ctx context.Context, s shares) (sum int, err error) {
	s.Words.Set(s.Party, 10*(s.Party+1))
	if _, err := s.Done.Wait(ctx); err != nil {
		return 0, err
	}
	for i := range s.Words.Len() {
		sum += s.Words.At(i)
	}
	return sum, nil
})

// No process goes on to the second step before all are through with the first.
func ExampleNewBarrier() {
	ctx := context.Background()
	done, err := ipc.NewBarrier(3)
	if err != nil {
		log.Fatal(err)
	}
	defer done.Close()
	words, err := ipc.NewArray[int](done.Parties())
	if err != nil {
		log.Fatal(err)
	}
	defer words.Close()
	var parties [3]*worker.Process[int]
	for i := range parties {
		if parties[i], err = worker.Start(ctx, share, shares{i, done, words}, worker.Config{}); err != nil {
			log.Fatal(err)
		}
	}
	for _, p := range parties {
		fmt.Println(p.Future().Result(ctx))
	}
	// Output:
	// 60 <nil>
	// 60 <nil>
	// 60 <nil>
}
