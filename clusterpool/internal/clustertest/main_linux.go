package clustertest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// roleName is the variable that makes the test binary a server. Its text is a role.
const roleName = "FUTURES_CLUSTERTEST_SERVER"

// A role is what a server process is told.
type role struct {
	Options     Options
	ConfigFile  string // Options.Config, in a file
	StoreDir    string
	Cluster     string // its name; "" is none
	ClusterPort int
	Routes      []string
}

// A state is what a server process says about itself when it is asked. It is asked through
// a pipe, so the answer comes whatever its network and its accounts are.
type state struct {
	Ask     int // which question it answers
	Unwell  string
	Leader  string   // of the cluster, as this server knows it
	Current []string // if it leads: the others that have all that it has
	Leads   []leadership
}

// A leadership is a stream that the server believes to lead.
type leadership struct {
	Stream string
	Term   uint64 // of two servers that both believe it, the higher one is right
}

// mainCalled tells a test from a binary that would run all its tests again as a server.
var mainCalled atomic.Bool

// Main is called first of all in TestMain. In a process that is to be a server it is one,
// until the process is killed or the one that started it is gone, and never returns.
func Main() {
	text, ok := os.LookupEnv(roleName)
	if !ok {
		mainCalled.Store(true)
		return
	}
	os.Unsetenv(roleName)
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		fatal(err)
	}
	o, err := r.settings()
	if err != nil {
		fatal(err)
	}
	s, err := server.NewServer(o)
	if err != nil {
		fatal(err)
	}
	s.ConfigureLogger()
	var starting sync.WaitGroup
	starting.Go(s.Start) // it restores the streams, which may take a while

	// The other end of the standard input is held by nobody but the process that started
	// this one. PR_SET_PDEATHSIG would follow the thread, which Go may end at any time.
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var ask int
		if _, err := fmt.Sscan(lines.Text(), &ask); err != nil {
			fatal(err)
		}
		b, err := json.Marshal(stateOf(s, ask))
		if err != nil {
			fatal(err)
		}
		if _, err := os.Stdout.Write(append(b, '\n')); err != nil {
			fatal(err)
		}
	}
	os.Exit(0)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "clustertest:", err)
	os.Exit(2)
}

// settings returns the settings of the server: those of the file, and over them the role's.
func (r role) settings() (*server.Options, error) {
	o := &server.Options{}
	if r.ConfigFile != "" {
		var err error
		if o, err = server.ProcessConfigFile(r.ConfigFile); err != nil {
			return nil, err
		}
	}
	o.NoSigs = true
	o.Logtime = true
	o.ServerName = r.Options.Name
	o.Host, o.Port = r.Options.Host, r.Options.Port
	o.JetStream = true
	o.StoreDir = r.StoreDir
	o.SyncAlways = o.SyncAlways || r.Options.SyncAlways
	if o.JetStreamMaxMemory <= 0 {
		o.JetStreamMaxMemory = 1 << 30
	}
	if o.JetStreamMaxStore <= 0 {
		o.JetStreamMaxStore = 8 << 30
	}
	if r.Options.MaxPayload != 0 {
		o.MaxPayload = r.Options.MaxPayload
		o.MaxPending = max(o.MaxPending, server.MAX_PENDING_SIZE, 4*int64(r.Options.MaxPayload))
	}
	if len(o.Users) == 0 && len(o.Nkeys) == 0 && o.Username == "" {
		o.Username, o.Password = r.Options.User, r.Options.Password
	}
	if r.Cluster == "" {
		return o, nil
	}
	o.Cluster.Name, o.Cluster.Host, o.Cluster.Port = r.Cluster, r.Options.Host, r.ClusterPort
	for _, route := range r.Routes {
		u, err := url.Parse(route)
		if err != nil {
			return nil, err
		}
		o.Routes = append(o.Routes, u)
	}
	return o, nil
}

func stateOf(s *server.Server, ask int) state {
	st := state{Ask: ask}
	if !s.ReadyForConnections(time.Millisecond) {
		st.Unwell = "not listening"
		return st
	}
	if h := s.Healthz(&server.HealthzOptions{}); h.Status != "ok" {
		st.Unwell = h.Status + ": " + h.Error
	}
	all, err := s.Jsz(&server.JSzOptions{Accounts: true, Streams: true, RaftGroups: true})
	if err != nil || all.Disabled {
		st.Unwell = fmt.Sprintf("no JetStream: %v", err)
		return st
	}
	if all.Meta != nil {
		st.Leader = all.Meta.Leader
		for _, p := range all.Meta.Replicas {
			if st.Leader == s.Name() && p.Current && !p.Offline {
				st.Current = append(st.Current, p.Name)
			}
		}
		if st.Leader == "" && st.Unwell == "" {
			st.Unwell = "no leader of the cluster is known"
		}
	}
	terms := map[string]uint64{}
	if groups := s.Raftz(&server.RaftzOptions{}); groups != nil {
		for _, account := range *groups {
			for name, g := range account {
				terms[name] = g.Term
			}
		}
	}
	for _, a := range all.AccountDetails {
		for _, d := range a.Streams {
			if d.Cluster == nil || d.Cluster.Leader == s.Name() {
				st.Leads = append(st.Leads, leadership{Stream: d.Name, Term: terms[d.RaftGroup]})
			}
		}
	}
	return st
}
