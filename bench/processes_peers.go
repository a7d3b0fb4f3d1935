package main

import (
	"cmp"
	"context"
	_ "embed" // the programs
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"example.com/futures/bench/remote"
)

//go:embed foreign/processes.py
var processesPython string

//go:embed foreign/processes.js
var processesNode string

//go:embed foreign/tasks.js
var tasksNode string

// The names of others that run calls in processes.
const (
	pyExecutor   = "ProcessPoolExecutor"
	pySpawn      = "ProcessPoolExecutor, spawn"
	pyForkserver = "ProcessPoolExecutor, forkserver"
	pyPool       = "multiprocessing.Pool"
	pyLoky       = "loky"
	pyPebble     = "pebble"
	pyJoblib     = "joblib"
	piscina      = "piscina"
	npmPool      = "workerpool (npm)"
	netRPC       = "net/rpc"
	goPlugin     = "hashicorp/go-plugin"
)

// A peer is one of them.
type peer struct {
	name  string
	class class
	tool  string // the program that has it
	kind  string // what that program calls it
	needs string // of what the program must have a version
}

var peers = []peer{
	{pyExecutor, processes, "Python", "executor", "python"},
	{pySpawn, processes, "Python", "spawn", "python"},
	{pyForkserver, processes, "Python", "forkserver", "python"},
	{pyPool, processes, "Python", "pool", "python"},
	{pyLoky, processes, "Python", "loky", "loky"},
	{pyPebble, processes, "Python", "pebble", "pebble"},
	{pyJoblib, processes, "Python", "joblib", "joblib"},
	{piscina, nodeThreads, "Node", "piscina", "piscina"},
	{npmPool, processes, "Node", "workerpool", "workerpool"},
	{netRPC, rpcs, "Go", "rpc", "go"},
	{goPlugin, rpcs, "Go", "plugin", "go-plugin"},
}

// peerCommands has the command for each peer that this machine can run, by its name.
type peerCommands map[string][]string

// peers returns those of the named peers that this machine has, doing w.
func (f foreign) peers(w remote.Work, names ...string) []contestant {
	var cs []contestant
	for _, p := range peers {
		command, ok := f.commands[p.name]
		if !ok || !slices.Contains(names, p.name) {
			continue
		}
		cs = append(cs, contestant{name: p.name, class: p.class, command: func(e effort) []string {
			text := must(json.Marshal(limited(w, e)))
			return append(slices.Clip(command), p.kind, string(text))
		}})
	}
	return cs
}

// install is what puts on the machine what is missing.
const install = "bench/foreign/install.sh installs it"

// findPeers looks for programs that run calls in processes. What it writes and compiles
// goes to dir.
func findPeers(ctx context.Context, dir string) foreign {
	f := foreign{commands: peerCommands{}}
	for _, tool := range []struct {
		name string
		find func(context.Context, string) (command []string, versions map[string]string, err error)
	}{{"Python", findPythonPools}, {"Node", findNodePools}, {"Go", buildGoPeers}} {
		command, versions, err := tool.find(ctx, dir)
		if err == nil {
			var each []string
			for _, name := range slices.Sorted(maps.Keys(versions)) {
				each = append(each, name+" "+versions[name])
			}
			f.tools = append(f.tools, fmt.Sprintf("%s (%s)", strings.Join(each, ", "), command[0]))
		}
		for _, p := range peers {
			switch {
			case p.tool != tool.name:
			case err != nil:
				f.missing = append(f.missing, missing{p.name, err.Error()})
			case versions[p.needs] == "":
				f.missing = append(f.missing, missing{p.name, command[0] + " does not have it; " + install})
			default:
				f.commands[p.name] = command
			}
		}
	}
	return f
}

// versionsArg has a program print the versions of what it can run, as JSON.
const versionsArg = "versions"

func versionsOf(ctx context.Context, command []string) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, command[0], append(slices.Clone(command[1:]), versionsArg)...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command[0], err)
	}
	var versions map[string]string
	return versions, json.Unmarshal(out, &versions)
}

// findPythonPools returns the Python that has the most of the libraries. The system's own has its
// packages; another, which may come first on the PATH, does not.
func findPythonPools(ctx context.Context, dir string) ([]string, map[string]string, error) {
	file := filepath.Join(dir, "processes.py")
	if err := os.WriteFile(file, []byte(processesPython), 0o600); err != nil {
		return nil, nil, err
	}
	newest, _, err := findPython(ctx)
	var best []string
	var most map[string]string
	for _, python := range []string{newest, "/usr/bin/python3"} {
		if python == "" {
			continue
		}
		command := []string{python, file}
		versions, failed := versionsOf(ctx, command)
		if failed != nil {
			err = cmp.Or(err, failed)
		} else if len(versions) > len(most) {
			best, most = command, versions
		}
	}
	if best == nil {
		return nil, nil, err
	}
	return best, most, nil
}

// nodeModulesVariable says where the npm packages are that install.sh has installed.
const nodeModulesVariable = "BENCH_NODE_MODULES"

func findNodePools(ctx context.Context, dir string) ([]string, map[string]string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, nil, fmt.Errorf("no node is on the PATH; " + install)
	}
	for name, text := range map[string]string{"processes.js": processesNode, "tasks.js": tasksNode} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, nil, err
		}
	}
	modules := os.Getenv(nodeModulesVariable)
	for _, place := range []string{"bench/foreign/node_modules", "foreign/node_modules"} {
		if info, err := os.Stat(place); modules == "" && err == nil && info.IsDir() {
			modules = place
		}
	}
	if modules == "" {
		return nil, nil, fmt.Errorf("no folder node_modules; " + install)
	}
	modules, err = filepath.Abs(modules)
	if err != nil {
		return nil, nil, err
	}
	command := []string{node, filepath.Join(dir, "processes.js"), modules}
	versions, err := versionsOf(ctx, command)
	return command, versions, err
}

// buildGoPeers builds the program that has them. It is one of its own, so that
// what it needs does not make the start of this one slower.
func buildGoPeers(ctx context.Context, dir string) ([]string, map[string]string, error) {
	return buildGo(ctx, dir, "foreign/gopeers")
}

// buildGo builds one of the programs in this folder.
func buildGo(ctx context.Context, dir, program string) ([]string, map[string]string, error) {
	file := filepath.Join(dir, path.Base(program))
	out, err := exec.CommandContext(ctx, "go", "build", "-o", file, "example.com/futures/bench/"+program).CombinedOutput()
	if err != nil {
		return nil, nil, fmt.Errorf("go build: %w: %.200s", err, out)
	}
	command := []string{file}
	versions, err := versionsOf(ctx, command)
	return command, versions, err
}
