package executortest

import (
	"runtime"
	"testing"
)

var configPromises = []promise{
	{"ZeroWorks", "", anywhere, configZeroWorks},
	{"NegativeWorkersRefused", "EXE-03, POL-19", anywhere, configNegativeWorkers},
	{"NegativeQueueLimitRefused", "EXE-03", anywhere, configNegativeQueueLimit},
}

// The zero Config is one that works.
func configZeroWorks(c *check) {
	ex := c.open(Config{})
	c.works(ex)
	if n := ex.Stats().Workers; n < 1 {
		c.Fatalf("Stats().Workers = %d after a call, want at least 1", n)
	}
}

// A negative number of workers is refused by the constructor. // EXE-03, POL-19
func configNegativeWorkers(c *check) { c.refuses(Config{Workers: -1}) }

// A negative limit of the queue is refused by the constructor. // EXE-03
func configNegativeQueueLimit(c *check) { c.refuses(Config{QueueLimit: -1}) }

// refuses fails the check unless open refuses cfg by its TB.
func (c *check) refuses(cfg Config) {
	c.Helper()
	tb := &refusals{TB: c.T}
	c.within("open", func() {
		if ex := c.make(tb, cfg); ex != nil {
			c.execs = append(c.execs, ex)
		}
	})
	if !tb.Failed() && !c.Skipped() {
		c.Fatalf("%+v was accepted, want it to be refused", cfg)
	}
}

// refusals is a TB that notes a failure instead of failing.
type refusals struct {
	testing.TB
	failed bool // read when the goroutine that uses the TB has ended
}

func (r *refusals) Failed() bool          { return r.failed }
func (r *refusals) Fail()                 { r.failed = true }
func (r *refusals) Error(...any)          { r.Fail() }
func (r *refusals) Errorf(string, ...any) { r.Fail() }
func (r *refusals) Fatal(...any)          { r.FailNow() }
func (r *refusals) Fatalf(string, ...any) { r.FailNow() }

// FailNow ends the goroutine, as testing.T's does.
func (r *refusals) FailNow() {
	r.Fail()
	runtime.Goexit()
}
