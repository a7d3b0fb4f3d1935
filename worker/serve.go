package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
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

// A server is a worker's half of its conversation. One goroutine sees to it that the socket
// is read, all the time, so that the parent's death and an interrupt are seen at once and
// the parent never waits for room in it; another runs the calls in order. They come
// through shared memory, but where the parent has said otherwise. An argument that comes
// through the socket is mostly read by the runner itself, which is awake.
type server struct {
	mem      *ring.Worker
	socket   *carry.Socket
	limit    int64         // of one encoded value
	once     bool          // the first call is the last one, too
	announce bool          // the parent wants to know when a call is taken up
	spin     time.Duration // how long the runner looks for a call before it sleeps

	// The runner's own: it decodes, runs and encodes.
	dec     *wire.Decoder
	enc     *wire.Encoder
	out     *wire.Writer
	bySock  int        // so many calls are still to come through the socket; negative: all
	job     *job       // being run
	at      int        // the next of its items
	arg     wire.Frame // of the item before
	owes    bool       // which has begun, and has no answer
	pack    []byte     // arguments of the record that was read last
	flags   uint8      // of that record
	last    head       // the one that was read last
	code    int        // with which the process ends, if it serves once
	reuse   *job       // a job that is not used any more
	scratch [ring.RefLen]byte

	pace     pace
	contexts contextMaker
	ctx      *callContext   // of the item
	value    wire.Value     // a plain argument
	kept     []carry.Handle // those of the initializer's argument: this process has them until it ends
	result   [64]byte       // room for a small plain result
	replies  func(result any, err error)

	// Of the call that is run, or about to be, for who interrupts it. He says that he looks,
	// and then looks at curSeq; the runner clears that, and then looks whether somebody does.
	curSeq atomic.Uint64
	curJob *job
	looks  atomic.Bool
	found  atomic.Bool // somebody has curJob, perhaps for longer than it runs

	// reading is held by who reads a frame and does what it says. Lock order: before mu.
	reading sync.Mutex
	in      *wire.Reader // guarded by reading
	coming  *job         // likewise: whose arguments are not complete

	mu    sync.Mutex // guards the fields below; nothing is called under it
	more  sync.Cond
	jobs  []*job                      // complete, in order; the first is being run or is next
	large map[wire.RingArg]wire.Frame // arguments that came through the socket and wait for their call
}

// A job is one call: what it was sent as, and what became of it.
type job struct {
	seq   uint64
	head  wire.CallHead
	args  []wire.Frame // of a call that came through the socket
	count int          // of arguments
	sock  bool         // it came through the socket

	// Whoever interrupts the call says so, and then looks for the context of the item that
	// runs; the runner says which that is, and then looks whether the call is interrupted.
	current     atomic.Pointer[callContext]
	interrupted atomic.Pointer[interruption]
}

// An interruption is how a call's context has ended.
type interruption struct {
	deadline bool
	cause    error
}

// serve greets the parent and serves its calls. It returns when the conversation has
// ended in another way than by Bye.
func serve(socket *carry.Socket, mem *ring.Worker) error {
	in := wire.NewSocketReader(socket, socket, 1<<30, false)
	s := &server{mem: mem, socket: socket, in: in, out: wire.NewWriter(socket), dec: new(wire.Decoder), large: map[wire.RingArg]wire.Frame{}}
	s.more.L = &s.mu
	s.replies = s.reply
	if err := s.greet(); err != nil {
		return err
	}
	go s.run()
	runtime.Gosched() // the runner comes to wait for a call: else the runtime makes a thread for it while this one reads
	return s.read()
}

// greet introduces this process and becomes what the parent says.
func (s *server) greet() error {
	hello := wire.Hello{Tasks: remote.Tasks()}
	if err := s.out.Add(wire.Header{Kind: wire.KindHello, Seq: wire.Magic, Item: wire.Version}, hello.Append(nil)); err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	f, err := s.in.Next()
	if err != nil {
		return quiet(err)
	}
	if f.Kind != wire.KindSetup || f.Seq != wire.Magic || f.Item != wire.Version {
		return fmt.Errorf("the parent begins with a frame of kind %d, or speaks another version of the protocol", f.Kind)
	}
	setup, err := wire.ParseSetup(f.Payload)
	if err != nil {
		return err
	}
	if setup.GOMAXPROCS > 0 {
		runtime.GOMAXPROCS(setup.GOMAXPROCS)
	}
	proc.Settle()
	if setup.MemoryLimit == 0 {
		spareCollector()
	}
	limitMemory(setup.MemoryLimit)
	index = setup.Index
	s.limit = setup.MaxMessage
	s.once = setup.Once
	s.announce = setup.Announce
	s.spin = time.Duration(setup.Spin)
	s.bySock = -1
	switch {
	case setup.Ring && setup.First:
		s.bySock = 1
	case setup.Ring:
		s.bySock = 0
	}
	s.in.SetLimit(setup.MaxMessage + wire.ErrorAllowance)
	s.enc = wire.NewEncoder(setup.MaxMessage)
	s.enc.Carries()
	return nil
}

// read sees to it that frames are read, until the parent is gone.
func (s *server) read() error {
	s.reading.Lock()     // the runner may read, too
	if s.in.Buffered() { // what came along with the greeting
		if err := s.readFrame(); err != nil {
			s.reading.Unlock()
			return quiet(err)
		}
	}
	s.reading.Unlock()
	for {
		if err := s.socket.Await(); err != nil {
			return err
		}
		if err := s.readAll(); err != nil {
			return quiet(err)
		}
		// The runner goes first: with one P, which is usual in a worker, it would
		// otherwise wait until the runtime notices that this goroutine is blocked. A task
		// that computes is preempted soon enough for an interrupt.
		runtime.Gosched()
	}
}

// readAll reads the frames that are there, if nobody else has done that.
func (s *server) readAll() error {
	s.reading.Lock()
	defer s.reading.Unlock()
	for {
		if ready, err := s.socket.Ready(); err != nil || !ready {
			return err
		}
		if err := s.readFrame(); err != nil {
			return err
		}
	}
}

// readFrame reads a frame, for which it waits, and does what it says; and so with what was
// read along with it: that no look at the socket would show. The caller has reading.
func (s *server) readFrame() error {
	for {
		f, err := s.in.Next()
		if err != nil {
			return err
		}
		if err := s.frame(f); err != nil {
			return err
		}
		if !s.in.Buffered() {
			return nil
		}
	}
}

// frame does what a frame says. The caller has reading.
func (s *server) frame(f wire.Frame) (err error) {
	switch f.Kind {
	case wire.KindCall:
		s.coming = &job{seq: f.Seq, count: int(f.Item), sock: true}
		if s.coming.head, err = wire.ParseCallHead(f.Payload); err != nil {
			return err
		}
	case wire.KindArg:
		if s.coming == nil {
			s.keep(f)
			return nil
		}
		if s.coming.seq != f.Seq {
			return errors.New("an argument without its call")
		}
		s.coming.args = append(s.coming.args, f)
	case wire.KindInterrupt:
		i, err := wire.ParseInterruption(f.Payload)
		if err != nil {
			return err
		}
		s.interrupt(s.coming, f.Seq, i)
	case wire.KindBye:
		os.Exit(0)
	default:
		return fmt.Errorf("a frame of kind %d, which this version does not know", f.Kind)
	}
	if s.coming != nil && len(s.coming.args) == s.coming.count {
		s.enqueue(s.coming)
		s.coming = nil
	}
	return nil
}

// quiet returns nil for a parent that is simply gone.
func quiet(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *server) enqueue(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = append(s.jobs, j)
	s.more.Signal()
}

// keep keeps an argument for its call, which came through shared memory.
func (s *server) keep(f wire.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.large[wire.RingArg{Seq: f.Seq, Item: f.Item}] = f
}

// interrupt ends the context of a call. It comes too late for one that is done.
func (s *server) interrupt(coming *job, seq uint64, i wire.Interruption) {
	found := coming
	if found == nil || found.seq != seq {
		found = nil
		s.mu.Lock()
		s.looks.Store(true)
		if s.curSeq.Load() == seq {
			found = s.curJob
			s.found.Store(true)
		}
		s.looks.Store(false)
		for _, j := range s.jobs {
			if j.seq == seq {
				found = j
			}
		}
		s.mu.Unlock()
	}
	if found != nil {
		go func() { // the task's own code may hear of it, and the reader must not wait
			found.interrupt(i.Deadline, executor.DecodeError(i.Cause))
		}()
	}
}

func (j *job) interrupt(deadline bool, cause error) {
	if !j.interrupted.CompareAndSwap(nil, &interruption{deadline, cause}) {
		return
	}
	if c := j.current.Load(); c != nil {
		c.finish(deadline, cause)
	}
}

// enter makes c the context of the item that begins, and reports false if the call
// was interrupted before.
func (j *job) enter(c *callContext) bool {
	j.current.Store(c)
	return j.interrupted.Load() == nil
}

// run runs calls, one after another. A task that ends its goroutine ends this one, and
// so does an error that does it while it is encoded: another goes on where it was.
func (s *server) run() {
	defer func() { go s.run() }()
	if s.owes { // the error's own method ended the goroutine
		s.fail(s.arg, fmt.Errorf("executor: task %q: encoding the error: %w", s.job.head.Task, remote.ErrGoexit))
	}
	for {
		if s.job == nil {
			s.job, s.at = s.take(), 0
		}
		for s.at < s.job.count {
			s.arg = s.argument(s.job, s.at)
			s.at++
			if s.arg.Flags&wire.FlagAbsent != 0 {
				s.answer(wire.Header{Kind: wire.KindSkipped, Seq: s.arg.Seq, Item: s.arg.Item}, nil)
				continue
			}
			s.item(s.job, s.arg)
		}
		if s.once {
			os.Exit(s.code)
		}
		s.finish()
	}
}

// item runs one item and answers. The answer is out of the process, or stands in shared
// memory, before the next item begins: it is not lost with what comes after it.
func (s *server) item(j *job, arg wire.Frame) {
	s.arg.Payload, s.arg.Along = nil, nil
	s.owes = true
	var deadline time.Time
	if j.head.Deadline != 0 {
		deadline = j.wallDeadline()
	}
	ctx := s.contexts.next(deadline)
	if !j.enter(ctx) {
		s.dec.Skip(arg)
		s.code = 1
		s.answer(wire.Header{Kind: wire.KindSkipped, Seq: arg.Seq, Item: arg.Item}, nil)
		return
	}
	s.mem.Begin(arg.Seq, s.at-1)
	fn, err := s.lookup(&j.head)
	if err != nil {
		s.dec.Skip(arg)
		s.fail(arg, err)
		return
	}
	defer ctx.finish(false, nil) // as a server's request: what the task left behind is told to stop
	if j.head.Timeout > 0 {
		defer time.AfterFunc(j.head.Timeout, func() { ctx.finish(true, executor.ErrTimeout) }).Stop()
	}
	s.ctx = ctx
	if arg.Flags == wire.FlagPlain {
		s.value.Reset(arg.Payload)
		fn.Serve(ctx, &s.value, s.replies)
		return
	}
	err = s.dec.Message(arg, func(v *wire.Value) error {
		if arg.Flags&wire.FlagCarry != 0 {
			// Behind the answer: that may consist of what a handle has in memory.
			defer s.letGo(j, v) // also if the task ends the goroutine
		}
		fn.Serve(ctx, v, s.replies)
		return nil
	})
	if errors.Is(err, carry.ErrLost) {
		err = fmt.Errorf("executor: task %q: decoding the argument: %w", j.head.Task, err)
	}
	if err != nil { // fn was not called
		s.fail(arg, err)
	}
}

// letGo closes the handles that came with the argument of a call that has ended.
func (s *server) letGo(j *job, v *wire.Value) {
	if j.head.Keep {
		s.kept = append(s.kept, v.Handles()...)
		return
	}
	v.Drop()
}

// lookup returns the task of a call.
func (s *server) lookup(h *wire.CallHead) (executor.Function, error) {
	if h.Task == s.last.Task && h.Signature == s.last.Signature && s.last.fn != nil {
		return s.last.fn, nil
	}
	fn, ok := executor.Lookup(h.Task)
	if !ok {
		return nil, fmt.Errorf("worker: no task %q in the worker's program: make it in a package variable, or at least before worker.Main", h.Task)
	}
	if h.Signature != "" && h.Signature != fn.Signature() {
		return nil, fmt.Errorf("worker: task %q is %s in the program and %s in the worker's program", h.Task, h.Signature, fn.Signature())
	}
	if s.last.Task == h.Task && s.last.Signature == h.Signature {
		s.last.fn = fn
	}
	return fn, nil
}
