package wire

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

type wholeItem struct {
	Name string
	Next *wholeItem
	Tags map[string]int
}

// message is v as a message of w.
func message(t *testing.T, w *Wholes, v any) (f Frame) {
	t.Helper()
	require.NoError(t, w.Encode(v, 1<<20, func(p Payload, flags uint8) {
		f = Frame{Header: Header{Flags: flags}, Payload: bytes.Clone(p.Bytes())}
	}))
	return f
}

func TestWholesStandAlone(t *testing.T) {
	var w Wholes
	for i := range 5 {
		want := Box[wholeItem]{wholeItem{Name: fmt.Sprint(i), Next: &wholeItem{Tags: map[string]int{"a": i}}}}
		f := message(t, &w, &want)
		fresh, flags := encodeOne(t, &want)
		require.Equal(t, flags, f.Flags)
		require.Equal(t, fresh, f.Payload, "as a new encoder writes it")

		var got, again Box[wholeItem]
		require.NoError(t, w.Decode(f, &got))
		require.Equal(t, want, got)
		require.NoError(t, new(Wholes).Decode(f, &again))
		require.Equal(t, want, again)
		require.Len(t, w.decoders, 1, "the same is used again")
	}
}

func encodeOne(t *testing.T, v any) ([]byte, uint8) {
	t.Helper()
	p, flags, err := NewEncoder(1 << 20).Message(func(e *Encoder) error { return e.Encode(v) })
	require.NoError(t, err)
	return bytes.Clone(p.Bytes()), flags
}

func TestWholesWithInterfacesAndLargeParts(t *testing.T) {
	var w Wholes
	for range 2 {
		open := Box[any]{V: 1}
		var got Box[any]
		require.NoError(t, w.Decode(message(t, &w, &open), &got))
		require.Equal(t, open, got)

		large := Box[[][]byte]{[][]byte{make([]byte, leastPart), {1}}}
		var parts Box[[][]byte]
		require.NoError(t, w.Decode(message(t, &w, &large), &parts))
		require.Equal(t, large, parts)

		long := Box[[]string]{[]string{strings.Repeat("x", 2*streamLen)}}
		var text Box[[]string]
		require.NoError(t, w.Decode(message(t, &w, &long), &text))
		require.Equal(t, long, text)
	}
	require.Empty(t, w.decoders)
}

func TestWholesAfterFailures(t *testing.T) {
	var w Wholes
	small := Box[wholeItem]{wholeItem{Name: "small"}}
	good := message(t, &w, &small)
	var got Box[wholeItem]
	require.NoError(t, w.Decode(good, &got))

	// Too large: the encoder that failed is not used again.
	large := Box[wholeItem]{wholeItem{Name: strings.Repeat("x", 1<<20)}}
	require.Error(t, w.Encode(&large, 1<<20, func(Payload, uint8) { t.Error("encoded") }))
	require.Equal(t, good.Payload, message(t, &w, &small).Payload)

	// What comes behind descriptions that are known is inspected as ever.
	deep := &wholeItem{}
	for range maxWireDepth + 1 {
		deep = &wholeItem{Next: deep}
	}
	p, _ := encodeOne(t, &Box[wholeItem]{*deep})
	hostile := Frame{Header: good.Header, Payload: p}
	require.Equal(t, good.Payload[:described(good.Payload)], p[:described(p)])
	require.ErrorIs(t, w.Decode(hostile, &got), errWireDeep)
	require.Empty(t, w.decoders, "one that failed is dropped")

	for n := range good.Payload {
		for range 2 { // the decoder is new, or knows the descriptions
			require.Error(t, w.Decode(Frame{Header: good.Header, Payload: good.Payload[:n]}, &got), n)
			got = Box[wholeItem]{}
			require.NoError(t, w.Decode(good, &got))
			require.Equal(t, small, got)
		}
	}
	require.ErrorIs(t, w.Decode(Frame{Header: good.Header, Payload: append(bytes.Clone(good.Payload), 0)}, &got), errTrailing)
}

func TestWholesKeepFew(t *testing.T) {
	var w Wholes
	for n := range 2 * mostPrimed {
		v := reflect.New(reflect.StructOf([]reflect.StructField{
			{Name: "V", Type: reflect.TypeFor[int]()},
			{Name: fmt.Sprint("Field", n), Type: reflect.TypeFor[int]()},
		}))
		v.Elem().Field(0).SetInt(7)
		p, flags := encodeOne(t, v.Interface())
		var got Box[int]
		require.NoError(t, w.Decode(Frame{Header: Header{Flags: flags}, Payload: p}, &struct{ V *int }{&got.V}))
		require.Equal(t, 7, got.V)
	}
	require.Len(t, w.decoders, mostPrimed)
}

func TestWholesAtOnce(t *testing.T) {
	var w Wholes
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				want := Box[wholeItem]{wholeItem{Name: fmt.Sprint(g, i)}}
				var f Frame
				err := w.Encode(&want, 1<<20, func(p Payload, flags uint8) {
					f = Frame{Header: Header{Flags: flags}, Payload: bytes.Clone(p.Bytes())}
				})
				var got Box[wholeItem]
				if err == nil {
					err = w.Decode(f, &got)
				}
				if err != nil || !reflect.DeepEqual(want, got) {
					t.Error(want, got, err)
				}
			}
		})
	}
	wg.Wait()
}
