package processpool

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// A process is one worker of the pool, from the decision to start it until nothing of
// it is left. Its owner is a goroutine that starts the process, asks the pool for one
// call after another, encodes and sends it, and sees to it that nothing remains.
// Another reads what comes back, and completes the calls.
//
//	owner                                   reader
//	start, greet, initialize
//	sees that it is fed ─▶ process ───────▶ complete the items
//	waits for a word                        waits for a bell
//	…                                       EOF, and the process is reaped (gone)
//	judge what it was doing
//	release
type process struct {
	pool  *Pool
	index int

	wake chan struct{}  // one token: there is something for the owner
	quit chan struct{}  // closed when it must not start any more
	gone chan struct{}  // closed by the reader: the process has ended, and all that it wrote was read
	side sync.WaitGroup // goroutines that send an interrupt, or attend

	// The owner's own.
	theirs map[string]string // the worker's tasks and their signatures; fixed by greet
	began  time.Time
	socket bool // calls go through its socket; fixed by greet

	// Whoever feeds the worker has these, see acquire.
	feeding     atomic.Int32
	stalled     atomic.Bool // something of unsent waits for room
	unsent      []delivery  // what was assigned and not sent, in order
	enc         *wire.Encoder
	encoding    executor.Call // whose argument is being encoded; nil: none
	held        held
	deep        bool   // there was something in the window when the last call was assigned
	headTask    string // what headBytes is for
	headTimeout time.Duration
	headBytes   []byte
	headDated   bool
	headWrong   error // why the worker cannot be sent calls of headTask
	refBuf      [ring.RefLen]byte
	store       store // has a lock of its own

	// Whoever attends to the worker has these.
	attending sync.Mutex
	wanted    atomic.Bool // somebody wants to attend
	in        inbox

	// The pool's lock guards these.
	window    window
	seq       uint64    // of the last call
	given     int       // items
	since     time.Time // when the item at the front began, or may have, if it has a time limit
	answered  time.Time // when the last answer was read, or the window was empty and got a call
	limit     *time.Timer
	limitDue  time.Time // when that fires; zero: it does not
	idle      bool      // it is in Pool.idle
	works     bool      // it is in Pool.working
	idleSince time.Time // with KeepAlive
	checking  bool      // its memory is looked at, or code of the program's runs for its answers
	alone     bool      // what it has may run code of the program's: nothing goes behind that
	useful    bool      // it has taken up a call
	full      bool      // of memory
	closing   bool      // nobody else is to attend
	expires   bool      // it is killed soon
	expected  bool      // counted in Pool.coming
	leaving   bool      // counted in Pool.leaving
	up        bool      // it has started, and its initializer has run
	upAt      time.Time
	startup   time.Duration // how long that took
	elder     *process      // whose place it is to have; nil: it has one, or had
	heir      *process      // who is to have its place; nil: nobody

	// mu guards the fields below. It is not held while anything waits.
	mu      sync.Mutex
	proc    *proc.Process // nil until it has started
	ready   bool          // it has started, and serves
	stopped bool          // it must not start any more
	inInit  bool          // the initializer runs
	wrong   error         // why it is not listened to any more
}

// initSeq is the number of the initializer's call, which goes through the socket. Others are higher.
const initSeq = 1

// errStopped is why a worker that the pool does not want any more does not start.
var errStopped = errors.New("the pool was closed")

func newProcess(p *Pool, index int) *process {
	w := &process{
		pool: p, index: index, seq: initSeq, began: time.Now(),
		wake: make(chan struct{}, 1), gone: make(chan struct{}), quit: make(chan struct{}),
		enc: wire.NewEncoder(p.cfg.Worker.MaxMessage), in: inbox{dec: new(wire.Decoder)}, socket: !p.rings,
	}
	w.enc.Carries()
	return w
}

// run is the owner.
func (w *process) run() {
	if err := w.start(); err != nil {
		w.pool.startFailed(w, err)
		return
	}
	w.pool.started(w)
	go w.read() // ends with the process, for which serve waits
	w.serve(false)
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
	setup.Ring, setup.Spin, setup.Announce = !w.socket, int64(w.pool.spin), cfg.Observer != nil || cfg.QueueLimit > 0
	setup.First = !cfg.Initializer.IsZero()
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
	head := wire.CallHead{Task: init.Name(), Discard: true, Keep: true}
	p.Ring.Offer(initSeq)
	add := func(h wire.Header) error { return p.Add(h, arg.Bytes()) }
	if load := w.enc.Load(); load != nil {
		add = func(h wire.Header) error { return p.AddLoad(h, arg.Bytes(), load) }
	}
	err = errors.Join(
		p.Add(wire.Header{Kind: wire.KindCall, Seq: initSeq, Item: 1}, head.Append(nil)),
		add(wire.Header{Kind: wire.KindArg, Seq: initSeq, Flags: flags}),
		p.Flush())
	if errors.As(err, new(*carry.UnsentError)) {
		return &initError{err}
	}
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
	if err == nil && f.Kind == wire.KindStarted {
		f, err = p.In.Next()
	}
	f.Along.Close() // the result is not wanted
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

// dead reports whether the process has ended.
func (w *process) dead() bool {
	select {
	case <-w.gone:
		return true
	default:
		return false
	}
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

// expire kills a worker that has nothing but calls that were taken back, if it does not
// say so in time: it is frozen, and its owner may wait for it to read. mu of the pool is
// held.
func (w *process) expire() {
	if w.expires || w.window.len() == 0 || w.window.live > 0 || w.closing {
		return
	}
	w.expires = true
	kill := time.AfterFunc(remote.ByeTime, w.proc.Kill)
	w.side.Go(func() { <-w.proc.Ended(); kill.Stop() })
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

// call has the owner look at what there is for it.
func (w *process) call() {
	select {
	case w.wake <- struct{}{}:
	default: // it is about to look
	}
}

// serve is the owner of a process that is ready: it does for its worker what others
// cannot, until the worker is to get no more calls, or the process is gone. An encoder
// that ends its goroutine ends this one: another goes on where it was, and feeds the
// worker.
func (w *process) serve(again bool) {
	returned := false
	defer func() {
		if !returned {
			go w.serve(true)
		}
	}()
	if again && w.encoding != nil {
		w.goOn()
	}
	idle := time.NewTimer(time.Hour)
	idle.Stop()
	defer idle.Stop()
	for w.step(idle) {
	}
	w.end()
	returned = true
}

// goOn goes on feeding where an encoder has ended the goroutine.
func (w *process) goOn() {
	d := &w.unsent[0]
	for d.call != w.encoding || d.told && d.from == d.end {
		w.unsent = w.unsent[1:]
		d = &w.unsent[0]
	}
	w.encoding = nil
	w.fail(d, remote.EncodeError(d.call, remote.ErrGoexit))
	w.pool.deliver(w, true)
}

// step feeds the worker and waits for a word that there is something to do. It reports
// false if there will be nothing more.
func (w *process) step(idle *time.Timer) bool {
	p := w.pool
	p.feed(w, true)
	p.mu.Lock()
	left := w.leaving && w.window.len() == 0
	if w.idle && p.cfg.KeepAlive > 0 {
		if d := p.cfg.KeepAlive - time.Since(w.idleSince); d > 0 {
			idle.Reset(d)
		} else {
			p.unidle(w)
			p.leave(w)
			left = true
		}
	}
	p.mu.Unlock()
	if left {
		return false
	}
	select {
	case <-w.wake:
	case <-idle.C:
	case <-w.gone:
		return false
	}
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
	w.close()
	w.pool.mu.Lock()
	busy := w.window.live > 0
	w.pool.mu.Unlock()
	switch {
	case busy:
		w.judge()
	case died:
		w.pool.countLost()
	}
	w.pool.mu.Lock()
	w.window = window{}
	w.pool.tally(w)
	if w.limit != nil {
		w.limit.Stop()
	}
	w.pool.mu.Unlock()
	w.side.Wait()
	w.pool.ended(w, p, died)
	p.Release()
	w.pool.forget()
}

// close waits until nobody feeds the worker or attends to it, and sees to it that nobody
// does any more: its memory goes away.
func (w *process) close() {
	p := w.pool
	p.mu.Lock()
	p.unidle(w)
	p.leave(w)
	w.closing = true
	p.mu.Unlock()
	for !w.feeding.CompareAndSwap(unfed, closed) {
		runtime.Gosched() // who feeds it does not wait for anything but the socket, which is shut
	}
	w.side.Wait()
	w.letGo()
	w.attending.Lock() // for good
	w.in.drop()
	w.store.end()
}
