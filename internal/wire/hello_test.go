package wire_test

import (
	"bytes"
	varint "encoding/binary"
	"math"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/wire"
)

var hellos = []wire.Hello{
	{},
	{Tasks: []wire.TaskInfo{{}}},
	{Tasks: []wire.TaskInfo{{Name: "t", Signature: "func(int) int"}, {Name: "u"}, {Signature: "s"}}},
}

var setups = []wire.Setup{
	{},
	{Index: 1, GOMAXPROCS: 2, MaxMessage: 3, MemoryLimit: 4, Spin: 5, Once: true},
	{Index: math.MaxInt32, GOMAXPROCS: math.MaxInt32, MaxMessage: math.MaxInt64, MemoryLimit: math.MaxInt64, Spin: math.MaxInt64},
	{Once: true, Ring: true, Announce: true},
	{Ring: true},
	{Ring: true, First: true},
	{Announce: true},
}

// The messages of the handshake come back as they were, and no part of one is taken for one.
func TestHandshake(t *testing.T) {
	for _, h := range hellos {
		b := h.Append([]byte("x"))[1:]
		back, err := wire.ParseHello(b)
		require.NoError(t, err)
		require.Equal(t, h, back)
		for n := range b {
			_, err := wire.ParseHello(b[:n])
			require.Error(t, err, "%d of %d bytes", n, len(b))
		}
		_, err = wire.ParseHello(append(b, 0))
		require.Error(t, err, "a byte too many")
	}
	for _, s := range setups {
		b := s.Append([]byte("x"))[1:]
		back, err := wire.ParseSetup(b)
		require.NoError(t, err)
		require.Equal(t, s, back)
		for n := range b {
			_, err := wire.ParseSetup(b[:n])
			require.Error(t, err, "%d of %d bytes", n, len(b))
		}
		_, err = wire.ParseSetup(append(b, 0))
		require.Error(t, err, "a byte too many")
	}
}

// Claims that the bytes do not bear out are refused before much is made for them.
func TestHandshakeClaims(t *testing.T) {
	most := varint.AppendUvarint(nil, math.MaxUint64)
	for name, b := range map[string][]byte{
		"tasks without an end":          most,
		"tasks that are not there":      append(varint.AppendUvarint(nil, 1<<20), make([]byte, 1<<20)...),
		"more tasks than any program":   append(varint.AppendUvarint(nil, 1<<20+1), make([]byte, 4<<20)...),
		"a name without an end":         append([]byte{1}, most...),
		"a signature without an end":    append([]byte{1, 1, 'n'}, most...),
		"a number of more than 64 bits": bytes.Repeat([]byte{0xff}, 11),
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			require.LessOrEqual(t, testing.AllocsPerRun(10, func() { _, err = wire.ParseHello(b) }), 1.0)
			require.Error(t, err)
		})
	}
	for name, b := range map[string][]byte{
		"an unknown flag":     append([]byte{16}, make([]byte, 5)...),
		"a negative number":   append(append([]byte{0, 0, 0}, most...), 0, 0),
		"an index too large":  append(varint.AppendUvarint([]byte{0}, 1<<31), 0, 0, 0, 0),
		"processors too many": append(varint.AppendUvarint([]byte{0, 0}, 1<<31), 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wire.ParseSetup(b)
			require.Error(t, err)
		})
	}
}

// What any process may have sent is an error, or means what it would if it was sent properly.
func FuzzHandshake(f *testing.F) {
	for _, h := range hellos {
		f.Add(h.Append(nil))
	}
	for _, s := range setups {
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if hello, err := wire.ParseHello(b); err == nil {
			if back, err := wire.ParseHello(hello.Append(nil)); err != nil || !reflect.DeepEqual(back, hello) {
				t.Fatalf("%+v became %+v, %v", hello, back, err)
			}
		}
		if setup, err := wire.ParseSetup(b); err == nil {
			if back, err := wire.ParseSetup(setup.Append(nil)); err != nil || back != setup {
				t.Fatalf("%+v became %+v, %v", setup, back, err)
			}
		}
	})
}
