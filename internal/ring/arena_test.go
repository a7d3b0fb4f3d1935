package ring_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/ring"
)

// alloc returns an allocation that there must be room for.
func alloc(t *testing.T, a *ring.Arena, n int) ring.Ref {
	t.Helper()
	ref, b, ok := a.Alloc(n)
	require.True(t, ok, "no room for %d bytes", n)
	require.Len(t, b, n)
	require.Equal(t, n, cap(b))
	require.Equal(t, uint64(n), ref.Len)
	require.Zero(t, ref.Off%ring.Align)
	return ref
}

func TestArenaUsesItsMemoryAgain(t *testing.T) {
	const page = ring.Align
	a := ring.NewArena(8 * page)
	for range 100 { // nothing else is in it
		require.Zero(t, alloc(t, a, 3*page).Off)
		a.Free()
	}
	require.Equal(t, 3*page, a.Touched())

	require.Equal(t, uint64(0), alloc(t, a, 2*page).Off)
	require.Equal(t, uint64(2*page), alloc(t, a, 1).Off, "beside it")
	a.Free()
	require.Equal(t, uint64(0), alloc(t, a, page+1).Off, "where the oldest was")
	require.Equal(t, 3*page, a.Touched())
	_, _, ok := a.Alloc(1)
	require.False(t, ok, "it must not come between")
	a.Free()
	require.Equal(t, uint64(2*page), alloc(t, a, page).Off, "behind it")
	require.Equal(t, uint64(3*page), alloc(t, a, page).Off, "the oldest is at the start again")
}

func TestArenaIsFull(t *testing.T) {
	a := ring.NewArena(4 * ring.Align)
	_, _, ok := a.Alloc(4*ring.Align + 1)
	require.False(t, ok)
	alloc(t, a, 4*ring.Align)
	_, _, ok = a.Alloc(1)
	require.False(t, ok)
	a.Free()
	alloc(t, a, 1)
}

// Four values are under way at any time. The memory for them is touched once.
func TestArenaSteadyFlow(t *testing.T) {
	for _, tc := range []struct {
		name  string
		size  func(i int) int
		under int
		most  int
	}{
		{"four of 1 MiB", func(int) int { return 1 << 20 }, 4, 5 << 20},
		{"four of about 1 MiB", func(i int) int { return 1<<20 - i*7919%(1<<18) }, 4, 6 << 20},
		{"one of 1 MiB", func(int) int { return 1 << 20 }, 1, 1 << 20},
		{"large and small", func(i int) int { return 4096 + i%2<<20 }, 4, 5 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := ring.NewArena(64 << 20)
			live := 0
			for i := range 2_000 {
				// None is refused for long: when the oldest have gone, there is room.
				for live == tc.under {
					a.Free()
					live--
				}
				_, _, ok := a.Alloc(tc.size(i))
				for !ok {
					require.NotZero(t, live)
					a.Free()
					live--
					_, _, ok = a.Alloc(tc.size(i))
				}
				live++
			}
			require.LessOrEqual(t, a.Touched(), tc.most)
			require.LessOrEqual(t, a.Kept(), 512)
		})
	}
}

// TestArenaAgainstIntervals allocates and frees at random and compares each allocation
// with every one that is live.
func TestArenaAgainstIntervals(t *testing.T) {
	const pages = 64
	for _, tc := range []struct {
		name string
		most int // pages
		keep int // how many are live, about
	}{
		{"small ones", 3, 20},
		{"large ones", pages, 2},
		{"of all sizes", pages / 3, 4},
		{"many", 2, 300},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rnd := newRand()
			a := ring.NewArena(pages * ring.Align)
			var live []ring.Ref
			refused := 0
			for range 10_000 {
				if rnd.IntN(2*tc.keep) < len(live) {
					a.Free()
					live = live[1:]
					continue
				}
				n := rnd.IntN(tc.most*ring.Align + 1)
				if rnd.IntN(4) == 0 {
					n = n / ring.Align * ring.Align // to the page, or of nothing
				}
				r, b, ok := a.Alloc(n)
				if !ok {
					require.NotEmpty(t, live, "an empty arena has no room for %d bytes", n)
					refused++
					a.Free()
					live = live[1:]
					continue
				}
				require.Len(t, b, n)
				require.LessOrEqual(t, r.Off+r.Len, uint64(pages*ring.Align))
				for _, l := range live { // one of nothing, too, has a place of its own
					if r.Off < l.Off+max(l.Len, 1) && l.Off < r.Off+max(r.Len, 1) {
						t.Fatalf("%v overlaps %v, which is live", r, l)
					}
				}
				live = append(live, r)
			}
			t.Logf("%d were refused, %d pages were touched", refused, a.Touched()/ring.Align)
			require.LessOrEqual(t, a.Kept(), 2048)
		})
	}
}

// An allocation of nothing took no room, so that the newest, which filled what was before
// the oldest, seemed to lie behind it, and the next one was laid over what was live.
func TestArenaOfNothing(t *testing.T) {
	const page = ring.Align
	a := ring.NewArena(4 * page)
	alloc(t, a, page)
	alloc(t, a, page)
	a.Free()
	require.Zero(t, alloc(t, a, page).Off) // before the oldest, and up to it
	_, _, ok := a.Alloc(0)
	require.False(t, ok)
	_, _, ok = a.Alloc(page)
	require.False(t, ok)
}

func TestRefs(t *testing.T) {
	mem := []byte("0123456789")
	for _, tc := range []struct {
		name string
		ref  ring.Ref
		want string // "-" is none
	}{
		{"some of it", ring.Ref{Off: 2, Len: 3}, "234"},
		{"all of it", ring.Ref{Off: 0, Len: 10}, "0123456789"},
		{"nothing at its end", ring.Ref{Off: 10, Len: 0}, ""},
		{"one too many", ring.Ref{Off: 0, Len: 11}, "-"},
		{"over its end", ring.Ref{Off: 8, Len: 3}, "-"},
		{"behind its end", ring.Ref{Off: 11, Len: 0}, "-"},
		{"a sum that wraps", ring.Ref{Off: 8, Len: 1<<64 - 8}, "-"},
		{"an offset that is negative", ring.Ref{Off: 1<<64 - 1, Len: 1}, "-"},
		{"a length that is negative", ring.Ref{Off: 1, Len: 1 << 63}, "-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			encoded := tc.ref.Append([]byte("before"))
			require.Len(t, encoded, 6+ring.RefLen)
			require.Equal(t, tc.ref, ring.ParseRef(encoded[6:]))
			got := tc.ref.In(mem)
			require.Equal(t, tc.want == "-", got == nil)
			if got != nil {
				require.Equal(t, tc.want, string(got))
				require.Equal(t, len(got), cap(got))
			}
		})
	}
	for _, n := range []int{0, 15, 17} {
		require.Nil(t, ring.ParseRef(make([]byte, n)).In(mem), "%d bytes are no Ref", n)
	}
}
