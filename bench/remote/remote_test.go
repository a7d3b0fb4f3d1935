package remote_test

import (
	"encoding/json"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/bench/remote"
)

// TestMain has the test binary be the one that watches, as a program that measures is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == remote.WatchArg {
		if err := remote.WatchMain(os.Args[2:]); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// inGoroutines is a crew of goroutines, one for each call.
func inGoroutines(w remote.Work) remote.Crew {
	submit := func(arg int) func() int {
		c := make(chan int, 1)
		go func() { c <- w.Body.Call(arg) }()
		return func() int { return <-c }
	}
	return remote.Crew{
		Call:   func(arg int) int { return submit(arg)() },
		Submit: submit,
		Fan: func(args, out []int) {
			var wg sync.WaitGroup
			for i, arg := range args {
				wg.Go(func() { out[i] = w.Body.Call(arg) })
			}
			wg.Wait()
		},
		Echo: func(payload []byte) func() []byte {
			own := append([]byte(nil), payload...)
			return func() []byte { return own }
		},
		Attend: func(address string) func() int {
			c := make(chan error, 1)
			go func() { c <- remote.Attend(address) }()
			return func() int {
				if err := <-c; err != nil {
					panic(err)
				}
				return 0
			}
		},
		Op: func(int) {},
		Party: func(address string) func() remote.Tally {
			c := make(chan remote.Tally, 1)
			go func() {
				if err := remote.Attend(address); err != nil {
					panic(err)
				}
				c <- w.Tally(func(int) {})
			}()
			return func() remote.Tally { return <-c }
		},
		Take:  counting(),
		Close: func() {},
	}
}

// counting answers 0, 1, 2 …
func counting() func() int {
	n := -1
	return func() int { n++; return n }
}

// Each shape counts its calls and has its figures.
func TestShapes(t *testing.T) {
	for _, c := range []struct {
		name    string
		work    remote.Work
		figures []string
	}{
		{"one", remote.Work{Shape: remote.One, Calls: 10}, []string{remote.Median, remote.P99}},
		{"rest", remote.Work{Shape: remote.One, Calls: 3, Each: time.Millisecond}, []string{remote.Median}},
		{"fan", remote.Work{Shape: remote.Fan, Calls: 100}, nil},
		{"window", remote.Work{Shape: remote.Window, Calls: 100, Flying: 7}, nil},
		{"window of all", remote.Work{Shape: remote.Window, Calls: 100, Flying: 512}, nil},
		{"slots", remote.Work{Shape: remote.One, Calls: 10, Slots: 3}, []string{remote.Median}},
		{"spin", remote.Work{Shape: remote.Fan, Calls: 10, Body: remote.Spin, Each: time.Microsecond}, nil},
		{"map", remote.Work{Shape: remote.Map, Calls: 5000}, nil},
		{"echo", remote.Work{Shape: remote.Echo, Calls: 9, Bytes: 4096, Flying: 4}, []string{remote.Faults}},
		{"mixed", remote.Work{Shape: remote.Mixed, Calls: 1, Body: remote.Pause}, []string{remote.Worst, remote.P999}},
		{"start", remote.Work{Shape: remote.Start, Calls: 2}, []string{remote.First}},
		{"together", remote.Work{Shape: remote.Together, Calls: 128}, nil},
		{"timed", remote.Work{Shape: remote.Together, Calls: 100, Timed: true}, []string{remote.Worst}},
		{"stream", remote.Work{Shape: remote.Stream, Calls: 640}, nil},
		{"stream of payloads", remote.Work{Shape: remote.Stream, Calls: 9, Bytes: 4096}, []string{remote.Faults}},
		{"start all", remote.Work{Shape: remote.StartAll, Calls: 2}, []string{remote.First, remote.All}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.work.Workers = 4
			r, err := c.work.Measure(inGoroutines)
			require.NoError(t, err)
			want := c.work.Calls
			switch c.work.Shape {
			case remote.Mixed:
				want *= 100
			case remote.Map:
				want = 1000 // as many as may be slow
			case remote.Together:
				want *= 4
			}
			require.Equal(t, want, r.Calls)
			require.Positive(t, r.Nanos)
			for _, name := range c.figures {
				require.Contains(t, r.Figures, name)
			}
		})
	}
	_, err := remote.Work{Shape: "none"}.Measure(inGoroutines)
	require.ErrorContains(t, err, `no shape "none"`)
}

// Repetitions go on until enough time was measured.
func TestLeast(t *testing.T) {
	w := remote.Work{Shape: remote.Fan, Workers: 1, Calls: 10, Least: 20 * time.Millisecond}
	r, err := w.Measure(inGoroutines)
	require.NoError(t, err)
	require.Greater(t, r.Calls, 10)
	require.GreaterOrEqual(t, r.Nanos, w.Least.Nanoseconds())
}

// The short calls of mixed work are told apart from the long one, and a pool that has them
// wait behind it is found out.
func TestMixedFindsShortBehindLong(t *testing.T) {
	w := remote.Work{Shape: remote.Mixed, Workers: 2, Calls: 1, Body: remote.Pause}
	one := func(w remote.Work) remote.Crew { // one worker, in order
		c := inGoroutines(w)
		calls := make(chan func(), 200)
		c.Submit = func(arg int) func() int {
			out := make(chan int, 1)
			calls <- func() { out <- w.Body.Call(arg) }
			return func() int { return <-out }
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for call := range calls {
				call()
			}
		})
		c.Close = func() { close(calls); wg.Wait() }
		return c
	}
	r, err := w.Measure(one)
	require.NoError(t, err)
	require.Greater(t, r.Figures[remote.Worst], 50.0)
}

// A window has as many calls under way as it may, and never more.
func TestWindow(t *testing.T) {
	w := remote.Work{Shape: remote.Window, Workers: 1, Calls: 50, Flying: 8}
	flying, most := 0, 0
	_, err := w.Measure(func(w remote.Work) remote.Crew {
		c := inGoroutines(w)
		submit := c.Submit
		c.Submit = func(arg int) func() int {
			flying++
			most = max(most, flying)
			result := submit(arg)
			return func() int { flying--; return result() }
		}
		return c
	})
	require.NoError(t, err)
	require.Equal(t, 8, most)
	require.Zero(t, flying)
}

// Wrong results are errors.
func TestWrongResults(t *testing.T) {
	with := func(change func(*remote.Crew)) func(remote.Work) remote.Crew {
		return func(w remote.Work) remote.Crew {
			c := inGoroutines(w)
			change(&c)
			return c
		}
	}
	off := with(func(c *remote.Crew) {
		c.Call = func(arg int) int { return arg }
		c.Submit = func(arg int) func() int { return func() int { return arg } }
		fan := c.Fan
		c.Fan = func(args, out []int) { fan(args, out); out[len(out)-1]++ }
	})
	for _, w := range []remote.Work{
		{Shape: remote.One, Workers: 1, Calls: 3},
		{Shape: remote.Fan, Workers: 1, Calls: 3},
		{Shape: remote.Window, Workers: 1, Calls: 3, Flying: 2},
		{Shape: remote.Map, Workers: 1, Calls: 3},
		{Shape: remote.Mixed, Workers: 1, Calls: 1, Body: remote.Pause},
		{Shape: remote.Start, Workers: 1, Calls: 1},
	} {
		_, err := w.Measure(off)
		require.ErrorContains(t, err, "result", w.Shape)
	}

	// The caller gets his own payload back, which he may write to: not owned.
	borrowed := with(func(c *remote.Crew) {
		kept := map[int][]byte{}
		c.Echo = func(payload []byte) func() []byte {
			if kept[len(payload)] == nil {
				kept[len(payload)] = append([]byte(nil), payload...)
			}
			return func() []byte { return kept[len(payload)] }
		}
	})
	_, err := remote.Work{Shape: remote.Echo, Workers: 1, Calls: 3, Bytes: 4096, Flying: 1}.Measure(borrowed)
	require.ErrorContains(t, err, "after another was written to")
}

// What a process does while it idles is seen.
func TestIdleSeesWork(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it reads /proc, which only Linux has")
	}
	w := remote.Work{Shape: remote.Idle, Workers: 1, Each: 50 * time.Millisecond}
	r, err := w.Measure(func(w remote.Work) remote.Crew {
		c := inGoroutines(w)
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !stop.Load() {
				continue
			}
		})
		c.Close = func() { stop.Store(true); wg.Wait() }
		return c
	})
	require.NoError(t, err)
	require.Greater(t, r.Figures[remote.CPU], 5.0)
}

// A work travels whole.
func TestWorkAsJSON(t *testing.T) {
	w := remote.Work{
		Shape: remote.Echo, Workers: 2, Calls: 3, Least: 4, Body: remote.Spin, Each: 5, Chunk: 6, Bytes: 7, Flying: 8, Slots: 9, Timed: true,
	}
	text, err := json.Marshal(w)
	require.NoError(t, err)
	var back remote.Work
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, w, back)
}

// What was done in all is compared with what was counted, and so is the order of a stream.
func TestLostCallsAreNoticed(t *testing.T) {
	w := remote.Work{Shape: remote.Together, Workers: 2, Calls: 64, Least: time.Millisecond}
	count := func(lost int) func(w remote.Work) remote.Crew {
		return func(w remote.Work) remote.Crew {
			var n atomic.Int64
			c := inGoroutines(w)
			c.Op = func(m int) { n.Add(int64(m)) }
			c.Party = func(address string) func() remote.Tally {
				t := make(chan remote.Tally, 1)
				go func() {
					if err := remote.Attend(address); err != nil {
						panic(err)
					}
					t <- w.Tally(c.Op)
				}()
				return func() remote.Tally { return <-t }
			}
			c.Count = func() int { return int(n.Load()) - lost }
			return c
		}
	}
	_, err := w.Measure(count(0))
	require.NoError(t, err)
	_, err = w.Measure(count(1))
	require.ErrorContains(t, err, "calls have counted to")

	_, err = remote.Work{Shape: remote.Stream, Workers: 2, Calls: 64}.Measure(func(w remote.Work) remote.Crew {
		c := inGoroutines(w)
		next := counting()
		c.Take = func() int { return next() &^ 1 }
		return c
	})
	require.ErrorContains(t, err, "message 1 is 0")
}
