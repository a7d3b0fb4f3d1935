package clusterpool

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/futures/executor"
)

// A greeting is what a worker says of itself: when it begins, every third of its lease,
// when it is asked, and when it goes. Nothing hangs on one of them arriving.
type greeting struct {
	Worker string        `json:"worker"`
	Host   string        `json:"host"`
	PID    int           `json:"pid"`
	Slots  int           `json:"slots"`
	Build  string        `json:"build,omitempty"`
	Lease  time.Duration `json:"lease"`
	Bye    bool          `json:"bye,omitempty"`
}

// A peer is a worker that is known.
type peer struct {
	greeting
	heard time.Time
}

// WorkerInfo tells about a worker of the pool.
type WorkerInfo struct {
	Name  string // ServeConfig.Worker
	Host  string
	PID   int // of the program that runs Serve
	Slots int // how many calls it runs at the same time
	Build string
	Heard time.Time // when it was last heard of
}

// Workers returns the workers that have been heard of lately, by name.
func (p *Pool) Workers() []WorkerInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]WorkerInfo, 0, len(p.peers))
	for _, w := range p.peers {
		all = append(all, WorkerInfo{w.Worker, w.Host, w.PID, w.Slots, w.Build, w.heard})
	}
	slices.SortFunc(all, func(a, b WorkerInfo) int { return cmpText(a.Name, b.Name) })
	return all
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// slots is how many calls the known workers run at the same time. mu is held.
func (p *Pool) slots() (n int) {
	for _, w := range p.peers {
		if w.Build == p.cfg.Build {
			n += w.Slots
		}
	}
	return n
}

// watchWorkers begins to listen to workers, and asks who is there.
func (p *Pool) watchWorkers() error {
	sub, err := p.nc.Subscribe(p.presence("*"), func(m *nats.Msg) {
		var g greeting
		if err := json.Unmarshal(m.Data, &g); err != nil || !isName(g.Worker) || g.Slots < 1 || g.Slots > mostSlots {
			p.log.Warn("clusterpool: a worker's greeting does not make sense", "subject", m.Subject)
			return
		}
		// Credentials may permit a worker its own subject alone: it speaks for no other.
		if m.Subject != p.presence(g.Worker) {
			p.log.Warn("clusterpool: a worker's greeting under the name of another", "subject", m.Subject, "worker", g.Worker)
			return
		}
		p.greeted(g)
	})
	if err != nil {
		return fmt.Errorf("clusterpool: listening to workers: %w", err)
	}
	p.side.Go(func() {
		<-p.quit
		_ = sub.Unsubscribe() // fails if the connection is closed
	})
	return p.nc.Publish(p.hello(), nil)
}

// greeted takes in what a worker says of itself.
func (p *Pool) greeted(g greeting) {
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return
	}
	before := p.peers[g.Worker]
	if g.Bye {
		delete(p.peers, g.Worker)
	} else {
		p.peers[g.Worker] = &peer{g, time.Now()}
	}
	p.wake()
	p.mu.Unlock()
	switch {
	case before == nil && !g.Bye:
		p.tellOfWorker(executor.EventWorkerStart, g, nil)
	case before != nil && g.Bye:
		p.tellOfWorker(executor.EventWorkerEnd, g, nil)
	}
}

// tellOfWorker tells the observer, once for each slot: that is what runs a call.
func (p *Pool) tellOfWorker(kind executor.EventKind, g greeting, err error) {
	for range g.Slots {
		p.observe(nil, executor.Event{Kind: kind, Worker: g.PID, Err: err})
	}
}

var errSilent = errors.New("nothing was heard of it for longer than its lease")

// missPeers gives up workers of which nothing was heard.
func (p *Pool) missPeers() {
	now := time.Now()
	var lost []greeting
	p.mu.Lock()
	for name, w := range p.peers {
		if now.Sub(w.heard) > max(w.Lease, p.cfg.Lease) && p.nc.IsConnected() {
			delete(p.peers, name)
			lost = append(lost, w.greeting)
			p.stats.WorkersLost += uint64(w.Slots)
		}
	}
	p.mu.Unlock()
	for _, g := range lost {
		p.tellOfWorker(executor.EventWorkerLost, g, fmt.Errorf("worker %s: %w", g.Worker, errSilent))
	}
}

// endPeers tells the observer that no worker is this pool's any more.
func (p *Pool) endPeers() {
	p.mu.Lock()
	peers := p.peers
	p.peers = map[string]*peer{}
	p.mu.Unlock()
	for _, w := range peers {
		p.tellOfWorker(executor.EventWorkerEnd, w.greeting, nil)
	}
}
