package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// A config is what the command line asks for.
type config struct {
	numbers []int64
	given   bool // by the caller; otherwise they are the program's own
	url     string
	worker  bool
	name    string
	workers int
	slots   int
	kill    bool
}

// parse reads the command line. It prints the usage if that is asked for.
func parse(args []string, stderr io.Writer) (config, error) {
	var cfg config
	fs := flag.NewFlagSet("cluster", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // an error is printed once, by run
	fs.StringVar(&cfg.url, "url", "", "use the NATS servers of this `URL`, and none in this process; @FILE: the URL that is in FILE")
	fs.BoolVar(&cfg.worker, "worker", false, "be a worker of -url until Ctrl-C")
	fs.StringVar(&cfg.name, "name", "primes", "the pool's `NAME`, of workers and those whose calls they run")
	fs.IntVar(&cfg.workers, "workers", 2, "how many worker `PROCESSES` to start; with -url none, unless it is said")
	fs.IntVar(&cfg.slots, "slots", 0, "how many `CALLS` a worker runs at a time; 0 is its share of the cores")
	fs.BoolVar(&cfg.kill, "kill", false, "kill one of the workers while it runs a call")
	fs.Usage = func() {} // Parse would print it after every error
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stderr, "Usage: cluster [flags] [NUMBER ...]\n\n"+
				"Checks numbers for being prime, those given or forty large ones of its own, on the\n"+
				"workers of a cluster.\n\n")
			fs.SetOutput(stderr)
			fs.PrintDefaults()
		}
		return cfg, err
	}
	said := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { said[f.Name] = true })
	if cfg.url != "" && !said["workers"] {
		cfg.workers = 0
	}
	switch {
	case cfg.slots < 0:
		return cfg, fmt.Errorf("-slots %d: must not be negative", cfg.slots)
	case cfg.worker && cfg.url == "":
		return cfg, errors.New("-worker: of which servers? Give their -url")
	case cfg.worker && (cfg.kill || said["workers"] || fs.NArg() > 0):
		return cfg, errors.New("-worker: a worker takes no numbers, and neither -workers nor -kill")
	case cfg.worker:
	case cfg.url == "" && cfg.workers < 1:
		return cfg, fmt.Errorf("-workers %d: somebody must do the work", cfg.workers)
	case cfg.workers < 0:
		return cfg, fmt.Errorf("-workers %d: must not be negative", cfg.workers)
	case cfg.kill && cfg.workers < 2:
		return cfg, fmt.Errorf("-kill with -workers %d: start two or more, one for going on", cfg.workers)
	}
	if file, ok := strings.CutPrefix(cfg.url, "@"); ok {
		text, err := os.ReadFile(file)
		if err != nil {
			return cfg, fmt.Errorf("-url: %w", err)
		}
		cfg.url = strings.TrimSpace(string(text))
	}
	if cfg.slots == 0 {
		cfg.slots = max(1, runtime.GOMAXPROCS(0)/max(1, cfg.workers))
	}
	for i, s := range fs.Args() {
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return cfg, fmt.Errorf("argument %d: %q is not a whole number of at most 2^63-1", i+1, s)
		}
		cfg.numbers = append(cfg.numbers, int64(n))
	}
	if cfg.given = len(cfg.numbers) > 0; !cfg.given {
		cfg.numbers = ownNumbers()
	}
	return cfg, nil
}

// ownNumbers returns forty numbers, the same each time: large primes, and composites whose
// smallest divisor is large too, which is what trial division finds hardest.
func ownNumbers() []int64 {
	random := rand.New(rand.NewPCG(1, 2))
	primeAbove := func(n int64) int64 {
		for !big.NewInt(n).ProbablyPrime(0) {
			n++
		}
		return n
	}
	numbers := make([]int64, 40)
	for i := range numbers {
		if i%4 == 3 {
			numbers[i] = primeAbove(4e7+random.Int64N(5e7)) * primeAbove(4e7+random.Int64N(5e7))
		} else {
			numbers[i] = primeAbove(1e15 + random.Int64N(8e15))
		}
	}
	return numbers
}
