package threadpool_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/threadpool"
)

// A collector is an executor that only collects the calls that it is given.
type collector struct {
	executor.Executor
	calls []executor.Call
}

func (c *collector) Execute(call executor.Call) error {
	c.calls = append(c.calls, call)
	return nil
}

// TestQueue compares the queue with a sorted slice, through bursts that grow it over
// several chunks and drain it again, with few priorities, many, and one.
func TestQueue(t *testing.T) {
	ctx := context.WithoutCancel(t.Context()) // the calls are never run, nor ended with the test
	for name, priorities := range map[string]int{"one": 1, "three": 3, "many": 500} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			var q threadpool.Queue
			var model []executor.Call // by falling priority, then by arrival
			for range 200 {
				var in collector
				for range rng.IntN(400) {
					p := rng.IntN(priorities) - priorities/2
					executor.Submit(ctx, &in, double, 0, executor.WithPriority(p))
				}
				for _, c := range in.calls {
					q.Push(c)
				}
				model = append(model, in.calls...)
				slices.SortStableFunc(model, func(a, b executor.Call) int { return b.Priority() - a.Priority() })
				if rng.IntN(10) == 0 {
					before := len(model)
					for _, c := range model {
						if rng.IntN(2) == 0 {
							require.True(t, c.Cancel(context.Canceled))
						}
					}
					model = slices.DeleteFunc(model, executor.Call.IsDone)
					require.Equal(t, before-len(model), q.Sweep())
				}
				for range rng.IntN(len(model) + 1) {
					require.Same(t, model[0], q.Pop())
					model = model[1:]
				}
				require.Equal(t, len(model), q.Len())
			}
			for _, c := range model {
				require.Same(t, c, q.Pop())
			}
			require.Zero(t, q.Len())
			require.Zero(t, q.Sweep())
		})
	}
}
