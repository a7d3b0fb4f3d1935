// Package manager has objects that live in one server process and are used from many, over
// proxies; on one machine or over the network.
//
// A [Dict] that several workers fill, a [Queue] between machines, a [Lock] that all of them
// respect, or an object of a type of your own, whose methods run where it lives:
//
//	type Counter struct { … }
//
//	func (c *Counter) Add(ctx context.Context, n int) (int, error) { … }
//
//	var (
//		Counters   = manager.NewType("counter", func(ctx context.Context, start int) (*Counter, error) { … })
//		CounterAdd = manager.NewMethod(Counters, "Add", (*Counter).Add)
//	)
//
//	var count = executor.NewTask("count", func(ctx context.Context, c *manager.Object[*Counter]) (int, error) {
//		return CounterAdd.Call(ctx, c, 1)
//	})
//
//	func main() {
//		worker.Main() // a worker process, and the manager's, stays in here
//		m, err := manager.Start(ctx, manager.Config{})
//		…
//		defer m.Close()
//		c, err := Counters.New(ctx, m, 10)
//		…
//		pool, err := processpool.New(processpool.Config{})
//		…
//		defer pool.Close()
//		n, err := executor.Submit(ctx, pool, count, c).Result(ctx)
//		…
//	}
//
// [Start] makes a server process of its own, which only this program and those that it gives
// proxies to can reach. [Serve] has this process serve at an address, and [Connect] comes there
// from other processes and machines; what they share they find by [Publish] and [Lookup].
//
// # Calls
//
// A proxy has the methods of its counterpart in package ipc, and keeps the same promises. Each
// call is a round trip and takes a ctx. A call whose error matches ctx.Err() has done nothing;
// what need not wait is done under a ctx that has ended, too; and what lets go of something
// (Unlock, Release, TaskDone, Notify) is always done. Methods of your own see their ctx end with
// the caller's, or with the caller, and what they make of it is theirs.
//
// All calls run at the same time: one that waits blocks nobody, and an object of your own locks
// for itself. A process has one connection to a manager, however many goroutines call; calls that
// are made together travel together.
//
// # Values
//
// An argument or a result is encoded as a task's is, and no larger than Config.MaxMessage. The
// server of a Dict has its values encoded and need not know their types. So they are copies: to
// change what is in a Dict, change yours and set it again, or use Update. Only what [NewType] made
// must be in the server's program.
//
// A proxy in a value stays a proxy, in a field, a slice, a map, or an interface (the type is
// registered with gob then, as any other). It must be one of the same manager. What a value holds
// lives as long as the value is held. Handles of package ipc are for processes of one machine,
// and cannot be in a value: executor.ErrNotPortable.
//
// # Proxies travel
//
// A proxy is an argument or a result of a task, or a part of one, as handles of package ipc are: a
// thread pool passes it as it is; a worker process gets one of its own, and with it a connection
// to the server, which ends with its last proxy. What came as an argument is closed when the call
// ends; what came as a result, or out of another object, or to a method, is the receiver's. The key
// of a manager never travels: a proxy of a remote manager travels with a ticket that is good for
// one connection and a minute, so a worker must come to it within that time.
//
// # Lives
//
// An object lives as long as there is a proxy of it in some process, or another object holds it.
// Then it is dropped, and its Close called, if it has a method Close() error. A name given by
// Publish does not keep it alive. Objects that hold each other in a circle, a List that contains
// itself, live until the server ends.
//
// A process that ends, however it does, lets go of everything: its proxies, its locks, which are
// marked then as those of package ipc are, its calls under way. One on another machine that
// vanishes without a word is noticed after about 15 seconds. A server that ends is [ErrLost], on
// every call that waits, at once, and on every later one.
//
// # When not to use it
//
// Processes of one machine that share a queue, a lock or a number are better off with package ipc:
// shared memory is ten times as fast as a round trip, and there is no server that can be lost.
// Whoever can connect to a manager can use all of its objects; it is not a database, and keeps
// nothing when it ends.
package manager
