// Bench measures this library beside others and judges its goals. README.md in this
// folder says how, and what the figures do not show.
//
//	go run ./bench -only threads
//	go run ./bench -only processes
//	go run ./bench -only ipc
//	go run ./bench -only manager
//	go run ./bench -only cluster
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"time"

	"github.com/panjf2000/ants/v2"

	"example.com/futures/bench/remote"
	"example.com/futures/worker"
)

// groups are what -only picks from.
var groups = []group{
	{"threads", findForeign, inThreads},
	{"processes", findPeers, inProcesses},
	{"ipc", findIPC, inIPC},
	{"manager", findIPC, inManager},
	{"cluster", findCluster, inCluster},
}

// enough is how long one measurement lasts, or a little longer.
const enough = 200 * time.Millisecond

// roles are what this program is when the first of its arguments says so.
var roles = map[string]func(args []string) error{
	measureArg:      measureMain,
	bareArg:         bareMain,
	remote.WatchArg: remote.WatchMain,
}

// played plays the role that this process has, if it has one. A worker process
// stays in here.
func played() bool {
	ants.Release() // a pool that its package makes at the start wakes up twice a second, also in workers
	worker.Main()
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		return false
	}
	if err := roles[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func main() {
	if played() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := benchMain(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	only      string
	rows      *regexp.Regexp
	against   *regexp.Regexp
	rounds    int
	json, svg string
	effort    effort
}

func parse(args []string) (options, error) {
	o := options{effort: effort{Least: enough}}
	var rows, against string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.only, "only", "", "run one group: threads, processes, ipc, manager or cluster (default all)")
	flags.StringVar(&rows, "run", "", "run the rows that match a regular expression")
	flags.StringVar(&against, "against", "", "of other people's contestants, run those whose name matches a regular expression")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each contestant is measured")
	flags.StringVar(&o.json, "json", "", "write every run to a file")
	flags.StringVar(&o.svg, "svg", "", "write a plot of each row to a directory")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("bench: unexpected argument %q", flags.Arg(0))
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("bench: -rounds is %d, it must be 1 or more", o.rounds)
	}
	if o.only != "" && !slices.ContainsFunc(groups, func(g group) bool { return g.name == o.only }) {
		return o, fmt.Errorf("bench: -only: there is no group %q", o.only)
	}
	var err1, err2 error
	o.rows, err1 = regexp.Compile(rows)
	o.against, err2 = regexp.Compile(against)
	return o, errors.Join(err1, err2)
}

// benchMain runs what args ask for and prints the report.
func benchMain(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what cannot be removed is the system's to clean
	rep := newReport(ctx, o.rounds)
	rep.printHead(out)
	var rows []row
	var failures []error
	for _, g := range groups {
		if o.only != "" && g.name != o.only {
			continue
		}
		found := g.find(ctx, dir)
		rep.find(found, out)
		for _, r := range g.rows(found) {
			if !o.rows.MatchString(r.name) {
				continue
			}
			r.contestants = slices.DeleteFunc(r.contestants, func(c contestant) bool {
				return c.class != ours && !o.against.MatchString(c.name)
			})
			runs, failed := measureRow(ctx, r, o)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			rows = append(rows, r)
			failures = append(failures, failed...)
			rep.add(r, runs)
			rep.printRow(out, r)
		}
	}
	if len(rows) == 0 {
		return fmt.Errorf("bench: -run %q matches no row", o.rows)
	}
	rep.printSummary(out)
	if o.json != "" {
		failures = append(failures, rep.writeJSON(o.json))
	}
	if o.svg != "" {
		failures = append(failures, rep.plot(o.svg, rows))
	}
	return errors.Join(failures...)
}

// measureRow measures every contestant of r in each round, in an order that changes
// from round to round. A contestant that failed is not tried again.
func measureRow(ctx context.Context, r row, o options) (runs []run, failures []error) {
	failed := map[string]bool{}
	for round := 1; round <= o.rounds; round++ {
		for _, i := range rand.Perm(len(r.contestants)) {
			c := r.contestants[i]
			if failed[c.name] || ctx.Err() != nil {
				continue
			}
			m, err := inOwnProcess(ctx, r, c, o.effort)
			if err != nil {
				failed[c.name] = true
				failures = append(failures, err)
				continue
			}
			runs = append(runs, run{Row: r.name, Contestant: c.name, Class: c.class, Round: round, Value: r.value(m), Measured: m})
		}
	}
	return runs, failures
}
