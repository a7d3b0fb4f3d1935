package carry

import (
	"fmt"
	"syscall"
)

// duplicate returns new descriptors of the same files, all or none.
func duplicate(fds []int) ([]int, error) {
	own := make([]int, 0, len(fds))
	for _, fd := range fds {
		dup, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			CloseAll(own)
			return nil, fmt.Errorf("duplicate descriptor %d: %w", fd, errno)
		}
		own = append(own, int(dup))
	}
	return own, nil
}

func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}
