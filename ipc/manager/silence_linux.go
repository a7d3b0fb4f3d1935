package manager

import (
	"net"

	"golang.org/x/sys/unix"
)

// limitSilence ends a connection also where something that was sent is not acknowledged:
// keep-alive looks after idle ones only.
func limitSilence(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(vanishTime.Milliseconds()))
	})
}
