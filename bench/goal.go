package main

import (
	"fmt"
	"slices"
	"strings"
)

// A goal is a bound on what the library's contestants reach in a row: absolute, or
// as a ratio to somebody else.
type goal struct {
	// judged are contestants of this library. The one with the best median counts.
	judged []string
	says   string // the goal in words, after their names: "≤ 0.75 × the best futures peer"

	// than picks those to compare with. The one with the best median counts. Nil is
	// nobody: the bound is absolute.
	than func(contestant) bool

	// metric is what is bounded; nil is the row's value.
	metric func(run) float64

	most, least float64 // the bound: one is set; neither is for what is only to be known

	// orientation marks an absolute bound that says what the machine of the goals
	// reaches. Others differ; what is judged is a ratio, by a goal beside it.
	orientation bool
}

// classes picks the contestants of some classes.
func classes(some ...class) func(contestant) bool {
	return func(c contestant) bool { return slices.Contains(some, c.class) }
}

// named picks contestants by name.
func named(names ...string) func(contestant) bool {
	return func(c contestant) bool { return slices.Contains(names, c.name) }
}

// A verdict is what came of a goal.
type verdict struct {
	Row    string `json:"row"`
	Goal   string `json:"goal"`
	Ours   string `json:"ours,omitempty"` // who was judged
	Peer   string `json:"peer,omitempty"` // and compared with whom
	Value  spread `json:"value"`          // the ratio, or the value
	Result string `json:"result"`
}

// What comes of a goal.
const (
	met      = "met"
	missed   = "missed"
	measured = "measured" // there was no bound

	reached    = "reached (for orientation)"
	notReached = "not reached (for orientation)"

	notJudged = "not judged: a contestant was not measured"
)

func (v verdict) String() string {
	if v.Result == notJudged {
		return fmt.Sprintf("goal: %s: %s: %s", v.Row, v.Goal, v.Result)
	}
	who := v.Ours
	if v.Peer != "" {
		who += " to " + v.Peer
	}
	return fmt.Sprintf("goal: %s: %s: %s (%s–%s; %s)  %s",
		v.Row, v.Goal, short(v.Value.Median), short(v.Value.Min), short(v.Value.Max), who, v.Result)
}

// judge says whether g is met by the runs of r.
func (g goal) judge(r row, runs []run) verdict {
	v := verdict{Row: r.name, Goal: strings.Join(g.judged, " or ") + " " + g.says, Result: notJudged}
	metric := g.metric
	if metric == nil {
		metric = run.value
	}
	var ok bool
	if v.Ours, ok = best(r, runs, named(g.judged...), metric); !ok {
		return v
	}
	if g.than == nil {
		v.Value, _ = measuredBy(runs, v.Ours, metric)
	} else {
		if v.Peer, ok = best(r, runs, g.than, metric); !ok {
			return v
		}
		if v.Value, ok = ratio(runs, v.Ours, v.Peer, metric); !ok {
			return v
		}
	}
	switch {
	case g.most == 0 && g.least == 0:
		v.Result = measured
	case g.most != 0 && v.Value.Median <= g.most, g.least != 0 && v.Value.Median >= g.least:
		v.Result = met
	default:
		v.Result = missed
	}
	if g.orientation {
		v.Result = map[string]string{met: reached, missed: notReached}[v.Result]
	}
	return v
}

// best returns the contestant among those picked whose median is best.
func best(r row, runs []run, picked func(contestant) bool, metric func(run) float64) (string, bool) {
	name, found := "", false
	var bestMedian float64
	for _, c := range r.contestants {
		if !picked(c) {
			continue
		}
		s, ok := measuredBy(runs, c.name, metric)
		if !ok {
			continue
		}
		if !found || (s.Median < bestMedian) != r.moreIsGood {
			name, bestMedian, found = c.name, s.Median, true
		}
	}
	return name, found
}

// short prints a figure with about three digits.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.1 || v == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}
