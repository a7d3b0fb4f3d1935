package processpool

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
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
	// map counts. Zero means never.
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

const (
	defaultGrace   = 5 * time.Second
	defaultStart   = 30 * time.Second
	defaultMessage = 1 << 30
	mostMessage    = 1 << 40 // far beyond what gob carries
)

// validate fills in the defaults and reports the first field that makes no sense, or
// does nothing yet.
func (c *Config) validate() error {
	refuse := func(field, format string, args ...any) error {
		return fmt.Errorf("processpool: Config.%s %s", field, fmt.Sprintf(format, args...))
	}
	w := &c.Worker
	switch {
	case c.Workers < 0:
		return refuse("Workers", "is %d: want 0 (GOMAXPROCS) or more", c.Workers)
	case c.QueueLimit < 0:
		return refuse("QueueLimit", "is %d: want 0 (no limit) or more", c.QueueLimit)
	case c.MaxTasksPerChild < 0:
		return refuse("MaxTasksPerChild", "is %d: want 0 (no limit) or more", c.MaxTasksPerChild)
	case c.KeepAlive < 0:
		return refuse("KeepAlive", "is %v: want 0 (as long as the pool) or more", c.KeepAlive)
	case w.GOMAXPROCS < 0:
		return refuse("Worker.GOMAXPROCS", "is %d: want 0 (a share) or more", w.GOMAXPROCS)
	case w.MaxMessage < 0:
		return refuse("Worker.MaxMessage", "is %d bytes: want 0 (1 GiB) or more", w.MaxMessage)
	case w.StartTimeout < 0:
		return refuse("Worker.StartTimeout", "is %v: want 0 (30 s) or more", w.StartTimeout)
	case w.MemoryLimit != 0:
		return refuse("Worker.MemoryLimit", "is not supported yet")
	case w.StartMethod == worker.ForkServer:
		return refuse("Worker.StartMethod", "ForkServer is not supported yet: use Spawn")
	case w.StartMethod == worker.Fork:
		return refuse("Worker.StartMethod", "cannot be Fork: a Go program has threads of its runtime that a fork without exec would lose, "+
			"together with the locks that they hold; use Spawn, and an Initializer for what the workers are to have in common")
	case w.StartMethod != worker.Spawn:
		return refuse("Worker.StartMethod", "is %v: want Spawn", w.StartMethod)
	}
	if err := proc.CheckSysProcAttr(w.SysProcAttr); err != nil {
		return refuse("Worker.SysProcAttr", "cannot be used: %v", err)
	}
	if err := c.Initializer.Portable(); err != nil {
		return fmt.Errorf("processpool: Config.Initializer: %w", err)
	}
	c.defaults()
	return nil
}

func (c *Config) defaults() {
	w := &c.Worker
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Logger == nil {
		c.Logger = w.Logger
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if w.Logger == nil {
		w.Logger = c.Logger
	}
	if w.KillGrace == 0 {
		w.KillGrace = defaultGrace
	}
	w.KillGrace = max(w.KillGrace, 0)
	if w.GOMAXPROCS == 0 {
		w.GOMAXPROCS = max(1, runtime.GOMAXPROCS(0)/c.Workers)
	}
	if w.MaxMessage == 0 {
		w.MaxMessage = defaultMessage
	}
	w.MaxMessage = min(w.MaxMessage, mostMessage)
	if w.StartTimeout == 0 {
		w.StartTimeout = defaultStart
	}
}

// spec returns how a worker of the pool is started.
func (c *Config) spec() proc.Spec {
	return proc.Spec{
		Command:     c.Worker.Command,
		Env:         c.Worker.Env,
		Dir:         c.Worker.Dir,
		SysProcAttr: c.Worker.SysProcAttr,
		Output:      c.Worker.Output,
	}
}
