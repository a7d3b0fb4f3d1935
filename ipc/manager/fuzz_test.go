package manager

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"

	"example.com/futures/executor"
	"example.com/futures/internal/wire"
	"example.com/futures/ipc"
)

// A tape is a client whose bytes are all there already, and who reads nothing of what it gets.
type tape struct{ io.Reader }

func (tape) Write(b []byte) (int, error) { return len(b), nil }
func (tape) Close() error                { return nil }

// A script is the frames of a client.
type script struct {
	b   []byte
	seq uint64
}

func (s *script) frame(h wire.Header, fn func(*writer)) {
	var w writer
	if fn != nil {
		fn(&w)
	}
	s.b = wire.Append(s.b, h, w.b)
}

func (s *script) request(id uint64, op uint8, flags uint8, fn func(*writer)) {
	s.seq++
	s.frame(wire.Header{Kind: wire.KindRequest, Seq: s.seq, Item: uint32(op), Flags: flags}, func(w *writer) {
		w.uint(id)
		if fn != nil {
			fn(w)
		}
	})
}

func greeted() *script {
	g := greeting{pid: 1, limit: 1 << 20}
	return &script{b: wire.Append(nil, g.header(wire.KindSetup), g.append(nil))}
}

// FuzzRequests plays a client that has proved itself and then sends anything at all: the server
// does not panic, needs no more memory than the limit allows, and goes on.
func FuzzRequests(f *testing.F) {
	d, err := pack("value")
	if err != nil {
		f.Fatal(err)
	}
	all := greeted()
	head := len(all.b)
	for kind := uint64(0); kind <= uint64(kindOwn)+1; kind++ {
		for _, arg := range []int{1, 1 << 40} {
			all.request(0, opNew, 0, func(w *writer) {
				w.uint(kind)
				w.text("a type")
				switch uint8(kind) {
				case kindQueue, kindArray, kindBarrier:
					w.int(arg)
				case kindSemaphore:
					w.int(arg)
					w.bool(true)
				case kindCond:
					w.uint(uint64(arg))
				case kindValue:
					w.datum(datum{flags: d.flags, bytes: d.bytes, refs: []uint64{1, 2, 99}})
				case kindOwn:
					w.text("counter")
					w.text("int")
					w.datum(d)
				}
			})
		}
		if kind == 13 {
			kind = uint64(kindOwn) - 1
		}
	}
	f.Add(bytes.Clone(all.b[head:]))
	for id := uint64(1); id < 20; id++ {
		for op := range uint8(12) {
			all.request(id, op, op%2, nil)
			all.request(id, op, 0, func(w *writer) { w.int(1); w.text("k"); w.datum(d) })
			all.request(id, op, 0, func(w *writer) { w.datum(datum{flags: d.flags, bytes: d.bytes, refs: []uint64{id, id + 1}}) })
			all.request(id, op, 0, func(w *writer) { w.text("k"); w.datum(datum{flags: d.flags, bytes: d.bytes, refs: []uint64{id}}) })
		}
	}
	for op := range uint8(12) {
		all.request(0, op, 0, func(w *writer) { w.text("name"); w.uint(uint64(op)) })
		all.request(0, op, 0, func(w *writer) { w.uint(uint64(op)); w.uint(1) })
	}
	f.Add(bytes.Clone(all.b[head:]))
	all.frame(wire.Header{Kind: wire.KindInterrupt, Seq: 3}, func(w *writer) {
		i := wire.Interruption{Deadline: true, Cause: executor.EncodeError(io.EOF)}
		w.b = i.Append(nil)
	})
	all.frame(wire.Header{Kind: wire.KindPing}, nil)
	all.frame(wire.Header{Kind: wire.KindRelease}, func(w *writer) { w.uint(1); w.uint(1) })
	all.frame(wire.Header{Kind: wire.KindAdopt}, func(w *writer) { w.uint(1); w.bytes(make([]byte, 16)) })
	f.Add(bytes.Clone(all.b[head:]))
	f.Add(wire.AppendHeader(nil, wire.Header{Kind: wire.KindRequest}, 1<<62))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cfg, err := Config{MaxMessage: 1 << 20}.ready()
		if err != nil {
			t.Fatal(err)
		}
		s := newServer(&cfg)
		hello := greeted()
		s.admit(tape{io.MultiReader(bytes.NewReader(hello.b), bytes.NewReader(b))}, nil)
		good := s.conn(t)
		o := new(object)
		if err := good.call(context.Background(), 0, opNew, func(w *writer) {
			w.uint(uint64(kindDict))
			w.text("a type")
		}, func(r *reader) error {
			o.h = good.handle(r.uint(), "a type")
			return r.end()
		}); err != nil && !errors.Is(err, ipc.ErrClosed) { // it was told to drain
			t.Errorf("another client's call = %v", err)
		}
		_ = o.Close()
		s.close()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20+100*uint64(len(b)) {
			t.Errorf("%d bytes were allocated for a request of %d", n, len(b))
		}
		if n := s.stat(); n.objects > 0 || n.guests > 0 {
			t.Errorf("what is left: %+v", n)
		}
	})
}

// conn returns a client of this process.
func (s *server) conn(tb testing.TB) *conn {
	c, err := s.ownConn(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
