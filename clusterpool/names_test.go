package clusterpool

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// What is a part of a subject is one token of it, and of the name of a stream (pitfall 17).
func TestNamesInSubjects(t *testing.T) {
	for _, good := range []string{"a", "A-b_9", "-", "__", strings.Repeat("x", 64)} {
		require.True(t, isName(good), good)
	}
	for _, bad := range []string{
		"", ".", "a.b", "a b", "*", "a*", ">", "a>", "$JS", "a\t", "a\n", "a\r\n", "a\x00", "é", "a/b", "a\\b", "a:b", "a@b", "a,b",
		strings.Repeat("x", 65), "\xff",
	} {
		require.False(t, isName(bad), "%q", bad)
		require.Error(t, checkID("me."+bad+".1"), "%q", bad)
	}
	require.NoError(t, checkID("me.g1.2"))
	for _, bad := range []string{"", "me", "me.g1", "me.g1.2.3", "me..2", ".g1.2", "me.g1.", "me.*.2", "me.g1.>", "me.g1. 2"} {
		require.ErrorContains(t, checkID(bad), "is not the ID of a call", "%q", bad)
	}
}

func TestSubjects(t *testing.T) {
	n := names{"p"}
	require.Equal(t, "p.q.high._.me.g1.2", n.task(high, "", "me.g1.2"))
	require.Equal(t, "p.q.low.v2.me.g1.2", n.task(low, "v2", "me.g1.2"))
	id, err := taskID(n.task(normal, "v2", "me.g1.2"))
	require.NoError(t, err)
	require.Equal(t, "me.g1.2", id)
	id, ok := n.id(n.record("me.g1.2"))
	require.True(t, ok)
	require.Equal(t, "me.g1.2", id)
	for _, bad := range []string{"p.q.high._.me.g1", "p.q.high._.me.g1.2.3", "p.q.high._.me..2", "p.q.high._.me.g1.*", ""} {
		_, err := taskID(bad)
		require.Error(t, err, "%q", bad)
	}
	_, ok = n.id("q.s.me.g1.2")
	require.False(t, ok, "of another pool")
}

// The filters of consumers on a work queue must not overlap (pitfall 11): each class and
// build has a consumer of its own, and the build of none is no build.
func TestConsumersAreDisjoint(t *testing.T) {
	n := names{"p"}
	seen := map[string]bool{}
	for c := range class(classes) {
		for _, build := range []string{"", "v1", "v2", "normal", "high"} {
			name := n.consumer(c, build)
			require.True(t, isName(name), name)
			require.False(t, seen[name], name)
			seen[name] = true
		}
	}
}

func TestClasses(t *testing.T) {
	for priority, want := range map[int]class{math.MinInt: low, -1: low, 0: normal, 1: high, math.MaxInt: high} {
		require.Equal(t, want, classOf(priority))
	}
	require.Greater(t, high.weight(), normal.weight())
	require.Greater(t, normal.weight(), low.weight())
	require.Positive(t, low.weight(), "low waits, and does not starve")
}

// Classes with calls waiting take turns by their weights, evenly, and one that has none is
// passed by.
func TestTurns(t *testing.T) {
	s := &server{}
	count := func(rounds int) (n [classes]int) {
		for range rounds {
			n[s.turn()]++
		}
		return n
	}
	s.queues[high].backlog, s.queues[normal].backlog, s.queues[low].backlog = 9, 9, 9
	require.Equal(t, [classes]int{16, 4, 1}, count(21))
	require.Equal(t, [classes]int{160, 40, 10}, count(210))
	s.queues[high].backlog = 0
	require.Equal(t, [classes]int{0, 8, 2}, count(10))
	s.queues[normal].backlog = 0
	require.Equal(t, [classes]int{0, 0, 5}, count(5))
}

func TestRandomNames(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		name := randomName(12)
		require.Len(t, name, 12)
		require.True(t, isName(name))
		require.False(t, seen[name])
		seen[name] = true
	}
	for n, want := range map[uint64]string{0: "0", 61: "Z", 62: "10", math.MaxUint64: "lYGhA16ahyf"} {
		require.Equal(t, want, base62(n))
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "host.example.com", "é", strings.Repeat("x.", 100), "a b\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := sanitized(s)
		if !isName(name + "-abcdef") {
			t.Fatalf("of %q it makes %q", s, name)
		}
		if isName(s) && (!utf8.ValidString(s) || strings.ContainsAny(s, ". *>\t\r\n$")) {
			t.Fatalf("%q is taken for a name", s)
		}
		if err := checkID(s); err == nil && strings.Count(s, ".") != 2 {
			t.Fatalf("%q is taken for an ID", s)
		}
	})
}
