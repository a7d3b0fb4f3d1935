package executor

import (
	"fmt"
	"time"
)

// options is what CallOptions add up to.
type options struct {
	timeout  time.Duration
	retries  int
	priority int
	buffer   int // 0: the default
	chunk    int // 0: chosen by measuring
}

// A CallOption changes one Submit, one Map, or every call of a task. What a Submit
// or a Map says goes before what the task says.
type CallOption func(*options)

// apply returns o with opts applied. It gives the same pointer back if there are
// none, so that calls without options of their own share their task's.
func (o *options) apply(opts []CallOption) *options {
	if len(opts) == 0 {
		return o
	}
	n := *o
	for _, opt := range opts {
		if opt != nil {
			opt(&n)
		}
	}
	return &n
}

// WithTimeout limits how long a call may run; what it waits in a queue does not
// count. A call that is over its time has its context ended with [ErrTimeout] as
// cause, which is the error of the future too, together with what the call then
// returns. A worker process whose call ignores that is killed after its grace. On a
// Map the limit is each item's own. 0 is no limit.
//
// WithTimeout panics if d is negative.
func WithTimeout(d time.Duration) CallOption {
	if d < 0 {
		panic(fmt.Sprintf("executor: WithTimeout of %v: want 0 or more", d))
	}
	return func(o *options) { o.timeout = d }
}

// WithRetries has a call run again, up to n times, when its worker was lost while
// it ran. It is for tasks that may run twice. An error that the call returns is no
// reason to retry, nor is a kill that its own context, time limit or interrupt
// caused.
//
// WithRetries panics if n is negative.
func WithRetries(n int) CallOption {
	if n < 0 {
		panic(fmt.Sprintf("executor: WithRetries of %d: want 0 or more", n))
	}
	return func(o *options) { o.retries = n }
}

// WithPriority has a call go before those with a lower p among what waits. Calls of
// one priority keep their order. The default is 0; p may be negative.
func WithPriority(p int) CallOption {
	return func(o *options) { o.priority = p }
}

// WithBuffer has a Map take at most n inputs ahead of its consumer. By default it
// takes enough to keep every worker busy.
//
// WithBuffer panics if n is below 1.
func WithBuffer(n int) CallOption {
	if n < 1 {
		panic(fmt.Sprintf("executor: WithBuffer of %d: want 1 or more", n))
	}
	return func(o *options) { o.buffer = n }
}

// WithChunk has a Map hand n inputs to a worker at a time, which saves cost where
// calls are short. The results are the same. 0, the default, chooses by measuring.
//
// WithChunk panics if n is negative.
func WithChunk(n int) CallOption {
	if n < 0 {
		panic(fmt.Sprintf("executor: WithChunk of %d: want 0 or more", n))
	}
	return func(o *options) { o.chunk = n }
}
