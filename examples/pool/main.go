// Pool shows what multiprocessing.Pool of Python offers, and what says it here. Each
// line of output proves its point.
//
//	go run ./examples/pool
package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"slices"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

var square = executor.NewTask("square", func(ctx context.Context, n int) (int, error) { return n * n, nil })

// nap sleeps for so long and returns it.
var nap = executor.NewTask("nap", func(ctx context.Context, d time.Duration) (time.Duration, error) {
	select {
	case <-time.After(d):
		return d, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
})

var errNegative = errors.New("must not be negative")

func init() { executor.RegisterError("pool.errNegative", errNegative) } // so that errors.Is holds across processes

var factorial = executor.NewTask("factorial", func(ctx context.Context, n int) (int, error) {
	if n < 0 {
		return 0, fmt.Errorf("factorial of %d: %w", n, errNegative)
	}
	product := 1
	for i := 2; i <= n; i++ {
		product *= i
	}
	return product, nil
})

// power has two arguments, as a struct: Python's starmap.
type base struct{ Base, Exponent int }

var power = executor.NewTask("power", func(ctx context.Context, b base) (int, error) {
	product := 1
	for range b.Exponent {
		product *= b.Base
	}
	return product, nil
})

// greeting is what the initializer leaves in each worker process.
var greeting string

var greet = executor.NewTask("greet", func(ctx context.Context, s string) (struct{}, error) {
	greeting = s
	return struct{}{}, nil
})

// where returns the process that a call runs in, and the greeting there.
var where = executor.NewTask("where", func(ctx context.Context, _ struct{}) (place, error) {
	return place{os.Getpid(), greeting}, nil
})

type place struct {
	PID      int
	Greeting string
}

func main() {
	worker.Main() // a worker process stays in here

	// pool = multiprocessing.Pool(2, initializer=greet, initargs=("hello",))
	pool, err := processpool.New(processpool.Config{Workers: 2, Initializer: executor.Bind(greet, "hello")})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	ctx := context.Background()

	maps(ctx, pool)
	applies(ctx, pool)
	asyncResults(ctx, pool)
	ends(ctx, pool)
}

// show prints what Python's expression is here.
func show(python string, got ...any) {
	fmt.Printf("%-52s %s", python, fmt.Sprintln(got...))
}

func maps(ctx context.Context, pool *processpool.Pool) {
	squares, err := list(executor.Map(ctx, pool, square, slices.Values([]int{1, 2, 3, 4, 5})))
	show("pool.map(square, [1, 2, 3, 4, 5])", squares, err)

	next, stop := iter.Pull2(executor.Map(ctx, pool, square, slices.Values([]int{6, 7})))
	v, err, ok := next()
	show("it = pool.imap(square, [6, 7]); next(it)", v, err, ok)
	v, err, ok = next()
	show("next(it)", v, err, ok)
	_, _, ok = next()
	show("next(it), of which there is none", ok)
	stop()

	// The first argument takes half a second longer than the second.
	var order []time.Duration
	naps := []time.Duration{500 * time.Millisecond, time.Millisecond}
	for item, err := range executor.MapUnordered(ctx, pool, nap, slices.Values(naps), executor.WithChunk(1)) {
		if err != nil {
			log.Fatal(err)
		}
		order = append(order, item.Value)
	}
	show("pool.imap_unordered(nap, [0.5, 0.001])", order)

	powers, err := list(executor.Map(ctx, pool, power, slices.Values([]base{{2, 10}, {3, 4}})))
	show("pool.starmap(power, [(2, 10), (3, 4)])", powers, err)
	squares, err = future.All(ctx, executor.SubmitAll(ctx, pool, square, []int{8, 9})...)
	show("pool.map_async(square, [8, 9]).get()", squares, err)
	squares, err = list(executor.Map(ctx, pool, square, slices.Values([]int{1, 2, 3}), executor.WithChunk(2)))
	show("pool.map(square, [1, 2, 3], chunksize=2)", squares, err)
}

// list collects a sequence up to its first error.
func list[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var values []T
	for v, err := range seq {
		if err != nil {
			return values, err
		}
		values = append(values, v)
	}
	return values, nil
}

func applies(ctx context.Context, pool *processpool.Pool) {
	v, err := executor.Apply(ctx, pool, factorial, 10)
	show("pool.apply(factorial, (10,))", v, err)

	at, err := executor.Apply(ctx, pool, where, struct{}{})
	show("the call was in another process", at.PID != os.Getpid(), err)
	show("where the initializer had been", at.Greeting)

	v, err = executor.Submit(ctx, pool, factorial, 5).Result(ctx)
	show("pool.apply_async(factorial, (5,)).get()", v, err)
	_, err = executor.Submit(ctx, pool, factorial, -1).Result(ctx)
	show("pool.apply_async(factorial, (-1,)).get() raises", err)
	show("which is still the error that it was", errors.Is(err, errNegative))
}

func asyncResults(ctx context.Context, pool *processpool.Pool) {
	slow := executor.Submit(ctx, pool, nap, time.Hour)
	show("r = pool.apply_async(nap, (3600,)); r.ready()", slow.IsDone())
	limit, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	_, err := slow.Result(limit)
	cancel()
	show("r.get(timeout=0.05) raises TimeoutError", errors.Is(err, context.DeadlineExceeded), errors.Is(err, future.ErrNotDone))
	select {
	case <-slow.Done():
		show("r.wait(timeout=0.05)", "done")
	case <-time.After(50 * time.Millisecond):
		show("r.wait(timeout=0.05)", "not done")
	}
	show("and what Python cannot: end that one call", slow.Interrupt(errors.New("overslept")), slow.Exception(ctx))

	good, bad := executor.Submit(ctx, pool, factorial, 3), executor.Submit(ctx, pool, factorial, -3)
	_, _, err = future.Wait(ctx, future.AllCompleted, good, bad)
	show("r.wait()", err)
	show("r.ready() of each", good.IsDone(), bad.IsDone())
	show("r.successful() of each", successful(ctx, good), successful(ctx, bad))

	// One callback serves both cases: pool.apply_async(..., callback=f, error_callback=g).
	called := make(chan string)
	tell := func(f *future.Future[int]) {
		if v, err := f.Result(ctx); err != nil {
			called <- fmt.Sprint("error_callback: ", err)
		} else {
			called <- fmt.Sprint("callback: ", v)
		}
	}
	executor.Submit(ctx, pool, factorial, 4).AddDoneCallback(tell)
	show("pool.apply_async(factorial, (4,), callback=f)", <-called)
	executor.Submit(ctx, pool, factorial, -4).AddDoneCallback(tell)
	show("pool.apply_async(factorial, (-4,), error_callback=g)", <-called)
}

// successful is Python's AsyncResult.successful, which raises if f is not ready.
func successful[T any](ctx context.Context, f *future.Future[T]) bool {
	return f.IsDone() && f.Exception(ctx) == nil
}

func ends(ctx context.Context, pool *processpool.Pool) {
	last := executor.Submit(ctx, pool, square, 11)
	show("pool.close(); pool.join()", pool.Shutdown(ctx))
	v, err := last.Result(ctx)
	show("what was accepted has been done", v, err)
	show("nothing else is", errors.Is(executor.Submit(ctx, pool, square, 12).Exception(ctx), executor.ErrShutdown))
	show("worker processes left", pool.Stats().Workers)

	started := make(firstStart)
	second, err := processpool.New(processpool.Config{Workers: 1, Observer: started})
	if err != nil {
		log.Fatal(err)
	}
	asleep := executor.Submit(ctx, second, nap, time.Hour)
	<-started
	show("pool.terminate(); pool.join()", second.Terminate())
	lost, ok := errors.AsType[*executor.WorkerLostError](asleep.Exception(ctx))
	show("the call that ran is lost, and says how", ok, lost != nil && lost.Signal != nil)
}

// A firstStart is closed when the first call of its pool, and here the only one, starts.
type firstStart chan struct{}

func (c firstStart) Observe(e executor.Event) {
	if e.Kind == executor.EventStart {
		close(c)
	}
}
