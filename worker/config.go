package worker

import (
	"fmt"
	"log/slog"
	"syscall"
	"time"
)

// A Config says how a worker process is started and ended. It is a part of
// processpool.Config. The zero Config works.
type Config struct {
	// Name is what logs call the worker, and what Process.Name answers.
	Name string

	// StartMethod is how the process is made. Zero is Spawn.
	StartMethod StartMethod

	// Command is another program to run as the worker, with its arguments. Its main
	// calls Main too, and it has the tasks that are to run in it, under the same names
	// and with the same types. Nil means this program.
	Command []string

	// Env is the worker's environment, in the form "key=value". Nil means this
	// program's, as it is when the worker starts.
	Env []string

	// Dir is the worker's working directory. Empty means this program's.
	Dir string

	// SysProcAttr has the operating system's own settings: user, namespaces and so
	// on. What the library itself needs is added.
	SysProcAttr *syscall.SysProcAttr

	// Output is given each line, without its end, that a worker writes to its standard
	// output ("stdout") or standard error ("stderr"); a line beyond 64 KiB comes in
	// parts. Nil means that both go to this program's own. Output is called from
	// several goroutines at once. One that is too slow delays no call: beyond 1 MiB
	// for a stream, lines are dropped, and a line says how much.
	Output func(pid int, stream string, line []byte)

	// MemoryLimit is the largest resident size of a worker, in bytes. Zero means none.
	MemoryLimit int64

	// KillGrace is how long an interrupted call may go on before its worker is
	// killed. Zero means 5 s; a negative value kills at once.
	KillGrace time.Duration

	// GOMAXPROCS is that of the worker. Zero means this program's divided by the number
	// of workers, at least 1.
	GOMAXPROCS int

	// MaxMessage is the largest encoded argument or result, in bytes. Zero means
	// 1 GiB. A larger one fails its own call.
	MaxMessage int64

	// StartTimeout is how long a worker may take from its start until it is ready to
	// serve, its initializer not counted. Zero means 30 s.
	StartTimeout time.Duration

	// Logger gets what happens to a worker of a pool. Nil means the pool's own. What
	// happens to a process of Start is said by its future.
	Logger *slog.Logger
}

// A StartMethod is a way to make a worker process.
type StartMethod int

const (
	// Spawn starts the program's own binary afresh.
	Spawn StartMethod = iota

	// ForkServer has a small clean server process start the workers.
	ForkServer

	// Fork would copy this process. A Go program cannot: fork copies one thread only,
	// and the runtime would miss the others, with the locks that they held. It is here
	// so that asking for it gets this answer.
	Fork
)

// String returns the name of the method.
func (m StartMethod) String() string {
	switch m {
	case Spawn:
		return "Spawn"
	case ForkServer:
		return "ForkServer"
	case Fork:
		return "Fork"
	}
	return fmt.Sprintf("StartMethod(%d)", int(m))
}
