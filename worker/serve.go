package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// A server is a worker's half of its conversation. One goroutine reads frames, all
// the time, so that the parent's death and an interrupt are seen at once and the
// parent never waits for room in the socket; another runs the calls in order.
type server struct {
	page  *proc.Page
	in    *wire.Reader
	limit int64 // of one encoded value
	once  bool  // the first call is the last one, too

	// The runner's own: it decodes, runs and encodes.
	dec  *wire.Decoder
	enc  *wire.Encoder
	out  *wire.Writer
	job  *job // being run
	at   int  // the next of its items
	owes bool // the item before that has begun, and has no answer
	code int  // with which the process ends, if it serves once

	mu   sync.Mutex // guards the fields below; nothing is called under it
	more sync.Cond
	jobs []*job // complete, in order; the first is being run or is next
}

// A job is one call: what it was sent as, and what became of it.
type job struct {
	seq   uint64
	head  wire.CallHead
	args  []wire.Frame
	count int // of args, once all are here

	mu          sync.Mutex // guards the fields below
	current     *callContext
	interrupted bool
	deadline    bool
	cause       error
}

// serve greets the parent and serves its calls. It returns when the conversation has
// ended in another way than by Bye.
func serve(socket *os.File, page *proc.Page) error {
	s := &server{page: page, in: wire.NewReader(socket, 1<<30, false), out: wire.NewWriter(socket), dec: new(wire.Decoder)}
	s.more.L = &s.mu
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
	limitMemory(setup.MemoryLimit)
	index = setup.Index
	s.limit = setup.MaxMessage
	s.once = setup.Once
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
			coming = &job{seq: f.Seq, count: int(f.Item)}
			if coming.head, err = wire.ParseCallHead(f.Payload); err != nil {
				return err
			}
		case wire.KindArg:
			if coming == nil || coming.seq != f.Seq {
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

// next waits for a call.
func (s *server) next() *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.jobs) == 0 {
		s.more.Wait()
	}
	return s.jobs[0]
}

// finish forgets the first call.
func (s *server) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[0] = nil
	s.jobs = s.jobs[1:]
}

// interrupt ends the context of a call. It comes too late for one that is done.
func (s *server) interrupt(coming *job, seq uint64, i wire.Interruption) {
	found := coming
	if found == nil || found.seq != seq {
		found = nil
		s.mu.Lock()
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
	j.mu.Lock()
	if j.interrupted {
		j.mu.Unlock()
		return
	}
	j.interrupted, j.deadline, j.cause = true, deadline, cause
	current := j.current
	j.mu.Unlock()
	if current != nil {
		current.finish(deadline, cause)
	}
}

// enter makes c the context of the item that begins, and reports false if the call
// was interrupted before.
func (j *job) enter(c *callContext) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.interrupted {
		return false
	}
	j.current = c
	return true
}

// run runs calls, one after another. A task that ends its goroutine ends this one, and
// so does an error that does it while it is encoded:
// another goes on where it was.
func (s *server) run() {
	defer func() { go s.run() }()
	if s.owes { // the error's own method ended the goroutine
		s.fail(s.job.args[s.at-1], fmt.Errorf("executor: task %q: encoding the error: %w", s.job.head.Task, remote.ErrGoexit))
	}
	for {
		if s.job == nil {
			s.job, s.at = s.next(), 0
			if !s.page.Take(s.job.seq) {
				fmt.Fprintf(os.Stderr, "worker: call %d is not on offer\n", s.job.seq)
				proc.Die()
			}
		}
		for s.at < len(s.job.args) {
			s.at++
			if arg := s.job.args[s.at-1]; arg.Flags&wire.FlagAbsent == 0 {
				s.item(s.job, arg)
			}
		}
		if s.once {
			os.Exit(s.code)
		}
		s.job = nil
		s.finish()
	}
}

// item runs one item and answers. The answer is written before the next item
// begins: it is not lost with what comes after it.
func (s *server) item(j *job, arg wire.Frame) {
	j.args[s.at-1].Payload = nil
	s.owes = true
	ctx := newCallContext(j.wallDeadline())
	if !j.enter(ctx) {
		s.dec.Skip(arg)
		s.code = 1
		s.answer(wire.Header{Kind: wire.KindSkipped, Seq: arg.Seq, Item: arg.Item}, nil)
		return
	}
	s.page.Begin(arg.Seq, s.at-1)
	fn, err := lookup(j.head)
	if err != nil {
		s.dec.Skip(arg)
		s.fail(arg, err)
		return
	}
	defer ctx.finish(false, nil) // as a server's request: what the task left behind is told to stop
	if j.head.Timeout > 0 {
		defer time.AfterFunc(j.head.Timeout, func() { ctx.finish(true, executor.ErrTimeout) }).Stop()
	}
	err = s.dec.Message(arg, func(v *wire.Value) error {
		fn.Serve(ctx, v, func(result any, err error) { s.reply(j, arg, ctx, result, err) })
		return nil
	})
	if err != nil { // fn was not called
		s.fail(arg, err)
	}
}

// lookup returns the task of a call.
func lookup(h wire.CallHead) (executor.Function, error) {
	fn, ok := executor.Lookup(h.Task)
	if !ok {
		return nil, fmt.Errorf("worker: no task %q in the worker's program: make it in a package variable, or at least before worker.Main", h.Task)
	}
	if h.Signature != "" && h.Signature != fn.Signature() {
		return nil, fmt.Errorf("worker: task %q is %s in the program and %s in the worker's program", h.Task, h.Signature, fn.Signature())
	}
	return fn, nil
}
