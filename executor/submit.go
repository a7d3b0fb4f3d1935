package executor

import (
	"context"
	"errors"
	"time"
	"unsafe"

	"example.com/futures/future"
	"example.com/futures/internal/promise"
	"example.com/futures/internal/wire"
)

// Submit hands one call of t with arg to ex and returns the future of its result.
//
// Submit does not wait for the call to run; it waits for room while the queue of ex
// is full, if ex is set so. ctx is the call's own: if it ends while the call is
// queued, the future is cancelled; once the call runs, the ctx that t sees ends with
// it. Calls of one priority start in the order in which they were submitted.
//
// Errors: Submit never returns nil. [ErrShutdown], [ErrQueueFull], [ErrNotPortable]
// and [*BrokenError] arrive through the future, and so does what the call returns or
// panics with: an error as it is, a panic as [*PanicError].
//
// Submit is safe for concurrent use. What arg points to is shared with a thread
// pool, so leave it alone until the future is done; a worker process gets a copy.
// When the call is done, nothing but the future keeps its result, and nothing at
// all its argument. Submit panics if t is the zero Task.
//
// Reference: concurrent.futures.Executor.submit (Python 3.14), which raises when
// the executor is shut down.
func Submit[A, R any](ctx context.Context, ex Executor, t Task[A, R], arg A, opts ...CallOption) *future.Future[R] {
	return submit(ctx, ex, t.must("Submit").with(opts), arg)
}

// SubmitFunc hands one call of fn to ex, which must run it in this process, and is
// otherwise like [Submit]. A backend that leaves the process answers with
// [ErrNotPortable]. SubmitFunc panics if fn is nil.
func SubmitFunc[R any](ctx context.Context, ex Executor, fn func(context.Context) (R, error), opts ...CallOption) *future.Future[R] {
	if fn == nil {
		panic("executor: SubmitFunc with a nil function")
	}
	var task *taskOf[func(context.Context) (R, error), R]
	if len(opts) > 0 {
		task = task.with(opts)
	}
	return submit(ctx, ex, task, fn)
}

// SubmitAll hands a call of t with each of args to ex and returns their futures in
// the same order. It is like a loop over [Submit], but does once what is common to
// all calls, and hands many over at a time where ex can take them so.
func SubmitAll[A, R any](ctx context.Context, ex Executor, t Task[A, R], args []A, opts ...CallOption) []*future.Future[R] {
	task := t.must("SubmitAll").with(opts)
	fs := make([]*future.Future[R], len(args))
	all, ok := ex.(bulkExecutor)
	if !ok {
		for i, arg := range args {
			fs[i] = submit(ctx, ex, task, arg)
		}
		return fs
	}
	made := make([]*taskCall[A, R], min(bulk, len(args)))
	calls := make([]Call, len(made))
	for from := 0; from < len(args); from += bulk {
		n := min(bulk, len(args)-from)
		for i, arg := range args[from : from+n] {
			c := newTaskCall(ctx, task, arg)
			made[i], calls[i], fs[from+i] = c, c, c.future()
		}
		if ctx.Err() != nil {
			for _, c := range made[:n] {
				c.cancelled()
			}
			continue
		}
		for i := 0; i < n; {
			accepted, err := all.ExecuteAll(calls[i:n])
			for _, c := range made[i : i+accepted] {
				c.watched()
			}
			if i += accepted; err != nil {
				made[i].refused(err)
				i++
			}
		}
	}
	return fs
}

// bulk is how many calls SubmitAll hands over at a time.
const bulk = 64

// A bulkExecutor takes many calls at a time, see [Executor].
type bulkExecutor interface {
	ExecuteAll(calls []Call) (accepted int, err error)
}

// Apply is [Submit] followed by Result: it calls t with arg on ex and waits. Under
// the context of a task of this process, the task's place is lent while it waits.
//
// Reference: multiprocessing.pool.Pool.apply.
func Apply[A, R any](ctx context.Context, ex Executor, t Task[A, R], arg A, opts ...CallOption) (R, error) {
	return submit(ctx, ex, t.must("Apply").with(opts), arg).Result(ctx)
}

// submit makes a call and hands it over.
func submit[A, R any](ctx context.Context, ex Executor, task *taskOf[A, R], arg A) *future.Future[R] {
	c := newTaskCall(ctx, task, arg)
	if ctx.Err() != nil {
		c.cancelled()
	} else if err := ex.Execute(c); err != nil {
		c.refused(err)
	} else {
		c.watched()
	}
	return c.future()
}

// A taskCall is one call: argument, future and all, in one object.
type taskCall[A, R any] struct {
	head
	task *taskOf[A, R] // nil, or without a function: arg is the function to call
	cell promise.Cell[R]
	arg  wire.Box[A] // zeroed once the call is done
}

// newTaskCall makes a call. A task that is nil, or has no function, is a closure's,
// which is then the argument.
func newTaskCall[A, R any](ctx context.Context, task *taskOf[A, R], arg A) *taskCall[A, R] {
	c := &taskCall[A, R]{head: head{ctx: ctx}, task: task, arg: wire.Box[A]{V: arg}}
	c.cell.Core().SetOwner(c)
	return c
}

func (c *taskCall[A, R]) future() *future.Future[R] { return (*future.Future[R])(&c.cell) }

// cancelled completes a call whose context had ended before it was handed over.
func (c *taskCall[A, R]) cancelled() {
	c.cell.Core().Cancel(promise.CancelledError(context.Cause(c.ctx)))
}

// watched has an accepted call end with its context.
func (c *taskCall[A, R]) watched() {
	if c.ctx.Done() != nil {
		c.listen(c.cell.Core(), c.ctxEnded)
	}
}

func (c *taskCall[A, R]) Task() string {
	if c.task == nil {
		return ""
	}
	return c.task.name
}

func (c *taskCall[A, R]) Portable() error {
	if !c.task.callable() {
		return notPortable("SubmitFunc's closure cannot run in another process: make it a Task with NewTask, in a package variable")
	}
	return c.task.Portable()
}

func (c *taskCall[A, R]) Direct() bool { return c.task.callable() && c.task.Direct() }

func (c *taskCall[A, R]) options() *options {
	if c.task == nil {
		return &noOptions
	}
	return &c.task.opts
}

func (c *taskCall[A, R]) Timeout() time.Duration { return c.options().timeout }
func (c *taskCall[A, R]) Retries() int           { return c.options().retries }
func (c *taskCall[A, R]) Priority() int          { return c.options().priority }

func (c *taskCall[A, R]) Len() int           { return 1 }
func (c *taskCall[A, R]) WaitsForRoom() bool { return false }
func (c *taskCall[A, R]) IsDone() bool       { return c.cell.Core().IsDone() }

func (c *taskCall[A, R]) Start() bool            { return c.cell.Core().Start() }
func (c *taskCall[A, R]) StartAt(time.Time) bool { return c.Start() }
func (c *taskCall[A, R]) Ran(time.Duration)      {}

func (c *taskCall[A, R]) Cancel(cause error) bool {
	cbs, ok := c.cell.Core().Cancel(promise.CancelledError(cause))
	cbs.Go()
	return ok
}

func (c *taskCall[A, R]) Interrupt(cause error) {
	cbs, _ := c.cell.Core().Interrupt(promise.CancelledError(cause), cause)
	cbs.Go()
}

// ctxEnded is called when the caller's context has ended.
func (c *taskCall[A, R]) ctxEnded() { c.Interrupt(context.Cause(c.ctx)) }

// refused completes a call that Execute did not accept.
func (c *taskCall[A, R]) refused(err error) {
	c.host = nil
	if c.ctx.Err() != nil && errors.Is(err, context.Cause(c.ctx)) {
		c.Cancel(context.Cause(c.ctx))
		return
	}
	if c.cell.Core().Begin() {
		c.drop()
		var zero R
		c.cell.Finish(zero, err)
	}
}

// Withdraw, Cancelled and InterruptRunning make a taskCall the owner of its future.

func (c *taskCall[A, R]) Withdraw() bool { return c.host == nil || c.host.Withdraw(c) }

func (c *taskCall[A, R]) Cancelled(err error) {
	c.drop()
	if c.host != nil {
		c.host.Cancelled(c, err)
	}
	c.leave()
}

func (c *taskCall[A, R]) InterruptRunning(cause error) bool {
	c.ending(c.cell.Core()).cancel(cause)
	if c.host != nil {
		c.host.Interrupt(c, cause)
	}
	return true
}

// Look and Help make a taskCall more of an owner, see package promise, where its host can
// do that.

func (c *taskCall[A, R]) Look() {
	if l, ok := c.host.(looker); ok {
		l.Look(c)
	}
}

func (c *taskCall[A, R]) Help(ctx context.Context) {
	if h, ok := c.host.(helper); ok {
		h.Help(ctx, c, c)
	}
}

// A looker is a Host whose workers take calls up without a word: Look starts c if that has
// happened.
type looker interface{ Look(c Call) }

// A helper is a Host that can bring on what somebody is about to wait for: Help goes on
// until done says that it has come, or ctx has ended, but for no longer than it takes to be
// woken after the last answer to some call.
// Settle completes what workers have answered by now.
type helper interface {
	Help(ctx context.Context, c Call, done interface{ IsDone() bool })
	Settle()
}

// drop lets go of the argument, at once or when Encode has read it.
func (c *taskCall[A, R]) drop() {
	if mayDrop(c.cell.Core()) {
		c.arg = wire.Box[A]{}
	}
}

func (c *taskCall[A, R]) Run(l Lender) {
	var v R
	var err error
	c.lender = l
	var ctx context.Context = (*callContext[A, R])(c)
	if d := c.Timeout(); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = limited(ctx, d)
		defer cancel()
	}
	returned := false
	defer func() {
		if !returned {
			err = abnormal(recover())
		}
		c.finish(v, outcome(ctx, err))
	}()
	v, err = c.call(ctx)
	returned = true
}

func (c *taskCall[A, R]) call(ctx context.Context) (R, error) {
	if c.task.callable() {
		return c.task.fn(ctx, c.arg.V)
	}
	return any(c.arg.V).(func(context.Context) (R, error))(ctx)
}

// finish completes the call. The host hears of it first, and nothing of the call but
// its outcome is left by the time somebody can see that it is done. It reports false if the
// call was done before.
func (c *taskCall[A, R]) finish(v R, err error) bool {
	if !c.cell.Core().Begin() {
		return false
	}
	c.drop()
	c.leave()
	o := Outcome{Succeeded: 1}
	if err != nil {
		o = Outcome{Failed: 1, Err: err}
	}
	c.report(c, o)
	c.cell.Finish(v, err).Go()
	return true
}

func (c *taskCall[A, R]) Encode(_ int, enc Encoder) error {
	core := c.cell.Core()
	there := hold(core)
	defer func() {
		if release(core) {
			c.arg = wire.Box[A]{}
		}
	}()
	if !there {
		return future.ErrCancelled
	}
	k, _ := c.plain()
	return encode(enc, &c.arg, k)
}

// plain returns how the argument and the result travel.
func (c *taskCall[A, R]) plain() (arg, result wire.Plain) {
	if c.task == nil {
		return 0, 0
	}
	return c.task.arg, c.task.result
}

func (c *taskCall[A, R]) Complete(_ int, dec Decoder) error {
	_, k := c.plain()
	v, err := decode[R](dec, k)
	if err != nil {
		err = decodeError(c.Task(), err)
	}
	if !c.finish(v, err) {
		dropHandles(dec)
	}
	return err
}

func (c *taskCall[A, R]) PackPlain(b []byte, from, to, room int) ([]byte, int) {
	k, _ := c.plain()
	if k == 0 || from >= min(to, 1) {
		return b, from
	}
	core := c.cell.Core()
	n := 0
	if hold(core) {
		b, n = wire.AppendPacked(b, k, unsafe.Pointer(&c.arg.V), 0, 1, room)
	}
	if release(core) {
		c.arg = wire.Box[A]{}
	}
	return b, from + n
}

func (c *taskCall[A, R]) CompletePlain(_ int, results [][]byte) int {
	_, k := c.plain()
	if k == 0 || len(results) == 0 {
		return 0
	}
	var v R
	err := wire.DecodePlain(results[0], k, unsafe.Pointer(&v))
	if err != nil {
		err = decodeError(c.Task(), err)
	}
	c.finish(v, err)
	return 1
}

func (c *taskCall[A, R]) Fail(_ int, err error) {
	var zero R
	c.finish(zero, err)
}

// A callContext is a taskCall as the context of its task, so that it costs nothing.
type callContext[A, R any] taskCall[A, R]

func (c *callContext[A, R]) core() *promise.Core { return c.cell.Core() }

// Deadline is the caller's. A time limit has a context of its own around this one.
func (c *callContext[A, R]) Deadline() (time.Time, bool) { return c.ctx.Deadline() }
func (c *callContext[A, R]) Done() <-chan struct{}       { return c.end(c.core()) }
func (c *callContext[A, R]) Err() error                  { return c.endErr(c.core()) }
func (c *callContext[A, R]) Value(key any) any           { return c.value(c.core(), key) }

// String is for context's own texts.
func (c *callContext[A, R]) String() string { return "executor.taskContext" }
