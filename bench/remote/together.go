package remote

import (
	"fmt"
	"time"
)

// A Tally is what one of several processes has done that all did the same at the same time.
type Tally struct {
	Calls int           // in the time that counts
	Took  time.Duration // that time
	Worst time.Duration // the longest call in it, of Timed work
	Done  int           // all calls, those before and after among them
}

// edge is how long a process goes on before and after the time that counts, so that the others
// find it at work during all of theirs.
const edge = warmUp / 2

// Tally does op, n times a call of it, for as long as w says.
func (w Work) Tally(op func(n int)) Tally {
	batch := 64
	if w.Timed {
		batch = 1
	}
	run := func(calls int, least time.Duration) (t Tally) {
		for start := time.Now(); t.Calls < calls || t.Took < least; {
			op(batch)
			t.Calls += batch
			took := time.Since(start)
			t.Worst = max(t.Worst, took-t.Took)
			t.Took = took
		}
		return t
	}
	before := run(0, min(edge, w.Least))
	t := run(w.Calls, w.Least)
	after := run(0, min(edge, w.Least))
	t.Done = before.Calls + t.Calls + after.Calls
	return t
}

// together has this process and Workers-1 others do the same. The rate is the sum of theirs. Timed
// work is done by more than there are processors, so that some are through when others have hardly
// begun: all calls count there, and all the time.
func (w Work) together(open func(Work) Crew) (Result, error) {
	c := open(w)
	defer c.Close()
	m, err := NewMeeting()
	if err != nil {
		return Result{}, err
	}
	defer m.Close()
	others := make([]func() Tally, max(0, w.Workers-1))
	for i := range others {
		others[i] = c.Party(m.Address())
	}
	if err := m.Wait(len(others)); err != nil {
		return Result{}, err
	}
	start := time.Now()
	m.Close()
	tallies := []Tally{w.Tally(c.Op)}
	for _, other := range others {
		tallies = append(tallies, other())
	}

	whole := time.Since(start)

	calls, done := 0, 0
	rate, worst := 0.0, time.Duration(0)
	for _, t := range tallies {
		calls += t.Calls
		done += t.Done
		rate += float64(t.Calls) / float64(t.Took.Nanoseconds())
		worst = max(worst, t.Worst)
	}
	if c.Count != nil {
		if got := c.Count(); got != done {
			return Result{}, fmt.Errorf("%d calls have counted to %d", done, got)
		}
	}
	if w.Timed {
		return Result{Calls: done, Nanos: whole.Nanoseconds(), Figures: map[string]float64{Worst: millis(worst)}}, nil
	}
	return Result{Calls: calls, Nanos: int64(float64(calls) / rate)}, nil
}

// stream takes what another process sends: numbers from 0 on, or payloads that begin and end with
// them.
func (w Work) stream(open func(Work) Crew) (Result, error) {
	c := open(w)
	defer c.Close()
	batch, wanted := 64, 0
	if w.Bytes > 0 {
		batch = 1
	}
	run := func(calls int, least time.Duration) (r Result, err error) {
		for start := time.Now(); r.Calls < calls || r.Nanos < least.Nanoseconds(); {
			for range batch {
				if got := c.Take(); got != wanted {
					return r, fmt.Errorf("message %d is %d", wanted, got)
				}
				wanted++
			}
			r.Calls += batch
			r.Nanos = time.Since(start).Nanoseconds()
		}
		return r, nil
	}
	if _, err := run(1, min(warmUp, w.Least)); err != nil {
		return Result{}, err
	}
	before := 0.0
	if w.Bytes > 0 {
		before = faults()
	}
	r, err := run(w.Calls, w.Least)
	if err == nil && w.Bytes > 0 {
		r.Figures = map[string]float64{Faults: (faults() - before) / float64(r.Calls)}
	}
	return r, err
}
