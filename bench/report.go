package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"
)

// A report is all that one run of the tool found.
type report struct {
	Time       time.Time         `json:"time"`
	Go         string            `json:"go"`
	System     string            `json:"system"`
	CPU        string            `json:"cpu"`
	Processors int               `json:"processors"` // GOMAXPROCS of every contestant
	Commit     string            `json:"commit"`
	Modules    map[string]string `json:"modules"`
	Tools      []string          `json:"tools,omitempty"` // programs that peers need, and their versions
	Rounds     int               `json:"rounds"`
	Rows       []rowReport       `json:"rows"`
	Goals      []verdict         `json:"goals"`
	Missing    []missing         `json:"missing"`
}

// A rowReport is a row with its runs.
type rowReport struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Unit  string `json:"unit"`
	Runs  []run  `json:"runs"`
}

func newReport(ctx context.Context, rounds int) *report {
	rep := &report{
		Time: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		CPU: cpu(), Processors: processors, Commit: commit(ctx), Modules: map[string]string{}, Rounds: rounds,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Replace == nil && m.Version != "(devel)" {
				rep.Modules[m.Path] = m.Version
			}
		}
	}
	return rep
}

var modelName = regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`)

// cpu returns the name of the processor where the system tells it in a file.
func cpu() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		if m := modelName.FindSubmatch(text); m != nil {
			return fmt.Sprintf("%d × %s", runtime.NumCPU(), m[1])
		}
	}
	return fmt.Sprintf("%d × %s", runtime.NumCPU(), runtime.GOARCH)
}

// commit returns what git describes the source tree as. The go command does not say
// it for `go run`.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// add takes the runs of r, and judges its goals.
func (rep *report) add(r row, runs []run) {
	rep.Rows = append(rep.Rows, rowReport{Name: r.name, Title: r.title, Unit: r.unit, Runs: runs})
	rep.Missing = append(rep.Missing, r.missing...)
	for _, g := range r.goals {
		rep.Goals = append(rep.Goals, g.judge(r, runs))
	}
}

func (rep *report) printHead(out io.Writer) {
	fmt.Fprintf(out, "%s, %s, %s, GOMAXPROCS=%d, commit %s, %d rounds\n", rep.Go, rep.System, rep.CPU, rep.Processors, rep.Commit, rep.Rounds)
}

// find takes, and prints, what of others was found.
func (rep *report) find(f foreign, out io.Writer) {
	rep.Tools = append(rep.Tools, f.tools...)
	rep.Missing = append(rep.Missing, f.missing...)
	for _, tool := range f.tools {
		fmt.Fprintln(out, "beside:", tool)
	}
}

// printRow prints the table of r, which was added last, and its goals.
func (rep *report) printRow(out io.Writer, r row) {
	runs := rep.Rows[len(rep.Rows)-1].Runs
	fmt.Fprintf(out, "\n%s: %s\n\n", r.name, r.title)
	reference := r.reference(runs)
	head := []string{"contestant", "class", r.unit, "min–max", "to " + reference}
	if r.figures == nil {
		head = append(head, "allocs", "bytes")
	}
	table := [][]string{append(head, r.figures...)}
	for _, c := range r.contestants {
		s, ok := measuredBy(runs, c.name, run.value)
		if !ok {
			line := make([]string, len(table[0]))
			line[0], line[1], line[2] = c.name, string(c.class), "failed"
			table = append(table, line)
			continue
		}
		line := []string{c.name, string(c.class), short(s.Median), short(s.Min) + "–" + short(s.Max), "–"}
		if to, ok := ratio(runs, c.name, reference, run.value); ok {
			line[4] = short(to.Median)
		}
		if r.figures == nil {
			allocs, size := heap(runs, c)
			line = append(line, allocs, size)
		}
		for _, name := range r.figures {
			line = append(line, figureOf(runs, c, name))
		}
		table = append(table, line)
	}
	printTable(out, table)
	fmt.Fprintln(out)
	if share := disturbance(runs); share >= disturbed {
		fmt.Fprintf(out, "disturbed: other programs used %.0f %% of the processors meanwhile (average); run it again when the machine is idle\n", 100*share)
	}
	for _, v := range rep.Goals {
		if v.Row == r.name {
			fmt.Fprintln(out, v)
		}
	}
}

// disturbance is the share of the processors that other programs used, on average.
func disturbance(runs []run) float64 {
	sum := 0.0
	for _, r := range runs {
		sum += r.Measured.Others
	}
	return sum / float64(max(1, len(runs)))
}

// printTable prints a table in columns: the first two are words, the others figures.
func printTable(out io.Writer, table [][]string) {
	widths := make([]int, len(table[0]))
	for _, line := range table {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range table {
		for i, cell := range line {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < 2 {
				fmt.Fprint(out, cell, space, "  ")
			} else {
				fmt.Fprint(out, space, cell, "  ")
			}
		}
		fmt.Fprintln(out)
	}
}

// heap says how many objects and bytes a call allocates, where that is known.
func heap(runs []run, c contestant) (allocs, size string) {
	if c.command != nil {
		return "–", "–"
	}
	a, _ := measuredBy(runs, c.name, run.allocs)
	b, _ := measuredBy(runs, c.name, func(r run) float64 { return r.Measured.Bytes })
	return fmt.Sprintf("%.2f", a.Median), fmt.Sprintf("%.0f", b.Median)
}

// figureOf is the median of a figure of c, where it has that figure.
func figureOf(runs []run, c contestant, name string) string {
	for _, r := range of(runs, c.name) {
		if _, ok := r.Measured.Figures[name]; !ok {
			return "–"
		}
	}
	s, _ := measuredBy(runs, c.name, figure(name))
	return short(s.Median)
}

// reference is the contestant that the ratios of a table are to: the first of ours
// that was measured.
func (r row) reference(runs []run) string {
	for _, c := range r.contestants {
		if _, ok := measuredBy(runs, c.name, run.value); ok && c.class == ours {
			return c.name
		}
	}
	return ""
}

// printSummary prints all goals again, and what was not measured.
func (rep *report) printSummary(out io.Writer) {
	count := map[string]int{}
	fmt.Fprintln(out, "\nall goals")
	for _, v := range rep.Goals {
		fmt.Fprintln(out, v)
		count[v.Result]++
	}
	fmt.Fprintf(out, "%d met, %d missed, %d measured, %d not judged\n", count[met], count[missed], count[measured], count[notJudged])
	if n := count[reached] + count[notReached]; n > 0 {
		fmt.Fprintf(out, "%d of %d absolute figures reached; they are for orientation\n", count[reached], n)
	}
	for _, r := range rep.Rows {
		if share := disturbance(r.Runs); share >= disturbed {
			fmt.Fprintf(out, "%s was disturbed: other programs used %.0f %% of the processors\n", r.Name, 100*share)
		}
	}
	if len(rep.Missing) > 0 {
		fmt.Fprintln(out, "\nnot measured")
		for _, m := range rep.Missing {
			fmt.Fprintln(out, m)
		}
	}
}

func (rep *report) writeJSON(path string) error {
	text, err := json.MarshalIndent(rep, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
