package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"example.com/futures/executor"
)

// A report is what the program has to say in the end.
type report struct {
	numbers []int64
	given   bool // the numbers were given, so each one's answer is of interest
	kill    bool // a worker was to be killed
	answers map[int]answer
	wrong   []int64 // numbers whose answer is
	elapsed time.Duration
	stats   executor.Stats

	mu     sync.Mutex // guards victim
	victim int        // the worker process that was killed; 0: none
}

func newReport(c config) *report {
	return &report{numbers: c.numbers, given: c.given, kill: c.kill, answers: map[int]answer{}}
}

// add notes the answer for number i, and whether it is right. It returns how many there are.
func (rep *report) add(i int, a answer) int {
	rep.answers[i] = a
	n := rep.numbers[i]
	if a.Prime != big.NewInt(n).ProbablyPrime(0) { // which is certain below 2^64
		rep.wrong = append(rep.wrong, n)
	}
	return len(rep.answers)
}

func (rep *report) killed(pid int) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	rep.victim = pid
}

// A share is what a worker has done.
type share struct {
	answer          // its host and process
	checked, primes int
}

// shares returns the workers' shares, by host and process.
func (rep *report) shares() []*share {
	byWorker := map[answer]*share{}
	for _, a := range rep.answers {
		key := answer{Host: a.Host, PID: a.PID}
		s := byWorker[key]
		if s == nil {
			s = &share{answer: key}
			byWorker[key] = s
		}
		s.checked++
		if a.Prime {
			s.primes++
		}
	}
	return slices.SortedFunc(maps.Values(byWorker), func(a, b *share) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID))
	})
}

func (rep *report) write(w io.Writer) error {
	rep.mu.Lock()
	victim := rep.victim
	rep.mu.Unlock()
	if rep.given {
		for i, n := range rep.numbers {
			a, ok := rep.answers[i]
			switch {
			case !ok:
				fmt.Fprintln(w, n, "was not checked")
			case a.Prime:
				fmt.Fprintln(w, n, "is prime")
			default:
				fmt.Fprintln(w, n, "is not prime")
			}
		}
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "host\tprocess\tchecked\tprimes\t")
	primes := 0
	for _, s := range rep.shares() {
		primes += s.primes
		fate := ""
		if s.PID == victim {
			fate = "  killed"
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\n", s.Host, s.PID, s.checked, s.primes, fate)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d of %d checked, %d prime, in %.3f s\n", len(rep.answers), len(rep.numbers), primes, rep.elapsed.Seconds())
	switch {
	case victim != 0:
		fmt.Fprintf(w, "worker process %d was killed; begun again: %d; lost: %d\n", victim, rep.stats.Retried, len(rep.numbers)-len(rep.answers))
	case rep.kill:
		fmt.Fprintln(w, "it was over before a worker could be killed")
	}
	_, err := fmt.Fprintln(w, "wrong answers:", len(rep.wrong))
	return err
}
