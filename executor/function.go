package executor

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// A Function is a task as a worker in another process sees it: found by its name,
// without its types. See [Lookup].
type Function interface {
	// Name returns the name that the task was made under.
	Name() string

	// Signature names the task's argument and result types, to be compared between
	// a program and its workers: two tasks of one name must have one signature.
	Signature() string

	// Serve reads an argument from dec, runs the task with it under ctx and hands
	// what came of it to reply, exactly once: a pointer to be given to an [Encoder],
	// or an error. An argument that does not decode, and a panic, in the task or in
	// a decoder, are such errors. reply runs in the same goroutine, deferred, so it
	// is called even when the task ends the goroutine with runtime.Goexit.
	//
	// A time limit is the caller's business: a ctx that ends with ErrTimeout as its cause.
	Serve(ctx context.Context, dec Decoder, reply func(result any, err error))
}

// Lookup returns the task that this program made under name. It is for the worker
// side of a backend that sends calls to other processes.
func Lookup(name string) (Function, bool) {
	registry.RLock()
	defer registry.RUnlock()
	f, ok := registry.byName[name]
	return f, ok
}

// Functions returns all tasks that this program has made under a name so far, in
// the order of their names.
func Functions() []Function {
	registry.RLock()
	defer registry.RUnlock()
	return slices.SortedFunc(maps.Values(registry.byName), func(a, b Function) int { return strings.Compare(a.Name(), b.Name()) })
}
