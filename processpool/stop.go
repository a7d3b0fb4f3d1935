package processpool

import (
	"slices"
	"syscall"
	"time"
)

// Terminate ends the pool by force: no new calls, what is queued is cancelled, the
// workers get SIGTERM, and those that are left when Config.Worker.KillGrace is over
// SIGKILL. Calls that run end as *executor.WorkerLostError, and are not run again.
// Terminate waits until the workers are gone.
//
// Terminate returns nil. It is idempotent and safe for concurrent use, also with
// Shutdown, Close and Kill.
//
// Reference: ProcessPoolExecutor.terminate_workers (Python 3.14).
func (p *Pool) Terminate() error {
	p.end(syscall.SIGTERM)
	t := time.AfterFunc(p.cfg.Worker.KillGrace, func() { p.end(syscall.SIGKILL) })
	defer t.Stop()
	<-p.done
	return nil
}

// Kill is like [Pool.Terminate] with SIGKILL at once, for the workers and all in
// their process groups.
//
// Reference: ProcessPoolExecutor.kill_workers (Python 3.14).
func (p *Pool) Kill() error {
	p.end(syscall.SIGKILL)
	<-p.done
	return nil
}

// end moves the pool to killing and sends sig to all workers. One that is just being
// started sees the state when it has.
func (p *Pool) end(sig syscall.Signal) {
	p.close(killing)
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.all {
		w.signal(sig)
	}
}

// signal sends sig to a worker that is ready, and ends any other at once.
func (w *process) signal(sig syscall.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.ready:
		w.unwanted()
		if w.proc != nil {
			w.proc.Kill()
		}
	case sig == syscall.SIGKILL:
		w.proc.Kill()
	default:
		_ = w.proc.Signal(sig) // if it fails, the process has ended
	}
}

// A WorkerInfo describes a worker process of a pool. The struct may grow.
type WorkerInfo struct {
	Index   int       // its place in the pool, as worker.Index has it
	PID     int       // 0 until it has started
	Ready   bool      // it has started, and its initializer has run
	Task    string    // the name of the task that it runs; "" if it is idle
	Started time.Time // when the pool began to start it
}

// Workers describes the workers that the pool has now, by index.
func (p *Pool) Workers() []WorkerInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]WorkerInfo, 0, len(p.workers))
	for _, w := range p.workers {
		all = append(all, w.info())
	}
	slices.SortFunc(all, func(a, b WorkerInfo) int { return a.Index - b.Index })
	return all
}

// info describes w. The pool's lock is held.
func (w *process) info() WorkerInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := WorkerInfo{Index: w.index, Ready: w.ready, Started: w.began}
	if w.proc != nil {
		i.PID = w.proc.PID
	}
	if j := w.window.front(); j != nil && !j.ghost {
		i.Task = j.call.Task()
	}
	return i
}
