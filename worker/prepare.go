package worker

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
)

const (
	defaultGrace   = 5 * time.Second
	defaultStart   = 30 * time.Second
	defaultMessage = 1 << 30
	mostMessage    = 1 << 40 // far beyond what gob carries
)

func init() {
	remote.Prepare = func(config any, where string, workers int) (proc.Spec, error) {
		c := config.(*Config)
		if err := c.validate(where); err != nil {
			return proc.Spec{}, err
		}
		c.defaults(workers)
		return c.spec(), nil
	}
}

// validate reports the first field that makes no sense, or does nothing yet. where comes
// before its name.
func (c *Config) validate(where string) error {
	refuse := func(field, format string, args ...any) error {
		return fmt.Errorf("%s%s %s", where, field, fmt.Sprintf(format, args...))
	}
	switch {
	case c.GOMAXPROCS < 0:
		return refuse("GOMAXPROCS", "is %d: want 0 (a share) or more", c.GOMAXPROCS)
	case c.MaxMessage < 0:
		return refuse("MaxMessage", "is %d bytes: want 0 (1 GiB) or more", c.MaxMessage)
	case c.StartTimeout < 0:
		return refuse("StartTimeout", "is %v: want 0 (30 s) or more", c.StartTimeout)
	case c.MemoryLimit < 0:
		return refuse("MemoryLimit", "is %d bytes: want 0 (none) or more", c.MemoryLimit)
	case c.StartMethod == Fork:
		return refuse("StartMethod", "cannot be Fork: a Go program has threads of its runtime that a fork without exec would lose, "+
			"together with the locks that they hold; use Spawn or ForkServer, and an Initializer for what the workers are to have in common")
	case c.StartMethod != Spawn && c.StartMethod != ForkServer:
		return refuse("StartMethod", "is %v: want Spawn or ForkServer", c.StartMethod)
	}
	if err := proc.CheckSysProcAttr(c.SysProcAttr); err != nil {
		return refuse("SysProcAttr", "cannot be used: %v", err)
	}
	return nil
}

// defaults fills in what the zero value of a field stands for, for one of so many
// workers.
func (c *Config) defaults(workers int) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.KillGrace == 0 {
		c.KillGrace = defaultGrace
	}
	c.KillGrace = max(c.KillGrace, 0)
	if c.GOMAXPROCS == 0 {
		c.GOMAXPROCS = max(1, runtime.GOMAXPROCS(0)/workers)
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = defaultMessage
	}
	c.MaxMessage = min(c.MaxMessage, mostMessage)
	if c.StartTimeout == 0 {
		c.StartTimeout = defaultStart
	}
}

// spec returns how a process is started.
func (c *Config) spec() proc.Spec {
	return proc.Spec{
		Command: c.Command, Env: c.Env, Dir: c.Dir, SysProcAttr: c.SysProcAttr, Output: c.Output,
		GOMAXPROCS: c.GOMAXPROCS, ForkServer: c.StartMethod == ForkServer, Patience: c.StartTimeout,
	}
}
