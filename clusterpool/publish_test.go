package clusterpool

import (
	"log/slog"
	"sync"
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
