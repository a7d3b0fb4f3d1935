package future_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/futures/future"
)

// later returns the future of v, which comes after d.
func later[T any](d time.Duration, v T) *future.Future[T] {
	p := future.NewPromise[T]()
	time.AfterFunc(d, func() { _ = p.Resolve(v) })
	return p.Future()
}

func Example() {
	p := future.NewPromise[int]()
	go func() {
		if p.Start() { // false: somebody cancelled it
			_ = p.Resolve(6 * 7)
		}
	}()
	n, err := p.Future().Result(context.Background())
	fmt.Println(n, err)
	// Output: 42 <nil>
}

func ExampleFuture() {
	p := future.NewPromise[string]()
	f := p.Future()
	f.AddDoneCallback(func(f *future.Future[string]) { fmt.Println("callback:", f.State()) })
	fmt.Println(f.State(), f.IsDone())
	p.Start()
	fmt.Println(f.State(), f.Cancel())
	_ = p.Resolve("hello")
	<-f.Done()
	fmt.Println(f.Result(context.Background()))
	fmt.Println(f)
	// Output:
	// pending false
	// running false
	// callback: finished
	// hello <nil>
	// Future[string](finished, returned string)
}

// A wait that timed out is no failure of the call, which goes on.
func ExampleFuture_Result() {
	p := future.NewPromise[int]()
	p.Start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()

	_, err := p.Future().Result(ctx)
	fmt.Println(errors.Is(err, future.ErrNotDone), err)
	_ = p.Resolve(1)
	fmt.Println(p.Future().Result(ctx)) // a future that is done answers under any ctx
	// Output:
	// true future: running when the wait ended: context deadline exceeded
	// 1 <nil>
}

func ExampleFuture_Cancel() {
	p := future.NewPromise[int]()
	fmt.Println(p.Future().Cancel(), p.Future().Cancel())
	fmt.Println(p.Start())
	fmt.Println(p.Future().Exception(context.Background()))
	// Output:
	// true true
	// false
	// future: cancelled
}

func ExamplePromise() {
	ctx, stop := context.WithCancelCause(context.Background())
	p := future.NewPromise[string]()
	p.OnInterrupt(stop)
	if p.Start() {
		go func() {
			<-ctx.Done() // a call that heeds its ctx
			_ = p.Reject(context.Cause(ctx))
		}()
	}

	fmt.Println(p.Future().Interrupt(errors.New("seen enough")))
	fmt.Println(p.Future().Exception(context.Background()))
	fmt.Println(p.Resolve("too late"))
	// Output:
	// true
	// seen enough
	// future: invalid state: Resolve of a future that is finished
}

func ExampleWait() {
	ctx := context.Background()
	quick, slow := later(time.Millisecond, 1), future.NewPromise[string]().Future()
	done, pending, err := future.Wait[future.Waitable](ctx, future.FirstCompleted, slow, quick)
	fmt.Println(len(done), len(pending), err)
	fmt.Println(done[0] == future.Waitable(quick))
	// Output:
	// 1 1 <nil>
	// true
}

func ExampleAsCompleted() {
	p := future.NewPromise[string]()
	for i, f := range future.AsCompleted(context.Background(), p.Future(), future.Resolved("at once")) {
		s, err := f.Result(context.Background())
		fmt.Println(i, s, err)
		_ = p.Resolve("then this") // refused the second time
	}
	// Output:
	// 1 at once <nil>
	// 0 then this <nil>
}

func ExampleAll() {
	ctx := context.Background()
	fmt.Println(future.All(ctx, later(2*time.Millisecond, 1), later(time.Millisecond, 2)))
	fmt.Println(future.All(ctx, future.Resolved(1), future.Rejected[int](errors.New("no luck"))))
	// Output:
	// [1 2] <nil>
	// [] no luck
}

func ExampleAny() {
	ctx := context.Background()
	fmt.Println(future.Any(ctx, future.Rejected[int](errors.New("no luck")), later(time.Millisecond, 2)))
	_, err := future.Any(ctx, future.Rejected[int](errors.New("no luck")), future.Rejected[int](errors.New("nor here")))
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// no luck
	// nor here
}

func ExampleThen() {
	f := later(time.Millisecond, []string{"a", "b", "c"})
	n := future.Then(f, func(words []string) (int, error) { return len(words), nil })
	fmt.Println(n.Result(context.Background()))
	// Output: 3 <nil>
}
