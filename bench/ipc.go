package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
	"example.com/futures/worker"
)

// A namedOpener is a limit of what processes share.
type namedOpener struct {
	name string
	open opener
}

// The names of limits in the group ipc.
const (
	bareFutex  = "futex, always asleep"
	bareFlood  = "socket, blocking, one write each"
	bareCopies = "memcpy, in and out"
	bareAdd    = "atomic add"
	bareLock   = "futex lock, an increment"
)

// inIPC are the rows of what processes talk through.
func inIPC(f foreign) []row {
	return slices.Concat(queueRows(f), lockRows(f), signalRows(f), memoryRows(f))
}

// ipcLimit returns the named limits, doing w.
func ipcLimit(w remote.Work, names ...string) []contestant {
	var cs []contestant
	for _, l := range ipcLimits {
		if slices.Contains(names, l.name) {
			cs = append(cs, remotely(l.name, limits, w, l.open))
		}
	}
	return cs
}

// together is work of so many processes at the same time.
func together(processes int) remote.Work {
	return remote.Work{Shape: remote.Together, Workers: processes, Calls: 1000}
}

// pingPong is work of two processes in turn, after a rest before each call if there is one.
func pingPong(rest time.Duration) remote.Work {
	w := remote.Work{Shape: remote.One, Workers: 1, Calls: 500, Each: rest}
	if rest > 0 {
		w.Calls = 80
	}
	return w
}

// rest is how long both sides have nothing to do, and fall asleep.
const rest = 2 * time.Millisecond

// rateRow is a row of operations, more of which are good.
func rateRow(name, title string, contestants ...[]contestant) row {
	return row{
		name: name, title: title, unit: "/s", value: callsPerSecond, moreIsGood: true, figures: []string{},
		contestants: slices.Concat(contestants...),
	}
}

// turnRow is a row of round trips.
func turnRow(name, title string, contestants ...[]contestant) row {
	return row{
		name: name, title: title, unit: "µs, median", value: inMedian, figures: []string{remote.P99},
		contestants: slices.Concat(contestants...),
	}
}

// onMachine is a goal about what the machine of the goals reaches.
func onMachine(who string, rate float64, says string) goal {
	return goal{judged: []string{who}, says: "≥ " + says, least: rate, orientation: true}
}

// timesOf is a goal about a rate: so many times that of the best of others.
func timesOf(who string, times float64, others ...string) goal {
	return goal{judged: []string{who}, least: times, than: named(others...), says: fmt.Sprintf("≥ %v × %s", times, strings.Join(others, " or "))}
}

// atMost is a goal about a time: at most so many times that of the best of others.
func atMost(who string, times float64, others ...string) goal {
	return goal{judged: []string{who}, most: times, than: named(others...), says: fmt.Sprintf("≤ %v × %s", times, strings.Join(others, " or "))}
}

// fasterBy is a goal about a time: so many times as fast as the best of others.
func fasterBy(who string, times float64, others ...string) goal {
	g := atMost(who, 1/times, others...)
	g.says = fmt.Sprintf("≤ 1/%v × %s", times, strings.Join(others, " or "))
	return g
}

// beside is no bound.
func beside(who string, others ...string) goal {
	return toKnow([]string{who}, strings.Join(others, " or "), named(others...))
}

// A party is what a process needs that takes part in a work of several, on a handle H.
type party[H any] struct {
	Address string // of the meeting at which all start
	Work    remote.Work
	On      H
}

// A pastime is what processes do together to what they share.
type pastime[H io.Closer] struct {
	own  func(h H, n int) // what the process does that measures, n times
	task executor.Task[party[H], remote.Tally]
}

// inCompany is one in which all do the same.
func inCompany[H io.Closer](name string, op func(h H, n int)) pastime[H] {
	return inRoles(name, op, op)
}

// inRoles is one in which the others do something else.
func inRoles[H io.Closer](name string, own, others func(h H, n int)) pastime[H] {
	return pastime[H]{own, executor.NewTask("bench."+name, func(_ context.Context, p party[H]) (remote.Tally, error) {
		if err := remote.Attend(p.Address); err != nil {
			return remote.Tally{}, err
		}
		return p.Work.Tally(func(n int) { others(p.On, n) }), nil
	})}
}

// contestant is the pastime with a new handle. Where the handle has a count, that is compared
// with what was done.
func (p pastime[H]) contestant(name string, w remote.Work, newHandle func() (H, error), count func(H) int) contestant {
	return remotely(name, ours, w, func(w remote.Work) remote.Crew { return p.crew(w, must(newHandle()), count) })
}

// crew is those who do it to h, which they close.
func (p pastime[H]) crew(w remote.Work, h H, count func(H) int) remote.Crew {
	c := remote.Crew{
		Op: func(n int) { p.own(h, n) },
		Party: func(address string) func() remote.Tally {
			other := must(worker.Start(bg, p.task, party[H]{address, w, h}, worker.Config{}))
			return func() remote.Tally {
				t := must(other.Future().Result(bg))
				check(other.Join(bg))
				return t
			}
		},
		Close: func() { check(h.Close()) },
	}
	if count != nil {
		c.Count = func() int { return count(h) }
	}
	return c
}

// partner has another process call t, which does not return, until end.
func partner[A any](t executor.Task[A, int], arg A) (end func()) {
	p := must(worker.Start(bg, t, arg, worker.Config{}))
	var ending atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.Future().Result(bg); !ending.Load() {
			panic(fmt.Errorf("the other process has ended: %w", err)) // who waits for it would wait for ever
		}
	})
	return func() {
		ending.Store(true)
		check(p.Kill())
		check(p.Join(bg))
		wg.Wait()
	}
}

// endless is a task of a partner.
func endless[A any](name string, step func(A)) executor.Task[A, int] {
	return executor.NewTask("bench."+name, func(_ context.Context, arg A) (int, error) {
		for {
			step(arg)
		}
	})
}

// number writes n to both ends of a payload, numberOf reads it. It is -1 if they differ.
func number(payload []byte, n int) {
	binary.LittleEndian.PutUint64(payload, uint64(n))
	binary.LittleEndian.PutUint64(payload[len(payload)-8:], uint64(n))
}

func numberOf(payload []byte) int {
	n := binary.LittleEndian.Uint64(payload)
	if binary.LittleEndian.Uint64(payload[len(payload)-8:]) != n {
		return -1
	}
	return int(n)
}
