package main

import "sync"

// What one can write by hand, without a library. The channels bound what
// runs at a time, the go statements do not; none has errors or panics.
var (
	goStatement  = way{"go + WaitGroup", bare, openGo}
	goChannel    = way{"go + channel", bare, openGoChannel}
	funcChannel  = way{"channel of functions", bare, openFuncChannel}
	indexChannel = way{"channel of indexes", bare, openIndexChannel}
	splitByHand  = way{"split by hand", bare, openSplit}
	plainLoop    = way{"plain loop", bare, openLoop}
)

// openGo starts a goroutine for each call.
func openGo(s setup) engine {
	return withoutFutures(s, func(g *gang, i int) { go g.run(i) }, nothing)
}

// openGoChannel starts a goroutine for each call, that sends its result through a
// channel of its own.
func openGoChannel(s setup) engine {
	body := s.body
	return withFutures(func(arg int) chan int {
		c := make(chan int, 1)
		go func() { c <- body(arg) }()
		return c
	}, func(c chan int) int { return <-c }, nothing)
}

// openFuncChannel has as many goroutines as workers, which run what a buffered
// channel gives them.
func openFuncChannel(s setup) engine {
	calls := make(chan func(), s.buffer)
	var wg sync.WaitGroup
	for range s.workers {
		wg.Go(func() {
			for call := range calls {
				call()
			}
		})
	}
	return withoutFutures(s, func(g *gang, i int) { calls <- func() { g.run(i) } }, func() { close(calls); wg.Wait() })
}

// openIndexChannel is for one kind of call only: its goroutines get indexes, not
// functions.
func openIndexChannel(s setup) engine {
	return inOneGo(func(args, out []int) {
		indexes := make(chan int, s.buffer)
		var wg sync.WaitGroup
		for range s.workers {
			wg.Go(func() {
				for i := range indexes {
					out[i] = s.body(args[i])
				}
			})
		}
		for i := range args {
			indexes <- i
		}
		close(indexes)
		wg.Wait()
	}, nothing)
}

// openSplit gives each worker one part of the arguments.
func openSplit(s setup) engine {
	return inOneGo(func(args, out []int) {
		var wg sync.WaitGroup
		for w := range s.workers {
			from, to := w*len(args)/s.workers, (w+1)*len(args)/s.workers
			wg.Go(func() { loop(s.body, args[from:to], out[from:to]) })
		}
		wg.Wait()
	}, nothing)
}

func openLoop(s setup) engine {
	return inOneGo(func(args, out []int) { loop(s.body, args, out) }, nothing)
}

func loop(body func(int) int, args, out []int) {
	for i, arg := range args {
		out[i] = body(arg)
	}
}
