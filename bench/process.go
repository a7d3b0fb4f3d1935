package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// processors is what every contestant has.
const processors = 2

// tooLong ends a contestant that hangs.
const tooLong = time.Minute

// measureArg, as the first argument, makes this program one contestant of one row:
//
//	bench measure ROW CONTESTANT CALLS LEAST
//
// It prints the measurement as JSON.
const measureArg = "measure"

// inOwnProcess has a process of its own measure c.
func inOwnProcess(ctx context.Context, r row, c contestant, e effort) (measurement, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tooLong, fmt.Errorf("it took longer than %v", tooLong))
	defer cancel()
	var args []string
	if c.command != nil {
		args = c.command(e)
	} else {
		self, err := os.Executable()
		if err != nil {
			return measurement{}, err
		}
		args = []string{self, measureArg, r.name, c.name, strconv.Itoa(e.Calls), e.Least.String()}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	sweep := inGroup(cmd)
	defer sweep()
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", processors))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	others := byOthers()
	err := cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var m measurement
	if err == nil {
		err = json.Unmarshal(stdout.Bytes(), &m)
	}
	if err == nil && m.Calls < 1 {
		err = fmt.Errorf("it measured no call")
	}
	if err != nil {
		// The beginning has what a panic says; the rest is stacks.
		return m, fmt.Errorf("%s: %s: %w: %s", r.name, c.name, err, firstLines(stderr.String(), 5))
	}
	m.Others = others(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
	return m, nil
}

// firstLines returns up to n lines of s, in one.
func firstLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[:min(n, len(lines))], " | ")
}

// measureMain is what the process of a contestant does.
func measureMain(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: bench %s ROW CONTESTANT CALLS LEAST", measureArg)
	}
	calls, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	least, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	for _, g := range groups {
		for _, r := range g.rows(foreign{}) {
			if r.name != args[0] {
				continue
			}
			if c, ok := r.find(args[1]); ok {
				m, err := c.run(effort{Calls: calls, Least: least})
				if err != nil {
					return err
				}
				return json.NewEncoder(os.Stdout).Encode(m)
			}
		}
	}
	return fmt.Errorf("there is no contestant %q in a row %q", args[1], args[0])
}
