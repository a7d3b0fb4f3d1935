//go:build !linux

package ipc

import (
	"errors"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/segment"
)

// A lifeline is nothing but on Linux, so that nothing of this is ever reached.
type lifeline struct{}

func newLifelines() ([2]*lifeline, error) { return [2]*lifeline{}, errors.ErrUnsupported }

func openLifeline(int) (*lifeline, error) { return nil, errors.ErrUnsupported }

func (*lifeline) close()                    {}
func (*lifeline) belongsTo(*segment.Handle) {}
func (*lifeline) hungUp() bool              { return true }
func (*lifeline) littered() bool            { return false }
func (*lifeline) watch()                    {}
func (*lifeline) clear()                    {}
func (*lifeline) export() (int, error)      { return -1, errors.ErrUnsupported }

func (*lifeline) send(uint64, uint64, *carry.Load) (bool, error) {
	return false, errors.ErrUnsupported
}

func (*lifeline) receive(uint64, uint64, uint64) (*carry.Load, error) {
	return nil, errors.ErrUnsupported
}
