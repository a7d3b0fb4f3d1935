package clustertest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/futures/clusterpool/internal/clustertest"
)

// parentName makes the test binary a program that starts servers and waits to be killed, or
// one that writes to a journal and is killed by its own hand.
const parentName = "FUTURES_CLUSTERTEST_PARENT"

func TestMain(m *testing.M) {
	clustertest.Main()
	if how, ok := os.LookupEnv(parentName); ok {
		os.Unsetenv(parentName)
		if dir, ok := strings.CutPrefix(how, "journal "); ok {
			end := clustertest.Start(dir, 2)
			end()
			clustertest.Start(dir, 3)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
			fmt.Fprintln(os.Stderr, "left behind by the tests: a child process")
			code = 1
		}
		os.Exit(code)
	}))
}

func TestRestartKeepsTheMessagesOfAFileStream(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{User: "me", Password: "p@ss/word", SyncAlways: true})
	js := connect(t, s.URL())
	stream := createStream(t, js, jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept.*"}})
	for i := range 100 {
		publish(t, js, fmt.Sprintf("kept.%d", i), "D")
	}
	pid := s.PID()
	s.Kill()
	require.False(t, alive(pid))
	s.Restart()
	require.NotEqual(t, pid, s.PID())
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 100, info.State.Msgs)
	require.Len(t, clustertest.FinalRecords(t, s.URL(), "KEPT"), 100)

	_, err = nats.Connect(strings.Replace(s.URL(), "me:", "you:", 1))
	require.ErrorIs(t, err, nats.ErrAuthorization)
}

func TestConfigGivesAccountsAndPermissions(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{
		User: "worker", Password: "w", MaxPayload: 2 << 20,
		Config: `
			accounts {
				A {
					jetstream: enabled
					users: [{user: worker, password: w, permissions: {publish: {deny: "forbidden"}}}]
				}
				B {users: [{user: other, password: o}]}
			}`,
	})
	js := connect(t, s.URL())
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.MemoryStorage})
	publish(t, js, "s", "C")
	require.EqualValues(t, 2<<20, js.Conn().MaxPayload())
	require.Equal(t, map[string]int{"s": 1}, clustertest.FinalRecords(t, s.URL(), "S"))

	refused := make(chan error, 1)
	js.Conn().SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	require.NoError(t, js.Conn().Publish("forbidden", nil))
	require.ErrorIs(t, <-refused, nats.ErrPermissionViolation)
}

func TestStopFreezesAServer(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	js := connect(t, s.URL())
	nc := js.Conn()
	s.Stop()
	require.Error(t, nc.FlushTimeout(50*time.Millisecond))
	s.Cont()
	require.NoError(t, nc.FlushTimeout(10*time.Second))
	s.Stop()
	s.Kill() // a frozen one too
	s.Restart()
	createStream(t, connect(t, s.URL()), jetstream.StreamConfig{Name: "S"})
}

// TestAServerEndsWithItsParent kills a process whose servers run and stand still.
func TestAServerEndsWithItsParent(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestParent$")
	cmd.Env = append(os.Environ(), parentName+"=servers", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var pids [2]int
	_, err = fmt.Fscanf(out, "servers %d %d\n", &pids[0], &pids[1])
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	for _, pid := range pids {
		eventually(t, func() bool { return !alive(pid) })
	}
}

// TestParent is the other process of the test above.
func TestParent(t *testing.T) {
	if os.Getppid() == 1 || len(os.Args) < 2 || os.Args[1] != "-test.run=^TestParent$" {
		t.Skip("runs in a process of its own")
	}
	running := clustertest.StartServer(t, clustertest.Options{Dir: t.TempDir()})
	frozen := clustertest.StartServer(t, clustertest.Options{Dir: t.TempDir()})
	frozen.Stop()
	fmt.Printf("servers %d %d\n", running.PID(), frozen.PID())
	select {}
}

func TestClusterElectsAnotherLeader(t *testing.T) {
	c := clustertest.StartCluster(t, 3, clustertest.Options{})
	js := connect(t, c.URL())
	createStream(t, js, jetstream.StreamConfig{
		Name: "STATE", Subjects: []string{"s.*"}, Replicas: 3, MaxMsgsPerSubject: 1,
	})
	f := clustertest.Follow(t, c.URL(), "STATE")
	publish(t, js, "s.1", "R")
	publish(t, js, "s.1", "D")
	f.Sync()

	first := c.Leader("STATE")
	first.Kill()
	var second *clustertest.Server
	eventually(t, func() bool {
		second = c.Leader("STATE")
		return second != first
	})
	publish(t, js, "s.1", "D") // a second final record, which is an error in a real stream
	publish(t, js, "s.2", "C")
	f.Sync()
	require.Equal(t, map[string]int{"s.1": 2, "s.2": 1}, f.Finals())

	first.Restart()
	c.Await()
	second.Stop() // the restarted one is needed for a majority
	eventually(t, func() bool { return c.Leader("STATE") != second })
	publish(t, js, "s.3", "D")
	second.Cont()
	c.Await()

	c.Kill()
	c.Restart()
	f.Sync()
	require.Equal(t, map[string]int{"s.1": 2, "s.2": 1, "s.3": 1}, f.Finals())
	require.Equal(t, map[string]int{"s.1": 1, "s.2": 1, "s.3": 1}, clustertest.FinalRecords(t, c.URL(), "STATE"))
}

func TestNamespacesCutAndJoin(t *testing.T) {
	n := clustertest.Namespaces(t, 2)
	s := clustertest.StartServer(t, clustertest.Options{NetNS: n.Name(0), Host: n.Addr(0), Port: 4222})
	require.True(t, reachable(t, s))
	n.Down(0)
	require.False(t, reachable(t, s))
	n.Up(0)
	eventually(t, func() bool { return reachable(t, s) })

	// Another network at the same time.
	other := clustertest.Namespaces(t, 1)
	require.NotEqual(t, n.Addr(0), other.Addr(0))
}

func TestIsolatedLeaderIsReplaced(t *testing.T) {
	n := clustertest.Namespaces(t, 3)
	c := clustertest.StartClusterIn(t, n, clustertest.Options{})
	js := connect(t, c.URL())
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Replicas: 3})
	f := clustertest.Follow(t, c.URL(), "S")
	publish(t, js, "s.1", "D")
	old := c.Leader("S")
	var i int
	for i = range c.Servers {
		if c.Servers[i] == old {
			break
		}
	}
	n.Isolate(i)
	require.True(t, reachable(t, old), "from the hub")
	eventually(t, func() bool { return c.Leader("S") != old })
	js = connect(t, c.Servers[(i+1)%3].URL()) // who is at the old leader hears nothing
	publish(t, js, "s.2", "D")
	n.Heal(i)
	c.Await()

	n.Down(i)
	require.False(t, reachable(t, old))
	publish(t, js, "s.3", "D")
	n.Up(i)
	c.Await()
	f.Sync()
	require.Equal(t, map[string]int{"s.1": 1, "s.2": 1, "s.3": 1}, f.Finals())
}

func TestFollowerStartsOverWithANewStream(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{Memory: true})
	f := clustertest.Follow(t, s.URL(), "S") // before there is one
	js := connect(t, s.URL())
	config := jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s.*"}, MaxMsgsPerSubject: 1, Storage: jetstream.MemoryStorage,
	}
	for _, test := range []struct {
		name string
		lose func()
	}{
		{"at first", func() {}},
		{"the server is killed", func() {
			s.Kill()
			s.Restart()
		}},
		{"the stream is deleted", func() { require.NoError(t, js.DeleteStream(t.Context(), "S")) }},
	} {
		test.lose()
		before := f.Finals()
		createStream(t, js, config)
		publish(t, js, "s.1", "R")
		publish(t, js, "s.1", "D")
		publish(t, js, "s.2", "") // no record at all
		f.Sync()
		require.Equal(t, map[string]int{"s.1": before["s.1"] + 1}, f.Finals(), test.name)
	}

	// The end of the stream is gone: there is nothing to wait for.
	stream, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject("s.2")))
	f.Sync()
	publish(t, js, "s.3", "C")
	f.Sync()
	require.Equal(t, map[string]int{"s.1": 3, "s.3": 1}, f.Finals())
	require.Equal(t, []string{"s.1"}, clustertest.Twice(f.Finals()))
}

func TestFollowerReadsOnAfterAKill(t *testing.T) {
	s := clustertest.StartServer(t, clustertest.Options{})
	js := connect(t, s.URL())
	createStream(t, js, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, MaxMsgsPerSubject: 1})
	f := clustertest.Follow(t, s.URL(), "S")
	const calls = 1000
	want := map[string]int{}
	for i := range calls {
		if i == calls/2 {
			s.Kill()
			s.Restart()
		}
		subject := fmt.Sprintf("s.%d", i)
		publish(t, js, subject, "R")
		publish(t, js, subject, "D")
		want[subject] = 1
	}
	f.Sync()
	require.Equal(t, want, f.Finals())
	require.LessOrEqual(t, f.Missed(), calls, "of those that say R")
}

func TestJournalOfAKilledProcess(t *testing.T) {
	j := clustertest.NewJournal(t)
	clustertest.Start(j.Dir(), 1)()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), parentName+"=journal "+j.Dir())
	require.Error(t, cmd.Run())
	require.Equal(t, map[int64]int{1: 1, 2: 1, 3: 1}, j.Starts())
	require.Equal(t, map[int64]int{1: 1, 2: 1}, j.Ends())
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url,
		nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.Timeout(time.Second),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

func createStream(t *testing.T, js jetstream.JetStream, config jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	var s jetstream.Stream
	eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var err error
		s, err = js.CreateStream(ctx, config)
		return err == nil
	})
	return s
}

// publish stores a record, once, however often it has to try.
func publish(t *testing.T, js jetstream.JetStream, subject, body string) {
	t.Helper()
	id := nats.NewInbox()
	eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, subject, []byte(body), jetstream.WithMsgID(id))
		return err == nil
	})
}

func reachable(t *testing.T, s *clustertest.Server) bool {
	t.Helper()
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL(), "nats://"))
	if err == nil {
		c.Close()
	}
	return err == nil
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " Z")
}
