package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A usage is what processes have used since they were started.
type usage struct {
	cpu      time.Duration
	switches float64 // how often a thread gave up its processor, or was made to
}

// WatchArg, as the first argument, makes a program that measures Idle the one that
// watches it: it calls WatchMain with the arguments that follow.
const WatchArg = "watch"

// settle is how long a pool is left alone before it counts as idle.
const settle = 2 * time.Second

// WatchMain watches the process of the given number and all that come from it, for the
// given time, and prints a Result without Calls as JSON.
func WatchMain(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: %s PID DURATION", WatchArg)
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	time.Sleep(min(settle, d))
	pids := slices.DeleteFunc(family(pid), func(p int) bool { return p == os.Getpid() })
	before, err := used(pids)
	if err != nil {
		return err
	}
	start := time.Now()
	time.Sleep(d)
	after, err := used(pids)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(Result{Nanos: time.Since(start).Nanoseconds(), Figures: map[string]float64{
		CPU: millis(after.cpu - before.cpu), Switches: after.switches - before.switches,
	}})
}

// used returns what the given processes have used. It needs Linux.
func used(pids []int) (usage, error) {
	var sum usage
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		for _, task := range tasks {
			// Exact, in nanoseconds; the times in stat are in ticks of 10 ms.
			text, err := os.ReadFile(task + "/schedstat")
			if errors.Is(err, os.ErrNotExist) {
				continue // the thread has just ended
			}
			if err != nil {
				return usage{}, err
			}
			first, _, _ := strings.Cut(string(text), " ")
			nanos, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				return usage{}, fmt.Errorf("%s/schedstat has %q", task, text)
			}
			sum.cpu += time.Duration(nanos)
			status, _ := os.ReadFile(task + "/status")
			for line := range strings.Lines(string(status)) {
				if name, value, ok := strings.Cut(line, ":"); ok && strings.HasSuffix(name, "ctxt_switches") {
					n, _ := strconv.Atoi(strings.TrimSpace(value))
					sum.switches += float64(n)
				}
			}
		}
	}
	if sum.cpu == 0 {
		return usage{}, errors.New("the system does not tell what processor time a process has used")
	}
	return sum, nil
}

// faults returns how many page faults this process and all that come from it have had, 0
// where that is unknown. A new mapping costs one for every page, or for every few.
func faults() float64 {
	sum := 0.0
	for _, pid := range family(os.Getpid()) {
		if fields := stat(pid); len(fields) > 7 {
			n, _ := strconv.Atoi(fields[7]) // minflt
			sum += float64(n)
		}
	}
	return sum
}

// family returns a process and all that come from it.
func family(root int) []int {
	parents := map[int]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields := stat(pid); len(fields) > 1 {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		for pid, parent := range parents {
			if parent == all[i] {
				all = append(all, pid)
			}
		}
	}
	return all
}

// stat returns the fields of a process that follow its name.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}
