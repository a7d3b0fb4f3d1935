package clustertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A Net is a network of nodes, each a network namespace, joined by a bridge. The test
// process is at the hub, outside of them, and reaches them all. Its methods are safe for
// concurrent use.
type Net struct {
	tb     testing.TB
	name   string // of the bridge; the nodes' names begin with it
	subnet string // without the last number
	n      int
}

// Namespaces makes a network of n nodes, at most 200. It skips the test where that is not
// possible, which takes a system with the program ip and a process that may administer
// networks.
func Namespaces(t testing.TB, n int) *Net {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("network namespaces: the program ip: %v", err)
	}
	net := claim(t)
	net.n = n
	net.sweep() // what a test process left that was killed
	t.Cleanup(net.sweep)

	try := func(what string, args ...string) {
		t.Helper()
		if err := ip(args...); err != nil {
			t.Skipf("network namespaces: %s is not possible here: %v", what, err)
		}
	}
	must := func(args ...string) {
		t.Helper()
		if err := ip(args...); err != nil {
			t.Fatalf("network namespaces: %v", err)
		}
	}
	if n > 0 {
		try("ip netns add", "netns", "add", net.Name(0))
	}
	try("a bridge", "link", "add", net.name, "type", "bridge")
	must("addr", "add", net.Hub()+"/24", "dev", net.name)
	must("link", "set", net.name, "up")
	for i := range n {
		node := net.Name(i)
		if i > 0 {
			must("netns", "add", node)
		}
		try("a veth pair", "link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", node)
		must("link", "set", node, "master", net.name, "up")
		must("-n", node, "addr", "add", net.Addr(i)+"/24", "dev", "eth0")
		must("-n", node, "link", "set", "eth0", "up")
		must("-n", node, "link", "set", "lo", "up")
		// What comes from an address that it may not send to is not let in either.
		if err := within(node, func() error {
			// The kernel shows each thread the settings of its own namespace here.
			return os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0)
		}); err != nil {
			t.Fatalf("network namespaces: %v", err)
		}
	}
	return net
}

// claim returns a network whose name and addresses nobody else uses during the test: test
// processes know each other's by sockets without a file.
func claim(t testing.TB) *Net {
	t.Helper()
	const nets = 512 // 198.18.0.0/15 is for tests of networks (RFC 2544)
	for i, first := 0, rand.IntN(nets); i < nets; i++ {
		k := (first + i) % nets
		mark, err := net.Listen("unix", fmt.Sprintf("@futures-clustertest-net-%d", k))
		if err != nil {
			continue
		}
		t.Cleanup(func() { mark.Close() })
		return &Net{tb: t, name: fmt.Sprintf("fct%d", k), subnet: fmt.Sprintf("198.%d.%d", 18+k/256, k%256)}
	}
	t.Fatal("network namespaces: all addresses are in use")
	return nil
}

// sweep removes all that bears the network's name. The servers there have ended.
func (n *Net) sweep() {
	links, _ := filepath.Glob("/sys/class/net/" + n.name + "*")
	for _, l := range links {
		if name := filepath.Base(l); n.owns(name) || name == n.name {
			if err := ip("link", "del", name); err != nil {
				n.tb.Errorf("network namespaces: %v", err)
			}
		}
	}
	nodes, _ := filepath.Glob(netnsDir + n.name + "-*")
	for _, node := range nodes {
		if err := ip("netns", "del", filepath.Base(node)); err != nil {
			n.tb.Errorf("network namespaces: %v", err)
		}
	}
}

func (n *Net) owns(name string) bool { return strings.HasPrefix(name, n.name+"-") }

// Hub returns the address of the test process.
func (n *Net) Hub() string { return n.subnet + ".1" }

// Addr returns the address of node i.
func (n *Net) Addr(i int) string { return fmt.Sprintf("%s.%d", n.subnet, 10+i) }

// Name returns the name of node i, as "ip netns" knows it.
func (n *Net) Name(i int) string { return fmt.Sprintf("%s-%d", n.name, i) }

// Down cuts node i off from everything.
func (n *Net) Down(i int) {
	n.tb.Helper()
	n.must("link", "set", n.Name(i), "down")
}

// Up undoes Down.
func (n *Net) Up(i int) {
	n.tb.Helper()
	n.must("link", "set", n.Name(i), "up")
}

// Isolate cuts node i off from some other nodes, in both directions, or from all of them if
// none is named. The hub still reaches it.
func (n *Net) Isolate(i int, peers ...int) {
	n.tb.Helper()
	if len(peers) == 0 {
		for j := range n.n {
			if j != i {
				peers = append(peers, j)
			}
		}
	}
	for _, j := range peers {
		n.must("-n", n.Name(i), "route", "replace", "blackhole", n.Addr(j)+"/32")
	}
}

// Heal undoes all that Isolate did to node i.
func (n *Net) Heal(i int) {
	n.tb.Helper()
	n.must("-n", n.Name(i), "route", "flush", "type", "blackhole")
}

func (n *Net) must(args ...string) {
	n.tb.Helper()
	if err := ip(args...); err != nil {
		n.tb.Fatalf("network namespaces: %v", err)
	}
}

// netnsDir is where the program ip keeps the names of namespaces.
const netnsDir = "/run/netns/"

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// within calls fn in a network namespace; a process that fn starts stays there. The program
// ip could start it as well, but not by way of /proc/self/exe, which would be itself.
func within(netns string, fn func() error) error {
	if netns == "" {
		return fn()
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open(netnsDir + netns)
	if err != nil {
		return err
	}
	defer there.Close()
	result := make(chan error, 1)
	go func() { // until fn returns
		runtime.LockOSThread()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("setns %s: %w", netns, err)
			return
		}
		err := fn()
		back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		if back == nil {
			runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
		}
		result <- errors.Join(err, back)
	}()
	return <-result
}
