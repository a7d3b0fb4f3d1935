package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/futures/bench/remote"
)

// linuxOnly skips t where there are no worker processes.
func linuxOnly(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("worker processes need Linux, where the library works and is tested")
	}
}

// rowNamed returns a row of the group processes.
func rowNamed(t *testing.T, f foreign, name string) row {
	t.Helper()
	for _, r := range inProcesses(f) {
		if r.name == name {
			return r
		}
	}
	t.Fatalf("there is no row %s", name)
	return row{}
}

// A measured process has workers of its own: this binary, a third time.
func TestWorkersOfAMeasuredProcess(t *testing.T) {
	linuxOnly(t)
	r := rowNamed(t, foreign{}, "process-call")
	m, err := inOwnProcess(t.Context(), r, r.contestants[0], effort{Calls: 20, Least: time.Millisecond})
	require.NoError(t, err)
	require.GreaterOrEqual(t, m.Calls, 20)
	require.Positive(t, r.value(m))
	require.GreaterOrEqual(t, m.Figures[remote.P99], m.Figures[remote.Median])
}

// Each pool of another language that this machine has gives right results: its
// program checks them. Those of Go have a test beside them.
func TestPeers(t *testing.T) {
	linuxOnly(t)
	dir := t.TempDir()
	python, pythons, pythonErr := findPythonPools(t.Context(), dir)
	node, nodes, nodeErr := findNodePools(t.Context(), dir)
	f := foreign{commands: peerCommands{}}
	for _, p := range peers {
		if p.tool == "Python" && pythonErr == nil && pythons[p.needs] != "" {
			f.commands[p.name] = python
		}
		if p.tool == "Node" && nodeErr == nil && nodes[p.needs] != "" {
			f.commands[p.name] = node
		}
	}
	for _, p := range peers {
		if p.tool == "Go" {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			shape := "process-fan-out"
			if p.name == pySpawn || p.name == pyForkserver {
				shape = "process-start-2"
			}
			if f.commands[p.name] == nil {
				t.Skip("it needs Python or Node, which a machine with Go alone does not have; the peers in Go run")
			}
			r := rowNamed(t, f, shape)
			c, ok := r.find(p.name)
			require.True(t, ok)
			m, err := inOwnProcess(t.Context(), r, c, effort{Calls: 50, Least: time.Millisecond})
			require.NoError(t, err)
			require.Positive(t, r.value(m))
		})
	}
}

// What cannot be run is named, with its reason, and is no contestant.
func TestMissingPeersAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv(nodeModulesVariable, t.TempDir())
	f := findPeers(t.Context(), t.TempDir())
	said := map[string]string{}
	for _, m := range f.missing {
		said[m.What] = m.Why
	}
	for _, p := range peers {
		_, found := f.commands[p.name]
		require.NotEqual(t, found, said[p.name] != "", "%s is either found or missing", p.name)
	}
	for _, name := range []string{piscina, npmPool, netRPC, goPlugin} {
		require.NotEmpty(t, said[name])
		require.Empty(t, f.peers(remote.Work{}, name))
	}
}

// The other programs get the same work.
func TestPeerCommand(t *testing.T) {
	f := foreign{commands: peerCommands{pyPool: {"python3", "file"}}}
	cs := f.peers(remote.Work{Shape: remote.Fan, Workers: 2, Calls: 1000}, pyPool, pyLoky)
	require.Len(t, cs, 1)
	args := cs[0].command(effort{Calls: 10, Least: 5})
	require.Equal(t, []string{"python3", "file", "pool"}, args[:3])
	var got remote.Work
	require.NoError(t, json.Unmarshal([]byte(args[3]), &got))
	require.Equal(t, remote.Work{Shape: remote.Fan, Workers: 2, Calls: 10, Least: 5}, got)
}

// An absolute bound that is for orientation is neither met nor missed.
func TestOrientation(t *testing.T) {
	r := row{name: "r", contestants: []contestant{{name: "a", class: ours}}}
	g := goal{judged: []string{"a"}, says: "≤ 10", most: 10, orientation: true}
	require.Equal(t, reached, g.judge(r, rounds("a", 9)).Result)
	v := g.judge(r, rounds("a", 11))
	require.Equal(t, notReached, v.Result)
	rep := newReport(t.Context(), 1)
	rep.Goals = append(rep.Goals, v)
	var b strings.Builder
	rep.printSummary(&b)
	require.Contains(t, b.String(), "0 met, 0 missed, 0 measured, 0 not judged\n0 of 1 absolute figures reached")
}

// A table has a row's figures as columns, and says where there is none.
func TestFiguresAreColumns(t *testing.T) {
	rep := newReport(t.Context(), 1)
	r := row{
		name: "r", unit: "ms", value: nanosPerCall, figures: []string{remote.P99},
		contestants: []contestant{{name: "a", class: ours}, {name: "b", class: processes}},
	}
	runs := append(rounds("a", 1), rounds("b", 2)...)
	runs[0].Measured.Figures = map[string]float64{remote.P99: 77.5}
	rep.add(r, runs)
	var b strings.Builder
	rep.printRow(&b, r)
	require.Regexp(t, `(?m)^a +ours +1\.00 +1\.00–1\.00 +1\.00 +77\.5 *$`, b.String())
	require.Regexp(t, `(?m)^b +process pools +2\.00 +2\.00–2\.00 +2\.00 +– *$`, b.String())
	require.NotContains(t, b.String(), "allocs")
}
