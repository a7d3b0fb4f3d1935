//go:build !linux

package processpool_test

import (
	"errors"
	"testing"

	"example.com/futures/processpool"
)

// Where there are no worker processes, New says so.
func TestUnsupported(t *testing.T) {
	if _, err := processpool.New(processpool.Config{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("New = %v, want errors.ErrUnsupported", err)
	}
}
