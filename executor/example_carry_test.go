package executor_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"

	"example.com/futures/executor"
)

// carry runs the items of c one after another, each as if the worker were another
// process: what goes there is bytes, what comes back is bytes.
func (w *worker) carry(c executor.Call) {
	ctx, cancel := context.WithCancelCause(w.pool.base)
	defer cancel(nil)
	if !w.begin(c, cancel) {
		return
	}
	if d, ok := c.Context().Deadline(); ok {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, d)
		defer stop()
	}
	for i := range c.Len() {
		if ctx.Err() != nil && i > 0 { // interrupted before its turn
			c.Fail(i, context.Cause(ctx))
			continue
		}
		var request bytes.Buffer
		if err := c.Encode(i, gob.NewEncoder(&request)); err != nil {
			c.Fail(i, err)
			continue
		}
		itemCtx, stop := ctx, context.CancelFunc(func() {})
		if d := c.Timeout(); d > 0 {
			itemCtx, stop = context.WithTimeoutCause(ctx, d, executor.ErrTimeout)
		}
		result, failure := serve(itemCtx, c.Task(), request.Bytes())
		stop()
		if failure != nil {
			c.Fail(i, executor.DecodeError(failure))
		} else {
			_ = c.Complete(i, gob.NewDecoder(bytes.NewReader(result)))
		}
	}
}

// serve is the worker's side: it knows the name of a task and the bytes of its
// argument, and answers with the bytes of the result, or of an error.
func serve(ctx context.Context, task string, request []byte) (result, failure []byte) {
	f, ok := executor.Lookup(task)
	if !ok {
		return nil, executor.EncodeError(fmt.Errorf("no task %q", task))
	}
	var reply bytes.Buffer
	var failed error
	// A goroutine of its own, since a task may end it.
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Serve(ctx, gob.NewDecoder(bytes.NewReader(request)), func(v any, err error) {
			if err == nil {
				failed = encode(&reply, v)
			} else if failed = err; ctx.Err() != nil {
				failed = executor.JoinCause(err, context.Cause(ctx))
			}
		})
	}()
	<-done
	if failed != nil {
		return nil, executor.EncodeError(failed)
	}
	return reply.Bytes(), nil
}

// encode writes v to b. A value that panics while it is encoded fails its own call.
func encode(b *bytes.Buffer, v any) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("encoding the result: panic: %v", v)
		}
	}()
	return gob.NewEncoder(b).Encode(v)
}

// initialize runs the initializer in the way in which calls run.
func (p *pool) initialize() error {
	if !p.carry || p.cfg.Initializer.IsZero() {
		return p.cfg.Initializer.Run(p.base)
	}
	var request bytes.Buffer
	if err := p.cfg.Initializer.Encode(gob.NewEncoder(&request)); err != nil {
		return err
	}
	if _, failure := serve(p.base, p.cfg.Initializer.Name(), request.Bytes()); failure != nil {
		return executor.DecodeError(failure)
	}
	return nil
}
