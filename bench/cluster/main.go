// Cluster measures one contestant of the group cluster: this library over NATS, NATS by itself, and
// task queues on Redis and on PostgreSQL.
//
//	cluster KIND WORK DIR
//	cluster versions
//
// WORK is JSON, see the package remote; servers have their files in DIR. It is a program of its own,
// because all that links a NATS server is woken every second, which the other groups would see.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
	"example.com/futures/worker"
)

var bg = context.Background()

// An opener opens the crew of a kind. Servers that it starts have their files in dir.
type opener func(w remote.Work, dir string) remote.Crew

// kinds has every contestant; ours adds itself.
var kinds = map[string]opener{
	"core":           openCore,
	"inbox":          openInbox,
	"objects":        openObjects,
	"asynq":          openAsynq(0),
	"asynq-quick":    openAsynq(quickAsynq),
	"river":          openRiver(riverTuning{}),
	"river-quick":    openRiver(riverTuning{Cooldown: river.FetchCooldownMin}),
	"river-complete": openRiver(riverTuning{Cooldown: river.FetchCooldownMin, Complete: true}),
}

func main() {
	worker.Main()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "versions" {
		return json.NewEncoder(os.Stdout).Encode(versions())
	}
	if len(args) != 3 {
		return fmt.Errorf("usage: cluster KIND WORK DIR")
	}
	open, ok := kinds[args[0]]
	if !ok {
		return fmt.Errorf("there is no kind %q, only %q", args[0], slices.Sorted(maps.Keys(kinds)))
	}
	var w remote.Work
	if err := json.Unmarshal([]byte(args[1]), &w); err != nil {
		return err
	}
	dir, err := filepath.Abs(args[2])
	if err != nil {
		return err
	}
	r, err := w.Measure(func(w remote.Work) remote.Crew { return open(w, dir) })
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// linked are the modules whose versions are told, by the names that they go by.
var linked = map[string]string{
	"github.com/nats-io/nats-server/v2": "nats-server",
	"github.com/nats-io/nats.go":        "nats.go",
	"github.com/hibiken/asynq":          "asynq",
	"github.com/riverqueue/river":       "river",
}

// versions returns those of what it links, and of the servers that this machine has.
func versions() map[string]string {
	found := map[string]string{"go": runtime.Version()[len("go"):]}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if name, ok := linked[m.Path]; ok {
				found[name] = m.Version
			}
		}
	}
	if kinds["ours"] != nil {
		found["clusterpool"] = "of this tree"
	}
	for name, find := range map[string]func() (string, error){"redis-server": redisVersion, "postgres": postgresVersion} {
		if version, err := find(); err == nil {
			found[name] = version
		}
	}
	return found
}

// A serving is what a worker process is told.
type serving struct {
	URL      string
	Name     string        // of what it is to serve
	Slots    int           // calls that it runs at the same time
	Look     time.Duration // how often it looks for calls; 0 is the default
	Complete bool          // see riverTuning
}

// workers has w.Workers other processes call t, which does not return, until end. They divide the processors.
func workers(w remote.Work, t executor.Task[serving, int], arg serving) (end func()) {
	arg.Slots = max(1, w.Slots)
	procs := max(1, runtime.GOMAXPROCS(0)/w.Workers)
	var ending atomic.Bool
	var wg sync.WaitGroup
	var started []*worker.Process[int]
	for range w.Workers {
		p := must(worker.Start(bg, t, arg, worker.Config{GOMAXPROCS: procs}))
		started = append(started, p)
		wg.Go(func() {
			if _, err := p.Future().Result(bg); !ending.Load() {
				panic(fmt.Errorf("a worker has ended: %w", err)) // who waits for it would wait for ever
			}
		})
	}
	return func() {
		ending.Store(true)
		for _, p := range started {
			check(p.Kill())
			check(p.Join(bg))
		}
		wg.Wait()
	}
}

// later runs f in a goroutine of its own. What it returns waits for the result.
func later[T any](f func() T) (result func() T) {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return func() T { return <-c }
}

// until calls look until it says that it is done, after pauses that get longer, up to a millisecond.
func until(look func() bool) {
	for pause := 100 * time.Microsecond; !look(); pause = min(2*pause, time.Millisecond) {
		time.Sleep(pause)
	}
}

// must stops this process, which runs nothing else.
func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
