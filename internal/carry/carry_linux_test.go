package carry_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/proctest"
)

// A sealed encodes itself.
type sealed struct {
	Slate *proctest.Slate
	Next  *sealed
}

func (*sealed) GobEncode() ([]byte, error) { return nil, nil }
func (*sealed) GobDecode([]byte) error     { return nil }

type tree struct {
	Left, Right *tree
	Slates      map[string][2]*proctest.Slate
	hidden      *proctest.Slate
}

// What can hold a handle is what gob goes through.
func TestHolds(t *testing.T) {
	for _, c := range []struct {
		typ          reflect.Type
		holds, names bool
	}{
		{reflect.TypeFor[int](), false, false},
		{reflect.TypeFor[proctest.Slate](), false, false},
		{reflect.TypeFor[*proctest.Slate](), true, true},
		{reflect.TypeFor[[]map[int]**proctest.Slate](), true, true},
		{reflect.TypeFor[any](), true, false},
		{reflect.TypeFor[[3]error](), true, false},
		{reflect.TypeFor[tree](), true, true},
		{reflect.TypeFor[*sealed](), false, false},
		{reflect.TypeFor[[]sealed](), false, false},
		{reflect.TypeFor[struct{ hidden *proctest.Slate }](), false, false},
	} {
		require.Equal(t, c.holds, carry.Holds(c.typ), c.typ)
		require.Equal(t, c.names, carry.Names(c.typ), c.typ)
	}
}

// Collect takes each handle once, leaves no mark once the value is encoded, and nothing of
// those before one that is closed.
func TestCollect(t *testing.T) {
	before := proctest.Descriptors()
	s, o := proctest.NewSlate("s"), proctest.NewSlate("o")
	v := reflect.ValueOf(&tree{
		Left:   &tree{Slates: map[string][2]*proctest.Slate{"a": {s, nil}, "b": {o, s}}},
		Slates: map[string][2]*proctest.Slate{"c": {s, o}},
		hidden: proctest.NewSlate("hidden"),
	})
	defer v.Interface().(*tree).hidden.Close()
	l, err := carry.Collect(v)
	require.NoError(t, err)
	require.Len(t, l.Items, 2)
	require.Len(t, l.Files(), 2)
	_, err = s.GobEncode()
	require.NoError(t, err)
	l.Encoded()
	_, err = s.GobEncode()
	require.Error(t, err)
	l.Close()
	found := 0
	carry.Found(v, func(carry.Handle) { found++ })
	require.Equal(t, 5, found)
	require.NoError(t, o.Close())
	l, err = carry.Collect(v)
	require.ErrorIs(t, err, proctest.ErrWiped)
	require.Nil(t, l)
	_, err = s.GobEncode()
	require.Error(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, v.Interface().(*tree).hidden.Close())
	require.Empty(t, proctest.Opened(before))
	l, err = carry.Collect(reflect.ValueOf(&struct{ V any }{[]int{1}}))
	require.NoError(t, err)
	require.Nil(t, l)
}
