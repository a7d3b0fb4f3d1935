// Package future has the value that will be: a [Future] is what a pool hands out
// for a call, long before the call has run, and a [Promise] is how code that is no
// pool makes one.
//
//	p := future.NewPromise[int]()
//	go func() {
//		if p.Start() { // false: somebody cancelled it
//			p.Resolve(compute())
//		}
//	}()
//	n, err := p.Future().Result(ctx)
//
// Many futures are waited for by [Wait], [AsCompleted], [All] and [Any], whatever
// pool they come from.
//
// # Rules
//
// A ctx given to a wait ends the wait, never the call. Its error then matches
// [ErrNotDone]. To end the call, use [Future.Cancel] while it is pending and
// [Future.Interrupt] at any time. A future that is done answers under any ctx, so a
// ctx that has ended polls.
//
// Waiters see the result before the first callback runs. Everything that the
// completer did before happens before what a waiter or a callback does after.
//
// A future holds its value for as long as somebody holds the future, and nothing
// else: who waited in vain, iterated or listened leaves nothing behind.
//
// # When not to use it
//
// Where a function can simply return its value, let it. Where values keep coming,
// use a channel.
package future
