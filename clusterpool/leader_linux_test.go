package clusterpool_test

import (
	"testing"
	"time"

	"example.com/futures/clusterpool"
	"example.com/futures/clusterpool/internal/clustertest"
)

// replicated returns a load for a pool on c, whose streams all servers keep, with two
// workers, and calls that have all been heard of.
func replicated(t *testing.T, c *clustertest.Cluster, retries int) *load {
	t.Helper()
	name := poolName(t)
	p := dial(t, clusterpool.Config{URL: c.URL(), Name: name, Replicas: 3})
	for range 2 {
		serve(t, job{URL: c.URL(), Name: name, Slots: 16})
	}
	awaitWorkers(t, p, 2)
	l := newLoad(t, p, c.URL(), name)
	l.retries = retries
	l.sleep = 2 * time.Millisecond
	return l
}

// The leader of one of a pool's two streams is killed under load, again and again, and comes
// back each time. Calls go on with those that are left.
func TestLeaderKilled(t *testing.T) {
	notUnderRace(t)
	t.Parallel()
	calls, kills := sizes(1500, 3, 10)
	c := clustertest.StartCluster(t, 3, clustertest.Options{})
	l := replicated(t, c, 3)
	once := newLoad(t, l.pool, c.URL(), l.name) // beside them, some without retries
	once.sleep = l.sleep
	for kill := range kills {
		stream := l.name + []string{"_TASKS", "_STATE"}[kill%2]
		submitted := []func(){l.flow(calls*3/4, 256), once.flow(calls/4, 64)}
		l.await(kill*(calls*3/4) + calls/4)
		leader := c.Leader(stream)
		leader.Kill()
		began := time.Now()
		outage()
		leader.Launch()
		for _, wait := range submitted {
			wait()
		}
		l.await((kill + 1) * (calls * 3 / 4))
		once.await((kill + 1) * (calls / 4))
		c.Await()
		t.Logf("kill %d, of %s, the leader of %s: all calls were done %v later", kill+1, leader.Name(), stream, time.Since(began).Round(time.Millisecond))
	}
	l.settle()
	once.settle()
}
