package processpool

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
	"example.com/futures/worker"
)

// Config sets up a [Pool]. The zero Config works. New copies it, so changing the
// caller's value afterwards has no effect.
type Config struct {
	// Workers is the largest number of worker processes. Zero means
	// runtime.GOMAXPROCS(0). [Pool.Resize] changes it.
	Workers int

	// Worker says how each process is started and ended.
	Worker worker.Config

	// QueueLimit is how many calls may wait for a worker; each item of a map counts.
	// Zero means any number. With a limit, a submit waits for room until its context
	// ends. A call that a free worker takes up at once needs no room.
	QueueLimit int

	// RejectWhenFull has a submit end with executor.ErrQueueFull at once where it
	// would wait for room. Maps wait all the same. Without QueueLimit it does nothing:
	// the queue is never full.
	RejectWhenFull bool

	// Initializer runs once in each worker before its first call. The first one that
	// returns an error breaks the pool: what is queued, and every later call, fails
	// with an *executor.BrokenError that has its error as cause. A worker that dies in
	// it counts as one that could not be started. The zero Bound is none.
	Initializer executor.Bound

	// MaxTasksPerChild is after how many calls a worker is replaced; each item of a
	// map counts. The one that follows is started, and its initializer run, while the
	// last of them still run. Zero means never.
	MaxTasksPerChild int

	// KeepAlive is how long a worker may idle before it ends. Zero means as long as
	// the pool.
	KeepAlive time.Duration

	// Observer is told of every submit, start and end. Nil is none, and costs nothing.
	Observer executor.Observer

	// Logger gets a line for each worker that is lost and one when the pool breaks.
	// Nil means slog.Default().
	Logger *slog.Logger
}

// validate fills in the defaults and reports the first field that makes no sense. It
// answers how a worker of the pool is started.
func (c *Config) validate() (proc.Spec, error) {
	refuse := func(field, format string, args ...any) (proc.Spec, error) {
		return proc.Spec{}, fmt.Errorf("processpool: Config.%s %s", field, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Workers < 0:
		return refuse("Workers", "is %d: want 0 (GOMAXPROCS) or more", c.Workers)
	case c.QueueLimit < 0:
		return refuse("QueueLimit", "is %d: want 0 (no limit) or more", c.QueueLimit)
	case c.MaxTasksPerChild < 0:
		return refuse("MaxTasksPerChild", "is %d: want 0 (no limit) or more", c.MaxTasksPerChild)
	case c.KeepAlive < 0:
		return refuse("KeepAlive", "is %v: want 0 (as long as the pool) or more", c.KeepAlive)
	}
	if err := c.Initializer.Portable(); err != nil {
		return proc.Spec{}, fmt.Errorf("processpool: Config.Initializer: %w", err)
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Worker.Logger == nil {
		c.Worker.Logger = c.Logger
	}
	spec, err := remote.Prepare(&c.Worker, "processpool: Config.Worker.", c.Workers)
	if c.Logger == nil {
		c.Logger = c.Worker.Logger
	}
	return spec, err
}
