package clustertest

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Cluster is a group of servers that elect leaders and replicate streams. Its methods are
// safe for concurrent use.
type Cluster struct {
	// Servers are all its servers, also those that do not run.
	Servers []*Server
}

// StartCluster starts n servers on the loopback device, or at o.Host, and waits until they
// have a leader and are all current. That takes several seconds, most of which is the time
// before the first election.
func StartCluster(t testing.TB, n int, o Options) *Cluster {
	t.Helper()
	places := make([]place, n)
	for i := range places {
		places[i] = place{host: o.Host, port: freePort(t), clusterPort: freePort(t), netns: o.NetNS}
		if o.Host == "" {
			places[i].host = "127.0.0.1"
		}
	}
	return startCluster(t, places, o)
}

// StartClusterIn starts one server at each node of a network, and waits as StartCluster does.
// The Options say neither where they run nor at which ports.
func StartClusterIn(t testing.TB, network *Net, o Options) *Cluster {
	t.Helper()
	places := make([]place, network.n)
	for i := range places {
		places[i] = place{host: network.Addr(i), port: 4222, clusterPort: 6222, netns: network.Name(i)}
	}
	return startCluster(t, places, o)
}

// A place is where one server of a cluster runs.
type place struct {
	host              string
	port, clusterPort int
	netns             string
}

func startCluster(t testing.TB, places []place, o Options) *Cluster {
	t.Helper()
	c := &Cluster{}
	for i, p := range places {
		r := role{Options: o, Cluster: "clustertest", ClusterPort: p.clusterPort}
		r.Options.Name = fmt.Sprintf("s%d", i)
		r.Options.Host, r.Options.Port, r.Options.NetNS = p.host, p.port, p.netns
		if o.Dir != "" {
			r.Options.Dir = filepath.Join(o.Dir, r.Options.Name)
		}
		for j, other := range places {
			if i != j {
				r.Routes = append(r.Routes, fmt.Sprintf("nats://%s:%d", other.host, other.clusterPort))
			}
		}
		c.Servers = append(c.Servers, newServer(t, r))
	}
	c.Restart()
	return c
}

// URL returns where clients connect to, all servers separated by commas.
func (c *Cluster) URL() string {
	urls := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		urls[i] = s.URL()
	}
	return strings.Join(urls, ",")
}

// Kill ends all servers at once, as [Server.Kill] does.
func (c *Cluster) Kill() {
	for _, s := range c.Servers {
		s.Kill()
	}
}

// Stop freezes all servers, as [Server.Stop] does.
func (c *Cluster) Stop() {
	for _, s := range c.Servers {
		s.tb.Helper()
		s.Stop()
	}
}

// Cont lets all servers go on, as [Server.Cont] does.
func (c *Cluster) Cont() {
	for _, s := range c.Servers {
		s.tb.Helper()
		s.Cont()
	}
}

// Restart starts all servers, killing those that run, and waits as [Cluster.Await] does.
func (c *Cluster) Restart() {
	c.Kill()
	for _, s := range c.Servers {
		s.tb.Helper()
		s.Launch()
	}
	c.Await()
}

// Await waits until all servers are ready and know the same leader, and that leader finds
// all others current. It fails the test if that takes 20 seconds, or if one of them ends.
func (c *Cluster) Await() {
	for _, s := range c.Servers {
		s.tb.Helper()
		s.Await()
	}
	c.Servers[0].until(func() (ok bool, why string) {
		var leaders, current []string
		for _, s := range c.Servers {
			st, err := s.ask()
			switch {
			case err != nil:
				return false, fmt.Sprintf("%s: %v", s.Name(), err)
			case st.Unwell != "":
				return false, fmt.Sprintf("%s: %s", s.Name(), st.Unwell)
			}
			if !slices.Contains(leaders, st.Leader) {
				leaders = append(leaders, st.Leader)
			}
			current = append(current, st.Current...)
		}
		ok = len(leaders) == 1 && len(current) == len(c.Servers)-1
		return ok, fmt.Sprintf("leaders %q, current besides them %q", leaders, current)
	})
}

// Leader returns the server that leads a stream, in whichever account it is. It waits for
// one; a server that is dead or frozen is none. Of two that both believe to lead, since one
// of them is cut off, it is the one elected last. Ask for it again after every fault.
func (c *Cluster) Leader(stream string) *Server {
	tb := c.Servers[0].tb
	tb.Helper()
	for end := time.Now().Add(readyWithin); ; {
		var leader *Server
		var term uint64
		for _, s := range c.Servers {
			st, err := s.ask()
			if err != nil {
				continue
			}
			for _, l := range st.Leads {
				if l.Stream == stream && (leader == nil || l.Term > term) {
					leader, term = s, l.Term
				}
			}
		}
		if leader != nil {
			return leader
		}
		if time.Now().After(end) {
			tb.Fatalf("no server leads stream %s within %v", stream, readyWithin)
		}
		time.Sleep(look) // between two looks
	}
}
