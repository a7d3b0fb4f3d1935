package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"example.com/futures/bench/remote"
)

// The names of those who call workers that may be on other machines. Ours has the names of its functions.
const (
	coreNATS      = "core NATS request/reply"
	coreInbox     = "core NATS, one inbox, 8 bytes"
	objectStore   = "NATS object store"
	asynqDefault  = "asynq"
	asynqQuick    = "asynq, looks each ms"
	riverDefault  = "River"
	riverQuick    = "River, fetches each ms"
	riverComplete = "River, fetches each ms, completes at once"
)

// A clusterPeer is one of them.
type clusterPeer struct {
	name  string
	class class
	kind  string // what the program cluster calls it
	needs string // of what that program must have a version
	why   string // that it has none
}

// Why a contestant is not there, whose program was built.
const (
	notBuilt = "it is not in this build"
	noServer = "not installed: there is no %s that runs; bench/foreign/install.sh cluster installs it"
)

var clusterPeers = []clusterPeer{
	{oursSubmit, ours, "ours", "clusterpool", notBuilt},
	{oursMap, ours, "ours", "clusterpool", notBuilt},
	{coreNATS, limits, "core", "nats-server", notBuilt},
	{coreInbox, limits, "inbox", "nats-server", notBuilt},
	{objectStore, limits, "objects", "nats-server", notBuilt},
	{asynqDefault, taskQueues, "asynq", "redis-server", fmt.Sprintf(noServer, "redis-server")},
	{asynqQuick, taskQueues, "asynq-quick", "redis-server", fmt.Sprintf(noServer, "redis-server")},
	{riverDefault, taskQueues, "river", "postgres", fmt.Sprintf(noServer, "PostgreSQL")},
	{riverQuick, taskQueues, "river-quick", "postgres", fmt.Sprintf(noServer, "PostgreSQL")},
	{riverComplete, taskQueues, "river-complete", "postgres", fmt.Sprintf(noServer, "PostgreSQL")},
}

// clusterPeers returns those of the named that this machine has, doing w.
func (f foreign) clusterPeers(w remote.Work, names ...string) []contestant {
	var cs []contestant
	for _, p := range clusterPeers {
		command, ok := f.commands[p.name]
		if !ok || !slices.Contains(names, p.name) {
			continue
		}
		cs = append(cs, contestant{name: p.name, class: p.class, command: func(e effort) []string {
			text := must(json.Marshal(limited(w, e)))
			return []string{command[0], p.kind, string(text), command[1]}
		}})
	}
	return cs
}

// findCluster builds the program that has the contestants, and asks it for the servers that this machine
// has. The program and what servers write go to dir.
func findCluster(ctx context.Context, dir string) foreign {
	command, versions, err := buildGo(ctx, dir, "cluster")
	if err == nil {
		err = os.Chmod(dir, 0o711) // PostgreSQL is another user, whose folder is in there
	}
	return clusterOf(append(command, dir), versions, err)
}

// clusterOf has what a program with such versions has.
func clusterOf(command []string, versions map[string]string, err error) foreign {
	f := foreign{commands: peerCommands{}}
	if err != nil {
		f.missing = append(f.missing, missing{"everybody in the group cluster", err.Error()})
		return f
	}
	var each []string
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		each = append(each, name+" "+versions[name])
	}
	f.tools = append(f.tools, fmt.Sprintf("%s (%s)", strings.Join(each, ", "), command[0]))
	for _, p := range clusterPeers {
		if versions[p.needs] == "" {
			f.missing = append(f.missing, missing{"cluster: " + p.name, p.why})
			continue
		}
		f.commands[p.name] = command
	}
	return f
}

// slots is how many calls a worker of a cluster runs at the same time.
const slots = 16

// inCluster are the rows of calls to workers that may be on other machines. Here they are other
// processes, and the server of NATS is in the one that measures.
func inCluster(f foreign) []row {
	one := remote.Work{Shape: remote.One, Workers: 1, Slots: slots, Calls: 500}
	few, fewest := one, one // where a call takes milliseconds, or a second
	few.Calls, fewest.Calls = 50, 5
	call := turnRow("cluster-call", "a call of next to nothing, one at a time; 1 worker process",
		f.clusterPeers(one, oursSubmit, coreNATS, coreInbox),
		f.clusterPeers(few, asynqQuick, riverComplete),
		f.clusterPeers(fewest, asynqDefault, riverDefault, riverQuick))
	call.goals = []goal{
		atMost(oursSubmit, 2.5, coreNATS),
		beside(oursSubmit, coreInbox), beside(oursSubmit, asynqDefault, asynqQuick), beside(oursSubmit, riverDefault, riverQuick, riverComplete),
	}

	window := remote.Work{Shape: remote.Window, Workers: 2, Slots: slots, Calls: 20_000, Flying: 512}
	theirs := window
	theirs.Calls = 2000
	rate := rateRow("cluster-rate", "calls of next to nothing, 512 of them under way; 2 worker processes that run 16 each",
		f.clusterPeers(window, oursSubmit, coreNATS, coreInbox),
		f.clusterPeers(theirs, asynqDefault, asynqQuick, riverDefault, riverQuick, riverComplete))
	rate.unit = "calls/s"
	rate.goals = []goal{
		timesOf(oursSubmit, 0.28, coreNATS),
		beside(oursSubmit, coreInbox), beside(oursSubmit, asynqDefault, asynqQuick), beside(oursSubmit, riverDefault, riverQuick, riverComplete),
	}

	chunks := remote.Work{Shape: remote.Map, Workers: 2, Slots: slots, Calls: 1_000_000}
	mapped := rateRow("cluster-map", "items of next to nothing through a map with the default chunks, results in order; the same workers. Others: as in cluster-rate",
		f.clusterPeers(chunks, oursMap), f.clusterPeers(window, coreNATS, coreInbox))
	mapped.unit = "items/s"
	mapped.goals = []goal{
		{judged: []string{oursMap}, says: "≥ 100,000 items/s", least: 100e3},
		beside(oursMap, coreNATS), beside(oursMap, coreInbox),
	}
	mapped.missing = []missing{{"cluster-map: asynq and River", "they have no map"}}

	payload := remote.Work{Shape: remote.Echo, Workers: 1, Slots: slots, Calls: 4, Bytes: 8 << 20, Flying: 1}
	large := row{
		name: "cluster-8MiB", title: "8 MiB there and back as []byte that each receiver owns, one at a time; 1 worker process",
		unit: "ms", value: func(m measurement) float64 { return nanosPerCall(m) / 1e6 }, figures: []string{},
		contestants: f.clusterPeers(payload, oursSubmit, objectStore),
		goals:       []goal{atMost(oursSubmit, 2, objectStore)},
		missing:     []missing{{"cluster-8MiB: asynq and River", "they have payloads in the database, which is not made for large ones"}},
	}
	return []row{call, rate, mapped, large}
}
