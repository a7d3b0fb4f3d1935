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
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/ring"
	"example.com/futures/internal/wire"
)

// A server is a worker's half of its conversation. One goroutine reads the socket, all
// the time, so that the parent's death and an interrupt are seen at once and the
// parent never waits for room in it; another runs the calls in order. They come
// through shared memory, but where the parent has said otherwise.
type server struct {
	mem      *ring.Worker
	in       *wire.Reader
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
	ctx      *callContext // of the item
	value    wire.Value   // a plain argument
	result   [64]byte     // room for a small plain result
	replies  func(result any, err error)

	// Of the call that is run, or about to be, for who interrupts it. He says that he looks,
	// and then looks at curSeq; the runner clears that, and then looks whether somebody does.
	curSeq atomic.Uint64
	curJob *job
	looks  atomic.Bool
	found  atomic.Bool // somebody has curJob, perhaps for longer than it runs

	mu    sync.Mutex // guards the fields below; nothing is called under it
	more  sync.Cond
	jobs  []*job                  // complete, in order; the first is being run or is next
	large map[wire.RingArg][]byte // arguments that came through the socket and wait for their call
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
func serve(socket *os.File, mem *ring.Worker) error {
	s := &server{mem: mem, in: wire.NewReader(socket, 1<<30, false), out: wire.NewWriter(socket), dec: new(wire.Decoder), large: map[wire.RingArg][]byte{}}
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
	return nil
}

// read reads frames until the parent is gone.
func (s *server) read() error {
	var coming *job
	for {
		f, err := s.in.Next()
		if err != nil {
			return quiet(err)
		}
		switch f.Kind {
		case wire.KindCall:
			coming = &job{seq: f.Seq, count: int(f.Item), sock: true}
			if coming.head, err = wire.ParseCallHead(f.Payload); err != nil {
				return err
			}
		case wire.KindArg:
			if coming == nil {
				s.keep(f)
				break
			}
			if coming.seq != f.Seq {
				return errors.New("an argument without its call")
			}
			coming.args = append(coming.args, f)
		case wire.KindInterrupt:
			i, err := wire.ParseInterruption(f.Payload)
			if err != nil {
				return err
			}
			s.interrupt(coming, f.Seq, i)
		case wire.KindBye:
			os.Exit(0)
		default:
			return fmt.Errorf("a frame of kind %d, which this version does not know", f.Kind)
		}
		if coming != nil && len(coming.args) == coming.count {
			s.enqueue(coming)
			coming = nil
			// The runner goes first: with one P, which is usual in a worker, it would
			// otherwise wait until the runtime notices that this goroutine is blocked in its
			// read. A task that computes is preempted soon enough for an interrupt.
			runtime.Gosched()
		}
	}
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
	s.large[wire.RingArg{Seq: f.Seq, Item: f.Item}] = f.Payload
	s.more.Signal()
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
	s.arg.Payload = nil
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
		fn.Serve(ctx, v, s.replies)
		return nil
	})
	if err != nil { // fn was not called
		s.fail(arg, err)
	}
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
