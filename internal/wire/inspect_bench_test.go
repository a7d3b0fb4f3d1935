package wire_test

import (
	"bytes"
	"encoding/gob"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/futures/internal/wire"
)

func BenchmarkInspect(b *testing.B) {
	for _, bm := range []struct {
		name string
		box  any
		into func() any
	}{
		{"int", &wire.Box[int]{V: 12345}, func() any { return new(wire.Box[int]) }},
		{"string/bytes=100", &wire.Box[string]{V: strings.Repeat("x", 100)}, func() any { return new(wire.Box[string]) }},
		{"bytes/bytes=1M", &wire.Box[[]byte]{V: make([]byte, 1<<20)}, func() any { return new(wire.Box[[]byte]) }},
		{"struct", &wire.Box[record]{V: record{1, 2, 3, []string{"a", "b"}}}, func() any { return new(wire.Box[record]) }},
		{"floats/n=1000", &wire.Box[[]float64]{V: make([]float64, 1000)}, func() any { return new(wire.Box[[]float64]) }},
		{"map/n=1000", &wire.Box[map[string]int]{V: manyNames(1000)}, func() any { return new(wire.Box[map[string]int]) }},
		{"list/n=1000", &wire.Box[*linked]{V: chain(1000)}, func() any { return new(wire.Box[*linked]) }},
	} {
		enc := wire.NewEncoder(1 << 30)
		message := func() wire.Frame {
			payload, flags, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(bm.box) })
			if err != nil {
				b.Fatal(err)
			}
			return wire.Frame{Header: wire.Header{Flags: flags &^ wire.FlagEnd}, Payload: bytes.Clone(payload.Bytes())}
		}
		first := message()
		second := message()
		if second.Flags&wire.FlagStart != 0 {
			second = first // each is a stream of its own
		}
		b.Run("value="+bm.name+"/by=inspector", func(b *testing.B) {
			inspect := wire.Inspector()
			if err := inspect(first.Payload); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if second.Flags&wire.FlagStart != 0 {
					inspect = wire.Inspector()
				}
				_ = inspect(second.Payload)
			}
		})
		b.Run("value="+bm.name+"/by=gob", func(b *testing.B) {
			src := new(bytes.Buffer)
			src.Write(first.Payload)
			dec := gob.NewDecoder(src)
			if err := dec.Decode(bm.into()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if second.Flags&wire.FlagStart != 0 {
					dec = gob.NewDecoder(src)
				}
				src.Write(second.Payload)
				if err := dec.Decode(bm.into()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("value="+bm.name+"/by=wire", func(b *testing.B) {
			var dec wire.Decoder
			decode := func(f wire.Frame) {
				if err := dec.Message(f, func(v *wire.Value) error { return v.Decode(bm.into()) }); err != nil {
					b.Fatal(err)
				}
			}
			decode(first)
			b.ReportAllocs()
			for b.Loop() {
				decode(second)
			}
		})
	}
	for _, bm := range []struct {
		name string
		v    any
	}{{"int", 1}, {"struct", zooKey{1, "a"}}, {"zoo", zoo{Any: []any{1, "a", &zooKey{}}, T: time.Unix(1, 0)}}, {"list/n=1000", manyAny(1000)}, {"nils/n=1000", make([]fieldsOf, 1000)}} {
		box := &wire.Box[any]{V: bm.v}
		if s, is := bm.v.([]fieldsOf); is {
			for i := range s {
				s[i] = fieldsOf{L: []any{nil}, M: map[string]*fieldsOf{"a": {}}}
			}
		}
		if _, is := bm.v.(zooKey); is {
			box.V = &zooKey{1, "a"}
		}
		b.Run("value=any/"+bm.name+"/by=gob", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var buf bytes.Buffer
				if err := gob.NewEncoder(&buf).Encode(box); err != nil {
					b.Fatal(err)
				}
				if err := gob.NewDecoder(&buf).Decode(new(wire.Box[any])); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("value=any/"+bm.name+"/by=wire", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf, err := wire.Marshal(box)
				if err != nil {
					b.Fatal(err)
				}
				if err := wire.Unmarshal(buf, new(wire.Box[any])); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func manyNames(n int) map[string]int {
	m := map[string]int{}
	for i := range n {
		m["name "+strconv.Itoa(i)] = i
	}
	return m
}

func manyAny(n int) []any {
	s := make([]any, n)
	for i := range s {
		s[i] = i
	}
	return s
}
