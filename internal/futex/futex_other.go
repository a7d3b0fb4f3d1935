//go:build !linux

package futex

import (
	"errors"
	"sync/atomic"
	"time"
)

// Wake wakes nobody: nobody can be asleep on this system.
func Wake(*atomic.Uint32, int) int { return 0 }

// Wait panics with errors.ErrUnsupported: there is no memory on this system that processes
// share, so that nobody comes here.
func Wait(*atomic.Uint32, uint32) { panic(errors.ErrUnsupported) }

// WaitBriefly returns at once.
func WaitBriefly(*atomic.Uint32, uint32, time.Duration) {}
