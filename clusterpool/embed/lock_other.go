//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package embed

import "os"

// lock makes dir. It keeps nobody out.
func lock(dir string) (*os.File, error) { return nil, os.MkdirAll(dir, 0o750) }
