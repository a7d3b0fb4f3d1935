// Package remote measures calls to other processes, whoever makes them: this library, a
// bare socket, net/rpc. What stands beside in Python and JavaScript measures by the same rules, in
// the folder foreign.
//
// Each shape of work has a warm-up, then repetitions until enough time was measured. Results are
// checked, outside of the time where that is possible.
package remote

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// A Work is what a contestant is to do. It travels to other programs as JSON, with
// durations in nanoseconds.
type Work struct {
	Shape   Shape         `json:"shape"`
	Workers int           `json:"workers"`
	Calls   int           `json:"calls"` // of one repetition; of a map, the most
	Least   time.Duration `json:"least"` // repeat until so much time was measured

	Body   Body          `json:"body,omitempty"`
	Each   time.Duration `json:"each,omitempty"`   // how long a call spins, a caller rests, a pool idles
	Chunk  int           `json:"chunk,omitempty"`  // of a map; 0 is the default
	Bytes  int           `json:"bytes,omitempty"`  // of a payload
	Flying int           `json:"flying,omitempty"` // payloads, or calls of a Window, that are under way at the same time
	Slots  int           `json:"slots,omitempty"`  // calls that a worker runs at the same time; 0 is 1
	Timed  bool          `json:"timed,omitempty"`  // the worst of Together is looked for, so each call is timed
}

// A Shape is a kind of work.
type Shape string

// The shapes.
const (
	One      Shape = "one"      // one call at a time
	Fan      Shape = "fan"      // Calls are submitted, then collected
	Window   Shape = "window"   // the oldest call is collected before a further one is submitted
	Map      Shape = "map"      // items through a map, in order
	Echo     Shape = "echo"     // payloads there and back
	Mixed    Shape = "mixed"    // one long call among a hundred
	Start    Shape = "start"    // a pool is opened, and gives one result
	StartAll Shape = "startall" // a pool is opened, and each of its workers gives one
	Idle     Shape = "idle"     // a pool does nothing
	Pending  Shape = "pending"  // calls wait
	Together Shape = "together" // this process and Workers-1 others do the same to what they share
	Stream   Shape = "stream"   // another process sends, this one takes
)

// A Body is what a call does. Each has an int as argument and answers the next one.
type Body string

// The bodies.
const (
	Next  Body = "next"  // nothing else
	Spin  Body = "spin"  // uses a core for so many nanoseconds
	Pause Body = "pause" // sleeps for so many milliseconds
)

// Call does what a call does. It runs in the workers.
func (b Body) Call(n int) int {
	switch b {
	case Spin:
		for end := time.Since(epoch) + time.Duration(n); time.Since(epoch) < end; {
			continue
		}
	case Pause:
		if n > 0 {
			time.Sleep(time.Duration(n) * time.Millisecond)
		}
	}
	return n + 1
}

// epoch is there because time since a fixed moment is read faster than time.Now.
var epoch = time.Now()

// A Crew is workers that are open, as one contestant has them. Fields are nil for what
// it cannot do.
type Crew struct {
	Call   func(arg int) int                          // one call, and its result
	Submit func(arg int) (result func() int)          // a call; result is called once
	Fan    func(args, out []int)                      // submit all, then collect; or a map
	Echo   func(payload []byte) (back func() []byte)  // the caller owns what comes back
	Attend func(address string) (result func() int)   // a call that attends a Meeting
	All    func()                                     // instead of Attend: waits until all workers are there
	Op     func(n int)                                // what all do together, n times
	Party  func(address string) (result func() Tally) // another process that does it, after a Meeting
	Count  func() int                                 // how often it was done, where that is counted
	Take   func() int                                 // the next message of a stream: its number
	Close  func()
}

// A Result is what was measured.
type Result struct {
	Calls   int                `json:"calls,omitempty"`
	Nanos   int64              `json:"nanos"` // that they took together
	Figures map[string]float64 `json:"figures,omitempty"`
}

// The names of figures.
const (
	Median   = "median µs"
	P99      = "p99 µs"
	P999     = "p99.9 ms"
	Worst    = "worst ms"
	First    = "first ms"
	All      = "all ms"
	Faults   = "page faults"
	CPU      = "CPU ms"
	Switches = "switches"
)

// warmUp is how long a contestant works before it is measured.
const warmUp = 100 * time.Millisecond

// Measure has a crew do w.
func (w Work) Measure(open func(Work) Crew) (Result, error) {
	switch w.Shape {
	case One:
		return w.one(open)
	case Fan:
		return w.fan(open)
	case Window:
		return w.window(open)
	case Map:
		return w.overMap(open)
	case Echo:
		return w.echo(open)
	case Mixed:
		return w.mixed(open)
	case Start:
		return w.start(open)
	case StartAll:
		return w.startAll(open)
	case Idle:
		return w.idle(open)
	case Together:
		return w.together(open)
	case Stream:
		return w.stream(open)
	}
	return Result{}, fmt.Errorf("remote: there is no shape %q", w.Shape)
}

// opened opens a crew whose workers are all there.
func (w Work) opened(open func(Work) Crew) (Crew, error) {
	c := open(w)
	if c.Attend == nil {
		return c, nil
	}
	if err := w.meet(c); err != nil {
		c.Close()
		return Crew{}, err
	}
	return c, nil
}

// meet returns when each worker runs as many calls as it can, at the same time as all others.
func (w Work) meet(c Crew) error {
	m, err := NewMeeting()
	if err != nil {
		return err
	}
	defer m.Close()
	results := make([]func() int, w.Workers*max(1, w.Slots))
	for i := range results {
		results[i] = c.Attend(m.Address())
	}
	if err := m.Wait(len(results)); err != nil {
		return err
	}
	m.Close()
	for _, result := range results {
		result()
	}
	return nil
}

// arguments returns those of n calls, and room for the results.
func (w Work) arguments(n int) (args, out []int) {
	args = make([]int, n)
	for i := range args {
		args[i] = i + 1
		if w.Body == Spin {
			args[i] = int(w.Each)
		}
	}
	return args, make([]int, n)
}

// check fails unless out has the results for args, in order, and clears it.
func check(args, out []int) error {
	for i, arg := range args {
		if out[i] != arg+1 {
			return fmt.Errorf("call %d of %d has result %d, want %d", i, len(args), out[i], arg+1)
		}
	}
	clear(out)
	return nil
}

// one has a call at a time, after a rest of Each if there is one.
func (w Work) one(open func(Work) Crew) (Result, error) {
	c, err := w.opened(open)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	for start := time.Now(); time.Since(start) < min(warmUp, w.Least); {
		c.Call(1)
	}
	took := make([]time.Duration, 0, 1<<20)
	var sum time.Duration
	for start := time.Now(); len(took) < w.Calls || time.Since(start) < w.Least; {
		if w.Each > 0 {
			time.Sleep(w.Each)
		}
		from := time.Now()
		got := c.Call(len(took))
		d := time.Since(from)
		if got != len(took)+1 {
			return Result{}, fmt.Errorf("call %d has result %d", len(took), got)
		}
		took = append(took, d)
		sum += d
	}
	slices.Sort(took)
	return Result{Calls: len(took), Nanos: sum.Nanoseconds(), Figures: map[string]float64{
		Median: micros(at(took, 0.5)), P99: micros(at(took, 0.99)),
	}}, nil
}

// at returns the value below which the given share of the sorted values lie.
func at(sorted []time.Duration, share float64) time.Duration {
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// fan submits Calls, then collects them.
func (w Work) fan(open func(Work) Crew) (Result, error) {
	c, err := w.opened(open)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	args, out := w.arguments(w.Calls)
	some := max(1, len(args)/10)
	for start := time.Now(); ; {
		c.Fan(args[:some], out[:some])
		if time.Since(start) >= min(warmUp, w.Least) {
			break
		}
	}
	return w.repeat(c, args, out)
}

// window has Calls, of which Flying are under way.
func (w Work) window(open func(Work) Crew) (Result, error) {
	return w.fan(func(w Work) Crew {
		c := open(w)
		c.Fan = func(args, out []int) {
			results := make([]func() int, max(1, w.Flying))
			for i, arg := range args {
				if i >= len(results) {
					out[i-len(results)] = results[i%len(results)]()
				}
				results[i%len(results)] = c.Submit(arg)
			}
			for i := max(0, len(args)-len(results)); i < len(args); i++ {
				out[i] = results[i%len(results)]()
			}
		}
		return c
	})
}

// overMap is fan with so many items as fill the time, up to Calls: who does a
// hundred times as many in a second gets a hundred times as many.
func (w Work) overMap(open func(Work) Crew) (Result, error) {
	c, err := w.opened(open)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	args, out := w.arguments(w.Calls)
	n := min(1000, len(args))
	for n < len(args) {
		start := time.Now()
		c.Fan(args[:n], out[:n])
		if time.Since(start) >= w.Least/4 {
			break
		}
		n = min(2*n, len(args))
	}
	return w.repeat(c, args[:n], out[:n])
}

func (w Work) repeat(c Crew, args, out []int) (Result, error) {
	var r Result
	clear(out)
	for start := time.Now(); ; {
		c.Fan(args, out)
		r.Calls += len(args)
		r.Nanos = time.Since(start).Nanoseconds()
		if r.Nanos >= w.Least.Nanoseconds() {
			return r, check(args, out)
		}
	}
}

// echo keeps Flying payloads under way. What came back may be written to, and what
// was sent may be sent again.
func (w Work) echo(open func(Work) Crew) (Result, error) {
	c, err := w.opened(open)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	payloads := make([][]byte, max(1, w.Flying))
	for i := range payloads {
		payloads[i] = make([]byte, w.Bytes)
		for at := 0; at+8 <= w.Bytes; at += 8 {
			binary.LittleEndian.PutUint64(payloads[i][at:], uint64(at*1000+i))
		}
	}
	whole := func() error { // each receiver owns what he got
		for _, p := range payloads {
			got := c.Echo(p)()
			if !bytes.Equal(got, p) {
				return fmt.Errorf("a payload of %d bytes came back changed", len(p))
			}
			for i := range got {
				got[i] = ^got[i]
			}
			if again := c.Echo(p)(); !bytes.Equal(again, p) {
				return fmt.Errorf("a payload of %d bytes came back changed, after another was written to", len(p))
			}
		}
		return nil
	}
	if err := whole(); err != nil {
		return Result{}, err
	}

	backs := make([]func() []byte, len(payloads))
	before := faults()
	start := time.Now()
	var r Result
	for sent, taken := 0, 0; ; taken++ {
		for sent-taken < len(backs) && (sent < w.Calls || time.Since(start) < w.Least) {
			backs[sent%len(backs)] = c.Echo(payloads[sent%len(backs)])
			sent++
		}
		if taken == sent {
			r.Calls = sent
			break
		}
		got, want := backs[taken%len(backs)](), payloads[taken%len(backs)]
		if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
			return Result{}, fmt.Errorf("payload %d came back as %d bytes, or changed", taken, len(got))
		}
	}
	r.Nanos = time.Since(start).Nanoseconds()
	r.Figures = map[string]float64{Faults: (faults() - before) / float64(r.Calls)}
	return r, whole()
}

// The long calls among short ones: one in a hundred.
const (
	longMillis = 100
	burstSize  = 20
	bursts     = 5
)

// mixed submits Calls hundreds of calls: one long and 99 short ones, in bursts over the time of the
// long one, which is somewhere in the first. So one worker at most is busy with a long call, and
// with two or more a worker is free. Long and short are calls of one task, so that it
// does not tell. A short call's time is from its submit until its result was read.
func (w Work) mixed(open func(Work) Crew) (Result, error) {
	c, err := w.opened(open)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	for start := time.Now(); time.Since(start) < min(warmUp, w.Least); {
		c.Submit(0)()
	}
	type short struct {
		at     time.Time
		result func() int
	}
	var took []time.Duration
	r := Result{}
	start := time.Now()
	for hundred := range w.Calls {
		var long func() int
		for burst := range bursts {
			var calls []short
			for i := range burstSize {
				// 7 and 20 have no common factor: the long call is at each place in turn.
				if burst == 0 && i == hundred*7%burstSize {
					long = c.Submit(longMillis)
					continue
				}
				at := time.Now()
				calls = append(calls, short{at, c.Submit(0)})
			}
			for _, s := range calls {
				if got := s.result(); got != 1 {
					return Result{}, fmt.Errorf("a short call has result %d", got)
				}
				took = append(took, time.Since(s.at))
			}
			time.Sleep(time.Duration(5+(hundred+burst)*3%10) * time.Millisecond)
		}
		if got := long(); got != longMillis+1 {
			return Result{}, fmt.Errorf("a long call has result %d", got)
		}
		r.Calls += burstSize * bursts
	}
	r.Nanos = time.Since(start).Nanoseconds()
	slices.Sort(took)
	r.Figures = map[string]float64{
		Worst: millis(took[len(took)-1]), P999: millis(at(took, 0.999)), Median: micros(at(took, 0.5)),
	}
	return r, nil
}
