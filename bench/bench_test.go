package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestMain has the test binary be the contestants' processes, as the tool is.
func TestMain(m *testing.M) {
	if played() {
		return
	}
	goleak.VerifyTestMain(m)
}

// little is the effort of a test.
var little = effort{Calls: 500}

// Every Go contestant of every row gives right results: measure checks them.
func TestContestants(t *testing.T) {
	for _, g := range groups {
		if g.name != "threads" && runtime.GOOS != "linux" {
			continue // there are no worker processes
		}
		for _, r := range g.rows(foreign{}) {
			for _, c := range r.contestants {
				t.Run(r.name+"/"+c.name, func(t *testing.T) {
					e := little
					if g.name != "threads" {
						e.Calls = 50 // each call is dearer, and workers are started
					}
					m, err := c.run(e)
					require.NoError(t, err)
					require.Positive(t, m.Calls)
					require.False(t, r.value(m) < 0, "value %v", r.value(m))
				})
			}
		}
	}
}

// A row has each name once, and its goals are about contestants that it has.
func TestRowsAreWhole(t *testing.T) {
	everybody := foreign{commands: peerCommands{}}
	for _, p := range peers {
		everybody.commands[p.name] = []string{"never run"}
	}
	for _, p := range ipcPeers {
		everybody.commands[p.name] = []string{"never run"}
	}
	for _, p := range clusterPeers {
		everybody.commands[p.name] = []string{"never run", "nowhere"}
	}
	rows := map[string]bool{}
	for _, g := range groups {
		for _, r := range g.rows(everybody) {
			require.False(t, rows[r.name], "row %s is there twice", r.name)
			rows[r.name] = true
			names := map[string]bool{}
			for _, c := range r.contestants {
				require.False(t, names[c.name], "%s: %s is there twice", r.name, c.name)
				names[c.name] = true
			}
			require.NotEmpty(t, r.goals, r.name)
			for _, goal := range r.goals {
				require.NotEmpty(t, goal.says)
				for _, name := range goal.judged {
					c, ok := r.find(name)
					require.True(t, ok, "%s has no %s", r.name, name)
					require.Equal(t, ours, c.class)
				}
				if goal.than != nil {
					require.True(t, slices.ContainsFunc(r.contestants, goal.than), "%s: %s: nobody to compare with", r.name, goal.says)
				}
			}
		}
	}
}

// A wrong result is an error, also where only the order is wrong.
func TestWrongResultIsNoticed(t *testing.T) {
	swapped := way{"swapped", pools, func(s setup) engine {
		return inOneGo(func(args, out []int) {
			loop(s.body, args, out)
			out[0], out[1] = out[1], out[0]
		}, nothing)
	}}
	l := load{workers: 2, calls: 10, body: next, shape: allAtOnce}
	_, err := l.measure(swapped, little)
	require.ErrorContains(t, err, "call 0 of 10 has result 3, want 2")
}

// What is measured comes from a process of its own, with the processors that the
// row has, and what goes wrong there is named.
func TestInOwnProcess(t *testing.T) {
	r := inThreads(foreign{})[0]
	for _, name := range []string{submit.name, pondGo.name} {
		c, ok := r.find(name)
		require.True(t, ok)
		m, err := inOwnProcess(t.Context(), r, c, effort{Calls: 300, Least: time.Millisecond})
		require.NoError(t, err)
		require.GreaterOrEqual(t, m.Calls, 300)
		require.GreaterOrEqual(t, m.Nanos, time.Millisecond.Nanoseconds())
		require.GreaterOrEqual(t, m.Allocs, 1.0)
	}

	_, err := inOwnProcess(t.Context(), r, contestant{name: "nobody"}, little)
	require.ErrorContains(t, err, `one-at-a-time: nobody: exit status 1: there is no contestant "nobody"`)

	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("no more")
	cancel(because)
	_, err = inOwnProcess(ctx, r, r.contestants[0], little)
	require.ErrorIs(t, err, because)
}

// A contestant that fails is named at the end and not tried again; the others are
// measured in every round.
func TestMeasureRow(t *testing.T) {
	r := inThreads(foreign{})[0]
	c, _ := r.find(goStatement.name)
	r.contestants = []contestant{c, {name: "nobody"}}
	runs, failures := measureRow(t.Context(), r, options{rounds: 2, effort: little})
	require.Len(t, failures, 1)
	require.ErrorContains(t, failures[0], "nobody")
	require.Len(t, of(runs, goStatement.name), 2)
}

func TestSpreadOf(t *testing.T) {
	require.Equal(t, spread{Median: 2, Min: 1, Max: 9}, spreadOf([]float64{9, 1, 2}))
	require.Equal(t, spread{Median: 2.5, Min: 1, Max: 9}, spreadOf([]float64{9, 1, 2, 3}))
	require.Equal(t, spread{Median: 4, Min: 4, Max: 4}, spreadOf([]float64{4}))
}

// rounds makes runs of a contestant, one a round.
func rounds(contestant string, values ...float64) []run {
	var runs []run
	for i, v := range values {
		runs = append(runs, run{Row: "r", Contestant: contestant, Round: i + 1, Value: v, Measured: measurement{Allocs: v / 10}})
	}
	return runs
}

// A ratio is made of values of one round: drift from round to round does not show.
func TestRatioIsWithinARound(t *testing.T) {
	runs := append(rounds("a", 1, 10, 100), rounds("b", 2, 20, 200, 5)...)
	s, ok := ratio(runs, "a", "b", run.value)
	require.True(t, ok)
	require.Equal(t, spread{Median: 0.5, Min: 0.5, Max: 0.5}, s)
	_, ok = ratio(runs, "a", "c", run.value)
	require.False(t, ok)
}

func TestJudge(t *testing.T) {
	r := row{name: "r", unit: "ns", contestants: []contestant{
		{name: "a", class: ours}, {name: "b", class: ours}, {name: "p", class: futures}, {name: "q", class: futures}, {name: "g", class: bare},
	}}
	runs := append(rounds("a", 10, 12, 11), rounds("b", 9, 8, 40)...)
	runs = append(runs, append(rounds("p", 20, 24, 22), rounds("q", 30, 10, 30)...)...)
	both := []string{"a", "b"}
	for _, c := range []struct {
		name   string
		goal   goal
		higher bool
		result string
		value  float64
		ours   string
		peer   string
	}{
		{"best of ours to the best peer", goal{judged: both, most: 0.5, than: classes(futures)}, false, met, 9.0 / 20, "b", "p"},
		{"one of ours", goal{judged: both[:1], most: 0.5, than: classes(futures)}, false, met, 0.5, "a", "p"},
		{"just missed", goal{judged: both[:1], most: 0.499, than: classes(futures)}, false, missed, 0.5, "a", "p"},
		{"by name", goal{judged: both[:1], most: 0.3, than: named("q")}, false, missed, 11.0 / 30, "a", "q"},
		{"absolute", goal{judged: both[:1], most: 11}, false, met, 11, "a", ""},
		{"at least", goal{judged: both, least: 11}, true, met, 11, "a", ""},
		{"at least, missed", goal{judged: both, least: 12}, true, missed, 11, "a", ""},
		{"another metric", goal{judged: both[:1], metric: run.allocs, most: 1.1}, false, met, 1.1, "a", ""},
		{"no bound", goal{judged: both[:1], than: named("p")}, false, measured, 0.5, "a", "p"},
		{"the peer was not measured", goal{judged: both, most: 1, than: classes(bare)}, false, notJudged, 0, "b", ""},
		{"ours was not measured", goal{judged: []string{"c"}, most: 1}, false, notJudged, 0, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.moreIsGood = c.higher
			v := c.goal.judge(r, runs)
			require.Equal(t, c.result, v.Result)
			require.InDelta(t, c.value, v.Value.Median, 1e-9)
			require.Equal(t, c.ours, v.Ours)
			require.Equal(t, c.peer, v.Peer)
			require.Contains(t, v.String(), c.result)
		})
	}
}

// sample is a report with one row.
func sample() (*report, row) {
	rep := newReport(context.Background(), 3)
	r := row{
		name: "r", title: "calls & <results>", unit: "ns a call", value: nanosPerCall,
		contestants: []contestant{{name: "mine", class: ours}, {name: "other & co", class: pools}, {name: "slow", class: elsewise}, {name: "crashed", class: bare}},
		goals:       []goal{{judged: []string{"mine"}, says: "≤ 1 × other", most: 1, than: classes(pools)}},
		missing:     []missing{{"r: somebody", "not there"}},
	}
	runs := append(rounds("mine", 10, 12, 11), append(rounds("other & co", 20, 24, 22), rounds("slow", 1e5, 2e5, 3e5)...)...)
	rep.add(r, runs)
	return rep, r
}

func TestPrint(t *testing.T) {
	rep, r := sample()
	var b strings.Builder
	rep.printHead(&b)
	rep.printRow(&b, r)
	rep.printSummary(&b)
	for _, want := range []string{
		`GOMAXPROCS=2, commit \S+, 3 rounds`,
		`(?m)^mine +ours +11\.0 +10\.0–12\.0 +1\.00 `,
		`(?m)^other & co +fire and forget +22\.0 +20\.0–24\.0 +2\.00 `,
		`(?m)^crashed +bare Go +failed`,
		`(?m)^goal: r: mine ≤ 1 × other: 0\.50 \(0\.50–0\.50; mine to other & co\)  met$`,
		`1 met, 0 missed, 0 measured, 0 not judged`,
		`(?s)not measured\n.*r: somebody: not there`,
	} {
		require.Regexp(t, regexp.MustCompile(want), b.String())
	}
}

// A row during which other programs used the processors says so.
func TestDisturbedRowSaysSo(t *testing.T) {
	rep, r := sample()
	for i := range rep.Rows[0].Runs {
		rep.Rows[0].Runs[i].Measured.Others = 0.25
	}
	var b strings.Builder
	rep.printRow(&b, r)
	rep.printSummary(&b)
	require.Contains(t, b.String(), "disturbed: other programs used 25 % of the processors meanwhile")
	require.Contains(t, b.String(), "r was disturbed: other programs used 25 %")
}

func TestJSONRoundTrip(t *testing.T) {
	rep, _ := sample()
	file := filepath.Join(t.TempDir(), "r.json")
	require.NoError(t, rep.writeJSON(file))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var back report
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, *rep, back)
	require.NotEmpty(t, back.Go)
	require.NotEmpty(t, back.CPU)
	require.Len(t, back.Rows[0].Runs, 9)
	require.Equal(t, met, back.Goals[0].Result)
}

// A plot is well-formed, has a bar for each contestant that was measured, and says
// where a bar was cut.
func TestPlot(t *testing.T) {
	rep, r := sample()
	dir := filepath.Join(t.TempDir(), "new")
	require.NoError(t, rep.plot(dir, []row{r}))
	text, err := os.ReadFile(filepath.Join(dir, "r.svg"))
	require.NoError(t, err)
	bars, texts := 0, []string{}
	for dec := xml.NewDecoder(strings.NewReader(string(text))); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "rect" {
				bars++
			}
		case xml.CharData:
			texts = append(texts, string(token))
		}
	}
	require.Equal(t, 3+3, bars, "three contestants, three classes in the legend")
	require.Contains(t, texts, "other & co")
	require.Contains(t, texts, "calls & <results>")
	require.Contains(t, texts, "200000 (cut)")
	require.NotContains(t, texts, "crashed")
}

func TestOptions(t *testing.T) {
	o, err := parse([]string{"-only", "threads", "-run", "map", "-rounds", "7"})
	require.NoError(t, err)
	require.Equal(t, 7, o.rounds)
	require.True(t, o.rows.MatchString("map-cheap"))
	for _, args := range [][]string{{"-only", "nothing"}, {"-rounds", "0"}, {"-run", "("}, {"word"}} {
		_, err := parse(args)
		require.Error(t, err, args)
	}
}

// Other languages get the calls that they can do in the time.
func TestForeignCommand(t *testing.T) {
	f := foreign{runners: []runner{{"slow", []string{"run", "it"}, 100}, {"fast", []string{"go"}, 0}}}
	cs := f.contestants("fan", load{workers: 2, calls: 1000})
	require.Equal(t, []string{"run", "it", "fan", "2", "100", "5"}, cs[0].command(effort{Least: 5}))
	require.Equal(t, []string{"go", "fan", "2", "1000", "5"}, cs[1].command(effort{Least: 5}))
	require.Equal(t, []string{"go", "fan", "2", "10", "5"}, cs[1].command(effort{Calls: 10, Least: 5}))
}
