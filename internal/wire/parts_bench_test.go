package wire_test

import (
	"bytes"
	"encoding/gob"
	"strconv"
	"testing"

	"example.com/futures/internal/wire"
)

// BenchmarkParts is a struct with a []byte from one process to another and its copy in
// shared memory: as an Encoder and a Decoder have it; all of it through gob, in a stream
// as theirs is; and the []byte alone, in an Encoder and a Decoder.
func BenchmarkParts(b *testing.B) {
	type letter struct {
		To   string
		Data []byte
	}
	type packed struct { // the same to gob, but no []byte to be seen
		To   string
		Data string
	}
	for _, n := range []int{512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 1 << 20, 16 << 20} {
		size := "/bytes=" + strconv.Itoa(n)
		enc := wire.NewEncoder(1 << 30)
		var dec wire.Decoder
		room := make([]byte, n+1000)
		through := func(b *testing.B, v any, into func() any) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				p, flags, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(v) })
				if err != nil {
					b.Fatal(err)
				}
				p.CopyTo(room)
				f := wire.Frame{Header: wire.Header{Flags: flags}, Payload: room[:p.Len()]}
				if err := dec.Shared(f, func(v *wire.Value) error { return v.Decode(into()) }); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.Run("by=wire"+size, func(b *testing.B) {
			through(b, &wire.Box[letter]{V: letter{"a", content(n, 1)}}, func() any { return new(wire.Box[letter]) })
		})
		b.Run("by=wire without parts"+size, func(b *testing.B) {
			through(b, &wire.Box[packed]{V: packed{"a", string(content(n, 1))}}, func() any { return new(wire.Box[packed]) })
		})
		b.Run("by=wire plain"+size, func(b *testing.B) {
			through(b, &wire.Box[[]byte]{V: content(n, 1)}, func() any { return new(wire.Box[[]byte]) })
		})
		b.Run("by=gob"+size, func(b *testing.B) {
			var buf, src bytes.Buffer
			enc, dec := gob.NewEncoder(&buf), gob.NewDecoder(&src)
			v := &wire.Box[letter]{V: letter{"a", content(n, 1)}}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				buf.Reset()
				if err := enc.Encode(v); err != nil {
					b.Fatal(err)
				}
				copy(room, buf.Bytes())
				src.Write(room[:buf.Len()])
				if err := dec.Decode(new(wire.Box[letter])); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
