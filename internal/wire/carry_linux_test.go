package wire_test

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
	"example.com/futures/internal/proctest"
	"example.com/futures/internal/wire"
)

// A typed is a handle of a generic type, as package ipc has them.
type typed[T any] struct{ proctest.Slate }

func (s *typed[T]) GobEncode() ([]byte, error) { return s.Slate.GobEncode() }
func (s *typed[T]) GobDecode(b []byte) error   { return s.Slate.GobDecode(b) }

type desk struct {
	S    *proctest.Slate
	T    *typed[map[string]proctest.Slate]
	Any  any
	Body []byte
}

func init() { gob.Register(&typed[int]{}) }

// Types of handles can travel, but not run by nobody's code, and have a name that is the
// same in every process.
func TestHandleTypes(t *testing.T) {
	for _, typ := range []reflect.Type{
		reflect.TypeFor[*proctest.Slate](), reflect.TypeFor[*typed[int]](), reflect.TypeFor[desk](), reflect.TypeFor[[]*typed[desk]](),
	} {
		require.NoError(t, wire.CheckType(typ), typ)
		require.Zero(t, wire.PlainOf(typ))
		require.False(t, wire.Direct(typ))
		require.True(t, carry.Names(typ))
	}
	require.Equal(t, "*example.com/futures/internal/proctest.Slate", wire.Signature(reflect.TypeFor[*proctest.Slate]()))
	require.Equal(t, "*example.com/futures/internal/wire_test.typed[map[string]example.com/futures/internal/proctest.Slate]",
		wire.Signature(reflect.TypeFor[*typed[map[string]proctest.Slate]]()))
	for _, typ := range []reflect.Type{reflect.TypeFor[any](), reflect.TypeFor[struct{ V []any }]()} {
		require.True(t, carry.Holds(typ))
		require.False(t, carry.Names(typ))
	}
}

// sent is a message as it comes to the other side, with its descriptors.
func sent(t *testing.T, enc *wire.Encoder, v any) wire.Frame {
	t.Helper()
	payload, flags, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(v) })
	require.NoError(t, err)
	f := wire.Frame{Header: wire.Header{Flags: flags}, Payload: bytes.Clone(payload.Bytes())}
	if l := enc.Load(); l != nil {
		f.Along = &carry.Files{FDs: l.Files()}
	}
	return f
}

// A stream with handles goes on whatever becomes of the single values, and whoever ends
// up without the descriptors, they are closed.
func TestStreamWithHandles(t *testing.T) {
	before := proctest.Descriptors()
	defer func() { require.Empty(t, proctest.Opened(before)) }()
	enc, dec := wire.NewEncoder(1<<20), new(wire.Decoder)
	enc.Carries()
	s := proctest.NewSlate("text")
	defer s.Close()
	wiped := proctest.NewSlate("")
	require.NoError(t, wiped.Close())
	decode := func(f wire.Frame) (*desk, error) {
		got := new(wire.Box[*desk])
		err := dec.Message(f, func(v *wire.Value) error { return v.Decode(got) })
		return got.V, err
	}
	for _, body := range []int{10, 10_000, 300_000} {
		box := &wire.Box[*desk]{V: &desk{S: s, Body: make([]byte, body)}}
		dec.Skip(sent(t, enc, box))
		_, _, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(&wire.Box[*desk]{V: &desk{S: wiped}}) })
		require.ErrorIs(t, err, proctest.ErrWiped)
		_, _, err = enc.Message(func(e *wire.Encoder) error { return e.Encode(box) }) // nobody takes its Load
		require.NoError(t, err)
		enc.Drop()

		got, err := decode(sent(t, enc, box))
		require.NoError(t, err)
		text, err := got.S.Read()
		require.NoError(t, err)
		require.Equal(t, "text", text)
		require.Len(t, got.Body, body)
		require.NoError(t, got.S.Close())

		f := sent(t, enc, box)
		f.Along.Close()
		f.Along.Lost = true
		_, err = decode(f)
		require.ErrorIs(t, err, carry.ErrLost)
		f = sent(t, enc, box)
		require.NoError(t, dec.Message(f, func(v *wire.Value) error {
			require.NoError(t, v.Decode(new(wire.Box[*desk])))
			require.Len(t, v.Handles(), 1)
			v.Drop()
			return nil
		}))
		got, err = decode(sent(t, enc, &wire.Box[*desk]{V: &desk{Body: make([]byte, body)}}))
		require.NoError(t, err)
		require.Nil(t, got.S)
	}
	_, flags, err := enc.Message(func(e *wire.Encoder) error { return e.Encode(&wire.Box[any]{V: []int{1}}) })
	require.NoError(t, err)
	require.Equal(t, wire.FlagAlone, flags)
	_, _, err = wire.NewEncoder(1 << 20).Message(func(e *wire.Encoder) error { return e.Encode(&wire.Box[*desk]{V: &desk{S: s}}) })
	require.ErrorIs(t, err, executor.ErrNotPortable)
}

// A value that fails to decode after some of its handles were, has none of them open.
func TestHandlesOfBrokenValue(t *testing.T) {
	before := proctest.Descriptors()
	defer func() { require.Empty(t, proctest.Opened(before)) }()
	enc, dec := wire.NewEncoder(1<<20), new(wire.Decoder)
	enc.Carries()
	s, o := proctest.NewSlate(""), proctest.NewSlate("")
	defer s.Close()
	defer o.Close()
	f := sent(t, enc, &wire.Box[[]*proctest.Slate]{V: []*proctest.Slate{s, o}})
	id := o.CarryID()
	at := bytes.LastIndex(f.Payload, id[:])
	require.Positive(t, at)
	f.Payload[at] ^= 1
	err := dec.Message(f, func(v *wire.Value) error { return v.Decode(new(wire.Box[[]*proctest.Slate])) })
	require.ErrorIs(t, err, executor.ErrNotPortable)
}
