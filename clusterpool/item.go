package clusterpool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/remote"
	"example.com/futures/internal/wire"
)

// An argument is one item's, as it came.
type argument struct {
	absent bool // it could not be encoded: its item has failed
	flags  uint8
	data   []byte
}

// argument takes the next argument off.
func (d *reader) argument(packed bool) argument {
	if packed {
		return argument{flags: wire.FlagPlain, data: d.text()}
	}
	if d.byte() == itemAbsent {
		return argument{absent: true}
	}
	flags := d.byte()
	return argument{flags: flags, data: d.text()}
}

// unpack takes the arguments apart.
func (a *attempt) unpack() error {
	d := reader{b: a.args}
	a.items = make([]argument, min(a.head.items, len(a.args)+1))
	for i := range a.items {
		a.items[i] = d.argument(a.head.packed)
	}
	a.args = nil
	if d.bad || len(a.items) < a.head.items {
		return errors.New("clusterpool: an argument that does not make sense: is another version of the library at work?")
	}
	return nil
}

// runHere runs the items in this goroutine, which a task may end: another one goes on.
func (a *attempt) runHere() {
	for a.next < len(a.items) {
		arg := a.items[a.next]
		a.items[a.next] = argument{}
		a.next++
		if a.spent(a.next - 1) {
			a.outs = appendItem(a.outs, outError, 0, a.rec.why)
		} else {
			a.item(arg)
		}
		a.progressed(a.next)
	}
}

// item runs one item here, and adds its outcome to outs.
func (a *attempt) item(arg argument) {
	if arg.absent || a.ctx.Err() != nil {
		a.outs = appendItem(a.outs, outSkipped, 0, nil)
		return
	}
	ctx := a.ctx
	if a.head.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = ctx.within(a.head.timeout)
		defer stop()
	}
	runItem(ctx, a.fn, a.codec, arg.flags, arg.data, &a.outs)
}

// runItem runs fn with the argument in data under ctx, and adds the outcome to b, in any
// case: also if the task, or what encodes its result, panics or ends the goroutine.
func runItem(ctx context.Context, fn executor.Function, c *codec, flags uint8, data []byte, b *[]byte) {
	at := len(*b)
	answered := false
	fail := func(err error) {
		answered = true
		*b = appendItem((*b)[:at], outError, 0, executor.EncodeError(executor.JoinCause(err, context.Cause(ctx))))
	}
	reply := func(result any, err error) {
		if err != nil {
			fail(err)
			return
		}
		if small, ok := wire.Result(nil, result); ok {
			*b = appendItem((*b)[:at], outValue|outcome(kindOf(result))<<kindShift, wire.FlagPlain, small)
			answered = true
			return
		}
		returned := false
		defer func() {
			if returned {
				return
			}
			if v := recover(); v != nil {
				fail(encodeResultError(fn, &executor.PanicError{Value: v, Stack: debug.Stack()}))
			} else {
				fail(encodeResultError(fn, remote.ErrGoexit))
			}
		}()
		err = c.results.Message(maxValue, func(e *wire.Encoder) error { return e.Encode(result) }, func(p wire.Payload, flags uint8) {
			*b = append((*b)[:at], byte(outValue), flags)
			*b = binary.AppendUvarint(*b, uint64(p.Len()))
			*b = append(*b, p.Bytes()...)
		})
		returned, answered = true, true
		if err != nil {
			fail(encodeResultError(fn, err))
		}
	}
	err := c.args.Read(wire.Frame{Header: wire.Header{Flags: flags}, Payload: data}, func(v *wire.Value) error {
		fn.Serve(ctx, v, reply)
		return nil
	})
	if err != nil && !answered { // fn was not called
		fail(err)
	}
}

// kindOf returns the kind of what a task has replied with, which is plain, in its box.
func kindOf(result any) wire.Plain {
	if _, empty := result.(*wire.Unit); empty {
		return wire.PlainOf(reflect.TypeFor[struct{}]())
	}
	return wire.PlainOf(reflect.TypeOf(result).Elem().Field(0).Type)
}

func encodeResultError(fn executor.Function, err error) error {
	return fmt.Errorf("executor: task %q: encoding the result: %w", fn.Name(), err)
}

// isolatedTask runs one item in a worker process. It is given the task's name, its codec's
// signature and the argument, and returns the outcome, each in the format of a message: so
// they travel as they are.
var isolatedTask = executor.NewTask("clusterpool.isolated", func(ctx context.Context, b []byte) ([]byte, error) {
	d := reader{b: b}
	name := string(d.text())
	signature, flags := d.word(), d.byte()
	if d.bad {
		return nil, errRecord
	}
	fn, ok := executor.Lookup(name)
	if !ok || signature != codecOf(name).signature {
		return nil, fmt.Errorf("clusterpool: task %q is not in the program of the worker process, or has other types there", name)
	}
	var out []byte
	ended := make(chan struct{})
	go func() { // the task may end it
		defer close(ended)
		runItem(ctx, fn, codecOf(name), flags, d.b, &out)
	}()
	<-ended
	return out, nil
})

// isolated runs the items in worker processes. It is false if none was begun, since there are
// no such processes any more.
func (a *attempt) isolated() bool {
	args := a.items
	futures := make([]*future.Future[[]byte], len(args))
	for i := range args {
		if !args[i].absent && !a.spent(i) {
			futures[i] = a.submit(args[i])
		}
	}
	begun := false
	why := a.rec.why // of spent items: the last loss was the worker's, before this attempt
	for i := range args {
		if args[i].absent {
			a.outs = appendItem(a.outs, outSkipped, 0, nil)
			continue
		}
		if futures[i] == nil {
			a.outs = appendItem(a.outs, outError, 0, why)
			a.progressed(i + 1)
			continue
		}
		var out []byte
		var err error
		for {
			out, err = futures[i].Result(context.Background())
			lost, dead := errors.AsType[*executor.WorkerLostError](err)
			if !dead {
				break
			}
			lost.Task = a.head.task
			own := a.ctx.Err() == nil && !errors.Is(err, executor.ErrTimeout) // it was not killed for its own fault
			if !a.again(i, lost, own && !a.back.Load()) {
				break
			}
			futures[i] = a.submit(args[i])
		}
		futures[i], args[i] = nil, argument{}
		broken, bad := errors.AsType[*executor.BrokenError](err)
		_, lost := errors.AsType[*executor.WorkerLostError](err)
		switch {
		case err == nil:
			begun = true
			a.outs = append(a.outs, out...)
		case bad:
			a.breakDown(broken)
			a.outs = appendItem(a.outs, outError, 0, executor.EncodeError(err))
		case lost:
			begun = true
			a.outs = appendItem(a.outs, outError, 0, executor.EncodeError(err))
		case errors.Is(err, executor.ErrShutdown), errors.Is(err, future.ErrCancelled):
			a.outs = appendItem(a.outs, outSkipped, 0, nil)
		default:
			begun = true
			a.outs = appendItem(a.outs, outError, 0, executor.EncodeError(err))
		}
		a.progressed(i + 1)
	}
	return begun || a.ctx.Err() != nil && !a.back.Load()
}

// submit hands an item to a worker process.
func (a *attempt) submit(arg argument) *future.Future[[]byte] {
	b := make([]byte, 0, len(a.head.task)+len(arg.data)+16)
	b = appendText(b, a.head.task)
	b = binary.LittleEndian.AppendUint64(b, a.codec.signature)
	b = append(b, arg.flags)
	b = append(b, arg.data...)
	return executor.Submit(a.ctx, a.iso, isolatedTask, b, executor.WithTimeout(a.head.timeout))
}
