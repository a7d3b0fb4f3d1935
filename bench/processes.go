package main

import (
	"fmt"
	"slices"
	"time"

	"example.com/futures/bench/remote"
)

// A bareLimit is what the system allows in some shapes of work.
type bareLimit struct {
	name   string
	shapes []remote.Shape
	open   opener
}

// The names of ours, and of limits that goals are about.
const (
	oursSubmit    = "Submit"
	oursSubmitAll = "SubmitAll"
	oursMap       = "Map"
	oursSpawn     = "spawn"
	oursServed    = "fork server"
	oursFurther   = "fork server, a further pool"
	oursMany      = "64 workers"
	oursFew       = "2 workers"
	bareSocket    = "socket, blocking"
	barePolled    = "socket, netpoller"
	bareSpin      = "shared memory, spinning"
	bareStart     = "bare start"
	bareSplit     = "split by hand"
)

// limitsFor returns the limits for w.
func limitsFor(w remote.Work) []contestant {
	var cs []contestant
	for _, l := range bareLimits {
		if slices.Contains(l.shapes, w.Shape) {
			cs = append(cs, remotely(l.name, limits, w, l.open))
		}
	}
	return cs
}

// What the rows are measured in.
var (
	callsPerSecond = func(m measurement) float64 { return float64(m.Calls) / float64(m.Nanos) * 1e9 }
	inMedian       = func(m measurement) float64 { return m.Figures[remote.Median] }
	inWorst        = func(m measurement) float64 { return m.Figures[remote.Worst] }
	inFirst        = func(m measurement) float64 { return m.Figures[remote.First] }
	inAll          = func(m measurement) float64 { return m.Figures[remote.All] }
	inCPU          = func(m measurement) float64 { return m.Figures[remote.CPU] }
)

// Who stands beside the library.
var (
	everyPool = []string{pyExecutor, pyPool, pyLoky, pyPebble, npmPool, piscina}
	everyRPC  = []string{netRPC, goPlugin}
	everyPeer = slices.Concat(everyPool, everyRPC)
	anyPeer   = classes(processes, nodeThreads, rpcs)

	oneSubmit = []string{oursSubmit}
)

// atLeast is a goal about a rate: so many times that of another.
func atLeast(times float64, whose string, than func(contestant) bool) goal {
	return goal{judged: oneSubmit, least: times, than: than, says: fmt.Sprintf("≥ %v × %s", times, whose)}
}

// fasterThan is a goal about a time: so many times as fast as another.
func fasterThan(times float64, whose string, than func(contestant) bool) goal {
	return goal{judged: oneSubmit, most: 1 / times, than: than, says: fmt.Sprintf("≤ 1/%v × %s", times, whose)}
}

// toKnow is no bound.
func toKnow(judged []string, whose string, than func(contestant) bool) goal {
	return goal{judged: judged, says: "to " + whose, than: than}
}

// inProcesses are the rows of calls to worker processes, on 2 processors.
func inProcesses(f foreign) []row {
	return slices.Concat(latencyRows(f), rateRows(f), echoRows(f), busyRows(f), startRows(f), quietRows(f))
}

// latencyRows have one call at a time.
func latencyRows(f foreign) []row {
	one := remote.Work{Shape: remote.One, Workers: 2, Calls: 500}
	rest := remote.Work{Shape: remote.One, Workers: 2, Calls: 80, Each: 2 * time.Millisecond}
	mixed := remote.Work{Shape: remote.Mixed, Workers: 2, Calls: 10, Body: remote.Pause}
	figures := []string{remote.P99}
	return []row{
		{
			name: "process-call", title: "a call of next to nothing to a worker process, one at a time; 2 workers",
			unit: "µs a call, median", value: inMedian, figures: figures,
			contestants: slices.Concat([]contestant{remotely(oursSubmit, ours, one, spawned)}, limitsFor(one), f.peers(one, everyPeer...)),
			goals: []goal{
				{judged: oneSubmit, says: "≤ 3 µs", most: 3, orientation: true},
				{judged: oneSubmit, says: "p99 ≤ 60 µs", most: 60, metric: figure(remote.P99), orientation: true},
				fasterThan(60, "Python's "+pyExecutor, named(pyExecutor)),
				fasterThan(12, "the best process pool", classes(processes)),
				fasterThan(6, "piscina's threads", named(piscina)),
				toKnow(oneSubmit, "the best bare ping-pong that may sleep", named(bareSocket, barePolled)),
			},
			missing: []missing{{"process-call: joblib", "it has no single calls"}},
		},
		{
			name: "process-rest", title: "the same after a rest of 2 ms before each call; 2 workers",
			unit: "µs a call, median", value: inMedian, figures: figures,
			contestants: slices.Concat([]contestant{remotely(oursSubmit, ours, rest, spawned)}, limitsFor(rest), f.peers(rest, everyPeer...)),
			goals: []goal{
				fasterThan(4, "Python's "+pyExecutor, named(pyExecutor)),
				{judged: oneSubmit, says: "≤ 1.2 × " + bareSocket, most: 1.2, than: named(bareSocket)},
			},
		},
		{
			name: "process-mixed", title: "1 % calls of 100 ms among calls of next to nothing in bursts of 20; one worker of 2 is always free",
			unit: "ms, the longest wait of a short call", value: inWorst, figures: []string{remote.P999, remote.Median},
			contestants: slices.Concat([]contestant{remotely(oursSubmit, ours, mixed, spawned)}, limitsFor(mixed), f.peers(mixed, pyExecutor, pyPool)),
			goals: []goal{
				{judged: oneSubmit, says: "≤ 5 ms", most: 5},
				toKnow(oneSubmit, bareSocket+", one call after another to a child that is always free", named(bareSocket)),
			},
		},
	}
}

// rateRows have many calls at a time.
func rateRows(f foreign) []row {
	fan := remote.Work{Shape: remote.Fan, Workers: 2, Calls: 20_000}
	many := fan
	many.Workers = 64
	rows := []row{
		{
			name: "process-fan-out", title: "20,000 calls of next to nothing are submitted, then every result is read; 2 workers",
			unit: "calls/s", value: callsPerSecond, moreIsGood: true, figures: []string{},
			contestants: slices.Concat([]contestant{
				remotely(oursSubmit, ours, fan, spawned), remotely(oursSubmitAll, ours, fan, inOneSubmit),
			}, f.peers(fan, append(slices.Clip(everyPeer), pyJoblib)...)),
			goals: []goal{
				{judged: oneSubmit, says: "≥ 1,000,000 calls/s", least: 1e6, orientation: true},
				atLeast(60, "Python's "+pyExecutor, named(pyExecutor)),
				atLeast(5, "the best peer that has a handle for each call", func(c contestant) bool { return anyPeer(c) && c.name != pyJoblib }),
				atLeast(5, "the best peer, joblib's batches without handles among them", anyPeer),
			},
		},
		{
			name: "process-64-workers", title: "the same with 64 workers on 2 processors",
			unit: "calls/s", value: callsPerSecond, moreIsGood: true, figures: []string{},
			contestants: []contestant{remotely(oursFew, ours, fan, spawned), remotely(oursMany, ours, many, spawned)},
			goals:       []goal{{judged: []string{oursMany}, says: "≥ 0.7 × " + oursFew, least: 0.7, than: named(oursFew)}},
			missing:     []missing{{"process-64-workers: everybody else", "the row compares ours with itself"}},
		},
	}
	for _, m := range []struct {
		name, chunk string
		size        int
		least       float64
		words       string
	}{
		{"process-map-1", "chunks of 1", 1, 1e6, "1,000,000"},
		{"process-map", "the default chunks", 0, 3e6, "3,000,000"},
		{"process-map-100", "chunks of 100", 100, 1e7, "10,000,000"},
	} {
		w := remote.Work{Shape: remote.Map, Workers: 2, Calls: 1_000_000, Chunk: m.size}
		theirs := w
		theirs.Calls = 200_000
		pools := []string{pyExecutor, pyPool, pyLoky, pyPebble}
		r := row{
			name: m.name, title: "items through a map with " + m.chunk + ", results in order; 2 workers",
			unit: "items/s", value: callsPerSecond, moreIsGood: true, figures: []string{},
			contestants: append([]contestant{remotely(oursMap, ours, w, mapped)}, f.peers(theirs, pools...)...),
			goals: []goal{
				{judged: []string{oursMap}, says: "≥ " + m.words + " items/s", least: m.least},
				toKnow([]string{oursMap}, "the best peer", anyPeer),
			},
		}
		rows = append(rows, r)
	}
	return rows
}

// echoRows have large payloads.
func echoRows(f foreign) []row {
	var rows []row
	for _, e := range []struct {
		name, title   string
		mebis, flying int
		least         float64
		words         string
	}{
		{"process-echo-1MiB", "1 MiB there and back as []byte that each receiver owns, 4 under way; 2 workers", 1, 4, 1800, "1,800"},
		{"process-echo-64MiB", "64 MiB there and back as []byte that each receiver owns, one at a time; 2 workers", 64, 1, 900, "900"},
	} {
		w := remote.Work{Shape: remote.Echo, Workers: 2, Bytes: e.mebis << 20, Flying: e.flying, Calls: max(1, 16/e.mebis)}
		rows = append(rows, row{
			name: e.name, title: e.title,
			unit: "MiB/s, one way", moreIsGood: true, figures: []string{remote.Faults},
			value:       func(m measurement) float64 { return callsPerSecond(m) * float64(e.mebis) },
			contestants: slices.Concat([]contestant{remotely(oursSubmit, ours, w, spawned)}, limitsFor(w), f.peers(w, everyPeer...)),
			goals: []goal{
				{judged: oneSubmit, says: "≥ " + e.words + " MiB/s", least: e.least, orientation: true},
				atLeast(4, "Python's "+pyExecutor, named(pyExecutor)),
				atLeast(1.7, "the best peer", anyPeer),
				{judged: oneSubmit, says: "page faults a call, in all processes (a fresh mapping has 256 for a MiB)", metric: figure(remote.Faults)},
			},
		})
	}
	return rows
}

// busyRows have calls that use a core.
func busyRows(f foreign) []row {
	var rows []row
	for _, b := range []struct {
		name, each string
		spin       time.Duration
		calls      int
		least      float64
	}{
		{"process-calls-1ms", "1 ms", time.Millisecond, 400, 98},
		{"process-calls-10us", "10 µs", 10 * time.Microsecond, 20_000, 85},
	} {
		w := remote.Work{Shape: remote.Fan, Workers: 2, Calls: b.calls, Body: remote.Spin, Each: b.spin}
		theirs := w
		theirs.Calls = min(4000, w.Calls)
		rows = append(rows, row{
			name: b.name, title: fmt.Sprintf("%d calls that each use a core for %s; 2 workers", b.calls, b.each),
			unit: "% of cores × time", moreIsGood: true, figures: []string{},
			value: func(m measurement) float64 {
				return 100 * float64(b.spin) * float64(m.Calls) / processors / float64(m.Nanos)
			},
			contestants: slices.Concat([]contestant{
				remotely(oursSubmit, ours, w, spawned), remotely(oursMap, ours, w, mapped),
			}, limitsFor(w), f.peers(theirs, pyExecutor, pyPool, piscina, netRPC)),
			goals: []goal{
				{judged: oneSubmit, says: fmt.Sprintf("≥ %v %%", b.least), least: b.least},
				toKnow(oneSubmit, bareSplit+", the ideal on this machine", named(bareSplit)),
			},
		})
	}
	return rows
}

// startRows open pools.
func startRows(f foreign) []row {
	two := remote.Work{Shape: remote.Start, Workers: 2, Calls: 8}
	further := two
	further.Each = 30 * time.Millisecond // in which the fork server makes workers ready
	all := remote.Work{Shape: remote.StartAll, Workers: 16, Calls: 3}
	theirs, theirAll := two, all // a start that takes long is measured less often
	theirs.Calls, theirAll.Calls = 5, 2
	starters := append(slices.Clip(everyPeer), pySpawn, pyForkserver)
	return []row{
		{
			name: "process-start-2", title: "a pool of 2 is opened and gives its first result",
			unit: "ms", value: inFirst, figures: []string{},
			contestants: slices.Concat([]contestant{
				remotely(oursSpawn, ours, two, spawned), furtherPool(oursFurther, further),
			}, limitsFor(two), f.peers(theirs, starters...)),
			goals: []goal{
				{judged: []string{oursSpawn}, says: "≤ 1.4 × the " + bareStart + " of the same binary", most: 1.4, than: named(bareStart)},
				{judged: []string{oursFurther}, says: "≤ 0.3 ms", most: 0.3},
				toKnow([]string{oursSpawn}, "the best peer", anyPeer),
			},
		},
		{
			name: "process-start-16", title: "a pool of 16 is opened: until all 16 workers run a call at the same time; first: until one of 16 results",
			unit: "ms for all", value: inAll, figures: []string{remote.First},
			contestants: slices.Concat([]contestant{
				remotely(oursSpawn, ours, all, spawned), remotely(oursServed, ours, all, served),
			}, limitsFor(all), f.peers(theirAll, starters...)),
			goals: []goal{
				{judged: []string{oursSpawn}, says: "first ≤ 2 × the first of 16 bare starts", most: 2, metric: figure(remote.First), than: named(bareStart)},
				{judged: []string{oursSpawn}, says: "all ≤ 1.2 × all of 16 bare starts", most: 1.2, than: named(bareStart)},
			},
		},
	}
}

// quietRows have pools that do nothing.
func quietRows(f foreign) []row {
	idle := remote.Work{Shape: remote.Idle, Workers: 16, Each: 10 * time.Second, Calls: 1}
	pending := remote.Work{Shape: remote.Pending, Workers: 2, Calls: 1_000_000}
	theirs := pending
	theirs.Calls = 100_000
	return []row{
		{
			name: "process-idle", title: "a pool of 16 has nothing to do for 10 s: processor time of its workers and its parent",
			unit: "ms of CPU", value: inCPU, figures: []string{remote.Switches},
			contestants: slices.Concat([]contestant{
				remotely(oursSpawn, ours, idle, spawned), remotely(oursServed, ours, idle, served),
			}, limitsFor(idle)),
			goals: []goal{
				{judged: []string{oursSpawn}, says: "≤ 1 ms for 17 processes: no CPU", most: 1},
				{judged: []string{oursServed}, says: "≤ 1 ms for 18 processes and the spares: no CPU", most: 1},
				{judged: []string{oursSpawn}, says: "≤ 34 times a thread runs, two a process: no timer, no polling", most: 34, metric: figure(remote.Switches)},
			},
			missing: []missing{{"process-idle: everybody else", "the goal is no CPU at all, whoever else uses some"}},
		},
		{
			name: "process-pending", title: "a call that waits for a worker process: what its parent holds for it; 1,000,000 wait (100,000 elsewhere)",
			unit: "bytes a call", value: func(m measurement) float64 { return m.Held },
			contestants: append([]contestant{pendingRemote(oursSubmit, pending)}, f.peers(theirs, pyExecutor)...),
			goals: []goal{
				{judged: oneSubmit, says: "≤ 300 bytes", most: 300},
				toKnow(oneSubmit, "Python's "+pyExecutor, named(pyExecutor)),
			},
			missing: []missing{{"process-pending: all but Python's " + pyExecutor, "what they hold is in no one place"}},
		},
	}
}
