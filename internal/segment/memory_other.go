//go:build !linux

package segment

import (
	"errors"
	"fmt"
)

var errSystem = fmt.Errorf("only Linux has what shared objects need: %w", errors.ErrUnsupported)

// Without createFile and checkFile nothing of the rest is ever reached.

func createFile(int64) (int, error)    { return -1, errSystem }
func checkFile(int) (int64, error)     { return 0, errSystem }
func inode(int) uint64                 { return 0 }
func readHead(int) (*head, error)      { return nil, errSystem }
func mapFile(int, int) ([]byte, error) { return nil, errSystem }
func unmap([]byte)                     {}
func closeFile(int)                    {}
func reopen(int) (int, error)          { return -1, errSystem }
func lockSlot(int, int) (bool, error)  { return false, errSystem }
func unlockSlot(int, int)              {}
func slotLocked(int, int) bool         { return false }
func here() uint64                     { return 0 }

type watch struct{}

func openWatch(uint64, func() bool) (watch, bool) { return watch{}, false }
func pollWatch(func() bool) watch                 { return watch{} }

func (watch) wait() bool { return false }
func (watch) close()     {}
