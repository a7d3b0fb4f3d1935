package main

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/bench/remote"
)

// clusterOfAll has everybody.
func clusterOfAll() foreign {
	versions := map[string]string{}
	for _, p := range clusterPeers {
		versions[p.needs] = "1.2"
	}
	return clusterOf([]string{"program", "folder"}, versions, nil)
}

// Whoever is in the list takes part in some row, by the class that the list says.
func TestClusterRowsHaveEverybody(t *testing.T) {
	f := clusterOfAll()
	require.Empty(t, f.missing)
	require.Len(t, f.tools, 1)
	left := slices.Clone(clusterPeers)
	for _, r := range inCluster(f) {
		left = slices.DeleteFunc(left, func(p clusterPeer) bool {
			c, ok := r.find(p.name)
			return ok && c.class == p.class
		})
	}
	require.Empty(t, left)
}

// Who stands beside in a row has as many workers, with as many slots, and as large a window.
func TestClusterWorksAreAlike(t *testing.T) {
	for _, r := range inCluster(clusterOfAll()) {
		var first *remote.Work
		for _, c := range r.contestants {
			args := c.command(effort{Least: enough})
			require.Equal(t, []string{"program", "folder"}, []string{args[0], args[3]})
			var w remote.Work
			require.NoError(t, json.Unmarshal([]byte(args[2]), &w))
			require.Equal(t, enough, w.Least)
			if first == nil {
				first = &w
			}
			if w.Shape != remote.Map && first.Shape != remote.Map { // nobody else has a map
				require.Equal(t, first.Flying, w.Flying, "%s: %s", r.name, c.name)
				require.Equal(t, first.Shape, w.Shape, "%s: %s", r.name, c.name)
			}
			require.Equal(t, first.Workers, w.Workers, "%s: %s", r.name, c.name)
			require.Equal(t, slots, w.Slots, "%s: %s", r.name, c.name)
			require.Equal(t, first.Bytes, w.Bytes, "%s: %s", r.name, c.name)
		}
	}
}

// A server that is not installed is told, and its contestants are in no row.
func TestClusterWithoutServers(t *testing.T) {
	f := clusterOf([]string{"program", "folder"}, map[string]string{"nats-server": "v1"}, nil)
	said := map[string]string{}
	for _, m := range f.missing {
		said[m.What] = m.Why
	}
	require.Contains(t, said["cluster: "+asynqDefault], "not installed: there is no redis-server that runs")
	require.Contains(t, said["cluster: "+riverDefault], "not installed: there is no PostgreSQL that runs")
	require.NotContains(t, said, "cluster: "+coreNATS)
	for _, r := range inCluster(f) {
		for _, c := range r.contestants {
			require.Equal(t, limits, c.class)
		}
	}

	f = clusterOf(nil, nil, errors.New("no compiler"))
	require.Equal(t, []missing{{"everybody in the group cluster", "no compiler"}}, f.missing)
	require.Empty(t, inCluster(f)[0].contestants)
}
