package executor_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/future"
)

// A map whose calls become slow makes its chunks smaller, and with them what it takes
// ahead of the consumer. It used to wait for a chunk in flight, at a moment when all
// that it had taken was in its own hands: MapUnordered for ever, Map with a panic.
func TestMapCallsBecomeSlow(t *testing.T) {
	// How much was taken at that moment depends on which call is the first slow one.
	for fast := range 200 {
		all := fast + 300
		args := func(yield func(int) bool) {
			for i := 0; i < all && yield(i); i++ {
			}
		}
		task := executor.LocalTask(func(_ context.Context, n int) (int, error) {
			if n >= fast {
				time.Sleep(10 * time.Millisecond) // virtual time
			}
			return n, nil
		})
		synctest.Test(t, func(t *testing.T) {
			p, err := newPool(zeroConfig, false)
			require.NoError(t, err)
			defer p.Close()
			n := 0
			for v, err := range executor.Map(t.Context(), p, task, args) {
				require.NoError(t, err)
				require.Equal(t, n, v)
				n++
			}
			require.Equal(t, all, n)
			for it, err := range executor.MapUnordered(t.Context(), p, task, args) {
				require.NoError(t, err)
				require.Equal(t, it.Index, it.Value)
				n--
			}
			require.Zero(t, n)
		})
	}
}

// A map whose input becomes slow hands over and yields what it has, instead of filling
// the large chunks that cheap calls had led to.
func TestMapInputBecomesSlow(t *testing.T) {
	const fast, slow = 100_000, 100
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { return n, nil })
	synctest.Test(t, func(t *testing.T) {
		p, err := newPool(zeroConfig, false)
		require.NoError(t, err)
		defer p.Close()
		taken := 0
		args := func(yield func(int) bool) {
			for ; taken < fast+slow; taken++ {
				if taken >= fast {
					time.Sleep(time.Second) // virtual time
				}
				if !yield(taken) {
					return
				}
			}
		}
		read := 0
		for _, err := range executor.Map(t.Context(), p, task, args) {
			require.NoError(t, err)
			read++
			if taken > fast+slow/2 {
				require.Less(t, taken-read, slow/2, "inputs taken and not yielded")
			}
		}
		require.Equal(t, fast+slow, read)
	})
}

// A canceller is a backend that cancels what it accepts, while the caller goes on.
type canceller struct{ executor.Executor }

func (x canceller) Execute(c executor.Call) error {
	c.Accept(x)
	go c.Cancel(executor.ErrShutdown)
	return nil
}

func (canceller) Withdraw(executor.Call) bool              { return true }
func (canceller) Cancelled(executor.Call, error)           {}
func (canceller) Interrupt(executor.Call, error)           {}
func (canceller) Finished(executor.Call, executor.Outcome) {}

// A consumer that waits for a chunk hears of its cancellation when it can see it. It
// used to hear of it just before, and to wait for ever if it was quick to look.
func TestMapHearsOfCancelledChunk(t *testing.T) {
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { return n, nil })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 20_000 {
		args := func(yield func(int) bool) { yield(1) }
		for _, err := range executor.Map(ctx, canceller{}, task, args) {
			require.ErrorIs(t, err, executor.ErrShutdown)
		}
		for _, err := range executor.MapUnordered(ctx, canceller{}, task, args) {
			require.ErrorIs(t, err, executor.ErrShutdown)
		}
	}
	require.NoError(t, ctx.Err())
}

// sharers is a backend of two workers, one of which takes part in a chunk of the other
// when it has nothing else to do.
type sharers struct {
	canceller
	queue chan func(*seat)
	idle  atomic.Int32
	joins atomic.Int32
	ended atomic.Int64 // items
	seats [2]seat
}

// A seat is one of the workers, as the Lender of its calls.
type seat struct {
	*sharers
	lent atomic.Int32 // times
}

func newSharers(t *testing.T) *sharers {
	x := &sharers{queue: make(chan func(*seat), 1000)}
	var workers sync.WaitGroup
	for i := range x.seats {
		s := &x.seats[i]
		s.sharers = x
		workers.Add(1)
		var work func()
		work = func() {
			over := false
			defer func() {
				if !over {
					go work() // a task ended the goroutine
				} else {
					workers.Done()
				}
			}()
			for x.idle.Add(1); ; x.idle.Add(1) {
				run, ok := <-x.queue
				if x.idle.Add(-1); !ok {
					over = true
					return
				}
				run(s)
			}
		}
		go work()
	}
	t.Cleanup(func() { close(x.queue); workers.Wait() })
	return x
}

func (x *sharers) Capacity() int { return 2 }

func (x *sharers) Execute(c executor.Call) error {
	c.Accept(x)
	x.queue <- func(s *seat) {
		if c.Start() {
			c.Run(s)
		}
	}
	return nil
}

func (x *sharers) Share(c executor.Call) bool {
	if len(x.queue) > 0 || x.idle.Load() == 0 {
		return false
	}
	x.joins.Add(1)
	x.queue <- func(s *seat) { c.Run(s) }
	return true
}

func (x *sharers) Finished(_ executor.Call, o executor.Outcome) {
	x.ended.Add(int64(o.Succeeded + o.Failed + o.Cancelled))
}

func (s *seat) Lend()                       { s.lent.Add(1) }
func (s *seat) Reclaim()                    {}
func (s *seat) Executor() executor.Executor { return s.sharers }

// Expensive items that stand in a row among cheap ones are in one chunk, made for the
// cheap ones. A worker that has nothing to do takes part in it.
func TestMapSharesSlowChunk(t *testing.T) {
	const items, from, slow, each = 60_000, 45_000, 20, 10 * time.Millisecond
	for _, end := range []struct {
		name string
		fn   func(i int)
	}{
		{"Returns", func(int) {}},
		{"Panics", func(i int) { panic(i) }},
		{"Goexits", func(int) { runtime.Goexit() }},
	} {
		t.Run(end.name, func(t *testing.T) {
			task := executor.LocalTask(func(ctx context.Context, i int) (int, error) {
				if i >= from && i < from+slow {
					pause := future.NewPromise[int]()
					time.AfterFunc(each, func() { _ = pause.Resolve(0) })
					if _, err := pause.Future().Result(ctx); err != nil { // it lends the worker's place
						return 0, err
					}
					if !executor.InTask(ctx, ctx.Value(ownKey{}).(executor.Executor)) {
						return 0, errors.New("not in a task")
					}
					end.fn(i)
				}
				return 2 * i, nil
			})
			args := func(yield func(int) bool) {
				for i := 0; i < items && yield(i); i++ {
				}
			}
			fails := func(i int, err error) bool {
				return (err != nil) == (end.name != "Returns" && i >= from && i < from+slow)
			}
			synctest.Test(t, func(t *testing.T) {
				x := newSharers(t)
				ctx := context.WithValue(t.Context(), ownKey{}, executor.Executor(x))
				begun, n := time.Now(), 0
				for v, err := range executor.Map(ctx, x, task, args) {
					require.True(t, fails(n, err), "item %d: %v", n, err)
					if err == nil {
						require.Equal(t, 2*n, v)
					}
					n++
				}
				require.Equal(t, items, n)
				if end.name != "Goexits" { // which keeps a worker busy a little longer
					require.Less(t, time.Since(begun), slow*each*3/4)
				}
				require.NotZero(t, x.joins.Load())
				require.NotZero(t, x.seats[0].lent.Load())
				require.NotZero(t, x.seats[1].lent.Load())
				require.EqualValues(t, items, x.ended.Load())

				begun, n = time.Now(), 0
				for it, err := range executor.MapUnordered(ctx, x, task, args) {
					require.True(t, fails(it.Index, err), "item %d: %v", it.Index, err)
					n++
				}
				require.Equal(t, items, n)
				if end.name != "Goexits" { // which keeps a worker busy a little longer
					require.Less(t, time.Since(begun), slow*each*3/4)
				}
				require.EqualValues(t, 2*items, x.ended.Load())
			})
		})
	}
}

// ownKey is where a task finds the executor that it runs on.
type ownKey struct{}

// What is done is yielded soon, also when the next item of the chunk hangs: the
// consumer who waits is told of each item then.
func TestMapYieldsBeforeItemThatHangs(t *testing.T) {
	const fast, all = 100_000, 100_040
	synctest.Test(t, func(t *testing.T) {
		p, err := newPool(zeroConfig, false)
		require.NoError(t, err)
		defer p.Close()
		begun := time.Now()
		task := executor.LocalTask(func(_ context.Context, i int) (time.Duration, error) {
			if i >= fast {
				time.Sleep(100 * time.Millisecond) // virtual time
			}
			return time.Since(begun), nil
		})
		args := func(yield func(int) bool) {
			for i := 0; i < all && yield(i); i++ {
			}
		}
		n := 0
		for done, err := range executor.Map(t.Context(), p, task, args) {
			require.NoError(t, err)
			if n++; n > fast+1 { // the first slow one may stand in one stretch with quick ones
				require.Less(t, time.Since(begun)-done, 10*time.Millisecond, "item %d", n-1)
			}
		}
		require.Equal(t, all, n)
		begun = time.Now()
		for it, err := range executor.MapUnordered(t.Context(), p, task, args) {
			require.NoError(t, err)
			if it.Index > fast {
				require.Less(t, time.Since(begun)-it.Value, 10*time.Millisecond, "item %d", it.Index)
			}
		}
	})
}

// All items of a chunk may be completed at the same time by as many goroutines. One
// that was shown by the completion of another used to be shown without its result.
func TestMapChunkCompletedByMany(t *testing.T) {
	const items = 32
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { return n, nil })
	x := &completer{}
	for range 500 {
		n := 0
		for v, err := range executor.Map(t.Context(), x, task, slices.Values(make([]int, items)), executor.WithChunk(items)) {
			require.NoError(t, err)
			require.Equal(t, n+1, v)
			n++
		}
		require.Equal(t, items, n)
	}
	x.wg.Wait()
}

// A completer is a backend that completes all items of a chunk at once; item i with i+1.
type completer struct {
	canceller
	wg sync.WaitGroup
}

func (x *completer) Execute(c executor.Call) error {
	c.Accept(x)
	c.Start()
	for i := range c.Len() {
		x.wg.Go(func() {
			var b bytes.Buffer
			_ = gob.NewEncoder(&b).Encode(struct{ V int }{i + 1})
			_ = c.Complete(i, gob.NewDecoder(&b))
		})
	}
	return nil
}

// A backend may still read an argument when the item is done. The map does not use that
// memory again for a later one.
func TestMapLeavesArgumentToItsReader(t *testing.T) {
	task := executor.LocalTask(func(_ context.Context, n int) (int, error) { return n, nil })
	x := &slowReader{release: make(chan struct{}), read: make(chan int, 1)}
	args := func(yield func(int) bool) {
		for i := 1; i <= 20 && yield(i); i++ {
		}
	}
	for _, err := range executor.Map(t.Context(), x, task, args, executor.WithChunk(1), executor.WithBuffer(1)) {
		require.NoError(t, err)
	}
	close(x.release)
	require.Equal(t, 1, <-x.read)
}

// A slowReader completes each item at once, and is still encoding the first one's
// argument when all others are done.
type slowReader struct {
	canceller
	release chan struct{}
	read    chan int
	begun   bool
}

func (x *slowReader) Execute(c executor.Call) error {
	c.Accept(x)
	c.Start()
	if !x.begun {
		x.begun = true
		holds := make(chan struct{})
		go func() {
			_ = c.Encode(0, encoderFunc(func(v any) error {
				close(holds)
				<-x.release
				var b bytes.Buffer
				var arg struct{ V int }
				_ = gob.NewEncoder(&b).Encode(v)
				_ = gob.NewDecoder(&b).Decode(&arg)
				x.read <- arg.V
				return nil
			}))
		}()
		<-holds
	}
	var b bytes.Buffer
	_ = gob.NewEncoder(&b).Encode(struct{ V int }{1})
	return c.Complete(0, gob.NewDecoder(&b))
}

type encoderFunc func(v any) error

func (f encoderFunc) Encode(v any) error { return f(v) }
