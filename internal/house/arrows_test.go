// Package house_test checks how the packages of the library hang together: which
// may import which, and what the module needs from others. It reads what `go list`
// says, so a new import is seen wherever it comes in, also through other packages
// and on the other systems that the library builds on.
package house_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "example.com/futures"

// arrows says for each public package which others it may import, directly or
// through others: `future ← executor ← threadpool`, `executor ← worker ←
// processpool`, and ipc knows no pool. A package that is not in here is refused, so
// that a new one is given its place.
var arrows = map[string][]string{
	"future":                {},
	"executor":              {"future"},
	"executor/executortest": {"future", "executor"},
	"threadpool":            {"future", "executor"},
	"worker":                {"future", "executor"},
	"processpool":           {"future", "executor", "worker"},
	"ipc":                   {"future", "executor"},
	"ipc/manager":           {"future", "executor", "worker", "ipc"},
}

// inProcess are the packages of a program without worker processes. They need less.
var inProcess = []string{"future", "executor", "threadpool"}

// modules of others that packages may need, and those that only tests may.
var (
	needs     = []string{"golang.org/x/sync", "golang.org/x/sys"}
	testNeeds = []string{"github.com/stretchr/testify", "go.uber.org/goleak"}
)

// systems are those on which the library builds.
var systems = []string{"linux", "darwin", "windows"}

// A goPackage is what `go list` knows about a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string // all that it needs, directly and through others
	Module     *struct{ Path string }
}

// list returns all packages of the root module on system, and all they need.
func list(t *testing.T, system string) map[string]goPackage {
	t.Helper()
	// `go test` cannot see what `go list` reads. Looking at every folder here tells
	// it, so that it does not answer with a cached result when an import has changed.
	err := filepath.WalkDir("../..", func(_ string, _ fs.DirEntry, err error) error { return err })
	require.NoError(t, err)

	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps",
		"-json=ImportPath,Imports,Deps,Module", module+"/...")
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoErrorf(t, err, "go list: %s", &stderr)

	packages := map[string]goPackage{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		packages[p.ImportPath] = p
	}
	require.Contains(t, packages, module+"/future")
	return packages
}

// ours returns the path of p inside this module, and whether it is of this module.
func ours(p goPackage) (string, bool) {
	if p.Module != nil && p.Module.Path != module {
		return "", false
	}
	return strings.CutPrefix(p.ImportPath, module+"/")
}

// TestArrows sees that imports run one way, as the list above has them, and that
// the core imports no program, no benchmark and no backend of another module.
func TestArrows(t *testing.T) {
	for _, system := range systems {
		t.Run(system, func(t *testing.T) {
			packages := list(t, system)
			for _, p := range packages {
				name, ok := ours(p)
				if !ok {
					continue
				}
				internal := strings.HasPrefix(name, "internal/")
				allowed, known := arrows[name]
				if !internal && !known {
					t.Errorf("%s has no place in the list of arrows: give it one", name)
				}
				for _, dep := range p.Deps {
					d := packages[dep]
					depName, ok := ours(d)
					switch {
					case !ok:
						if d.Module != nil && strings.HasPrefix(d.Module.Path, module+"/") {
							t.Errorf("%s imports %s, which is of a module that builds on this one", name, dep)
						}
					case strings.HasPrefix(depName, "internal/"):
					case internal && depName != "threadpool" && depName != "processpool":
						// What an internal package imports counts for those that import it.
					case !slices.Contains(allowed, depName):
						t.Errorf("%s imports %s, if only through others; it may import %v", name, depName, allowed)
					}
				}
			}
		})
	}
}

// TestNeeds sees that the library needs the standard library, x/sync and x/sys, and
// the part of it that works in one process x/sync alone.
func TestNeeds(t *testing.T) {
	for _, system := range systems {
		t.Run(system, func(t *testing.T) {
			packages := list(t, system)
			for _, p := range packages {
				name, ok := ours(p)
				if !ok {
					continue
				}
				allowed := needs
				switch {
				case slices.Contains(inProcess, name):
					allowed = needs[:1]
				case strings.HasSuffix(path.Base(name), "test"):
					allowed = slices.Concat(needs, testNeeds)
				case slices.Contains(p.Imports, "testing"):
					t.Errorf("%s imports testing, which is for packages whose name ends in test", name)
				}
				foreign := map[string]bool{}
				for _, dep := range p.Deps {
					if d := packages[dep]; d.Module != nil && d.Module.Path != module {
						foreign[d.Module.Path] = true
					}
				}
				for _, m := range slices.Sorted(maps.Keys(foreign)) {
					if !slices.Contains(allowed, m) {
						t.Errorf("%s needs module %s; it may need %v", name, m, allowed)
					}
				}
			}
		})
	}
}
