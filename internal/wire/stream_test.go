package wire_test

import (
	"encoding/gob"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

type (
	plain   struct{ A, B int }
	another struct{ S []string }
	open    struct{ V any }
	hidden  struct{ X int }
	buried  struct{ Y int }
	moody   struct{ Mood string }
)

var errMoody = errors.New("in a mood")

func (m moody) GobEncode() ([]byte, error) {
	switch m.Mood {
	case "encode error":
		return nil, errMoody
	case "encode panic":
		panic(errMoody)
	case "encode exit":
		runtime.Goexit()
	}
	return []byte(m.Mood), nil
}

func (m *moody) GobDecode(b []byte) error {
	switch m.Mood = string(b); m.Mood {
	case "decode error":
		return errMoody
	case "decode panic":
		panic(errMoody)
	case "decode exit":
		runtime.Goexit()
	}
	return nil
}

func init() { gob.Register(hidden{}); gob.Register(buried{}); gob.Register(open{}) }

// A wireEnd is the two ends of a stream.
type wireEnd struct {
	enc *wire.Encoder
	dec wire.Decoder
}

// apart runs fn in a goroutine of its own, since it may panic or end it.
func apart(fn func() error) (err error) {
	done := make(chan struct{})
	err = errMoody // unless fn returns
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		err = fn()
	}()
	<-done
	return err
}

func (e *wireEnd) encode(v any) (f wire.Frame, err error) {
	err = apart(func() error {
		payload, flags, err := e.enc.Message(func(enc *wire.Encoder) error { return enc.Encode(v) })
		f = wire.Frame{Header: wire.Header{Flags: flags}, Payload: slices.Clone(payload.Bytes())}
		return err
	})
	return f, err
}

func (e *wireEnd) decode(f wire.Frame, v any) error {
	return apart(func() error { return e.dec.Message(f, func(d *wire.Value) error { return d.Decode(v) }) })
}

// Whatever fails, on either side, and whatever is skipped or never sent: the next value
// comes out as it went in.
func TestStreamStaysInStep(t *testing.T) {
	e := &wireEnd{enc: wire.NewEncoder(1 << 20)}
	round := func() {
		t.Helper()
		for _, v := range []plain{{1, 2}, {}, {3, 4}} {
			f, err := e.encode(&v)
			require.NoError(t, err)
			var got plain
			require.NoError(t, e.decode(f, &got))
			require.Equal(t, v, got)
		}
		f, err := e.encode(&wire.Box[open]{V: open{V: []open{{V: hidden{1}}}[0]}})
		require.NoError(t, err)
		var got wire.Box[open]
		require.NoError(t, e.decode(f, &got))
		require.Equal(t, open{V: open{V: hidden{1}}}, got.V)
	}
	round()
	for _, mood := range []string{"encode error", "encode panic", "encode exit"} {
		_, err := e.encode(&wire.Box[moody]{V: moody{mood}})
		require.Error(t, err, mood)
		round()
	}
	for _, mood := range []string{"decode error", "decode panic", "decode exit", "fine"} {
		f, err := e.encode(&wire.Box[moody]{V: moody{mood}})
		require.NoError(t, err)
		require.Equal(t, mood != "fine", e.decode(f, new(wire.Box[moody])) != nil, mood)
		round()
	}
	t.Run("skipped", func(t *testing.T) {
		f, err := e.encode(&another{[]string{"its type is described here"}})
		require.NoError(t, err)
		e.dec.Skip(f)
		f, err = e.encode(&another{[]string{"and not here"}})
		require.NoError(t, err)
		var got another
		require.NoError(t, e.decode(f, &got))
		require.Equal(t, another{[]string{"and not here"}}, got)
		f, err = e.encode(&open{V: hidden{2}})
		require.NoError(t, err)
		e.dec.Skip(f)
		round()
		f, err = e.encode(&open{V: open{V: buried{3}}}) // gob describes its type where a skip does not look
		require.NoError(t, err)
		e.dec.Skip(f)
		f, err = e.encode(&open{V: open{V: buried{4}}})
		require.NoError(t, err)
		var deep open
		require.NoError(t, e.decode(f, &deep))
		require.Equal(t, open{V: open{V: buried{4}}}, deep)
		round()
	})
	t.Run("dropped", func(t *testing.T) {
		_, err := e.encode(&moody{"fine"})
		require.NoError(t, err)
		e.enc.Drop()
		round()
	})
	t.Run("of another type", func(t *testing.T) {
		f, err := e.encode(&another{[]string{"x"}})
		require.NoError(t, err)
		require.Error(t, e.decode(f, new(plain)))
		round()
	})
	t.Run("too large", func(t *testing.T) {
		_, err := e.encode(&another{[]string{string(make([]byte, 2<<20))}})
		require.ErrorContains(t, err, "over the limit of 1048576")
		round()
	})
	t.Run("large", func(t *testing.T) {
		large := another{[]string{string(make([]byte, 900<<10))}}
		for range 2 {
			f, err := e.encode(&large)
			require.NoError(t, err)
			require.NotZero(t, f.Flags&wire.FlagEnd, "the buffers are let go of")
			var got another
			require.NoError(t, e.decode(f, &got))
			require.Equal(t, large, got)
			round()
		}
	})
	t.Run("cut short", func(t *testing.T) {
		f, err := e.encode(&plain{1, 2})
		require.NoError(t, err)
		f.Payload = f.Payload[:len(f.Payload)-1]
		require.Error(t, e.decode(f, new(plain)))
		e.enc.Drop() // which ends the stream, for who knows what was in the rest
		round()
	})
}

// A stream costs a type's description once.
func TestStreamIsOne(t *testing.T) {
	e := &wireEnd{enc: wire.NewEncoder(1 << 20)}
	first, err := e.encode(&plain{1, 2})
	require.NoError(t, err)
	require.Equal(t, wire.FlagStart, first.Flags)
	second, err := e.encode(&plain{1, 2})
	require.NoError(t, err)
	require.Zero(t, second.Flags)
	require.Less(t, len(second.Payload)*4, len(first.Payload))
	alone, err := e.encode(&open{V: hidden{1}})
	require.NoError(t, err)
	require.Equal(t, wire.FlagAlone, alone.Flags)
}

// A value of a stream that never started is an error.
func TestNoStream(t *testing.T) {
	require.Error(t, new(wireEnd).decode(wire.Frame{Payload: []byte{1, 2, 3}}, new(plain)))
}

func FuzzDecoder(f *testing.F) {
	e := &wireEnd{enc: wire.NewEncoder(1 << 20)}
	for _, v := range []any{&plain{1, 2}, &plain{3, 4}, &another{[]string{"a"}}, &open{V: hidden{1}}} {
		fr, err := e.encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(fr.Payload, fr.Flags)
	}
	f.Fuzz(func(t *testing.T, b []byte, flags byte) {
		var dec wire.Decoder
		fr := wire.Frame{Header: wire.Header{Flags: flags | wire.FlagStart}, Payload: b}
		_ = dec.Message(fr, func(v *wire.Value) error { return v.Decode(new(another)) })
		e := &wireEnd{enc: wire.NewEncoder(1 << 20), dec: dec}
		good, err := e.encode(&plain{5, 6})
		if err != nil {
			t.Fatal(err)
		}
		var got plain
		if err := e.decode(good, &got); err != nil || got != (plain{5, 6}) {
			t.Fatalf("after %x: %v, %v", b, got, err)
		}
	})
}
