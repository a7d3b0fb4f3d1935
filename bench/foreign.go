package main

import (
	"cmp"
	"context"
	_ "embed" // the programs
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

//go:embed foreign/threads.py
var threadsPython string

//go:embed foreign/Threads.java
var threadsJava string

// A foreign knows what of other languages is on this machine. The zero foreign is
// a machine without any.
type foreign struct {
	runners  []runner     // for threads
	commands peerCommands // for processes
	tools    []string     // what was found, with versions
	missing  []missing
}

// A runner is a contestant of another language, without its work.
type runner struct {
	name    string
	command []string
	most    int // calls of one repetition; 0 is any number
}

// contestants returns what the other languages have for l, under the name that their
// programs have for its shape.
func (f foreign) contestants(shape string, l load) []contestant {
	var cs []contestant
	for _, r := range f.runners {
		cs = append(cs, contestant{name: r.name, class: elsewise, command: func(e effort) []string {
			calls := l.calls
			if r.most > 0 {
				calls = min(calls, r.most)
			}
			if e.Calls > 0 {
				calls = min(calls, e.Calls)
			}
			return append(slices.Clip(r.command),
				shape, strconv.Itoa(l.workers), strconv.Itoa(calls), strconv.FormatInt(e.Least.Nanoseconds(), 10))
		}})
	}
	return cs
}

// findForeign looks for Python and Java. What it compiles goes to dir.
func findForeign(ctx context.Context, dir string) foreign {
	var f foreign
	if python, version, err := findPython(ctx); err != nil {
		f.missing = append(f.missing, missing{"Python's ThreadPoolExecutor", err.Error()})
	} else {
		f.runners = append(f.runners, runner{"Python " + version + " ThreadPoolExecutor", []string{python, "-c", threadsPython}, 10_000})
	}
	java, version, err := findJava(ctx, dir)
	if err != nil {
		f.missing = append(f.missing, missing{"Java's executors", err.Error()})
		return f
	}
	for _, kind := range []struct{ arg, name string }{{"fixed", "fixed thread pool"}, {"forkjoin", "ForkJoinPool"}, {"virtual", "virtual threads"}} {
		name := fmt.Sprintf("Java %d %s", version, kind.name)
		if kind.arg == "virtual" && version < 21 {
			f.missing = append(f.missing, missing{"Java's virtual threads", fmt.Sprintf("java is version %d, they came with 21", version)})
			continue
		}
		// The processors that the Go programs have, too.
		command := []string{java, "-XX:ActiveProcessorCount=2", "-cp", dir, "Threads", kind.arg}
		f.runners = append(f.runners, runner{name: name, command: command})
	}
	return f
}

var pythonVersion = regexp.MustCompile(`Python (3\.(\d+)\S*)`)

// findPython returns the newest Python 3 on the PATH, and its version. That a file is
// there does not say that it runs, so each is asked.
func findPython(ctx context.Context) (path, version string, err error) {
	newest := -1
	names := []string{"python3"}
	for minor := 9; minor < 30; minor++ {
		names = append(names, fmt.Sprintf("python3.%d", minor))
	}
	for _, name := range names {
		p, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, p, "--version").Output()
		if err != nil {
			continue
		}
		if m := pythonVersion.FindStringSubmatch(string(out)); m != nil {
			if minor, _ := strconv.Atoi(m[2]); minor > newest {
				path, version, newest = p, m[1], minor
			}
		}
	}
	if newest < 0 {
		return "", "", fmt.Errorf("no python3 that runs is on the PATH")
	}
	return path, version, nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// findJava returns the java on the PATH and its version, after compiling the program
// into dir: compiling it anew in each run would cost a second every time.
func findJava(ctx context.Context, dir string) (path string, version int, err error) {
	path, err = exec.LookPath("java")
	if err != nil {
		return "", 0, fmt.Errorf("no java is on the PATH")
	}
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	m := javaVersion.FindSubmatch(out)
	if err != nil || m == nil {
		return "", 0, fmt.Errorf("%s -version: %w", path, cmp.Or(err, fmt.Errorf("it says %q", out)))
	}
	version, _ = strconv.Atoi(string(m[1]))
	source := filepath.Join(dir, "Threads.java")
	if err := os.WriteFile(source, []byte(threadsJava), 0o600); err != nil {
		return "", 0, err
	}
	// The compiler is part of a JDK and not of a JRE.
	out, err = exec.CommandContext(ctx, path, "-m", "jdk.compiler/com.sun.tools.javac.Main", "-d", dir, source).CombinedOutput()
	if err != nil {
		return "", 0, fmt.Errorf("%s is no JDK: compiling: %w: %.200s", path, err, out)
	}
	return path, version, nil
}
