package examples_test

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// A worker that is killed costs the call that it ran at most, and with retries nothing.
// Beside it stands what others lose, or why they are left out.
func TestSurvive(t *testing.T) {
	stdout, stderr, code := run(t, command(t, "survive", "-calls=400", "-kills=4"))
	require.Empty(t, stderr)
	require.Zero(t, code)
	row := func(name string) (kept, lost int) {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` +(\d+) +(\d+)   works$`).FindStringSubmatch(stdout)
		require.Len(t, m, 3, stdout)
		kept, _ = strconv.Atoi(m[1])
		lost, _ = strconv.Atoi(m[2])
		require.Equal(t, 400, kept+lost)
		return kept, lost
	}
	_, lost := row("processpool")
	require.LessOrEqual(t, lost, 4)
	kept, _ := row("processpool, WithRetries(3)")
	require.Equal(t, 400, kept)
	require.Regexp(t, `(?m)^Python( 3\S+: multiprocessing.Pool +\d+ +\d+   |'s are left out: )`, stdout)
}
