package main

import (
	"fmt"
	"slices"
	"time"
)

// The bodies of calls. Each returns what can be checked.

// next is a call that costs next to nothing. It is not inlined into anything.
//
//go:noinline
func next(n int) int { return n + 1 }

// hundredNanos is a call that takes about 100 ns.
func hundredNanos(n int) int {
	x := uint64(n) | 1
	for range 56 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return int(x)
}

const longCall = 10 * time.Microsecond

// tenMicros is a call that uses a core for 10 µs of the clock. Time since a fixed
// moment is read faster than time.Now, so the call ends closer to its 10 µs.
func tenMicros(n int) int {
	for end := time.Since(epoch) + longCall; time.Since(epoch) < end; {
		continue
	}
	return next(n)
}

var epoch = time.Now()

// blocked is a call that waits for a millisecond and uses no core.
func blocked(n int) int {
	time.Sleep(time.Millisecond)
	return next(n)
}

// noWorse is the bound of a goal that says "no worse than": two runs of one program
// differ by as much.
const noWorse = 1.02

// What stands beside the library in most rows.
var (
	allPools   = []way{pondGo, pondGroup, antsPool, concPool, gammazeroPool, goPool, errGroup}
	allFutures = []way{pondResult, reugnAsync, moFuture, failsafeAsync}
	inLoop     = []string{submit.name, submitFunc.name} // as users write it; SubmitAll and maps stand beside

	toFutures = func(most float64) goal {
		return goal{judged: inLoop, most: most, than: classes(futures), says: fmt.Sprintf("≤ %v × the best futures peer", most)}
	}
	toPools = func(most float64) goal {
		return goal{judged: inLoop, most: most, than: classes(pools), says: fmt.Sprintf("≤ %v × the best fire-and-forget peer", most)}
	}
)

// inThreads are the rows of one process, on 2 processors.
func inThreads(f foreign) []row {
	fanOuts := slices.Concat([]way{submit, submitFunc, submitAll, goStatement, funcChannel}, allPools, allFutures)
	with := func(shape string, l load, ways ...way) []contestant {
		return append(l.contestants(ways...), f.contestants(shape, l)...)
	}
	rows := []row{
		{
			name: "one-at-a-time", title: "submit a call of next to nothing and wait for it, one at a time; 2 workers",
			unit: "ns a call", value: nanosPerCall,
			contestants: with("one", load{workers: 2, calls: 10_000, body: next, shape: oneAtATime},
				slices.Concat([]way{submit, submitFunc, goStatement, goChannel, funcChannel}, allPools, allFutures)...),
			goals: []goal{
				toFutures(0.75),
				{judged: inLoop, says: "≤ 1.7 × " + goStatement.name, most: 1.7, than: named(goStatement.name)},
			},
		},
		{
			name: "fan-out", title: "1,000,000 calls of next to nothing are submitted by one producer, then every result is read; 2 workers",
			unit: "ns a call", value: nanosPerCall,
			contestants: with("fan", load{workers: 2, calls: 1_000_000, warm: 250_000, body: next, shape: allAtOnce}, fanOuts...),
			goals:       []goal{toFutures(0.35), toPools(1.2)},
		},
		{
			name: "batches", title: "the same in batches of 1,000: submit a batch, read its results; 2 workers",
			unit: "ns a call", value: nanosPerCall,
			contestants: with("batches", load{workers: 2, calls: 50_000, body: next, shape: batches(1000)}, fanOuts...),
			goals:       []goal{toFutures(0.35), toPools(1.2)},
		},
		{
			name: "map-100ns", title: "1,000,000 calls of about 100 ns through a map; 2 workers",
			unit: "ns a call", value: nanosPerCall,
			contestants: load{workers: 2, calls: 1_000_000, warm: 250_000, body: hundredNanos, shape: allAtOnce}.
				contestants(orderedMap, anyOrderMap, funcChannel, indexChannel, splitByHand, plainLoop, concIter),
			goals: []goal{
				{judged: []string{orderedMap.name}, says: "≤ 1.2 × the better channel", most: 1.2, than: named(funcChannel.name, indexChannel.name)},
				{judged: []string{anyOrderMap.name}, says: "≤ 1.2 × the better channel", most: 1.2, than: named(funcChannel.name, indexChannel.name)},
			},
			missing: []missing{{"map-100ns: Python, Java", "a body of 100 ns would not be the same work there"}},
		},
		{
			name: "producers-64", title: "64 producers submit 4,096 calls of next to nothing each, and read the results; 2 workers",
			unit: "ns a call", value: nanosPerCall,
			contestants: with("producers", load{workers: 2, calls: 64 * 4096, body: next, shape: producers(64)}, fanOuts...),
			goals: []goal{
				{judged: inLoop, says: "≤ 0.3 × the best peer of any kind", most: 0.3, than: classes(pools, futures)},
			},
		},
		{
			name: "calls-10us", title: "20,000 calls that each use a core for 10 µs; 2 workers",
			unit: "% of the ideal", moreIsGood: true,
			value: func(m measurement) float64 { return 100 * float64(longCall) / 2 / nanosPerCall(m) },
			contestants: with("spin", load{workers: 2, calls: 20_000, warm: 4_000, body: tenMicros, want: next, shape: allAtOnce},
				slices.Concat(fanOuts, []way{orderedMap, splitByHand})...),
			goals: []goal{
				{judged: inLoop, says: "≥ 96 % of the ideal", least: 96},
				{judged: inLoop, says: "to " + splitByHand.name + ", the ideal on this machine", than: named(splitByHand.name)},
			},
		},
		{
			name: "map-cheap", title: "1,000,000 items through a function of next to nothing, results in order; 2 workers",
			unit: "ns an item", value: nanosPerCall,
			contestants: with("map", load{workers: 2, calls: 1_000_000, warm: 250_000, body: next, shape: allAtOnce},
				orderedMap, plainLoop, splitByHand, concIter, concStream, pondGroup, reugnAsync),
			goals: []goal{
				{judged: []string{orderedMap.name}, says: "≤ 1.5 × " + splitByHand.name, most: 1.5, than: named(splitByHand.name)},
				{judged: []string{orderedMap.name}, says: "≤ 1/40 × " + concIter.name, most: 1.0 / 40, than: named(concIter.name)},
			},
		},
		{
			name: "pending", title: "a call that waits in the queue: what it holds, and what submitting it allocates, closure included; 2 workers",
			unit: "bytes a call", value: func(m measurement) float64 { return m.Held },
			contestants: pendingCalls{workers: 2, calls: 50_000}.contestants(submit, submitFunc, submitAll,
				goStatement, funcChannel, pondGo, pondGroup, gammazeroPool, goPool, pondResult, reugnAsync, moFuture, failsafeAsync),
			goals: []goal{
				{judged: []string{submit.name}, says: "≤ 160 bytes", most: 160},
				{judged: []string{submitFunc.name}, says: "≤ 160 bytes, the closure among them", most: 160},
				{judged: []string{submit.name}, says: "≤ 1 allocation", metric: run.allocs, most: 1 + queueShare},
				{judged: []string{submitFunc.name}, says: "≤ 1 allocation and the closure", metric: run.allocs, most: 2 + queueShare},
			},
			missing: []missing{
				{"pending: ants, conc, errgroup", "a submit waits until a worker is free, so no call is ever pending"},
				{"pending: Python, Java", "how much of the heap is in use is not comparable"},
			},
		},
	}
	for _, workers := range []int{64, 1000} {
		l := load{workers: workers, calls: 10_000, body: blocked, want: next, shape: allAtOnce}
		rows = append(rows, row{
			name: fmt.Sprintf("blocking-%d", workers), title: fmt.Sprintf("10,000 calls that each sleep for 1 ms; %d workers", workers),
			unit: "ms for all", value: func(m measurement) float64 { return nanosPerCall(m) * 10_000 / 1e6 },
			contestants: with("sleep", l, submit, submitFunc, submitAll, funcChannel, errGroup, pondGo, antsPool, concPool, gammazeroPool, pondResult, reugnAsync),
			goals:       []goal{{judged: inLoop, says: "no worse than errgroup", most: noWorse, than: named(errGroup.name)}},
		})
	}
	return append(rows, row{
		name: "extras", title: "one at a time, as above, with what most calls do not use; 2 workers",
		unit: "ns a call", value: nanosPerCall,
		contestants: load{workers: 2, calls: 10_000, body: next, shape: oneAtATime}.
			contestants(submit, withDoneChannel, withCallback, withCtx, withObserver),
		goals:   []goal{costOf(withDoneChannel), costOf(withCallback), costOf(withCtx), costOf(withObserver)},
		missing: []missing{{"extras: everybody else", "they lack most of these, and the row is about what ours cost"}},
	})
}

// queueShare is what a call may have of an allocation that many share: a chunk of the queue.
const queueShare = 0.02

// costOf is no bound: what w costs is to be known.
func costOf(w way) goal {
	return goal{judged: []string{w.name}, says: "to a call without", than: named(submit.name)}
}
