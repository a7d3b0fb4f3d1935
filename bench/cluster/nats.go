package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/futures/bench/remote"
	"example.com/futures/executor"
)

// patience is how long an answer, or the start of a server, may take.
const patience = 30 * time.Second

// The subjects of those who answer. Each process that answers says so on readySubject.
const (
	gobSubject   = "bench.gob"
	bytesSubject = "bench.bytes"
	echoSubject  = "bench.echo"
	readySubject = "bench.ready"
	bucket       = "payloads"
)

// A number travels as gob, with its type, as anything may; or as 8 bytes.

func toGob(n int) []byte {
	var b bytes.Buffer
	check(gob.NewEncoder(&b).Encode(n))
	return b.Bytes()
}

func fromGob(payload []byte) (n int) {
	check(gob.NewDecoder(bytes.NewReader(payload)).Decode(&n))
	return n
}

func toBytes(n int) []byte         { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
func fromBytes(payload []byte) int { return int(binary.LittleEndian.Uint64(payload)) }

// answerNATS is a process that answers core requests.
var answerNATS = executor.NewTask("bench.answer NATS", func(ctx context.Context, s serving) (int, error) {
	nc, err := nats.Connect(s.URL)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	_, err1 := nc.QueueSubscribe(gobSubject, "workers", func(m *nats.Msg) {
		check(m.Respond(toGob(remote.Next.Call(fromGob(m.Data)))))
	})
	_, err2 := nc.QueueSubscribe(bytesSubject, "workers", func(m *nats.Msg) {
		check(m.Respond(toBytes(remote.Next.Call(fromBytes(m.Data)))))
	})
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	return 0, serveUntil(ctx, nc)
})

// answerObjects is a process that takes an object out of a store and puts it there again under another
// name, which it answers.
var answerObjects = executor.NewTask("bench.answer objects", func(ctx context.Context, s serving) (int, error) {
	nc, err := nats.Connect(s.URL)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	store, err := must(jetstream.New(nc)).ObjectStore(ctx, bucket)
	if err != nil {
		return 0, err
	}
	n := 0
	if _, err := nc.QueueSubscribe(echoSubject, "workers", func(m *nats.Msg) {
		payload := must(store.GetBytes(ctx, string(m.Data)))
		n++
		name := "result " + strconv.Itoa(n)
		must(store.PutBytes(ctx, name, payload))
		check(m.Respond([]byte(name)))
	}); err != nil {
		return 0, err
	}
	return 0, serveUntil(ctx, nc)
})

// serveUntil serves what nc has subscribed to, until ctx ends.
func serveUntil(ctx context.Context, nc *nats.Conn) error {
	if err := errors.Join(nc.Flush(), nc.Publish(readySubject, nil)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// startNATS starts a server in this process, which keeps everything in memory, and connects to it as others
// do, through TCP on loopback. Only who has the URL may.
func startNATS(dir string) (nc *nats.Conn, address string, stop func()) {
	dir = must(os.MkdirTemp(dir, "nats"))
	token := rand.Text()
	s := must(server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: token,
		JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true,
	}))
	s.Start()
	if !s.ReadyForConnections(patience) {
		panic("the NATS server is not ready")
	}
	u := must(url.Parse(s.ClientURL()))
	u.User = url.User(token)
	nc = must(nats.Connect(u.String()))
	return nc, u.String(), func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
		check(os.RemoveAll(dir))
	}
}

// answering starts the workers, and returns when each of them answers.
func answering(nc *nats.Conn, w remote.Work, t executor.Task[serving, int], url string) (end func()) {
	sub := must(nc.SubscribeSync(readySubject))
	check(nc.Flush())
	end = workers(w, t, serving{URL: url})
	for range w.Workers {
		must(sub.NextMsg(patience))
	}
	check(sub.Unsubscribe())
	return end
}

// openCore has requests and replies of NATS, as its documentation has them: nothing is stored, nothing
// is known of who runs a call, and a lost one is a timeout.
func openCore(w remote.Work, dir string) remote.Crew {
	nc, url, stop := startNATS(dir)
	end := answering(nc, w, answerNATS, url)
	call := func(arg int) int { return fromGob(must(nc.Request(gobSubject, toGob(arg), patience)).Data) }
	return remote.Crew{
		Call:   call,
		Submit: func(arg int) func() int { return later(func() int { return call(arg) }) },
		Close:  func() { end(); stop() },
	}
}

// openInbox is the least that there is to do: no goroutine for a call, no timeout, and 8 bytes. The replies go to one
// subscription, which finds the call by its number.
func openInbox(w remote.Work, dir string) remote.Crew {
	nc, url, stop := startNATS(dir)
	end := answering(nc, w, answerNATS, url)
	var pending sync.Map // of channels, by the number in the subject of the reply
	inbox := nc.NewInbox()
	must(nc.Subscribe(inbox+".*", func(m *nats.Msg) {
		c, ok := pending.LoadAndDelete(m.Subject[len(inbox)+1:])
		if !ok || len(m.Data) == 0 {
			panic(fmt.Sprintf("a reply to no call, or nobody answers: %q, %v", m.Subject, m.Header))
		}
		c.(chan int) <- fromBytes(m.Data)
	}))
	n := 0
	submit := func(arg int) func() int {
		n++
		c, number := make(chan int, 1), strconv.Itoa(n)
		pending.Store(number, c)
		check(nc.PublishRequest(bytesSubject, inbox+"."+number, toBytes(arg)))
		return func() int { return <-c }
	}
	return remote.Crew{
		Call:   func(arg int) int { return submit(arg)() },
		Submit: submit,
		Close:  func() { end(); stop() },
	}
}

// openObjects has payloads in the object store, and a core request that names one: put and get in this process, get and
// put in the other. Nothing is deleted meanwhile.
func openObjects(w remote.Work, dir string) remote.Crew {
	nc, url, stop := startNATS(dir)
	store := must(must(jetstream.New(nc)).CreateObjectStore(bg, jetstream.ObjectStoreConfig{Bucket: bucket, Storage: jetstream.MemoryStorage}))
	end := answering(nc, w, answerObjects, url)
	n := 0
	return remote.Crew{
		Echo: func(payload []byte) func() []byte {
			n++
			name := "argument " + strconv.Itoa(n)
			return later(func() []byte {
				must(store.PutBytes(bg, name, payload))
				answer := must(nc.Request(echoSubject, []byte(name), patience))
				return must(store.GetBytes(bg, string(answer.Data)))
			})
		},
		Close: func() { end(); stop() },
	}
}
