// Command othertypes is a worker whose task double is another than the tests'.
package main

import (
	"context"

	"example.com/futures/executor"
	"example.com/futures/worker"
)

var _ = executor.NewTask("double", func(_ context.Context, s string) (string, error) { return s + s, nil })

func main() { worker.Main() }
