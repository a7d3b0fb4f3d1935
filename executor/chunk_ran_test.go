package executor_test

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
)

// A faraway backend has its workers a millisecond away. What they run takes no time.
type faraway struct {
	executor.Executor
	tells bool // how long the items took
	calls int
}

func (f *faraway) Capacity() int { return 1 }

func (f *faraway) Execute(c executor.Call) error {
	f.calls++
	c.Accept(f)
	go func() {
		c.Start()
		time.Sleep(time.Millisecond) // virtual time
		if f.tells {
			c.Ran(time.Duration(c.Len()))
		}
		results := make([][]byte, c.Len())
		for i := range results {
			results[i] = binary.LittleEndian.AppendUint64(nil, 7)
		}
		c.CompletePlain(0, results)
	}()
	return nil
}

func (f *faraway) Withdraw(executor.Call) bool              { return true }
func (f *faraway) Cancelled(executor.Call, error)           {}
func (f *faraway) Interrupt(executor.Call, error)           {}
func (f *faraway) Finished(executor.Call, executor.Outcome) {}

var sevenTask = executor.NewTask("executor_test.seven", func(context.Context, int64) (int64, error) { return 7, nil })

// Chunks are sized by what their items take, where a backend says it: the way to the worker
// and back made them pass for slow ones, so that each item travelled alone.
func TestMapMakesLargeChunksForFarWorkers(t *testing.T) {
	for _, tt := range []struct {
		tells       bool
		least, most int
	}{{true, 1, 200}, {false, 5_000, 10_000}} {
		synctest.Test(t, func(t *testing.T) {
			f := &faraway{tells: tt.tells}
			n := 0
			for v, err := range executor.Map(t.Context(), f, sevenTask, slices.Values(make([]int64, 10_000))) {
				require.NoError(t, err)
				require.Equal(t, int64(7), v)
				n++
			}
			require.Equal(t, 10_000, n)
			require.GreaterOrEqual(t, f.calls, tt.least)
			require.LessOrEqual(t, f.calls, tt.most)
		})
	}
}
