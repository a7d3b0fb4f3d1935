// Custommanager has bank accounts, a type of this program's own, in a manager's server, and
// several processes that call their methods. The compiler checks those calls, as any others.
// An error and a panic come back; and a client is killed between the two halves of a
// transfer, which whoever has the lock after it is told, and mends.
//
//	go run ./examples/custommanager
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/ipc"
	"example.com/futures/ipc/manager"
	"example.com/futures/processpool"
	"example.com/futures/worker"
)

// An Account lives in the server. Its methods run at the same time, so it has a lock of its own.
type Account struct {
	mu      sync.Mutex
	balance int
}

var errShort = errors.New("there is not so much in the account")

func init() { executor.RegisterError("custommanager.errShort", errShort) } // it keeps errors.Is

// Add pays in, or takes out if n is negative, and returns the balance.
func (a *Account) Add(_ context.Context, n int) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.balance+n < 0 {
		return a.balance, fmt.Errorf("%d of %d: %w", -n, a.balance, errShort)
	}
	a.balance += n
	return a.balance, nil
}

// Share is what each of n owners has.
func (a *Account) Share(_ context.Context, n int) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.balance / n, nil // of none: a panic
}

// Python: class BankManager(BaseManager): pass; BankManager.register("Account", Account)
var (
	accounts = manager.NewType("account", func(_ context.Context, balance int) (*Account, error) {
		return &Account{balance: balance}, nil
	})
	add   = manager.NewMethod(accounts, "Add", (*Account).Add)
	share = manager.NewMethod(accounts, "Share", (*Account).Share)
)

// A bank is what the processes get.
type bank struct {
	From, To *manager.Object[*Account]
	Lock     *manager.Lock // of transfers, which are two calls
	Half     *manager.Event
}

// save pays in 1, a thousand times.
var save = executor.NewTask("save", func(ctx context.Context, b bank) (struct{}, error) {
	for range 1000 {
		if _, err := add.Call(ctx, b.To, 1); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
})

// transfer never comes to its second half.
var transfer = executor.NewTask("transfer", func(ctx context.Context, b bank) (struct{}, error) {
	if err := b.Lock.Lock(ctx); err != nil {
		return struct{}{}, err
	}
	if _, err := add.Call(ctx, b.From, -30); err != nil {
		return struct{}{}, err
	}
	if err := b.Half.Set(ctx); err != nil {
		return struct{}{}, err
	}
	<-ctx.Done() // here it is killed
	return struct{}{}, ctx.Err()
})

func main() {
	worker.Main() // a worker process stays in here, and so does the manager's, with the accounts
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m := must(manager.Start(ctx, manager.Config{}))
	defer m.Close()
	b := bank{must(accounts.New(ctx, m, 100)), must(accounts.New(ctx, m, 0)), must(manager.NewLock(ctx, m)), must(manager.NewEvent(ctx, m))}

	pool := must(processpool.New(processpool.Config{Workers: 4}))
	defer pool.Close()
	must(future.All(ctx, executor.SubmitAll(ctx, pool, save, []bank{b, b, b, b})...))
	show("4 processes pay in 1, a thousand times each", must(add.Call(ctx, b.To, 0)))

	_, err := add.Call(ctx, b.From, -130)
	show("an error comes back", errors.Is(err, errShort), err)
	_, err = share.Call(ctx, b.From, 0)
	panicked, ok := errors.AsType[*executor.PanicError](err)
	check(map[bool]error{false: err}[ok])
	show("a panic comes back", panicked.Value)
	show("and the account is as it was", must(add.Call(ctx, b.From, 0)))

	p := must(worker.Start(ctx, transfer, b, worker.Config{}))
	check(b.Half.Wait(ctx), p.Kill(), p.Join(ctx))
	err = b.Lock.Lock(ctx)
	show("a process is killed that held the lock", errors.Is(err, ipc.ErrOwnerDied))
	check(b.Lock.Recover(ctx))
	missing := 4100 - must(add.Call(ctx, b.From, 0)) - must(add.Call(ctx, b.To, 0))
	show("who recovers it finds missing", missing)
	show("and puts it where it was to go", must(add.Call(ctx, b.To, missing)))
	check(b.Lock.Unlock(ctx), b.Lock.Lock(ctx))
	show("then the lock is as any other", b.Lock.Unlock(ctx))
}

func show(what string, got ...any) { fmt.Printf("%-44s %s", what, fmt.Sprintln(got...)) }

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		log.Fatal("custommanager: ", err)
	}
}
