package promise_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/internal/lend"
	"example.com/futures/internal/promise"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An owner lets everything happen, and counts.
type owner struct {
	refuse      bool
	asked       int
	cancelled   int
	interrupted []error
}

func (o *owner) Withdraw() bool  { o.asked++; return !o.refuse }
func (o *owner) Cancelled(error) { o.cancelled++ }
func (o *owner) InterruptRunning(cause error) bool {
	o.interrupted = append(o.interrupted, cause)
	return true
}

var (
	errOutcome = errors.New("outcome")
	errCause   = errors.New("cause")
)

// TestSteps takes every step from every state.
func TestSteps(t *testing.T) {
	from := map[string]func(*promise.Core){
		"pending": func(*promise.Core) {},
		"running": func(c *promise.Core) { c.Start() },
		"cancelled": func(c *promise.Core) {
			c.Cancel(errOutcome)
		},
		"finished": func(c *promise.Core) {
			c.Begin()
			c.Publish()
		},
	}
	phases := map[string]promise.Phase{
		"pending": promise.Pending, "running": promise.Running,
		"cancelled": promise.Cancelled, "finished": promise.Finished,
	}
	steps := map[string]func(*promise.Core) bool{
		"Start": (*promise.Core).Start,
		"Begin": func(c *promise.Core) bool {
			ok := c.Begin()
			if ok {
				c.Publish()
			}
			return ok
		},
		"Cancel":    func(c *promise.Core) bool { _, ok := c.Cancel(errOutcome); return ok },
		"Interrupt": func(c *promise.Core) bool { _, ok := c.Interrupt(errOutcome, errCause); return ok },
	}
	for _, tt := range []struct {
		from, step, to string
		ok             bool
	}{
		{"pending", "Start", "running", true},
		{"pending", "Begin", "finished", true},
		{"pending", "Cancel", "cancelled", true},
		{"pending", "Interrupt", "cancelled", true},
		{"running", "Start", "running", false},
		{"running", "Begin", "finished", true},
		{"running", "Cancel", "running", false},
		{"running", "Interrupt", "running", true},
		{"cancelled", "Start", "cancelled", false},
		{"cancelled", "Begin", "cancelled", false},
		{"cancelled", "Cancel", "cancelled", true},
		{"cancelled", "Interrupt", "cancelled", false},
		{"finished", "Start", "finished", false},
		{"finished", "Begin", "finished", false},
		{"finished", "Cancel", "finished", false},
		{"finished", "Interrupt", "finished", false},
	} {
		t.Run(tt.from+"/"+tt.step, func(t *testing.T) {
			var o owner
			c := new(promise.Core)
			c.SetOwner(&o)
			from[tt.from](c)
			require.Equal(t, tt.ok, steps[tt.step](c))
			require.Equal(t, phases[tt.to], c.Phase())
			require.Equal(t, tt.to == "pending", c.IsPending())
			require.Equal(t, tt.to == "running", c.IsRunning())
			require.Equal(t, tt.to == "cancelled", c.IsCancelled())
			require.Equal(t, tt.to == "cancelled" || tt.to == "finished", c.IsDone())
			if tt.to == "cancelled" {
				require.Equal(t, 1, o.cancelled, "the owner hears of a cancellation once")
				require.Equal(t, 1, o.asked)
				require.Equal(t, errOutcome, c.Err())
			}
		})
	}
}

// A core that settles shows the state before, and keeps everybody else out.
func TestSettling(t *testing.T) {
	c := new(promise.Core)
	require.True(t, c.Begin())
	require.True(t, c.IsPending())
	require.False(t, c.IsDone())
	require.False(t, c.Start())
	require.False(t, c.Begin())
	c.Publish()

	c = new(promise.Core)
	require.True(t, c.Start())
	require.True(t, c.Begin())
	require.True(t, c.IsRunning())
	_, ok := c.Cancel(errOutcome)
	require.False(t, ok)
	_, ok = c.Interrupt(errOutcome, errCause)
	require.False(t, ok)
	c.Publish()
	require.Equal(t, promise.Finished, c.Phase())
}

// Settle returns once a core that settles is done.
func TestSettle(t *testing.T) {
	for range 100 {
		c := new(promise.Core)
		require.True(t, c.Begin())
		entered, left := make(chan struct{}), make(chan bool)
		go func() {
			close(entered)
			c.Settle()
			left <- c.IsDone()
		}()
		<-entered
		runtime.Gosched()
		c.Publish()
		require.True(t, <-left)
		c.Settle()
	}
	new(promise.Core).Settle() // of one that nobody completes: nothing to wait for
}

func TestRefusedCancel(t *testing.T) {
	c, o := new(promise.Core), &owner{refuse: true}
	c.SetOwner(o)
	_, ok := c.Cancel(errOutcome)
	require.False(t, ok)
	_, ok = c.Interrupt(errOutcome, errCause)
	require.False(t, ok)
	require.Equal(t, 2, o.asked)
	require.Equal(t, promise.Pending, c.Phase())
	require.True(t, c.Start())
	_, ok = c.Interrupt(errOutcome, errCause)
	require.True(t, ok)
	require.Equal(t, []error{errCause}, o.interrupted)
	require.Zero(t, o.cancelled)
}

// A rival is an owner that lets somebody else be first, and then refuses.
type rival struct {
	owner
	first func()
}

func (r *rival) Withdraw() bool {
	if first := r.first; first != nil {
		r.first = nil
		first()
		return false
	}
	return true
}

// Who is refused because another Cancel was first is told that it is cancelled.
func TestRefusedBehindAnotherCancel(t *testing.T) {
	c := new(promise.Core)
	c.SetOwner(&rival{first: func() { c.Cancel(errOutcome) }})
	_, ok := c.Cancel(errCause)
	require.True(t, ok)
	require.Equal(t, errOutcome, c.Err())

	c = new(promise.Core)
	c.SetOwner(&rival{first: func() { c.Cancel(errOutcome) }})
	_, ok = c.Interrupt(errCause, errCause)
	require.False(t, ok, "it was not this Interrupt that cancelled")

	c = new(promise.Core)
	o := &rival{first: func() { c.Start() }}
	c.SetOwner(o)
	_, ok = c.Interrupt(errCause, errCause)
	require.True(t, ok, "it runs meanwhile, and its context is ended")
	require.Equal(t, []error{errCause}, o.interrupted)
}

// A broken owner panics when it hears of a cancellation.
type broken struct{ owner }

func (broken) Cancelled(error) { panic("broken owner") }

// A core whose owner panics is cancelled all the same. It once stayed settling, and
// the next Cancel waited for that to end.
func TestOwnerPanics(t *testing.T) {
	c, called := new(promise.Core), make(chan struct{})
	c.SetOwner(&broken{})
	require.True(t, c.Listen(new(promise.Node), func() { close(called) }))
	require.PanicsWithValue(t, "broken owner", func() { c.Cancel(errOutcome) })
	<-called
	require.True(t, c.IsCancelled())
	_, ok := c.Cancel(errCause)
	require.True(t, ok)
	require.Equal(t, errOutcome, c.Err())
}

// A slow owner refuses a Cancel because another is under way, which takes its time.
type slow struct {
	owner
	core             *promise.Core
	other            bool // the other Cancel has been let through
	entered, release chan struct{}
}

func (s *slow) Withdraw() bool {
	if s.other {
		return true
	}
	s.other = true
	go s.core.Cancel(errOutcome)
	<-s.entered // Cancelled, from that one
	go func() {
		for range 100 {
			runtime.Gosched()
		}
		close(s.release)
	}()
	return false
}

func (s *slow) Cancelled(error) {
	close(s.entered)
	<-s.release
}

// Who is refused because another Cancel is under way waits for its few steps.
func TestRefusedDuringAnotherCancel(t *testing.T) {
	c := new(promise.Core)
	c.SetOwner(&slow{core: c, entered: make(chan struct{}), release: make(chan struct{})})
	_, ok := c.Cancel(errCause)
	require.True(t, ok)
	require.True(t, c.IsCancelled())
	require.Equal(t, errOutcome, c.Err())
}

func TestNothingStaysLinked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(promise.Core)
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.False(t, c.Wait(ctx))
			cancel()
		}
		require.Zero(t, c.Linked())

		var nodes [5]promise.Node
		for i := range nodes {
			require.True(t, c.Listen(&nodes[i], func() {}))
		}
		require.Equal(t, 5, c.Linked())
		for _, i := range []int{2, 0, 4, 2, 1, 3} { // the middle, the ends, one twice
			c.Forget(&nodes[i])
		}
		require.Zero(t, c.Linked())

		g, n := promise.NewGroup(), new(promise.Node)
		require.True(t, g.Add(c, n, 7))
		require.Equal(t, 1, c.Linked())
		c.Forget(n)
		require.Zero(t, c.Linked())

		require.True(t, c.Begin())
		require.True(t, c.Publish().None(), "what was forgotten is not called")
		c.Forget(n) // of a done core: nothing to do
		_, ok := g.Poll()
		require.False(t, ok)
	})
}

// What was linked is called in the order it was linked in, without what was taken out.
func TestCallbacksInOrder(t *testing.T) {
	c := new(promise.Core)
	var nodes [6]promise.Node
	var got []int
	for i := range nodes {
		require.True(t, c.Listen(&nodes[i], func() { got = append(got, i) }))
	}
	c.Forget(&nodes[0])
	c.Forget(&nodes[3])
	require.True(t, c.Begin())
	c.Publish().Wait()
	require.Equal(t, []int{1, 2, 4, 5}, got)
	require.False(t, c.Listen(new(promise.Node), func() {}))
	require.False(t, promise.NewGroup().Add(c, new(promise.Node), 0))
}

func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cores := make([]promise.Core, 5)
		nodes := make([]promise.Node, 5)
		g := promise.NewGroup()
		for i := range cores {
			require.True(t, g.Add(&cores[i], &nodes[i], i))
		}
		for _, i := range []int{3, 1} {
			cores[i].Begin()
			cores[i].Publish()
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for _, want := range []int{3, 1} {
			i, ok := g.Next(over)
			require.True(t, ok, "what is done is returned under an ended ctx")
			require.Equal(t, want, i)
		}
		_, ok := g.Next(over)
		require.False(t, ok)

		go func() {
			time.Sleep(time.Second) // virtual time
			cores[4].Cancel(errOutcome)
		}()
		i, ok := g.Next(t.Context())
		require.True(t, ok)
		require.Equal(t, 4, i)
	})
}

// A place notes what happens to it.
type place struct{ events []string }

func (p *place) Lend()    { p.events = append(p.events, "lend") }
func (p *place) Reclaim() { p.events = append(p.events, "reclaim") }

func TestWaitsLendTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(place)
		ctx := context.WithValue(t.Context(), lend.Key{}, lend.Lender(p))
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()

		c := new(promise.Core)
		require.False(t, c.Wait(short))
		require.Equal(t, []string{"lend", "reclaim"}, p.events, "also when ctx ends the wait")
		require.False(t, c.Wait(short))
		require.Len(t, p.events, 2, "a poll lends nothing")

		go func() {
			time.Sleep(time.Second) // virtual time
			c.Begin()
			c.Publish()
		}()
		require.True(t, c.Wait(ctx))
		require.Len(t, p.events, 4)
		require.True(t, c.Wait(ctx))
		require.Len(t, p.events, 4, "neither does a wait for what is done")

		c = new(promise.Core)
		g := promise.NewGroup()
		require.True(t, g.Add(c, new(promise.Node), 0))
		_, ok := g.Next(short)
		require.False(t, ok)
		require.Len(t, p.events, 4)
		go func() {
			time.Sleep(time.Second) // virtual time
			c.Begin()
			c.Publish()
		}()
		_, ok = g.Next(ctx)
		require.True(t, ok)
		require.Equal(t, []string{"lend", "reclaim", "lend", "reclaim", "lend", "reclaim"}, p.events)
	})
}

func TestCancelledError(t *testing.T) {
	require.Equal(t, promise.ErrCancelled, promise.CancelledError(nil))
	require.Equal(t, promise.ErrCancelled, promise.CancelledError(promise.ErrCancelled))
	err := promise.CancelledError(errCause)
	require.ErrorIs(t, err, promise.ErrCancelled)
	require.ErrorIs(t, err, errCause)
	require.EqualError(t, err, "future: cancelled: cause")
}
