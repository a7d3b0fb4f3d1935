package promise_test

import (
	"context"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/promise"
)

// stressTime is how long each stress test goes on: FUTURES_STRESS, or 300 ms.
func stressTime(t *testing.T) time.Duration {
	text, ok := os.LookupEnv("FUTURES_STRESS")
	if !ok {
		return 300 * time.Millisecond
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, "FUTURES_STRESS")
	return d
}

// A tally is an owner that many goroutines may call.
type tally struct{ cancelled, interrupted atomic.Int32 }

func (o *tally) Withdraw() bool              { return true }
func (o *tally) Cancelled(error)             { o.cancelled.Add(1) }
func (o *tally) InterruptRunning(error) bool { o.interrupted.Add(1); return true }

// TestStress lets everything race that may be called at the same time, on a new
// cell each round: one of those who complete it wins, everybody who waits is told,
// and every callback runs once.
func TestStress(t *testing.T) {
	limit, cancel := context.WithTimeout(t.Context(), stressTime(t)+20*time.Second)
	defer cancel() // nobody waits that long unless its wake-up was lost
	winners := map[int]int{}
	for end := time.Now().Add(stressTime(t)); time.Now().Before(end); {
		winners[stressRound(t, limit)]++
		if t.Failed() {
			return
		}
	}
	t.Logf("rounds by winner, 0 being a cancellation: %v", winners)
}

// stressRound is one round of TestStress. It returns who won.
func stressRound(t *testing.T, limit context.Context) int {
	var (
		o       tally
		cell    promise.Cell[int]
		c       = cell.Core()
		begun   atomic.Int32
		start   = make(chan struct{})
		racers  sync.WaitGroup
		added   [3]bool
		ran     [3]atomic.Int32
		dropped atomic.Int32
	)
	c.SetOwner(&o)
	race := func(fn func()) {
		racers.Go(func() {
			<-start
			fn()
		})
	}
	finish := func(v int) {
		if c.Begin() {
			begun.Add(1)
			cell.Finish(v, nil).Wait()
		}
		c.Settle()
		if !c.IsDone() {
			t.Error("not done after somebody finished it")
		}
	}
	check := func() {
		if !c.IsDone() {
			t.Error("a waiter woke before the cell was done")
		} else if (c.Err() == nil) != (cell.Value() != 0) {
			t.Errorf("a waiter saw half an outcome: value %d, error %v", cell.Value(), c.Err())
		}
	}

	race(func() {
		if c.Start() {
			finish(1)
		}
	})
	race(func() { finish(2) })
	for range 2 {
		race(func() {
			cbs, ok := c.Cancel(errOutcome)
			cbs.Wait()
			if ok && !c.IsCancelled() {
				t.Error("Cancel is true, and the cell is not cancelled")
			}
		})
	}
	race(func() {
		cbs, _ := c.Interrupt(errOutcome, errCause)
		cbs.Wait()
	})
	for range 2 {
		race(func() {
			// At the end of limit Wait takes a last look, and so says true even then.
			if !c.Wait(limit) || limit.Err() != nil {
				t.Error("a waiter was left waiting")
				return
			}
			check()
		})
	}
	race(func() { // waits in vain, perhaps
		ctx, cancel := context.WithCancel(limit)
		racers.Go(cancel)
		if c.Wait(ctx) {
			check()
		}
	})
	race(func() {
		select {
		case <-c.Done():
			check()
		case <-limit.Done():
			t.Error("who waited for Done was left waiting")
		}
	})
	for i := range added {
		race(func() { added[i] = c.Listen(new(promise.Node), func() { ran[i].Add(1) }) })
	}
	race(func() {
		n := new(promise.Node)
		if c.Listen(n, func() { dropped.Add(1) }) {
			c.Forget(n)
		}
	})
	race(func() {
		g, n := promise.NewGroup(), new(promise.Node)
		if g.Add(c, n, 5) {
			if i, ok := g.Next(limit); !ok || i != 5 {
				t.Errorf("a group was left waiting: Next = %d, %v", i, ok)
			}
			c.Forget(n)
		}
		check()
	})
	race(func() {
		g := promise.NewGroup()
		n := new(promise.Node)
		g.Add(c, n, 0)
		c.Forget(n)
	})
	close(start)
	racers.Wait()

	if won := begun.Load() + o.cancelled.Load(); won != 1 {
		t.Errorf("%d winners, want 1", won)
	}
	if c.IsCancelled() != (o.cancelled.Load() == 1) {
		t.Error("the state is not what the winner made it")
	}
	for i := range added {
		if got := ran[i].Load() == 1; got != added[i] || ran[i].Load() > 1 {
			t.Errorf("callback %d: linked %v, ran %d times", i, added[i], ran[i].Load())
		}
	}
	if dropped.Load() > 1 {
		t.Error("a callback that was taken back ran twice")
	}
	if n := c.Linked(); n != 0 {
		t.Errorf("%d nodes are still linked", n)
	}
	return cell.Value()
}

// TestNoWakeUpIsLost races one Publish with the link of the first node. Core.add must
// look at the state again once its list is in place: a completer that looked for the
// list before will never look again.
func TestNoWakeUpIsLost(t *testing.T) {
	type pair struct {
		core   promise.Core
		node   promise.Node
		called bool
	}
	const batch = 1 << 10
	var late, early int
	for end := time.Now().Add(stressTime(t)); time.Now().Before(end); {
		pairs := make([]pair, batch)
		linked := make([]bool, batch)
		var at [2]atomic.Int64
		meet := func(me, i int) { // the two go into round i together
			at[me].Store(int64(i))
			for spins := 0; at[1-me].Load() < int64(i); spins++ {
				if spins > 100 {
					runtime.Gosched()
				}
			}
		}
		var both sync.WaitGroup
		both.Go(func() {
			for i := range pairs {
				meet(0, i+1)
				for range i % 64 { // so that every step of one meets every step of the other
					at[0].Load()
				}
				pairs[i].core.Begin()
				pairs[i].core.Publish().Inline()
			}
		})
		both.Go(func() {
			for i := range pairs {
				meet(1, i+1)
				linked[i] = pairs[i].core.Listen(&pairs[i].node, func() { pairs[i].called = true })
			}
		})
		both.Wait()
		for i := range pairs {
			if linked[i] != pairs[i].called {
				t.Fatalf("round %d: linked %v, called %v", i, linked[i], pairs[i].called)
			}
			if linked[i] {
				early++
			} else {
				late++
			}
		}
	}
	t.Logf("%d linked in time, %d too late", early, late)
}
