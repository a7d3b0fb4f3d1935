package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/internal/proctest"
	"example.com/futures/ipc"
)

// setLoopback has the network of this namespace up or down.
func setLoopback(up bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var req struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(req.name[:], "lo")
	if up {
		req.flags = unix.IFF_UP
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}

func init() {
	roles["vanish"] = func() {
		if err := vanish(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("noticed")
		os.Exit(0)
	}
}

// vanish runs in a network of its own, which it takes away.
func vanish() error {
	ctx := context.Background()
	if err := setLoopback(true); err != nil {
		fmt.Println("no network:", err)
		os.Exit(0)
	}
	cfg := Config{AuthKey: []byte("a key")}
	s, err := Serve(ctx, "tcp", "127.0.0.1:0", cfg)
	if err != nil {
		return err
	}
	c, err := Connect(ctx, "tcp", s.Addr().String(), cfg)
	if err != nil {
		return err
	}
	mine, err := NewLock(ctx, s)
	if err != nil {
		return err
	}
	if err := Publish(ctx, s, "lock", mine); err != nil {
		return err
	}
	theirs, err := Lookup[*Lock](ctx, c, "lock")
	if err != nil {
		return err
	}
	if err := theirs.Lock(ctx); err != nil {
		return err
	}
	lost := make(chan error, 1)
	go func() { lost <- theirs.Lock(ctx) }() // waits for itself
	for proctest.AreBlocked("manager.(*Lock).Lock(") == 0 {
		time.Sleep(time.Millisecond) // between two looks
	}
	if err := setLoopback(false); err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, 3*vanishTime)
	defer cancel()
	if err := mine.Lock(soon); !errors.Is(err, ipc.ErrOwnerDied) {
		return fmt.Errorf("the server: %w", err)
	}
	select {
	case err := <-lost:
		if !errors.Is(err, ErrLost) {
			return fmt.Errorf("the client: %w", err)
		}
	case <-soon.Done():
		return errors.New("the client has not noticed")
	}
	return nil
}

// A machine that is gone without a word is noticed, on both sides.
func TestVanish(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for vanishTime to end")
	}
	cmd := self("vanish")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.Process == nil {
		t.Skip("no namespaces here:", err)
	}
	require.NoError(t, err, "%s", out)
	t.Logf("%s after %v", out, time.Since(begin))
}
