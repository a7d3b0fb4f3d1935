package clustertest_test

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/clusterpool/internal/clustertest"
)

func TestJournalCounts(t *testing.T) {
	j := clustertest.NewJournal(t)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 2500 {
				end := clustertest.Start(j.Dir(), int64(i))
				if g > 0 {
					end()
				}
			}
		})
	}
	all.Wait()
	starts, ends := j.Starts(), j.Ends()
	require.Len(t, starts, 2500)
	require.Len(t, ends, 2500)
	for i := range int64(2500) {
		require.Equal(t, 8, starts[i])
		require.Equal(t, 7, ends[i])
	}
	require.Len(t, clustertest.Twice(starts), 2500)
	records := j.Records()
	require.Len(t, records, 15*2500)
	require.Equal(t, os.Getpid(), records[0].PID)
}

// TestJournalWithATornRecord has the file of a process that was killed while it wrote, and
// another process of the same ID that goes on with it.
func TestJournalWithATornRecord(t *testing.T) {
	whole := clustertest.NewJournal(t)
	clustertest.Start(whole.Dir(), 7)()
	name := strconv.Itoa(os.Getpid()) + ".log"
	b, err := os.ReadFile(filepath.Join(whole.Dir(), name))
	require.NoError(t, err)

	torn := clustertest.NewJournal(t)
	require.Empty(t, torn.Starts())
	require.NoError(t, os.WriteFile(filepath.Join(torn.Dir(), name), b[:len(b)-5], 0o600))
	require.Equal(t, map[int64]int{7: 1}, torn.Starts())
	require.Empty(t, torn.Ends())
	clustertest.Start(torn.Dir(), 8)()
	require.Equal(t, map[int64]int{7: 1, 8: 1}, torn.Starts())
	require.Equal(t, map[int64]int{8: 1}, torn.Ends())
}
