package proc

import (
	"os"
	"runtime"
	"sync"
)

// A parent-death signal follows the thread that started the child: it is sent when
// that thread ends, and Go ends threads as it likes. So all workers are started by
// one goroutine that stays on its thread for as long as there are any.
//
// Reference: prctl(2), PR_SET_PDEATHSIG; https://go.dev/issue/27505.
var launcher struct {
	mu   sync.Mutex // guards the fields below; not held while a process starts
	refs int        // processes that were started, or are being started, and not yet reaped
	jobs chan func()
}

// holdLauncher keeps the thread alive until releaseLauncher.
func holdLauncher() chan<- func() {
	launcher.mu.Lock()
	defer launcher.mu.Unlock()
	if launcher.refs++; launcher.refs == 1 {
		jobs := make(chan func())
		launcher.jobs = jobs
		go func() { // ends when the last process was reaped
			runtime.LockOSThread()
			for job := range jobs {
				job()
			}
		}() // still locked: the thread ends too, since some attributes of a process change it
	}
	return launcher.jobs
}

func releaseLauncher() {
	launcher.mu.Lock()
	defer launcher.mu.Unlock()
	if launcher.refs--; launcher.refs == 0 {
		close(launcher.jobs)
		launcher.jobs = nil
	}
}

// launch starts a process on the launcher's thread, which the caller holds.
func launch(jobs chan<- func(), path string, argv []string, attr *os.ProcAttr) (p *os.Process, err error) {
	done := make(chan struct{})
	jobs <- func() {
		defer close(done)
		p, err = os.StartProcess(path, argv, attr)
	}
	<-done
	return p, err
}
