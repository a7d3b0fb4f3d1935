package clusterpool

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// begin writes msg.Reply after the publication can be seen by hurry. With -race.
func TestBeginHurry(t *testing.T) {
	ns, err := natsd.NewServer(&natsd.Options{DontListen: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go ns.Start()
	ns.ReadyForConnections(5 * time.Second)
	defer ns.Shutdown()
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
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
