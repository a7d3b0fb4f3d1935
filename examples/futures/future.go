package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
)

func results(ctx context.Context, ex executor.Executor) {
	title("What a call returned")
	f := executor.Submit(ctx, ex, square, 12)
	v, err := f.Result(ctx)
	show("Submit(square, 12).Result", v, err)
	show("its Exception", f.Exception(ctx))

	bad := executor.Submit(ctx, ex, half, 7)
	_, err = bad.Result(ctx)
	show("Submit(half, 7).Result", err)
	show("errors.Is(err, errOdd)", errors.Is(err, errOdd))
	show("Exception is the very same error", bad.Exception(ctx) == err) //nolint:errorlint // that is the point

	err = executor.Submit(ctx, ex, crash, "no fuel").Exception(ctx)
	panicked, ok := errors.AsType[*executor.PanicError](err)
	show("a panic is the error of its call", ok, panicked.Value)
	show("and says where it was", strings.Contains(string(panicked.Stack), "futures/main.go"))

	g := newGate()
	slow := executor.SubmitFunc(ctx, ex, g.pass)
	<-g.running
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err = slow.Result(short)
	show("Result, but its ctx ends first: is ErrNotDone", errors.Is(err, future.ErrNotDone))
	show("and DeadlineExceeded", errors.Is(err, context.DeadlineExceeded))
	show("the call knows nothing of it: State", slow.State())
	close(g.open)
	word, err := slow.Result(ctx)
	show("Result later on", word, err)
	word, err = slow.Result(short)
	show("a done future answers under a ctx that has ended, too", word, err)
}

func states(ctx context.Context, ex executor.Executor) {
	title("What becomes of a call")
	g := newGate()
	busy := executor.SubmitFunc(ctx, ex, g.pass)
	<-g.running
	queued := executor.Submit(ctx, ex, square, 5)
	show("State of a call that waits for the worker", queued.State())
	show("State of the one that has it", busy.State())
	show("IsRunning of each", queued.IsRunning(), busy.IsRunning())
	show("IsDone of each", queued.IsDone(), busy.IsDone())
	show("Cancel of each", queued.Cancel(), busy.Cancel())
	show("IsCancelled of each", queued.IsCancelled(), busy.IsCancelled())
	show("State of each", queued.State(), busy.State())
	_, err := queued.Result(ctx)
	show("Result of the cancelled one is ErrCancelled", errors.Is(err, future.ErrCancelled))
	show("Cancel once more", queued.Cancel())

	close(g.open)
	<-busy.Done()
	show("State once Done is closed", busy.State())

	g = newGate()
	endless := executor.SubmitFunc(ctx, ex, g.pass)
	<-g.running
	show("Interrupt of a running call", endless.Interrupt(errors.New("it takes too long")))
	err = endless.Exception(ctx)
	show("its ctx has ended, and it says why", err)
	show("Interrupt of a done call", endless.Interrupt(errors.New("too late")))
}

func callbacks(ctx context.Context, ex executor.Executor) {
	title("Being called back")
	g := newGate()
	f := executor.SubmitFunc(ctx, ex, g.pass)
	<-g.running
	called := make(chan string)
	f.AddDoneCallback(func(f *future.Future[string]) { called <- "first, " + f.State().String() })
	f.AddDoneCallback(func(*future.Future[string]) { called <- "second" })
	close(g.open)
	show("AddDoneCallback", <-called)
	show("and another", <-called)
	f.AddDoneCallback(func(*future.Future[string]) { show("to a done future: at once", "called") })
	show("and then the program goes on", "here")
}

func several(ctx context.Context, ex executor.Executor) {
	title("Several futures")
	quick := executor.Submit(ctx, ex, square, 3)
	<-quick.Done()
	g := newGate()
	slow := executor.Submit(ctx, ex, executor.LocalTask(func(ctx context.Context, n int) (int, error) {
		_, err := g.pass(ctx)
		return n, err
	}), 4)
	<-g.running
	bad := executor.Submit(ctx, ex, half, 1)

	done, pending, err := future.Wait(ctx, future.FirstCompleted, slow, quick)
	show("Wait FirstCompleted: done, pending, error", len(done), len(pending), err)
	for i, f := range future.AsCompleted(ctx, slow, quick, bad) {
		v, err := f.Result(ctx)
		show(fmt.Sprintf("AsCompleted: number %d", i), v, err)
		if i == 1 {
			close(g.open)
		}
	}
	never := future.NewPromise[int]().Future()
	done, pending, err = future.Wait(ctx, future.FirstException, never, quick, bad)
	show("Wait FirstException: done, pending, error", len(done), len(pending), err)
	waitables := []future.Waitable{slow, quick, executor.SubmitFunc(ctx, ex, func(context.Context) (string, error) { return "", nil })}
	mixed, _, err := future.Wait(ctx, future.AllCompleted, waitables...)
	show("Wait AllCompleted, for futures of several types", len(mixed), err)

	all, err := future.All(ctx, slow, quick)
	show("All", all, err)
	_, err = future.All(ctx, never, bad, quick)
	show("All, when one failed: the error, at once", err)
	one, err := future.Any(ctx, never, bad, quick)
	show("Any: the first that succeeds", one, err)
	_, err = future.Any(ctx, bad, bad)
	show("Any, when none does: is errOdd", errors.Is(err, errOdd))

	text := future.Then(quick, func(n int) (string, error) { return fmt.Sprintf("<%d>", n), nil })
	s, err := text.Result(ctx)
	show("Then", s, err)
	_, err = future.Then(bad, func(n int) (string, error) { return "not called", nil }).Result(ctx)
	show("Then, of one that failed", err)
}

func promises(ctx context.Context) {
	title("Your own futures")
	p := future.NewPromise[int]()
	show("NewPromise: State", p.Future().State())
	show("Start", p.Start(), p.Future().State())
	show("Start once more", p.Start())
	show("Resolve", p.Resolve(42))
	v, err := p.Future().Result(ctx)
	show("Result", v, err)
	show("Resolve once more: is ErrInvalidState", errors.Is(p.Resolve(43), future.ErrInvalidState))

	p = future.NewPromise[int]()
	show("Reject", p.Reject(errOdd), p.Future().Exception(ctx))

	p = future.NewPromise[int]()
	p.OnCancel(func() bool { return false })
	show("Cancel, when OnCancel refuses", p.Future().Cancel())
	p.Start()
	p.OnInterrupt(func(cause error) { _ = p.Reject(cause) })
	show("Interrupt, by OnInterrupt", p.Future().Interrupt(errors.New("enough")), p.Future().Exception(ctx))

	p = future.NewPromise[int]()
	show("Cancel, then Start: nobody needs to run it", p.Future().Cancel(), p.Start())

	v, err = future.Resolved(7).Result(ctx)
	show("Resolved", v, err)
	show("Rejected", future.Rejected[int](errOdd).Exception(ctx))
}
