package carry

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// duplicate returns new descriptors of the same files, all or none.
func duplicate(fds []int) ([]int, error) {
	var own []int
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(own)
			return nil, fmt.Errorf("duplicate descriptor %d: %w", fd, err)
		}
		own = append(own, dup)
	}
	return own, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
