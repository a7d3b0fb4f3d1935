package manager

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	bg = context.Background()
	by = new(client)
)

func get(t *testing.T, to thing, op uint8, operands ...any) (d string, ok bool) {
	t.Helper()
	r, err := ask(bg, to, by, op, operands...)
	require.NoError(t, err)
	if ok = r.bool(); ok {
		d = string(r.datum().bytes)
	}
	require.NoError(t, r.end())
	return d, ok
}

func TestDictThing(t *testing.T) { // MGR-15
	k := new(countKeeper)
	d := newDictThing(k)
	_, ok := get(t, d, opDictGet, "a")
	require.False(t, ok)
	require.NoError(t, tell(bg, d, by, opDictSet, 2, "a", data("1", 1), "b", data("2", 2)))
	require.Equal(t, 2, askInt(t, d, by, opDictLen))
	got, ok := get(t, d, opDictGet, "a")
	require.True(t, ok)
	require.Equal(t, "1", got)
	require.NoError(t, tell(bg, d, by, opDictSet, 1, "a", data("3", 3)))
	require.Equal(t, []uint64{2, 3}, k.held(), "what is overwritten is released")
	require.NoError(t, tell(bg, d, by, opDictDelete, "a"))
	require.NoError(t, tell(bg, d, by, opDictDelete, "a"))
	require.Equal(t, []uint64{2}, k.held())
	got, ok = get(t, d, opDictPop, "b")
	require.True(t, ok)
	require.Equal(t, "2", got)
	_, ok = get(t, d, opDictPop, "b")
	require.False(t, ok)
	require.Empty(t, k.held())

	require.NoError(t, tell(bg, d, by, opDictSet, 2, "a", data("1", 1), "b", data("2", 1, 2)))
	r, err := ask(bg, d, by, opDictAll)
	require.NoError(t, err)
	all := map[string]string{}
	for range r.int() {
		key := r.text()
		all[key] = string(r.datum().bytes)
	}
	require.NoError(t, r.end())
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, all)
	require.Equal(t, []uint64{1, 1, 2}, k.held())
	require.Len(t, d.drop(), 2)
}

func TestDictThingSwapsWhatNobodyChanged(t *testing.T) {
	k := new(countKeeper)
	d := newDictThing(k)
	version := func() uint64 {
		r, err := ask(bg, d, by, opDictLoad, "a")
		require.NoError(t, err)
		return r.uint()
	}
	require.Zero(t, version())
	require.True(t, askBool(t, d, by, opDictSwap, "a", uint64(0), data("1", 1)))
	require.False(t, askBool(t, d, by, opDictSwap, "a", uint64(0), data("2", 2)))
	v := version()
	require.NotZero(t, v)
	require.True(t, askBool(t, d, by, opDictSwap, "a", v, data("3", 3)))
	require.Equal(t, []uint64{3}, k.held())
	v = version()
	// Deleted and set again it is another, also if it is the same.
	require.NoError(t, tell(bg, d, by, opDictDelete, "a"))
	require.False(t, askBool(t, d, by, opDictSwap, "a", v, data("4", 4)))
	require.NoError(t, tell(bg, d, by, opDictSet, 1, "a", data("3", 3)))
	require.False(t, askBool(t, d, by, opDictSwap, "a", v, data("4", 4)))
	require.Equal(t, []uint64{3}, k.held())
}

func TestListThing(t *testing.T) { // MGR-10
	k := new(countKeeper)
	l := newListThing(k)
	all := func() (s string) {
		r, err := ask(bg, l, by, opListAll)
		require.NoError(t, err)
		for range r.int() {
			s += string(r.datum().bytes)
		}
		require.NoError(t, r.end())
		return s
	}
	require.NoError(t, tell(bg, l, by, opListAppend, 0))
	require.NoError(t, tell(bg, l, by, opListAppend, 2, data("a", 1), data("b", 2)))
	require.NoError(t, tell(bg, l, by, opListInsert, 2, data("d", 4)))
	require.NoError(t, tell(bg, l, by, opListInsert, 2, data("c", 3)))
	require.NoError(t, tell(bg, l, by, opListInsert, 0, data("A", 5)))
	require.Equal(t, "Aabcd", all())
	require.Equal(t, []uint64{1, 2, 3, 4, 5}, k.held())
	r, err := ask(bg, l, by, opListPop, 0)
	require.NoError(t, err)
	require.Equal(t, "A", string(r.datum().bytes))
	require.NoError(t, tell(bg, l, by, opListSet, 1, data("B", 6)))
	require.Equal(t, "aBcd", all())
	require.Equal(t, []uint64{1, 3, 4, 6}, k.held())
	r, err = ask(bg, l, by, opListGet, 3)
	require.NoError(t, err)
	require.Equal(t, "d", string(r.datum().bytes))
	require.Equal(t, 4, askInt(t, l, by, opListLen))

	for _, i := range []int{-1, 4} {
		want := map[int]string{-1: "index -1 is out of range: the length is 4", 4: "index 4 is out of range: the length is 4"}[i]
		require.EqualError(t, tell(bg, l, by, opListGet, i), want)
		require.EqualError(t, tell(bg, l, by, opListPop, i), want)
		require.EqualError(t, tell(bg, l, by, opListSet, i, data("x", 9)), want)
	}
	require.EqualError(t, tell(bg, l, by, opListInsert, 5, data("x", 9)), "index 5 is out of range: the length is 4")
	require.EqualError(t, tell(bg, l, by, opListInsert, -1, data("x", 9)), "index -1 is out of range: the length is 4")
	require.Equal(t, []uint64{1, 3, 4, 6}, k.held())
	require.Len(t, l.drop(), 4)
}

func TestNamespaceThing(t *testing.T) { // MGR-17
	k := new(countKeeper)
	n := newNamespaceThing(k)
	read := func() (typ, d string, ok bool) {
		r, err := ask(bg, n, by, opNamespaceGet, "x")
		require.NoError(t, err)
		if ok = r.bool(); ok {
			typ = r.text()
			d = string(r.datum().bytes)
		}
		require.NoError(t, r.end())
		return typ, d, ok
	}
	_, _, ok := read()
	require.False(t, ok)
	require.NoError(t, tell(bg, n, by, opNamespaceSet, "x", "int", data("1", 1)))
	require.NoError(t, tell(bg, n, by, opNamespaceSet, "x", "string", data("2", 2)))
	require.NoError(t, tell(bg, n, by, opNamespaceSet, "y", "string", data("3", 3)))
	typ, d, ok := read()
	require.True(t, ok)
	require.Equal(t, "string 2", typ+" "+d)
	require.Equal(t, []uint64{2, 3}, k.held())
	require.NoError(t, tell(bg, n, by, opNamespaceDelete, "x"))
	require.NoError(t, tell(bg, n, by, opNamespaceDelete, "x"))
	_, _, ok = read()
	require.False(t, ok)
	require.Equal(t, []uint64{3}, k.held())
	require.Len(t, n.drop(), 1)
}

func TestValueThing(t *testing.T) {
	k := new(countKeeper)
	v := newValueThing(k, data("1", 1))
	load := func() (uint64, string) {
		r, err := ask(bg, v, by, opValueLoad)
		require.NoError(t, err)
		version, d := r.uint(), r.datum()
		require.NoError(t, r.end())
		return version, string(d.bytes)
	}
	version, d := load()
	require.Equal(t, "1", d)
	require.NoError(t, tell(bg, v, by, opValueStore, data("2", 2)))
	require.False(t, askBool(t, v, by, opValueSwap, version, data("3", 3)))
	require.Equal(t, []uint64{2}, k.held())
	version, d = load()
	require.Equal(t, "2", d)
	require.True(t, askBool(t, v, by, opValueSwap, version, data("4", 4)))
	require.Equal(t, []uint64{4}, k.held())
	require.Equal(t, []datum{data("4", 4)}, v.drop())
}

func TestArrayThing(t *testing.T) {
	k := new(countKeeper)
	_, err := newArrayThing(k, -1)
	require.EqualError(t, err, "it cannot have -1 elements")
	a, err := newArrayThing(k, 1<<30) // takes no room for it
	require.NoError(t, err)
	require.Equal(t, 1<<30, askInt(t, a, by, opArrayLen))
	_, ok := get(t, a, opArrayGet, 1<<30-1)
	require.False(t, ok)
	require.NoError(t, tell(bg, a, by, opArraySet, 5, data("x", 1)))
	require.NoError(t, tell(bg, a, by, opArraySet, 5, data("y", 2)))
	got, ok := get(t, a, opArrayGet, 5)
	require.True(t, ok)
	require.Equal(t, "y", got)
	require.Equal(t, []uint64{2}, k.held())
	require.EqualError(t, tell(bg, a, by, opArraySet, 1<<30, data("z", 3)), "index 1073741824 is out of range: the length is 1073741824")
	require.EqualError(t, tell(bg, a, by, opArrayGet, -1), "index -1 is out of range: the length is 1073741824")
	r, err := ask(bg, a, by, opArrayAll)
	require.NoError(t, err)
	require.Equal(t, 1<<30, r.int())
	require.Equal(t, 1, r.int())
	require.Equal(t, 5, r.int())
	require.Equal(t, "y", string(r.datum().bytes))
	require.NoError(t, r.end())
	require.Len(t, a.drop(), 1)
}
