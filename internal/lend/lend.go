// Package lend tells code that is about to wait under a task's context whose
// worker it keeps busy. A pool that learns of the wait can run another call in
// that worker's place, so that calls which wait for one another do not deadlock.
package lend

import "context"

// A Lender is a worker's place in its pool.
type Lender interface {
	Lend()    // the task begins to wait
	Reclaim() // the task goes on; it does not wait for the place
}

// Key is what a task's context answers with its Lender, if it has one.
type Key struct{}

// From returns the Lender of the innermost task that ctx belongs to, or nil.
func From(ctx context.Context) Lender {
	l, _ := ctx.Value(Key{}).(Lender)
	return l
}
