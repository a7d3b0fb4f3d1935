package clusterpool

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// begin writes msg.Reply after the publication can be seen by hurry. With -race.
func TestBeginHurry(t *testing.T) {
	nc := inProcess(t)
	sub, _ := nc.Subscribe("x.>", func(m *nats.Msg) {
		if m.Reply == "" {
			t.Error("a message without a reply subject was sent")
		}
		_ = m.Respond([]byte(`{"stream":"x","seq":1}`))
	})
	defer sub.Unsubscribe()
	p, err := newPublisher(nc, slog.Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				p.hurry()
				time.Sleep(20 * time.Microsecond) // its pace
			}
		}
	})
	for range 2000 {
		p.store(&nats.Msg{Subject: "x.y"}, time.Second)
	}
	close(stop)
	wg.Wait()
	p.close()
}

// The message of a call that has ended is not sent again by another connection, whose servers
// may not know that it has; and not for ever by none.
func TestRetire(t *testing.T) {
	nc := inProcess(t)
	sub, err := nc.SubscribeSync("x.>") // nobody answers
	require.NoError(t, err)
	p, err := newPublisher(nc, slog.Default(), nil)
	require.NoError(t, err)
	defer p.close()
	answers := make(chan ack, 2)
	over := &publication{msg: &nats.Msg{Subject: "x.over"}, done: func(a ack) { answers <- a }}
	goes := &publication{msg: &nats.Msg{Subject: "x.goes"}, done: func(a ack) { answers <- a }}
	p.begin(over)
	p.begin(goes)
	p.retire(over)
	p.mistrust()
	p.hurry()
	require.NoError(t, nc.Flush())
	for _, subject := range []string{"x.over", "x.goes", "x.goes"} {
		m, err := sub.NextMsg(time.Second)
		require.NoError(t, err)
		require.Equal(t, subject, m.Subject)
	}
	require.Equal(t, ack{err: errNoBroker, tries: 1, sent: over.sent}, <-answers, "after a while")
	require.True(t, p.has(goes))
}

// What is published while the connection is down is sent twice once it is back, and answered
// twice: no other message takes the second answer for its own.
func TestPublishWhileAway(t *testing.T) {
	start := func(port int) *natsd.Server {
		ns, err := natsd.NewServer(&natsd.Options{Host: "127.0.0.1", Port: port, NoSigs: true})
		require.NoError(t, err)
		go ns.Start() // ends with Shutdown
		t.Cleanup(ns.Shutdown)
		require.True(t, ns.ReadyForConnections(5*time.Second))
		return ns
	}
	ns := start(-1)
	port := ns.Addr().(*net.TCPAddr).Port
	dial := func(options ...nats.Option) *nats.Conn {
		nc, err := nats.Connect(ns.ClientURL(), append(options, nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0))...)
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	var twice atomic.Int64
	seen := map[string]bool{}
	var held []*nats.Msg
	stream := dial()
	hurried := make(chan struct{})
	_, err := stream.Subscribe("x.>", func(m *nats.Msg) { // answers with the number in it
		<-hurried
		if seen[m.Subject] {
			held = append(held, m) // until there is another message that could be meant
			return
		}
		seen[m.Subject] = true
		if strings.HasPrefix(m.Subject, "x.later.") {
			for _, again := range held {
				twice.Add(1)
				_ = again.Respond(fmt.Appendf(nil, `{"stream":"x","seq":%s}`, again.Data))
			}
			held = nil
		}
		_ = m.Respond(fmt.Appendf(nil, `{"stream":"x","seq":%s}`, m.Data))
	})
	require.NoError(t, err)
	require.NoError(t, stream.Flush())
	down := make(chan struct{}, 2)
	var p *publisher
	nc := dial(
		nats.DisconnectErrHandler(func(*nats.Conn, error) { down <- struct{}{} }),
		nats.ReconnectHandler(func(*nats.Conn) {
			p.hurry()
			close(hurried)
		}),
		nats.CustomReconnectDelay(func(int) time.Duration { return 100 * time.Millisecond }), // after the stream
	)
	p, err = newPublisher(nc, slog.Default(), nil)
	require.NoError(t, err)
	defer p.close()
	ns.Shutdown()
	<-down
	const n = 50
	acks := make(chan ack, n)
	for i := range n {
		p.publish(&nats.Msg{Subject: fmt.Sprint("x.", i), Data: fmt.Append(nil, 1+i)}, false, func(a ack) { acks <- a })
	}
	start(port)
	var later sync.WaitGroup
	for i := range n { // as soon as one is answered, one more is published
		<-acks
		later.Add(1)
		want := uint64(1000 + i)
		p.publish(&nats.Msg{Subject: fmt.Sprint("x.later.", i), Data: fmt.Append(nil, want)}, false, func(a ack) {
			defer later.Done()
			if a.seq != want {
				t.Errorf("%d was answered with %d", want, a.seq)
			}
		})
	}
	later.Wait()
	require.EqualValues(t, n, twice.Load())
}

// What waited in the buffer may have been stored by the connection after that in which it was
// published, even if nobody was told.
func TestStored(t *testing.T) {
	buffered := publication{buffer: true, conn: 3}
	require.False(t, buffered.stored(3), "it is this connection's")
	require.True(t, buffered.stored(4))
	require.True(t, (&publication{out: true, conn: 3}).stored(3))
	require.False(t, (&publication{conn: 3}).stored(4), "it was refused")
}

// inProcess returns a connection to a server in this process, without JetStream.
func inProcess(t *testing.T) *nats.Conn {
	t.Helper()
	ns, err := natsd.NewServer(&natsd.Options{DontListen: true, NoSigs: true})
	require.NoError(t, err)
	go ns.Start() // ends with Shutdown
	t.Cleanup(ns.Shutdown)
	require.True(t, ns.ReadyForConnections(5*time.Second))
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}
