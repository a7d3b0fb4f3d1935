package executortest

import (
	"context"
	"encoding/gob"
	"errors"
	"slices"
	"strings"

	"example.com/futures/executor"
	"example.com/futures/future"
)

var portablePromises = []promise{
	{"ClosureRefused", "ISO-01", portable, portableClosure},
	{"LocalTaskRefused", "ISO-01", portable, portableLocalTask},
	{"UnexportedFieldRefused", "ISO-01", portable, portableUnexported},
	{"UnencodableArgument", "DEA-01, DEA-16, POL-06", portable, portableArgument},
	{"UnencodableArgumentInAMap", "POL-06", portable, portableMapArgument},
	{"UnencodableResult", "DEA-10, POL-07", portable, portableResult},
	{"PanickingEncoder", "DEA-02, DEA-11", portable, portableEncoder},
	{"FailingDecoder", "DEA-03, DEA-13, DEA-14, ISO-04", portable, portableDecoder},
	{"EncodeFailureThenShutdown", "SHU-16, SHU-17", portable, portableShutdown},
}

// A closure is refused by an error that says to make it a Task. // ISO-01
func portableClosure(c *check) {
	ex := c.open(Config{Workers: 1})
	err := failure(c, executor.SubmitFunc(c.ctx, ex, func(context.Context) (int, error) { return 0, nil }))
	matches(c, "Result's error", err, executor.ErrNotPortable)
	if !strings.Contains(err.Error(), "Task") {
		c.Fatalf("Result's error = %q does not say to make the closure a Task", err)
	}
	equal(c, "Submitted", ex.Stats().Submitted, 0)
	c.works(ex)
}

// So is a local task, in a map too. // ISO-01
func portableLocalTask(c *check) {
	ex := c.open(Config{Workers: 1})
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { return n, nil })
	err := failure(c, executor.Submit(c.ctx, ex, task, 1))
	matches(c, "Result's error", err, executor.ErrNotPortable)
	if !strings.Contains(err.Error(), "Task") {
		c.Fatalf("Result's error = %q does not say to make the closure a Task", err)
	}
	n := 0
	for _, err := range executor.Map(c.ctx, ex, task, slices.Values(numbers(3))) {
		n++
		matches(c, "the map's error", err, executor.ErrNotPortable)
	}
	if n == 0 {
		c.Fatal("a map of a local task yields nothing, not even an error")
	}
	c.works(ex)
}

// A Secretive has a field that gob would drop.
type Secretive struct {
	Open int
	//lint:ignore U1000 it is refused for being there
	secret int //nolint:unused // likewise
}

// A Wrapper has it further down.
type Wrapper struct{ List []map[string]*Secretive }

var (
	secretArgTask    = executor.NewTask("executortest.secretArg", func(context.Context, Secretive) (int, error) { return 0, nil })
	secretDeepTask   = executor.NewTask("executortest.secretDeep", func(context.Context, *Wrapper) (int, error) { return 0, nil })
	secretResultTask = executor.NewTask("executortest.secretResult", func(context.Context, int) (Secretive, error) { return Secretive{}, nil })
)

// A type with an unexported field, which gob would drop without a word, is refused by
// an error that names the field. // ISO-01
func portableUnexported(c *check) {
	ex := c.open(Config{Workers: 1})
	for what, err := range map[string]error{
		"an argument":           failure(c, executor.Submit(c.ctx, ex, secretArgTask, Secretive{})),
		"a part of an argument": failure(c, executor.Submit(c.ctx, ex, secretDeepTask, &Wrapper{})),
		"a result":              failure(c, executor.Submit(c.ctx, ex, secretResultTask, 1)),
	} {
		if !strings.Contains(err.Error(), "secret") {
			c.Errorf("the error for %s = %q does not name the field", what, err)
		}
	}
	c.works(ex)
}

// An argument that cannot be encoded fails its own call, gives its place in the queue
// back, and harms nobody. // DEA-01, DEA-16, POL-06
func portableArgument(c *check) {
	ex := c.open(Config{Workers: 1, QueueLimit: 10})
	for range 100 {
		err := failure(c, executor.Submit(c.ctx, ex, echoAny, any(Unencodable{func() {}})))
		if errors.Is(err, future.ErrCancelled) {
			c.Fatalf("Result's error = %v", err)
		}
	}
	for range 100 {
		c.works(ex)
	}
}

// In a map it is that item's error, chunked or not. // POL-06
func portableMapArgument(c *check) {
	ex := c.open(Config{Workers: 1})
	args := []any{1, Unencodable{func() {}}, "three", Unencodable{func() {}}, 5}
	for _, chunk := range []int{0, 1, 2, 5} {
		i := 0
		for v, err := range executor.Map(c.ctx, ex, echoAny, slices.Values(args), executor.WithChunk(chunk)) {
			if i%2 == 1 {
				equal(c, "whether the item has an error", err != nil, true)
			} else if err != nil || v != args[i] {
				c.Fatalf("item %d of chunks of %d = %v, %v", i, chunk, v, err)
			}
			i++
		}
		equal(c, "items", i, len(args))
	}
}

// unencodableTask returns what cannot be encoded.
var unencodableTask = executor.NewTask("executortest.unencodable", func(context.Context, struct{}) (any, error) {
	return Unencodable{func() {}}, nil
})

// A result that cannot be encoded fails its own call; the worker lives. // DEA-10, POL-07
func portableResult(c *check) {
	ex := c.open(Config{Workers: 1})
	pid := value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{}))
	for range 20 {
		if err := failure(c, executor.Submit(c.ctx, ex, unencodableTask, struct{}{})); errors.Is(err, future.ErrCancelled) {
			c.Fatalf("Result's error = %v", err)
		}
	}
	equal(c, "the worker's process ID", value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{})), pid)
}

// A Fickle is a value whose encoding or decoding goes wrong as it is told.
type Fickle struct{ How string }

// GobEncode encodes f, or does not.
func (f Fickle) GobEncode() ([]byte, error) {
	switch f.How {
	case "encode: error":
		return nil, errOwn
	case "encode: panic":
		panic("a Fickle panics while it is encoded")
	}
	return []byte(f.How), nil
}

// GobDecode decodes f, or does not.
func (f *Fickle) GobDecode(b []byte) error {
	f.How = string(b)
	switch f.How {
	case "decode: error":
		return errOwn
	case "decode: panic":
		panic("a Fickle panics while it is decoded")
	}
	return nil
}

var (
	_ gob.GobEncoder = Fickle{}
	_ gob.GobDecoder = (*Fickle)(nil)

	// fickleArgTask takes a Fickle, fickleResultTask returns one.
	fickleArgTask    = executor.NewTask("executortest.fickleArg", func(_ context.Context, f Fickle) (string, error) { return f.How, nil })
	fickleResultTask = executor.NewTask("executortest.fickleResult", func(_ context.Context, how string) (Fickle, error) { return Fickle{how}, nil })
)

// fickle sends a Fickle to a worker and back, and fails the check unless the call
// fails with an error that says so and the worker lives.
func (c *check) fickle(how, says string) {
	c.Helper()
	ex := c.open(Config{Workers: 1})
	pid := value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{}))
	equal(c, "a Fickle that is well", value(c, executor.Submit(c.ctx, ex, fickleArgTask, Fickle{"well"})), "well")
	for range 3 {
		for what, err := range map[string]error{
			"argument": failure(c, executor.Submit(c.ctx, ex, fickleArgTask, Fickle{how})),
			"result":   failure(c, executor.Submit(c.ctx, ex, fickleResultTask, how)),
		} {
			if !strings.Contains(err.Error(), says) {
				c.Errorf("the error of an %s with %s = %q, want it to contain %q", what, how, err, says)
			}
		}
		equal(c, "a Fickle that is well", value(c, executor.Submit(c.ctx, ex, fickleResultTask, "well")), Fickle{"well"})
		c.works(ex)
	}
	equal(c, "the worker's process ID", value(c, executor.Submit(c.ctx, ex, pidTask, struct{}{})), pid)
}

// An encoder that panics, or fails, fails its own call: of an argument here, of a
// result in the worker. // DEA-02, DEA-11
func portableEncoder(c *check) {
	c.fickle("encode: error", errOwn.Error())
	c.fickle("encode: panic", "panics while it is encoded")
}

// A decoder that panics, or fails, fails its own call: of an argument in the worker,
// of a result here. // DEA-03, DEA-13, DEA-14, ISO-04
func portableDecoder(c *check) {
	c.fickle("decode: error", errOwn.Error())
	c.fickle("decode: panic", "panics while it is decoded")
}

// A call that cannot be encoded does not get in the way of a Shutdown, again and
// again. // SHU-16, SHU-17
func portableShutdown(c *check) {
	for i := range 5 {
		ex := c.open(Config{Workers: 1})
		f := executor.Submit(c.ctx, ex, echoAny, any(Unencodable{func() {}}))
		if i%2 == 0 {
			if err := ex.Shutdown(over()); err != nil {
				matches(c, "Shutdown", err, context.Canceled)
			}
		}
		c.shutdown(ex)
		equal(c, "IsDone", f.IsDone(), true)
		if err := failure(c, f); errors.Is(err, executor.ErrShutdown) {
			c.Fatalf("a call that was accepted ends with %v", err)
		}
	}
}
