//go:build linux

package processpool_test

import (
	"testing"

	"example.com/futures/executor"
	"example.com/futures/executor/executortest"
	"example.com/futures/processpool"
)

func TestExecutor(t *testing.T) {
	executortest.Run(t, func(tb testing.TB, cfg executortest.Config) executor.Executor {
		p, err := processpool.New(processpool.Config{
			Workers:        cfg.Workers,
			QueueLimit:     cfg.QueueLimit,
			RejectWhenFull: cfg.RejectWhenFull,
			Initializer:    cfg.Initializer,
			Observer:       cfg.Observer,
			Logger:         cfg.Logger,
		})
		if err != nil {
			tb.Fatal(err)
		}
		return p
	})
}
