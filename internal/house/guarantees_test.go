package house_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	sectionLine = regexp.MustCompile("^#+ .*|^\\| promise \\| test in package `([a-z/]+)` \\|$|^\\| promise \\| test \\|$")
	testName    = regexp.MustCompile("`([A-Z][A-Za-z]*(?:/[A-Z][A-Za-z]*)?)` \\|$")
	testFunc    = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	groupLine   = regexp.MustCompile(`\{"(\w+)", (\w+Promises)\}`)
	promises    = regexp.MustCompile(`(?s)var (\w+Promises) = \[\]promise\{(.*?)\n\}`)
	promiseLine = regexp.MustCompile(`\{"(\w+)", `)
)

// sources returns the text of the Go files of a package.
func sources(t *testing.T, pkg string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", pkg, "*.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		all.Write(text)
	}
	return all.String()
}

// suite returns the names of the subtests of executortest.
func suite(t *testing.T) map[string]bool {
	t.Helper()
	text := sources(t, "executor/executortest")
	lists := map[string]string{}
	for _, m := range promises.FindAllStringSubmatch(text, -1) {
		lists[m[1]] = m[2]
	}
	names := map[string]bool{}
	for _, g := range groupLine.FindAllStringSubmatch(text, -1) {
		for _, p := range promiseLine.FindAllStringSubmatch(lists[g[2]], -1) {
			names[g[1]+"/"+p[1]] = true
		}
	}
	return names
}

// Every guarantee names a test that exists, and every promise of the suite is among
// the guarantees.
func TestGuaranteesHaveTests(t *testing.T) {
	text, err := os.ReadFile("../../docs/guarantees.md")
	require.NoError(t, err)
	inSuite := suite(t)
	require.Greater(t, len(inSuite), 100, "promises found in executortest")
	told := map[string]bool{}
	exists := inSuite
	for i, line := range strings.Split(string(text), "\n") {
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			exists = inSuite
			if m[1] != "" {
				exists = map[string]bool{}
				for _, f := range testFunc.FindAllStringSubmatch(sources(t, m[1]), -1) {
					exists[f[1]] = true
				}
				require.NotEmptyf(t, exists, "docs/guarantees.md:%d: package %s has no tests", i+1, m[1])
			}
			continue
		}
		if m := testName.FindStringSubmatch(line); m != nil {
			require.Truef(t, exists[m[1]], "docs/guarantees.md:%d: there is no test %s", i+1, m[1])
			told[m[1]] = true
		}
	}
	for name := range inSuite {
		require.Truef(t, told[name], "docs/guarantees.md does not tell of %s", name)
	}
}
