package clusterpool

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Calls are numbered, a generation after another, and no two have the same ID, whatever ran
// under the client's name before.
func TestGenerationIDs(t *testing.T) {
	seen := map[string]bool{}
	var g, before generations
	for range generationLen + 2 {
		gen, id := g.next("me")
		require.NoError(t, checkID(id))
		require.True(t, strings.HasPrefix(id, "me."+gen.name+"."), id)
		require.False(t, seen[id], id)
		seen[id] = true
	}
	require.Equal(t, 2, g.current.calls)
	require.Len(t, g.open, 1)
	_, id := before.next("me")
	require.False(t, seen[id], "the pool before had another epoch")
}

// The outcomes of old generations are let go of when there are many younger ones: never while
// a call of theirs goes on, or a delivery may come late.
func TestGenerationRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const late = time.Minute
		var g generations
		fill := func() (all []*generation) {
			for range generationLen {
				c, _ := g.next("me")
				all = append(all, c)
			}
			return all
		}
		settle := func(all []*generation) {
			for _, c := range all {
				c.settled()
			}
		}
		const kept = keptOutcomes / generationLen
		var filled [][]*generation
		for range kept + 3 {
			filled = append(filled, fill())
		}
		name := func(i int) string { return filled[i][0].name }
		settle(filled[0])
		settle(filled[1][1:]) // one goes on
		for _, all := range filled[2:] {
			settle(all)
		}
		const wait, keep = late / 2, time.Hour
		release := func() []string { return g.release(wait, late, keep) }
		require.Empty(t, release(), "a delivery of theirs may come late")
		require.Empty(t, g.due(wait), "tasks may still be acked")
		time.Sleep(late + time.Second) // virtual time
		require.Empty(t, release(), "their tasks were not swept")
		sweep := func() {
			for _, c := range g.due(wait) {
				c.swept, c.gone = time.Now(), time.Now()
			}
			require.Empty(t, g.due(wait), "once")
		}
		sweep()
		require.Empty(t, release(), "a worker may have a task in hand that was swept only now")
		time.Sleep(wait + time.Second) // virtual time
		require.Equal(t, []string{name(0)}, release(), "more than are kept, of those that have ended, the current one not counted")
		require.Empty(t, release(), "once")

		filled[1][0].settled()
		require.Equal(t, []string{name(2)}, release(), "the other has only now ended: as the youngest")
		require.Equal(t, keptOutcomes, g.kept)
		time.Sleep(keep + time.Second) // virtual time
		require.Len(t, release(), kept-1, "they are older than any outcome is kept, but for the one that was not swept again")
		sweep()
		time.Sleep(wait + time.Second) // virtual time
		require.Len(t, release(), 1)
		require.Zero(t, g.kept)
	})
}
