package worker

import (
	"context"
	"fmt"
	"syscall"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/remote"
)

// A Process is one call of a task in a process of its own, which was started for it
// and ends with it. It is made by [Start].
//
// A Process is safe for concurrent use. Nobody needs to close it: when the process has
// ended, by itself or by force, nothing is left of it but what the methods tell. One
// that is dropped runs on until its task returns.
//
// Reference: multiprocessing.Process (Python 3.14), with whose run a result is lost.
type Process[R any] struct {
	child  *child
	future *future.Future[R]
	name   string
}

// Start starts a process and has it call t with arg. It returns when the process runs
// and has been sent the argument, which may be changed from then on.
//
// ctx is the call's, as in executor.Submit. If it ends before the process has the
// call, nothing was run. If it ends later, so does the context that t sees, with its
// cause; a call that goes on for longer than Config.KillGrace is killed, with all that
// it has started in its process group. The time limit of t counts, too
// (executor.WithTimeout); its retries do not: a process is started once.
//
// When the call has returned, the process ends, whatever else runs in it: goroutines
// that t has left behind, and processes in its group. Its exit status is 0 if t
// returned a value, and 1 if it returned an error, panicked or could not be run; the
// error, with the stack of a panic, is then also written to its standard error, as an
// uncaught exception of Python is.
//
// The process ends with the program, too. A program that is about to return from main
// joins what is to be finished. A task may call Start in a process of its own.
//
// Errors: Start answers with an error, and no process is left, where the call cannot
// be handed over: one that matches executor.ErrNotPortable, or says why arg could not be
// encoded; future.ErrCancelled and the cause of ctx, if that ended before; a field of
// cfg that makes no sense, by name; what the system said; how the process ended, if it
// did before it was ready; what to do if this program never called [Main]; one that
// matches errors.ErrUnsupported on systems other than Linux. Everything later is the
// future's.
//
// Start panics if t is the zero Task.
//
// Reference: multiprocessing.Process and its start. There is no moment between the two,
// so that nothing can be started twice, or joined before it was.
func Start[A, R any](ctx context.Context, t executor.Task[A, R], arg A, cfg Config) (*Process[R], error) {
	s := starter{cfg: cfg}
	f := executor.Submit(ctx, &s, t, arg)
	if s.child == nil {
		return nil, fmt.Errorf("worker: Start of task %q: %w", t.Name(), f.Exception(context.Background()))
	}
	p := &Process[R]{child: s.child, future: f, name: cfg.Name}
	if p.name == "" {
		p.name = t.Name()
	}
	return p, nil
}

// PID returns the process ID. When the process has ended, the system may have given it
// to another.
func (p *Process[R]) PID() int { return p.child.proc.PID }

// Name returns Config.Name, or the name of the task where that is empty.
func (p *Process[R]) Name() string { return p.name }

// IsAlive reports whether the process has not ended yet.
func (p *Process[R]) IsAlive() bool {
	_, exited := p.ExitCode()
	return !exited
}

// Done returns a channel that is closed when the process has ended. All it wrote has
// been read by then, the future is done, and nothing is left of the process.
//
// Reference: Process.sentinel.
func (p *Process[R]) Done() <-chan struct{} { return p.child.done }

// Future returns the future of the call, the same each time. It is running, and ends
// with what the task returned, a moment before the process does. If the process ends
// without an answer, it fails with an [*executor.WorkerLostError], which matches why the
// call was to end as well, where it was: an ended context, its time limit, or
// Future.Interrupt. If the call was to end before the process came to it, the error
// matches future.ErrCancelled and the cause.
func (p *Process[R]) Future() *future.Future[R] { return p.future }

// Join waits until the process has ended. How it did, and what came of its call, is
// told by ExitCode and the future: Join is nil all the same.
//
// Errors: one that matches ctx.Err(), and the cause, if ctx ended first. Nothing has
// changed then. A process that has ended is joined under any ctx.
func (p *Process[R]) Join(ctx context.Context) error {
	if !p.IsAlive() {
		return nil
	}
	select {
	case <-p.child.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("worker: Join: process %d is still running: %w", p.PID(), remote.Ended(ctx))
	}
}

// ExitCode returns how the process ended, and false if it has not ended yet: its exit
// status, or a negative number, the signal that ended it. It is 255 if this program
// reaped the process itself, so that nobody can tell.
func (p *Process[R]) ExitCode() (code int, exited bool) {
	select {
	case <-p.child.done:
	default:
		return 0, false
	}
	exit := p.child.proc.Exit()
	if sig, ok := exit.Signal.(syscall.Signal); ok {
		return -int(sig), true
	}
	return exit.Code & 0xff, true
}

// Terminate sends SIGTERM to the process, and, if it has not ended when Config.KillGrace
// is over, SIGKILL to it and its process group. Terminate does not wait; [Process.Join]
// does. It does nothing if the process has ended.
//
// Errors: what the system said. A process that has another user may be out of reach.
func (p *Process[R]) Terminate() error { return p.child.terminate() }

// Kill sends SIGKILL to the process and to all in its process group. It does not wait,
// does nothing if the process has ended, and returns nil.
func (p *Process[R]) Kill() error {
	p.child.proc.Kill()
	return nil
}
