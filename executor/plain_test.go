package executor_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
	"example.com/futures/internal/wire"
)

type celsius float64

var (
	small     = executor.NewTask("executor_test.small", func(_ context.Context, n int) (int8, error) { return int8(n), nil })
	heat      = executor.NewTask("executor_test.heat", func(_ context.Context, c celsius) (celsius, error) { return c + 1, nil })
	nothing   = executor.NewTask("executor_test.nothing", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })
	refusing  = executor.NewTask("executor_test.refusing", func(_ context.Context, s string) ([]byte, error) { return nil, errors.New(s) })
	panicking = executor.NewTask("executor_test.panicking", func(_ context.Context, s string) (int, error) { panic(s) })
	leaving   = executor.NewTask("executor_test.leaving", func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil })
	dated     = executor.NewTask("executor_test.dated", func(_ context.Context, t time.Time) (int, error) { return t.Year(), nil })
	listed    = executor.NewTask("executor_test.listed", func(_ context.Context, l []int) (map[string]int, error) { return nil, nil })
	anything  = executor.NewTask("executor_test.anything", func(_ context.Context, v any) (int, error) { return 0, nil })
	hiding    = executor.NewTask("executor_test.hiding", func(_ context.Context, v struct{ n int }) (int, error) { return v.n, nil })
)

// A catcher is an executor that hands the calls it is given to the test, whose goroutine
// is the worker elsewhere. It is the Host of them.
type catcher struct {
	executor.Executor
	calls chan executor.Call

	mu          sync.Mutex
	outcomes    []executor.Outcome
	interrupted []error
	cancelled   int
}

func newCatcher() *catcher { return &catcher{calls: make(chan executor.Call, 100)} }

func (e *catcher) Capacity() int { return 2 }

func (e *catcher) Execute(c executor.Call) error {
	c.Accept(e)
	e.calls <- c
	return nil
}

func (e *catcher) Withdraw(executor.Call) bool { return true }

func (e *catcher) Cancelled(executor.Call, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cancelled++
}

func (e *catcher) Interrupt(_ executor.Call, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.interrupted = append(e.interrupted, cause)
}

func (e *catcher) Finished(_ executor.Call, o executor.Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.outcomes = append(e.outcomes, o)
}

// A hand is the worker that a call is assigned to.
type hand struct{ catcher }

func (h *hand) Lend()                       {}
func (h *hand) Reclaim()                    {}
func (h *hand) Executor() executor.Executor { return nil }

func (e *catcher) heard() []executor.Outcome {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.outcomes)
}

// A mapped is what a Map in a goroutine of its own has yielded.
type mapped[R any] struct {
	values []R
	errs   []error
	done   chan struct{}
}

func mapInto[A, R any](ctx context.Context, e executor.Executor, task executor.Task[A, R], args []A, opts ...executor.CallOption) *mapped[R] {
	m := &mapped[R]{done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for v, err := range executor.Map(ctx, e, task, slices.Values(args), opts...) {
			m.values, m.errs = append(m.values, v), append(m.errs, err)
		}
	}()
	return m
}

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func word(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

// unpack takes packed values apart.
func unpack(t *testing.T, b []byte) (all [][]byte) {
	for len(b) > 0 {
		v, rest, err := wire.Cut(b)
		require.NoError(t, err)
		all, b = append(all, v), rest
	}
	return all
}

// Results of which some are none: each of those fails with the words that Complete has.
func TestCompletePlainErrorsInTheMiddle(t *testing.T) {
	bad := map[int][]byte{1: word(128), 4: {1, 2, 3}, 5: nil}
	run := func(complete func(c executor.Call, results [][]byte)) (*mapped[int8], []executor.Outcome) {
		e := newCatcher()
		m := mapInto(t.Context(), e, small, numbers(7), executor.WithChunk(7))
		c := <-e.calls
		require.True(t, c.Start())
		b, next := c.PackPlain(nil, 0, c.Len(), 1<<20)
		require.Equal(t, 7, next)
		results := unpack(t, b)
		for i, b := range bad {
			results[i] = b
		}
		complete(c, results)
		<-m.done
		require.True(t, c.IsDone())
		return m, e.heard()
	}
	single, _ := run(func(c executor.Call, results [][]byte) {
		for i, b := range results {
			var v wire.Value
			v.Reset(b)
			require.Equal(t, bad[i] == nil && i != 5, c.Complete(i, &v) == nil)
		}
	})
	packed, heard := run(func(c executor.Call, results [][]byte) {
		require.Equal(t, 7, c.CompletePlain(0, append(results, word(1))), "there is no eighth item")
		require.Zero(t, c.CompletePlain(0, results), "they are complete")
	})
	require.Equal(t, []int8{0, 0, 2, 3, 0, 0, 6}, packed.values)
	require.Equal(t, single.values, packed.values)
	for i, err := range packed.errs {
		if _, ok := bad[i]; !ok {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, single.errs[i].Error())
		require.ErrorContains(t, err, `task "executor_test.small"`)
	}
	require.Len(t, heard, 1)
	require.Equal(t, 4, heard[0].Succeeded)
	require.Equal(t, 3, heard[0].Failed)
	require.Equal(t, packed.errs[5], heard[0].Err)
}

// Parts of a chunk that are completed in any order show once all before them are there,
// and nothing is completed twice.
func TestCompletePlainOutOfOrder(t *testing.T) {
	e := newCatcher()
	m := mapInto(t.Context(), e, plainInt, numbers(10), executor.WithChunk(10))
	c := <-e.calls
	require.True(t, c.Start())
	results := func(from, to int) (all [][]byte) {
		for i := from; i < to; i++ {
			all = append(all, word(100+i))
		}
		return all
	}
	require.Zero(t, c.CompletePlain(0, nil))
	require.Equal(t, 2, c.CompletePlain(0, results(0, 2)))
	require.Equal(t, 2, c.CompletePlain(6, results(6, 8)))
	require.Zero(t, c.CompletePlain(1, results(1, 4)), "the first is complete")
	require.Zero(t, c.CompletePlain(7, results(7, 10)))
	c.Fail(4, errors.New("lost"))
	require.Equal(t, 2, c.CompletePlain(2, results(2, 8)), "up to the one that has failed")
	require.Equal(t, 1, c.CompletePlain(5, results(5, 10)))
	require.Zero(t, c.CompletePlain(10, results(10, 12)))
	require.False(t, c.IsDone())
	require.Equal(t, 2, c.CompletePlain(8, results(8, 10)))
	require.True(t, c.IsDone())
	<-m.done
	require.Equal(t, []int{100, 101, 102, 103, 0, 105, 106, 107, 108, 109}, m.values)
	require.EqualError(t, m.errs[4], "lost")
	require.Len(t, e.heard(), 6)
}

// A chunk that is cancelled before it starts packs nothing and completes nothing.
func TestPackPlainOfCancelled(t *testing.T) {
	e := newCatcher()
	ctx, cancel := context.WithCancelCause(t.Context())
	m := mapInto(ctx, e, plainInt, numbers(4), executor.WithChunk(4))
	c := <-e.calls
	b, next := c.PackPlain(nil, 0, 2, 1<<20) // as a backend does before it starts a call
	require.Equal(t, 2, next)
	require.Len(t, b, 18)
	cause := errors.New("enough")
	cancel(cause)
	<-m.done
	require.False(t, c.StartAt(time.Now()))
	b, next = c.PackPlain(b, 2, 4, 1<<20)
	require.Equal(t, 2, next)
	require.Len(t, b, 18)
	require.Zero(t, c.CompletePlain(0, [][]byte{word(1)}))
	require.Len(t, m.errs, 1)
	require.ErrorIs(t, m.errs[0], cause)
	require.Empty(t, e.heard())
}

// A chunk that is interrupted half-way keeps what was completed before.
func TestCompletePlainInterrupted(t *testing.T) {
	e := newCatcher()
	ctx, cancel := context.WithCancelCause(t.Context())
	m := mapInto(ctx, e, plainInt, numbers(4), executor.WithChunk(4))
	c := <-e.calls
	require.True(t, c.Start())
	require.Equal(t, 2, c.CompletePlain(0, [][]byte{word(1), word(2)}))
	cause := errors.New("enough")
	cancel(cause)
	require.Eventually(t, func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.interrupted) > 0 }, time.Minute, time.Millisecond)
	require.Equal(t, 1, c.CompletePlain(2, [][]byte{word(3)}), "its worker had not heard of it")
	c.Fail(3, cause)
	<-m.done
	require.GreaterOrEqual(t, len(m.values), 3)
	require.Equal(t, []int{1, 2}, m.values[:2])
	require.ErrorIs(t, m.errs[len(m.errs)-1], cause)
	require.True(t, c.IsDone())
}

// Many chunks whose parts go to several goroutines, some of whose arguments are encoded
// while others are complete, while ctx may end: what is yielded is right, and the race
// detector finds nothing.
func TestPlainChunksInParallel(t *testing.T) {
	for range 20 {
		e := newCatcher()
		ctx, cancel := context.WithCancel(t.Context())
		var workers sync.WaitGroup
		for range 3 {
			workers.Go(func() {
				for c := range e.calls {
					if !c.Start() {
						continue
					}
					var parts sync.WaitGroup
					for from := 0; from < c.Len(); {
						n := 1 + rand.IntN(10)
						first, end := from, min(from+n, c.Len())
						parts.Go(func() {
							b, next := c.PackPlain(nil, first, end, 1<<20)
							if next != end {
								t.Errorf("packed up to %d of %d", next, end)
								return
							}
							if n == 1 {
								c.Fail(first, errors.New("one"))
							} else if got := c.CompletePlain(first, unpack(t, b)); got != end-first {
								t.Errorf("completed %d of %d", got, end-first)
							}
							c.PackPlain(b, first, end, 1<<20) // for nothing
						})
						from = end
					}
					parts.Wait()
				}
			})
		}
		stopAt := rand.IntN(2000)
		i := 0
		for v, err := range executor.Map(ctx, e, plainInt, slices.Values(numbers(1000)), executor.WithChunk(50)) {
			if err == nil && v != i || err != nil && err.Error() != "one" && ctx.Err() == nil {
				t.Fatalf("item %d is %d, %v", i, v, err)
			}
			if i++; i == stopAt {
				cancel()
			}
		}
		cancel()
		close(e.calls)
		workers.Wait()
	}
}

// With a worker assigned, that hears how items end, and not the Host.
func TestAssign(t *testing.T) {
	host, worker := newCatcher(), new(hand)
	f := executor.Submit(t.Context(), host, plainInt, 3)
	c := <-host.calls
	require.Nil(t, c.Assigned())
	require.True(t, c.Start())
	c.Assign(worker)
	require.Equal(t, worker, c.Assigned())
	b, next := c.PackPlain(nil, 0, 1, 100)
	require.Equal(t, 1, next)
	require.Equal(t, 1, c.CompletePlain(0, unpack(t, b)))
	v, err := f.Result(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, v)

	m := mapInto(t.Context(), host, plainInt, numbers(3), executor.WithChunk(3))
	c = <-host.calls
	require.True(t, c.Start())
	c.Assign(worker)
	require.Equal(t, 2, c.CompletePlain(0, [][]byte{word(1), word(2)}))
	c.Assign(nil)
	c.Fail(2, errors.New("lost"))
	<-m.done
	require.Equal(t, []executor.Outcome{{Succeeded: 1}, {Succeeded: 2}}, worker.heard())
	require.Len(t, host.heard(), 1)
}

// A single call packs itself, if there is room, and is complete with a result, or with
// what is none.
func TestPlainSingle(t *testing.T) {
	e := newCatcher()
	f := executor.Submit(t.Context(), e, small, 5)
	c := <-e.calls
	for _, room := range []int{-1, 0, 8} {
		b, next := c.PackPlain([]byte("x"), 0, 1, room)
		require.Zero(t, next)
		require.Equal(t, "x", string(b))
	}
	_, next := c.PackPlain(nil, 1, 1, 100)
	require.Equal(t, 1, next)
	b, next := c.PackPlain([]byte("x"), 0, 5, 9)
	require.Equal(t, 1, next)
	require.Equal(t, "x\x08\x05\x00\x00\x00\x00\x00\x00\x00", string(b))
	require.True(t, c.StartAt(time.Now()))
	require.False(t, c.StartAt(time.Now()))
	require.Zero(t, c.CompletePlain(0, nil))
	require.Equal(t, 1, c.CompletePlain(0, [][]byte{word(1000)}))
	require.ErrorContains(t, f.Exception(t.Context()), "out of range for int8")
	_, next = c.PackPlain(nil, 0, 1, 100)
	require.Zero(t, next, "it is over")

	f = executor.Submit(t.Context(), e, small, 5)
	c = <-e.calls
	require.True(t, f.Cancel())
	_, next = c.PackPlain(nil, 0, 1, 100)
	require.Zero(t, next)
	c.CompletePlain(0, [][]byte{word(1)})
	require.ErrorIs(t, f.Exception(t.Context()), future.ErrCancelled)
}

// What is not plain is not packed, and which types run code of their own is known.
func TestDirect(t *testing.T) {
	e := newCatcher()
	ctx := t.Context()
	executor.Submit(ctx, e, plainInt, 1)
	executor.Submit(ctx, e, nothing, struct{}{})
	executor.Submit(ctx, e, listed, nil, executor.WithRetries(1))
	executor.Submit(ctx, e, dated, time.Now())
	executor.Submit(ctx, e, anything, nil)
	executor.Submit(ctx, e, hiding, struct{ n int }{})
	executor.Submit(ctx, e, executor.LocalTask(func(context.Context, int) (int, error) { return 0, nil }), 1)
	executor.SubmitFunc(ctx, e, func(context.Context) (int, error) { return 0, nil })
	for i, want := range []struct{ direct, packs, completes bool }{
		{true, true, true},
		{true, true, true},
		{true, false, false},
		{false, false, true},
		{false, false, true},
		{false, false, true},
		{false, true, true},
		{false, false, false},
	} {
		c := <-e.calls
		require.Equal(t, want.direct, c.Direct(), i)
		require.Equal(t, want.direct, c.Direct(), i)
		_, next := c.PackPlain(nil, 0, 1, 100)
		require.Equal(t, want.packs, next == 1, i)
		require.Equal(t, want.completes, c.CompletePlain(0, [][]byte{word(0)}) == 1, i)
	}
}

// serve has a task serve a plain argument, and returns the bytes of its result.
func servePlain(task string, arg []byte) (b []byte, plain bool, err error) {
	fn, _ := executor.Lookup(task)
	done := make(chan struct{})
	go func() { // the task may end it
		defer close(done)
		var v wire.Value
		v.Reset(arg)
		replies := 0
		fn.Serve(context.Background(), &v, func(result any, failure error) {
			if replies++; replies > 1 {
				panic("a second reply")
			}
			if err = failure; err == nil {
				b, plain = wire.AppendResult(nil, result)
			}
		})
	}()
	<-done
	return b, plain, err
}

func TestServePlain(t *testing.T) {
	b, plain, err := servePlain(plainInt.Name(), word(7))
	require.True(t, plain)
	require.NoError(t, err)
	require.Equal(t, word(50), b)
	b, plain, err = servePlain(heat.Name(), make([]byte, 8))
	require.True(t, plain)
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00\x00\x00\x00\xf0\x3f", string(b))
	b, plain, err = servePlain(nothing.Name(), nil)
	require.True(t, plain)
	require.NoError(t, err)
	require.Empty(t, b)
	for task, want := range map[string]string{
		plainInt.Name():  `executor: task "executor_test.plainInt": decoding the argument: wire: 4 bytes for int, which takes 8`,
		refusing.Name():  "text",
		panicking.Name(): "panic: text",
		dated.Name():     `executor: task "executor_test.dated": decoding the argument: wire: a plain value for a type that is not plain`,
	} {
		_, _, err := servePlain(task, []byte("text"))
		require.EqualError(t, err, want)
	}
	_, _, err = servePlain(leaving.Name(), word(1))
	require.ErrorContains(t, err, "Goexit")
}

// A task with a plain argument and another result, and the reverse, travel each in its way.
func TestPlainOneWay(t *testing.T) {
	enc := wire.NewEncoder(1 << 20)
	var dec wire.Decoder
	payload, flags, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(&wire.Box[[]int]{V: []int{1}}) })
	require.NoError(t, err)
	require.NoError(t, dec.Message(wire.Frame{Header: wire.Header{Flags: flags}, Payload: payload.Bytes()}, func(v *wire.Value) error {
		fn, _ := executor.Lookup(listed.Name())
		fn.Serve(t.Context(), v, func(result any, err error) {
			require.NoError(t, err)
			_, plain := wire.AppendResult(nil, result)
			require.False(t, plain)
		})
		return nil
	}))
}

// A bound argument is plain, too.
func TestBoundPlain(t *testing.T) {
	payload, flags, err := wire.NewEncoder(100).Message(func(e *wire.Encoder) error { return executor.Bind(plainInt, 5).Encode(e) })
	require.NoError(t, err)
	require.Equal(t, wire.FlagPlain, flags)
	require.Equal(t, word(5), payload.Bytes())
	_, _, err = wire.NewEncoder(7).Message(func(e *wire.Encoder) error { return executor.Bind(plainInt, 5).Encode(e) })
	require.EqualError(t, err, "8 bytes are over the limit of 7 for one value")
}
