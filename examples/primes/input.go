package main

import (
	"bufio"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

//go:embed primes.txt
var ownNumbers string

// A config is what the command line asks for.
type config struct {
	numbers  []int64
	given    bool // by the caller; otherwise they are the program's own
	backends []backend
	workers  int
	json     bool
}

// parse reads the command line, and the numbers from where it says they are. It
// prints the usage if that is asked for.
func parse(args []string, stdin io.Reader, stderr io.Writer) (config, error) {
	var cfg config
	fs := flag.NewFlagSet("primes", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // an error is printed once, by run
	names := fs.String("backend", "all", "check them on `LIST`: all, or some of serial,threads,processes")
	file := fs.String("file", "", "read the numbers from `FILE`, - being standard input; # begins a comment")
	fs.IntVar(&cfg.workers, "workers", 0, "how many goroutines, or processes, work at a time; 0 is one for each core that Go may use")
	fs.BoolVar(&cfg.json, "json", false, "print JSON instead of a table")
	fs.Usage = func() {} // Parse would print it after every error
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stderr, "Usage: primes [flags] [NUMBER ...]\n\n"+
				"Checks numbers for being prime: those given, those read from standard input for\n"+
				"a single -, or forty large ones of its own.\n\n")
			fs.SetOutput(stderr)
			fs.PrintDefaults()
		}
		return cfg, err
	}
	if cfg.workers < 0 {
		return cfg, fmt.Errorf("-workers %d: must not be negative", cfg.workers)
	}
	var err error
	if cfg.backends, err = pick(*names); err != nil {
		return cfg, err
	}

	cfg.given = true
	switch rest := fs.Args(); {
	case *file != "" && len(rest) > 0:
		return cfg, fmt.Errorf("both -file and numbers (%s ...): give one of them", rest[0])
	case *file == "-", slices.Equal(rest, []string{"-"}):
		cfg.numbers, err = readNumbers(stdin, "standard input")
	case *file != "":
		cfg.numbers, err = readFile(*file)
	case len(rest) > 0:
		for i, s := range rest {
			n, ok := number(s)
			if !ok {
				return cfg, badNumber(fmt.Sprintf("argument %d", i+1), s)
			}
			cfg.numbers = append(cfg.numbers, n)
		}
	default:
		cfg.given = false
		cfg.numbers, err = readNumbers(strings.NewReader(ownNumbers), "primes.txt")
	}
	return cfg, err
}

func readFile(name string) ([]int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readNumbers(f, name)
}

// readNumbers reads numbers with white space between them; # begins a comment.
// Errors name the place as name and line.
func readNumbers(r io.Reader, name string) ([]int64, error) {
	var numbers []int64
	lines := bufio.NewScanner(r)
	line := 0
	for lines.Scan() {
		line++
		text, _, _ := strings.Cut(lines.Text(), "#")
		for s := range strings.FieldsSeq(text) {
			n, ok := number(s)
			if !ok {
				return nil, badNumber(fmt.Sprintf("%s:%d", name, line), s)
			}
			numbers = append(numbers, n)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%s:%d: the line is longer than %d bytes", name, line+1, bufio.MaxScanTokenSize)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case len(numbers) == 0:
		return nil, fmt.Errorf("%s: there is no number in it", name)
	}
	return numbers, nil
}

func number(s string) (n int64, ok bool) {
	u, err := strconv.ParseUint(s, 10, 63)
	return int64(u), err == nil
}

func badNumber(place, s string) error {
	const longest = 40 // what is not a number may be a whole file
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return fmt.Errorf("%s: %q is not a whole number of at most 2^63-1", place, s)
}
