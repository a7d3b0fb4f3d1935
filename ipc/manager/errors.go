package manager

import (
	"errors"

	"example.com/futures/executor"
)

// What callers branch on, beside the errors of package ipc. They keep errors.Is when they come
// back from another process.
var (
	// ErrAuth reports that the peer has another key, or none.
	ErrAuth = errors.New("manager: the peer has another key, or none")

	// ErrLost reports that the server is gone, or the way to it. What a call was to do may have
	// been done, or not.
	ErrLost = errors.New("manager: the server is gone")
)

func init() {
	executor.RegisterError("manager.ErrAuth", ErrAuth)
	executor.RegisterError("manager.ErrLost", ErrLost)
}
