package clusterpool_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
	"example.com/futures/executor"
	"example.com/futures/worker"
)

// Leaders are cut off: from everything, for longer than a lease, and from the other servers
// alone, while clients and workers reach them and are told what no one else agrees to.
func TestLeaderCutOff(t *testing.T) {
	notUnderRace(t)
	t.Parallel()
	calls, rounds := sizes(1200, 1, 3)
	network := clustertest.Namespaces(t, 3)
	c := clustertest.StartClusterIn(t, network, clustertest.Options{})
	l := replicated(t, c, 3)
	once := newLoad(t, l.pool, c.URL(), l.name)
	once.sleep = l.sleep
	index := func(s *clustertest.Server) int {
		for i, other := range c.Servers {
			if s == other {
				return i
			}
		}
		return -1
	}
	done := 0
	for round := range 2 * rounds {
		stream := l.name + []string{"_TASKS", "_STATE"}[round/2%2]
		submitted := []func(){l.flow(calls*3/4, 256), once.flow(calls/4, 64)}
		l.await(done + calls/4)
		leader := c.Leader(stream)
		what, cut, heal := "everything", network.Down, network.Up
		if round%2 == 1 {
			what, cut, heal = "its peers", func(i int) { network.Isolate(i) }, network.Heal
		}
		began := time.Now()
		cut(index(leader))
		time.Sleep(4 * lease) // the length of the cut is the fault
		heal(index(leader))
		for _, wait := range submitted {
			wait()
		}
		done += calls * 3 / 4
		l.await(done)
		once.await((round + 1) * (calls / 4))
		c.Await()
		t.Logf("%s, the leader of %s, was cut off from %s: all calls were done %v after that began", leader.Name(), stream, what, time.Since(began).Round(time.Millisecond))
	}
	l.settle()
	once.settle()
}

// A remoteJob is a worker process whose connections are made in a network namespace.
type remoteJob struct {
	Job   job
	NetNS string
}

var remoteTask = executor.NewTask("clustertest.remote", func(ctx context.Context, r remoteJob) (struct{}, error) {
	j := r.Job
	return struct{}{}, clusterpool.Serve(ctx, clusterpool.ServeConfig{
		URL: j.URL, Name: j.Name, Worker: j.Worker, Slots: j.Slots, Lease: j.Lease,
		Options: []nats.Option{nats.SetCustomDialer(&nsDialer{r.NetNS})},
	})
})

// An nsDialer makes sockets in a network namespace: they stay there.
type nsDialer struct{ netns string }

func (d *nsDialer) Dial(network, address string) (conn net.Conn, err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		var ns *os.File
		if ns, err = os.Open("/run/netns/" + d.netns); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		conn, err = net.DialTimeout(network, address, time.Second)
	}()
	<-ended
	return conn, err
}

// A worker that is cut off for longer than its lease loses its calls to others, and what it
// brings when it is back is refused.
func TestWorkerCutOff(t *testing.T) {
	t.Parallel()
	calls, rounds := sizes(1000, 1, 3)
	network := clustertest.Namespaces(t, 1)
	s := clustertest.StartServer(t, clustertest.Options{Host: network.Hub()})
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: s.URL(), Name: name})
	far := remoteJob{job{URL: s.URL(), Name: name, Worker: "far", Slots: 8, Lease: lease}, network.Name(0)}
	w, err := worker.Start(context.Background(), remoteTask, far, worker.Config{Output: func(int, string, []byte) {}})
	require.NoError(t, err)
	m := &member{t, w}
	t.Cleanup(m.kill)
	serve(t, job{URL: s.URL(), Name: name, Worker: "near", Slots: 8})
	awaitWorkers(t, p, 2)
	l := newLoad(t, p, s.URL(), name)
	l.retries, l.sleep = 3, 5*time.Millisecond
	once := newLoad(t, p, s.URL(), name)
	once.sleep = l.sleep
	for round := range rounds {
		submitted := []func(){l.flow(calls*3/4, 128), once.flow(calls/4, 64)}
		l.await(round*(calls*3/4) + calls/4)
		network.Down(0)
		time.Sleep(3 * lease) // the length of the cut is the fault
		network.Up(0)
		for _, wait := range submitted {
			wait()
		}
		l.await((round + 1) * (calls * 3 / 4))
		once.await((round + 1) * (calls / 4))
		awaitWorkers(t, p, 2) // it is back
		until(t, "the worker that was cut off has calls again", func() bool {
			v, err := executor.Apply(t.Context(), p, whoTask, struct{}{})
			return err == nil && v == m.PID()
		})
	}
	l.settle()
	once.settle()
}

// whoTask returns the process that runs it.
var whoTask = executor.NewTask("clustertest.who", func(context.Context, struct{}) (int, error) { return os.Getpid(), nil })
