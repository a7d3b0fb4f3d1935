package executor_test

import (
	"testing"

	"go.uber.org/goleak"

	"example.com/futures/executor"
	"example.com/futures/executor/executortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A backend that is written outside this package, in process, keeps every promise.
func TestBackendInProcess(t *testing.T) { executortest.Run(t, openPool(false)) }

// So does one that has nothing but bytes between a call and its worker.
func TestBackendThroughBytes(t *testing.T) { executortest.Run(t, openPool(true)) }

func openPool(carry bool) func(testing.TB, executortest.Config) executor.Executor {
	return func(tb testing.TB, cfg executortest.Config) executor.Executor {
		tb.Helper()
		p, err := newPool(cfg, carry)
		if err != nil {
			tb.Fatal(err)
		}
		return p
	}
}
