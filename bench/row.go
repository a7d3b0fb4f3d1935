package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A group is a list of rows that are run together, under the name that -only takes.
type group struct {
	name string
	find func(ctx context.Context, dir string) foreign // what of others is on this machine; dir is for its files
	rows func(f foreign) []row
}

// A row is one kind of work, done by contestants.
type row struct {
	name        string // what -run matches: "producers-64"
	title       string // one line: what a call is, how many, by how many workers
	unit        string // of value
	value       func(measurement) float64
	moreIsGood  bool // otherwise less is
	contestants []contestant
	goals       []goal
	missing     []missing
	figures     []string // of measurements, as columns of the table instead of what a call allocates
}

// find returns the contestant of the given name.
func (r row) find(name string) (contestant, bool) {
	i := slices.IndexFunc(r.contestants, func(c contestant) bool { return c.name == name })
	if i < 0 {
		return contestant{}, false
	}
	return r.contestants[i], true
}

// class says what a contestant offers, and so whom it is compared with.
type class string

const (
	ours     class = "ours"
	bare     class = "bare Go"         // written by hand, no library
	pools    class = "fire and forget" // bounded, results by hand
	futures  class = "futures"         // a typed result for each call
	elsewise class = "other languages" // informative

	limits      class = "bare limit"     // what the system allows, by hand
	processes   class = "process pools"  // of other languages
	nodeThreads class = "worker threads" // of Node: other heaps in one process
	rpcs        class = "rpc"            // Go; calls to child processes, no pool
	primitives  class = "primitives"     // of other languages: what processes talk through
	taskQueues  class = "task queues"    // Go; calls are kept in a database, of which a worker and a caller ask
)

// A contestant does the work of a row in one way. One of run and command is set.
type contestant struct {
	name  string
	class class

	// run does the work once, in this process, which is the contestant's own.
	run func(effort) (measurement, error)

	// command is the program, with its arguments, that does it and prints a
	// measurement as JSON.
	command func(effort) []string
}

// effort says how long to measure.
type effort struct {
	Calls int           // of one repetition, at most; 0 is what the row says
	Least time.Duration // repeat until so much time was measured
}

// A measurement is what one run of a contestant found.
type measurement struct {
	Calls  int     `json:"calls"`
	Nanos  int64   `json:"nanos"`            // that they took together
	Allocs float64 `json:"allocs,omitempty"` // objects allocated for a call
	Bytes  float64 `json:"bytes,omitempty"`  // bytes allocated for a call; 0 is unknown
	Held   float64 `json:"held,omitempty"`   // bytes that a pending call holds
	Others float64 `json:"others,omitempty"` // the share of the processors that other programs used meanwhile

	// Figures are what else was measured, by names that have their units.
	Figures map[string]float64 `json:"figures,omitempty"`
}

// figure is the metric of the given name.
func figure(name string) func(run) float64 {
	return func(r run) float64 { return r.Measured.Figures[name] }
}

// nanosPerCall is the value of most rows.
func nanosPerCall(m measurement) float64 { return float64(m.Nanos) / float64(m.Calls) }

// missing is something that was not measured.
type missing struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

func (m missing) String() string { return fmt.Sprintf("%s: %s", m.What, m.Why) }
