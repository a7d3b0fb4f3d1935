package threadpool

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"example.com/futures/executor"
)

// Config sets up a [Pool]. The zero Config works. New copies it, so changing the
// caller's value afterwards has no effect.
type Config struct {
	// Workers is how many calls run at the same time at most. Zero means
	// runtime.GOMAXPROCS(0). [Pool.Resize] changes it. Calls that wait for one
	// another do not count while they wait.
	Workers int

	// QueueLimit is how many calls may wait for a worker; each item of a map counts.
	// Zero means any number. With a limit, a submit waits for room until its context
	// ends. A call that a free worker takes up at once needs no room.
	QueueLimit int

	// RejectWhenFull has a submit end with executor.ErrQueueFull at once where it
	// would wait for room. Maps wait all the same. Without QueueLimit it does nothing:
	// the queue is never full.
	RejectWhenFull bool

	// Initializer runs once in each worker before its first call. The first one that
	// fails breaks the pool: what is queued, and every later call, fails with an
	// *executor.BrokenError that has its error as cause. Its context ends when the
	// pool is closed. The zero Bound is none.
	Initializer executor.Bound

	// KeepAlive is how long a worker may idle before it ends. Zero means as long as
	// the pool. A parked worker costs a goroutine's few KiB of memory and no time.
	KeepAlive time.Duration

	// Observer is told of every submit, start and end. Nil is none, and costs nothing.
	Observer executor.Observer

	// Logger gets one line when the pool breaks. Nil means slog.Default().
	Logger *slog.Logger
}

// validate fills in the defaults and reports the first field that makes no sense.
func (c *Config) validate() error {
	if c.Workers < 0 {
		return fmt.Errorf("threadpool: Config.Workers is %d: want 0 (GOMAXPROCS) or more", c.Workers)
	}
	if c.QueueLimit < 0 {
		return fmt.Errorf("threadpool: Config.QueueLimit is %d: want 0 (no limit) or more", c.QueueLimit)
	}
	if c.KeepAlive < 0 {
		return fmt.Errorf("threadpool: Config.KeepAlive is %v: want 0 (as long as the pool) or more", c.KeepAlive)
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}
