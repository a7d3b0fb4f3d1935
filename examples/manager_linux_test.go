package examples_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What four processes do to objects of a manager is all there, but for what two calls lose between them.
func TestManager(t *testing.T) {
	stdout := output(t, "manager")
	require.Regexp(t, `(?m)^d\[w\] \+= 1 +\d+ +\d+ +2000   4 true$`, stdout) // what it loses is luck
	require.Regexp(t, `(?m)^with lock: d\[w\] \+= 1 +2000 +0 +2000   4 true$`, stdout)
	require.Regexp(t, `(?m)^d.Update +2000 +0 +2000   4 true$`, stdout)
}

// Objects of a type of one's own have what all processes did; an error, a panic and a lock's dead
// holder are told.
func TestCustomManager(t *testing.T) {
	stdout := output(t, "custommanager")
	require.Equal(t, strings.TrimPrefix(`
4 processes pay in 1, a thousand times each  4000
an error comes back                          true 130 of 100: there is not so much in the account
a panic comes back                           runtime error: integer divide by zero
and the account is as it was                 100
a process is killed that held the lock       true
who recovers it finds missing                30
and puts it where it was to go               4030
then the lock is as any other                <nil>
`, "\n"), stdout)
}

// A writer and a reader that have the key meet at a server; who has another is refused.
func TestRemoteManager(t *testing.T) {
	stdout := output(t, "remotemanager")
	require.Regexp(t, `^process \d+ serves at 127\.0\.0\.1:\d+\n`, stdout)
	require.Regexp(t, `(?m)^a writer with another key: exit status 1, .*: manager: the peer has another key, or none`, stdout)
	require.Regexp(t, `(?m)^the writer with the key: <nil>`, stdout)
	require.Regexp(t, `(?m)^reader and server: <nil>$`, stdout)
	read := regexp.MustCompile(`(?m)^process (\d+) read "(.*)" of process (\d+)$`).FindAllStringSubmatch(stdout, -1)
	require.Len(t, read, 3, stdout)
	for i, text := range []string{"to be", "or not", "to be"} {
		require.Equal(t, text, read[i][2])
		require.NotEqual(t, read[i][1], read[i][3])
		require.Equal(t, read[0][3], read[i][3])
	}
}
