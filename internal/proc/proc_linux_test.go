package proc_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"example.com/futures/internal/proc"
	"example.com/futures/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A program that has not called worker.Main may start workers of another program only.
func TestMayStart(t *testing.T) {
	require.ErrorIs(t, proc.MayStart(true), proc.ErrNoMain)
	require.NoError(t, proc.MayStart(false))
	_, _, ok := proc.Inherited()
	require.False(t, ok)
}

// An excerpt has the beginning and the end, whole where that is little.
func TestExcerpt(t *testing.T) {
	require.Empty(t, proc.Excerpt())
	require.Equal(t, "a bc", proc.Excerpt("a ", "", "bc"))
	for _, n := range []int{4 << 10, 4<<10 + 1, 8 << 10} {
		s := strings.Repeat("x", n-1) + "."
		require.Equal(t, s, proc.Excerpt(s))
		require.Equal(t, s, proc.Excerpt(s[:100], s[100:]))
	}
	long := "<" + strings.Repeat("x", 4<<10) + strings.Repeat("y", 4<<10) + ">"
	got := proc.Excerpt(long[:5000], long[5000:])
	require.True(t, strings.HasPrefix(got, "<xxx"))
	require.True(t, strings.HasSuffix(got, "yyy>"))
	require.Contains(t, got, "[… 2 bytes …]")
}

// Wherever the start of a process fails for want of descriptors, nothing is left of
// what was done. // POL-30
func TestStartFails(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries) - 1
	}
	spec := proc.Spec{Command: []string{"/bin/true"}, Output: func(int, string, []byte) {}}
	run := func() error {
		p, err := proc.Start(spec)
		if err != nil {
			return err
		}
		_, err = p.Greet(wire.Setup{}, 10*time.Second, nil)
		require.Error(t, err)
		<-p.Ended()
		require.Equal(t, proc.Exit{Code: 0}, p.Exit())
		p.Release()
		return nil
	}
	require.NoError(t, run()) // so that the runtime has opened what it keeps
	before := count()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	failed := 0
	for n := uint64(3); ; n++ {
		low := limit
		low.Cur = n
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
		err := run()
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		require.Equal(t, before, count(), "descriptors after a start with %d: %v", n, err)
		if err == nil {
			break
		}
		failed++
	}
	require.Greater(t, failed, 5)
}
