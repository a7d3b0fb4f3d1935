package executortest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/futures/executor"
)

// A gate is where tasks and tests meet, whatever process the task runs in: a unix
// socket that the test listens on. A task that comes to the gate says who it is and
// waits until the test lets it through or its context ends, which it tells the
// test. So a test knows what runs, for certain, and without waiting for time.
type gate struct {
	path     string
	listener net.Listener
	comers   chan *visitor // who arrived while the gate was shut; large enough for all
	serving  sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	open   bool
	conns  map[net.Conn]bool
	log    []int             // the names of all who came, in order
	inside map[*visitor]bool // who came and was not let through
	most   int               // the largest number inside
}

// A visitor is a task at the gate, as the test sees it.
type visitor struct {
	name  int
	ended chan struct{} // closed when the task says that its context ended
	gate  *gate
	conn  net.Conn
}

// newGate returns a gate that is shut. It is closed at the end of the check.
func (c *check) newGate() *gate {
	c.Helper()
	// Not TempDir: it contains the test's name, and a socket's path must be short.
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		c.Fatal(err)
	}
	g := &gate{path: path, listener: l, comers: make(chan *visitor, 1<<14), conns: map[net.Conn]bool{}, inside: map[*visitor]bool{}}
	c.gates = append(c.gates, g)
	g.serving.Go(g.accept)
	return g
}

func (g *gate) accept() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.mu.Lock()
		g.conns[conn] = true
		g.mu.Unlock()
		g.serving.Go(func() { g.serve(conn) })
	}
}

// serve talks to one task until it leaves.
func (g *gate) serve(conn net.Conn) {
	v := &visitor{ended: make(chan struct{}), gate: g, conn: conn}
	r := bufio.NewReader(conn)
	if _, err := fmt.Fscanf(r, "%d\n", &v.name); err != nil {
		conn.Close()
		return
	}
	g.mu.Lock()
	g.log = append(g.log, v.name)
	g.inside[v] = true
	g.most = max(g.most, len(g.inside))
	open := g.open
	if !open {
		g.comers <- v
	}
	g.mu.Unlock()
	if open {
		v.pass()
	}
	if line, _ := r.ReadString('\n'); line == "ended\n" {
		close(v.ended)
	}
	_, _ = io.Copy(io.Discard, r)
	g.mu.Lock()
	delete(g.inside, v)
	delete(g.conns, conn)
	g.mu.Unlock()
	conn.Close()
}

// pass lets the task through: it returns.
func (v *visitor) pass() {
	v.gate.mu.Lock()
	delete(v.gate.inside, v)
	v.gate.mu.Unlock()
	_, _ = io.WriteString(v.conn, "pass\n")
}

// usher lets the next n tasks through, from a goroutine of its own, and then calls
// then, if it is not nil, with the one that comes after them.
func (c *check) usher(g *gate, n int, then func(*visitor)) {
	go func() {
		for i := range n + 1 {
			if i == n && then == nil {
				return
			}
			select {
			case v := <-g.comers:
				if i < n {
					v.pass()
				} else {
					then(v)
				}
			case <-c.ctx.Done():
				return
			}
		}
	}()
}

// next waits for a task to arrive at the shut gate.
func (c *check) next(g *gate) *visitor {
	c.Helper()
	select {
	case v := <-g.comers:
		return v
	case <-c.ctx.Done():
		c.Fatalf("no task arrives; all goroutines:\n%s", stacks())
		return nil
	}
}

// arrive waits for n tasks to arrive and returns them by name.
func (c *check) arrive(g *gate, n int) map[int]*visitor {
	c.Helper()
	all := make(map[int]*visitor)
	for range n {
		v := c.next(g)
		all[v.name] = v
	}
	return all
}

// wait waits for an event, such as a visitor's ended.
func (c *check) wait(what string, event <-chan struct{}) {
	c.Helper()
	select {
	case <-event:
	case <-c.ctx.Done():
		c.Fatalf("waited in vain: %s; all goroutines:\n%s", what, stacks())
	}
}

// openUp lets everybody through, now and from now on.
func (g *gate) openUp() {
	g.mu.Lock()
	g.open = true
	inside := slices.Collect(maps.Keys(g.inside))
	g.mu.Unlock()
	for _, v := range inside {
		v.pass()
	}
}

// visits returns the names of all who came so far, in order. A task that returned,
// or that is known to stand at the gate, has been counted.
func (g *gate) visits() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.log)
}

// crowd returns how many tasks stood at the gate at once, at most.
func (g *gate) crowd() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most
}

func (g *gate) close() {
	g.listener.Close()
	g.mu.Lock()
	for conn := range g.conns {
		conn.Close()
	}
	g.mu.Unlock()
	g.serving.Wait()
}

// A Visit is the argument of the task that goes to a gate. It is exported because
// it travels.
type Visit struct {
	Gate  string
	Name  int
	AtEnd atEnd
}

// atEnd says what a task at a gate does when its context ends.
type atEnd int

const (
	returnErr   atEnd = iota // returns the context's error
	returnValue              // returns its name, as if it had been let through
	returnOwn                // returns an error of its own, errOwn
	tellCause                // returns whether the context's cause is errReason, as 1 or 0
	stay                     // waits to be let through all the same, then returns the context's error
)

// visit returns the argument that sends a task to g under a name.
func (g *gate) visit(name int) Visit { return Visit{Gate: g.path, Name: name} }

var errGone = errors.New("executortest: the gate is gone")

// visitTask goes to a gate and returns its name when it is let through.
var visitTask = executor.NewTask("executortest.visit", visit)

func visit(ctx context.Context, v Visit) (int, error) {
	conn, err := net.Dial("unix", v.Gate)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errGone, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	fmt.Fprintf(conn, "%d\n", v.Name)
	r := bufio.NewReader(conn)
	answer, err := r.ReadString('\n')
	switch {
	case answer == "pass\n":
		return v.Name, nil
	case ctx.Err() == nil:
		return 0, fmt.Errorf("%w: %w", errGone, err)
	}
	_, _ = io.WriteString(conn, "ended\n")
	switch v.AtEnd {
	case returnValue:
		return v.Name, nil
	case returnOwn:
		return 0, errOwn
	case tellCause:
		if errors.Is(context.Cause(ctx), errReason) {
			return 1, nil
		}
		return 0, nil
	case stay:
		_ = conn.SetReadDeadline(time.Time{})
		if s, _ := r.ReadString('\n'); !strings.HasPrefix(s, "pass") {
			return 0, errGone
		}
	}
	return 0, ctx.Err()
}
