package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/proc"
	"example.com/futures/internal/promise"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// onlySeq is the number of a process's only call.
const onlySeq = 1

// A starter is the executor that Start submits its call to. That is all it is for, so
// that it has Execute alone; the Executor inside is nil.
type starter struct {
	executor.Executor
	cfg   Config
	child *child // once the process has the call
}

// Execute starts the process and sends it the call. It is for one goroutine.
func (s *starter) Execute(c executor.Call) error {
	if err := proc.CheckSystem(); err != nil {
		return err
	}
	spec, err := remote.Prepare(&s.cfg, "Config.", 1)
	if err != nil {
		return err
	}
	if err := proc.MayStart(len(s.cfg.Command) == 0); err != nil {
		return err
	}
	if err := c.Portable(); err != nil {
		return err
	}
	enc := wire.NewEncoder(s.cfg.MaxMessage)
	enc.Carries()
	payload, flags, err := enc.Message(func(e *wire.Encoder) error { return c.Encode(0, e) })
	if err != nil {
		return remote.EncodeError(c, err)
	}
	arg := argument{payload.Bytes(), flags, enc.Load()}
	defer arg.load.Close() // if it is not sent
	ctx := c.Context()
	spec.Quit = ctx.Done()
	k := &child{call: c, cfg: &s.cfg, done: make(chan struct{})}
	k.proc, err = proc.Start(spec)
	if errors.Is(err, proc.ErrQuit) {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	k.side.Go(k.watchMemory)
	theirs, err := k.greet()
	if err != nil {
		return err
	}
	if err := k.send(remote.Head(c, theirs), arg); err != nil {
		return err
	}
	s.child = k
	return nil
}

// An argument is one that is encoded.
type argument struct {
	payload []byte
	flags   uint8
	load    *carry.Load
}

// A child is a process that has its call, as its parent sees it. Its owner is a
// goroutine that waits for the answer and then for the end of the process, and sees to
// it that nothing remains. It is the Host of the call, too.
type child struct {
	proc *proc.Process
	call executor.Call
	cfg  *Config
	done chan struct{}  // closed when nothing is left of the process
	side sync.WaitGroup // goroutines that end with the process
	read bool           // the answer has come; the owner's own

	// mu guards the fields below. It is not held while anything waits. Lock order:
	// child.mu, then that of proc.
	mu          sync.Mutex
	over        bool // the call is done, or its process has ended
	interrupted bool
	cause       error         // why
	reason      error         // why the process was killed, if it was
	wrong       error         // why it is not listened to any more
	timers      []*time.Timer // that kill the process, each in its time
}

// greet makes the process ready for its call. If that fails, or the context of the call
// ends before, nothing is left of it.
func (c *child) greet() (map[string]string, error) {
	ctx := c.call.Context()
	unwatch := context.AfterFunc(ctx, c.proc.Kill)
	setup := wire.Setup{GOMAXPROCS: c.cfg.GOMAXPROCS, MaxMessage: c.cfg.MaxMessage, MemoryLimit: c.cfg.MemoryLimit, Once: true}
	theirs, err := c.proc.Greet(setup, c.cfg.StartTimeout, remote.Tasks())
	ended := !unwatch()
	if err == nil && !ended {
		return theirs, nil
	}
	c.proc.Kill()
	<-c.proc.Ended()
	if ended {
		err = context.Cause(ctx)
	} else {
		err = remote.NotReady(c.proc, err)
	}
	c.side.Wait()
	c.proc.Release()
	return nil, err
}

// send starts the call and sends it. If the process has ended, the owner will see that. An
// error is why the descriptors of arg cannot be sent; then the call has failed with it, and
// nothing is left of the process. ctx may end meanwhile: a large argument takes its time,
// and a process may be frozen.
func (c *child) send(head wire.CallHead, arg argument) error {
	c.call.Accept(c)
	c.call.Start()
	c.proc.Ring.Offer(onlySeq) // before the owner can release it
	go c.own()                 // ends with the process
	_ = c.proc.Add(wire.Header{Kind: wire.KindCall, Seq: onlySeq, Item: 1}, head.Append(nil))
	ctx := c.call.Context()
	unwatch := context.AfterFunc(ctx, func() { c.Interrupt(c.call, context.Cause(ctx)) })
	defer unwatch() // Submit watches from then on
	h := wire.Header{Kind: wire.KindArg, Seq: onlySeq, Flags: arg.flags}
	if arg.load == nil {
		_ = c.proc.Add(h, arg.payload)
	} else if err := c.proc.AddLoad(h, arg.payload, arg.load); errors.As(err, new(*carry.UnsentError)) {
		err = remote.EncodeError(c.call, err)
		c.call.Fail(0, err)
		c.proc.Kill()
		<-c.done
		return err
	}
	_ = c.proc.Flush()
	if c.call.Timeout() > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.limit(time.Now())
	}
	return nil
}

// own waits for the answer, and for the end.
func (c *child) own() {
	defer c.end() // also if decoding the result ends the goroutine
	f, err := c.proc.In.Next()
	if err == nil {
		err = c.receive(f)
	}
	if err != nil {
		c.mu.Lock()
		c.wrong = remote.Wrong(err)
		c.mu.Unlock()
	}
}

// receive completes the call.
func (c *child) receive(f wire.Frame) error {
	defer f.Along.Close() // if it is not for Complete
	if f.Seq != onlySeq || f.Item != 0 {
		return fmt.Errorf("an answer to item %d of call %d, which nobody waits for", f.Item, f.Seq)
	}
	c.mu.Lock()
	interrupted, cause := c.interrupted, c.cause
	c.mu.Unlock()
	switch {
	case f.Kind == wire.KindResult:
		c.read = true
		err := new(wire.Decoder).Message(f, func(v *wire.Value) error {
			_ = c.call.Complete(0, v) // what fails is the call's error
			return nil
		})
		if errors.Is(err, carry.ErrLost) {
			c.call.Fail(0, remote.DecodeError(c.call, err))
			err = nil
		}
		return err
	case f.Kind == wire.KindError:
		c.read = true
		c.call.Fail(0, executor.DecodeError(f.Payload))
	case f.Kind == wire.KindSkipped && interrupted:
		c.read = true
		c.call.Fail(0, promise.CancelledError(cause))
	default:
		return fmt.Errorf("a frame of kind %d", f.Kind)
	}
	return nil
}

// end waits for the end of the process, which is about to come if it has answered and
// is brought about otherwise, and judges its call.
func (c *child) end() {
	c.mu.Lock()
	wrong := c.wrong
	if c.call.IsDone() {
		c.settle()
	}
	c.mu.Unlock()
	if c.read && wrong == nil {
		defer time.AfterFunc(remote.ByeTime, c.proc.Kill).Stop()
	} else {
		c.proc.Kill() // it may have closed its socket only
	}
	<-c.proc.Ended()
	c.mu.Lock()
	c.settle()
	reason := c.reason
	if c.interrupted {
		reason = c.cause
	}
	c.mu.Unlock()
	switch {
	case c.call.IsDone():
	case c.read && wrong == nil:
		c.call.Fail(0, remote.DecodeError(c.call, remote.ErrGoexit))
	default:
		c.call.Fail(0, executor.JoinCause(remote.Lost(c.proc, c.call.Task(), wrong, reason), reason))
	}
	c.side.Wait()
	c.proc.Release()
	c.proc.In = nil // and its buffer: a Process may be kept for long
	close(c.done)
}

// settle says that the process is not to be killed for its call any more. mu is held.
func (c *child) settle() {
	c.over = true
	for _, t := range c.timers {
		t.Stop()
	}
	c.timers = nil
}

// after has fn called in d, with mu held, unless the process has ended by then. mu is
// held.
func (c *child) after(d time.Duration, fn func()) {
	if c.over {
		return
	}
	c.timers = append(c.timers, time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.over {
			fn()
		}
	}))
}

// limit has the process killed when its call is over its time, and the grace too. The
// process ends a call in time by itself; this is for one that goes on. The time of a
// call that it has not taken up has not begun; but a process that never does is frozen.
// mu is held.
func (c *child) limit(since time.Time) {
	c.after(remote.Patience(c.call.Timeout(), c.cfg.KillGrace), func() {
		if c.proc.Ring.Begun(onlySeq) == 0 && time.Since(since) < c.cfg.StartTimeout {
			c.limit(since)
			return
		}
		c.killFor(executor.ErrTimeout)
	})
}

// killFor kills the process for its call, which goes on after it was to end. mu is
// held.
func (c *child) killFor(reason error) {
	if c.reason == nil {
		c.reason = reason
	}
	c.proc.Kill()
}

// watchMemory kills the process when it passes its limit, unless its call is done: it
// ends then anyway.
func (c *child) watchMemory() {
	limit := c.cfg.MemoryLimit
	if limit == 0 {
		return
	}
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-c.proc.Ended():
			return
		case <-look.C:
		}
		size := c.proc.Resident()
		if size > limit {
			c.mu.Lock()
			if !c.over {
				c.proc.KillOver(size, limit)
			}
			c.mu.Unlock()
		}
		look.Reset(proc.NextLook(size, limit))
	}
}

// terminate is Process.Terminate.
func (c *child) terminate() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.proc.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("worker: Terminate: %w", err)
	}
	c.after(c.cfg.KillGrace, c.proc.Kill)
	return nil
}

// Withdraw is executor.Host's. The call has started before anybody could cancel it.
func (c *child) Withdraw(executor.Call) bool { return true }

// Cancelled is executor.Host's, and does not happen.
func (c *child) Cancelled(executor.Call, error) {}

// Finished is executor.Host's. There is nothing to count.
func (c *child) Finished(executor.Call, executor.Outcome) {}

// Interrupt is executor.Host's.
func (c *child) Interrupt(_ executor.Call, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.interrupted {
		return
	}
	c.interrupted, c.cause = true, cause
	if c.cfg.KillGrace > 0 {
		deadline := remote.ByDeadline(c.call.Context())
		c.side.Go(func() { remote.Interrupt(c.proc, onlySeq, deadline, cause) }) // ends when the frame is written, or the process has ended
	}
	c.after(c.cfg.KillGrace, func() { c.killFor(cause) })
}
