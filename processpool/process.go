package processpool

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// A process is one worker of the pool, from the decision to start it until nothing of
// it is left. Its owner is a goroutine that starts the process, asks the pool for one
// call after another, encodes and sends it, and sees to it that nothing remains.
// Another reads what comes back, and completes the calls.
//
//	owner                                   reader
//	start, greet, initialize
//	take a call ◀─ the pool's queue
//	encode, send ────────▶ process ───────▶ complete the items
//	wait ◀───────────────────────────────── done (free)
//	…                                       EOF, and the process is reaped (gone)
//	judge what it was doing
//	release
type process struct {
	pool  *Pool
	index int

	wake chan struct{}  // one token: look at the queue
	free chan struct{}  // one token: the call is done
	quit chan struct{}  // closed when it must not start any more
	gone chan struct{}  // closed by the reader: the process has ended, and all that it wrote was read
	side sync.WaitGroup // goroutines that send an interrupt

	// The owner's own.
	enc    *wire.Encoder
	theirs map[string]string // the worker's tasks and their signatures
	job    *job              // what the owner is at
	item   int               // of job: being encoded
	seq    uint64
	served int  // items
	useful bool // it has taken up a call
	full   bool // of memory
	judged bool // it died with a call
	began  time.Time

	// The reader's own.
	dec         *wire.Decoder
	reading     *job // readingItem of it is being completed
	readingItem int

	// The pool's lock guards these.
	expected bool // counted in Pool.coming
	leaving  bool // counted in Pool.leaving
	last     bool // the item being completed is its call's last
	up       bool // it has started, and its initializer has run
	upAt     time.Time
	startup  time.Duration // how long that took
	elder    *process      // whose place it is to have; nil: it has one, or had
	heir     *process      // who is to have its place; nil: nobody
	parked   bool          // it waits for that

	// mu guards the fields below. It is not held while anything waits.
	mu      sync.Mutex
	proc    *proc.Process // nil until it has started
	cur     *job          // what it runs, or is given
	ready   bool          // it has started, and serves
	stopped bool          // it must not start any more
	inInit  bool          // the initializer runs
	wrong   error         // why it is not listened to any more
}

// initSeq is the number of the initializer's call. Others are higher.
const initSeq = 1

// errStopped is why a worker that the pool does not want any more does not start.
var errStopped = errors.New("the pool was closed")

func newProcess(p *Pool, index int) *process {
	return &process{
		pool: p, index: index, seq: initSeq, began: time.Now(),
		wake: make(chan struct{}, 1), free: make(chan struct{}, 1), gone: make(chan struct{}), quit: make(chan struct{}),
		enc: wire.NewEncoder(p.cfg.Worker.MaxMessage), dec: new(wire.Decoder),
	}
}

// run is the owner.
func (w *process) run() {
	if err := w.start(); err != nil {
		w.pool.startFailed(w, err)
		return
	}
	w.pool.started(w)
	go w.read() // ends with the process, for which serve waits
	w.serve()
}

// start starts the process and makes it ready.
func (w *process) start() error {
	spec := w.pool.spec
	spec.Quit = w.quit
	p, err := proc.Start(spec)
	if errors.Is(err, proc.ErrQuit) {
		return errStopped
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.proc = p
	stopped := w.stopped
	w.mu.Unlock()
	if stopped {
		err = errStopped
	} else if err = w.greet(p); err == nil {
		w.mu.Lock()
		w.ready = !w.stopped
		w.mu.Unlock()
		if w.ready {
			return nil
		}
		err = errStopped
	}
	p.Kill()
	<-p.Ended()
	w.side.Wait()
	w.mu.Lock()
	stopped = w.stopped
	w.mu.Unlock()
	if stopped {
		err = errStopped
	} else {
		err = remote.NotReady(p, err)
	}
	p.Release()
	return err
}

// greet introduces the two sides and runs the initializer.
func (w *process) greet(p *proc.Process) error {
	cfg := &w.pool.cfg
	setup := wire.Setup{Index: w.index, GOMAXPROCS: cfg.Worker.GOMAXPROCS, MaxMessage: cfg.Worker.MaxMessage, MemoryLimit: cfg.Worker.MemoryLimit}
	var err error
	if w.theirs, err = p.Greet(setup, cfg.Worker.StartTimeout, remote.Tasks()); err != nil {
		return err
	}
	if cfg.Initializer.IsZero() {
		return nil
	}
	return w.initialize(p, cfg.Initializer)
}

// An initError is what an initializer returned.
type initError struct{ err error }

func (e *initError) Error() string { return "the initializer failed: " + e.err.Error() }
func (e *initError) Unwrap() error { return e.err }

// initialize runs the initializer. An error of its own is an *initError.
func (w *process) initialize(p *proc.Process, init executor.Bound) error {
	arg, flags, err := w.enc.Message(func(e *wire.Encoder) error { return init.Encode(e) })
	if err != nil {
		return &initError{err}
	}
	head := wire.CallHead{Task: init.Name(), Discard: true}
	p.Page.Offer(initSeq)
	err = errors.Join(
		p.Add(wire.Header{Kind: wire.KindCall, Seq: initSeq, Item: 1}, head.Append(nil)),
		p.Add(wire.Header{Kind: wire.KindArg, Seq: initSeq, Flags: flags}, arg),
		p.Flush())
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.inInit = true
	stopped := w.stopped
	w.mu.Unlock()
	if stopped {
		return errStopped
	}
	f, err := p.In.Next()
	w.mu.Lock()
	w.inInit = false
	stopped = w.stopped
	w.mu.Unlock()
	switch {
	case stopped:
		return errStopped
	case err != nil:
		return fmt.Errorf("in its initializer: %w", err)
	case f.Kind == wire.KindError:
		return &initError{executor.DecodeError(f.Payload)}
	case f.Kind != wire.KindResult:
		return fmt.Errorf("in its initializer: a frame of kind %d", f.Kind)
	}
	return nil
}

// stop ends a worker that is not ready: at once, but its initializer after a grace.
func (w *process) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready || w.stopped {
		return
	}
	w.unwanted()
	switch p := w.proc; {
	case p == nil:
	case w.inInit:
		w.tell(p, initSeq, false, executor.ErrShutdown)
		kill := time.AfterFunc(w.pool.cfg.Worker.KillGrace, p.Kill)
		w.side.Go(func() { <-p.Ended(); kill.Stop() })
	default:
		p.Kill()
	}
}

// unwanted notes that w must not start any more. mu is held.
func (w *process) unwanted() {
	if !w.stopped {
		w.stopped = true
		close(w.quit)
	}
}

// tell sends an interrupt without waiting for the socket. mu is held.
func (w *process) tell(p *proc.Process, seq uint64, deadline bool, cause error) {
	w.side.Go(func() { remote.Interrupt(p, seq, deadline, cause) }) // ends when the frame is written, or the process has ended
}

// pid returns the process ID, 0 before there is one.
func (w *process) pid() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.proc == nil {
		return 0
	}
	return w.proc.PID
}

// serve asks for calls until there are no more, or the process is gone. An encoder
// that ends its goroutine ends this one: another goes on where it was.
func (w *process) serve() {
	returned := false
	defer func() {
		if !returned {
			go w.serve()
		}
	}()
	for w.step() {
	}
	w.end()
	returned = true
}

// step does one call, and reports false if there will be no other.
func (w *process) step() bool {
	if w.job == nil {
		if w.job = w.pool.take(w); w.job == nil {
			return false
		}
		w.item = w.job.from - 1
	}
	done := true
	if w.send(w.job) {
		select {
		case <-w.free:
		case <-w.gone:
			select {
			case <-w.free: // done before the process ended
			default:
				done = false
			}
		}
	}
	j := w.job
	w.job = nil
	if !done {
		w.judge(j)
		w.judged = true
		return false
	}
	w.served += j.end - j.from
	w.full = w.swollen()
	w.useful = true
	w.pool.left(j, j.rest())
	return true
}

// end sees the process off.
func (w *process) end() {
	p := w.proc // it does not change any more
	died := true
	select {
	case <-w.gone:
	default:
		died = false
		_ = p.Add(wire.Header{Kind: wire.KindBye}, nil)
		_ = p.Flush() // if it fails, the process has ended
		patience := time.AfterFunc(remote.ByeTime, p.Kill)
		<-w.gone
		patience.Stop()
	}
	w.side.Wait()
	if died && !w.judged {
		w.pool.countLost()
	}
	w.pool.ended(w, p, died)
	p.Release()
	w.pool.forget()
}
