package proc_test

import (
	"encoding/binary"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"example.com/futures/internal/proc"
)

// controls returns both ends of a conversation of this process with itself, in which
// process peer has to speak.
func controls(t *testing.T, peer int) (a, b proc.Control) {
	t.Helper()
	a, b, err := proc.ControlPair(peer)
	require.NoError(t, err)
	for _, c := range []proc.Control{a, b} {
		t.Cleanup(func() { c.File().Close() })
		require.NoError(t, c.File().SetDeadline(time.Now().Add(time.Minute)))
	}
	return a, b
}

// openDescriptors counts those of this process.
func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// A message arrives whole, however large it is, and with its descriptors, which are
// closed on exec.
func TestControl(t *testing.T) {
	a, b := controls(t, os.Getpid())
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	for _, n := range []int{0, 1, 10 << 20} {
		sent := make(chan error, 1)
		go func() { sent <- a.Send(strings.Repeat("x", n), r, w) }() // ends when b has read it
		got, fds, err := b.Receive()
		require.NoError(t, err)
		require.NoError(t, <-sent)
		require.Len(t, got, n)
		require.Len(t, fds, 2)
		for _, fd := range fds {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			require.NoError(t, err)
			require.NotZero(t, flags&unix.FD_CLOEXEC)
			unix.Close(fd)
		}
	}
}

// What is no message of the peer's is an error, and leaves no descriptor open.
func TestControlRefuses(t *testing.T) {
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	many := make([]int, 40)
	for i := range many {
		many[i] = int(null.Fd())
	}
	for name, tt := range map[string]struct {
		bytes []byte
		fds   []int
		peer  int
		want  string
	}{
		"end":                  {nil, nil, os.Getpid(), "EOF"},
		"end within a length":  {[]byte{0, 0}, nil, os.Getpid(), "EOF"},
		"end within a message": {[]byte{0, 0, 0, 9, 1, 2}, many[:3], os.Getpid(), "EOF"},
		"huge":                 {binary.BigEndian.AppendUint32(nil, 1<<32-1), many[:3], os.Getpid(), "4294967295 bytes"},
		"no gob":               {[]byte{0, 0, 0, 2, 1, 2}, many[:3], os.Getpid(), ""},
		"too many descriptors": {[]byte{0, 0, 0, 2, 1, 2}, many, os.Getpid(), "too many descriptors"},
		"stranger":             {[]byte{0, 0, 0, 2, 1, 2}, many[:3], os.Getppid(), "has to speak"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := controls(t, tt.peer)
			before := openDescriptors(t)
			if tt.bytes != nil {
				var rights []byte
				if tt.fds != nil {
					rights = unix.UnixRights(tt.fds...)
				}
				require.NoError(t, unix.Sendmsg(int(a.File().Fd()), tt.bytes, rights, nil, 0))
			}
			require.NoError(t, unix.Shutdown(int(a.File().Fd()), unix.SHUT_WR))
			_, fds, err := b.Receive()
			require.ErrorContains(t, err, tt.want)
			if tt.want == "EOF" {
				require.ErrorIs(t, err, io.EOF)
			}
			require.Empty(t, fds)
			require.Equal(t, before, openDescriptors(t))
		})
	}
}

// A start by a server that hangs is given up when nobody wants it any more, and then
// nothing is left of the server either.
func TestStartQuit(t *testing.T) {
	quit := make(chan struct{})
	failed := make(chan error, 1)
	spec := proc.Spec{
		Command: []string{"sleep", "1000"}, ForkServer: true, Patience: time.Hour, Quit: quit,
		Dir: "/", // so that no spare will do
	}
	go func() { // ends with Start
		_, err := proc.Start(spec)
		failed <- err
	}()
	var info unix.Siginfo
	require.Eventually(t, func() bool { // there is a server
		return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil
	}, time.Minute, time.Millisecond)
	close(quit)
	select {
	case err := <-failed:
		require.ErrorIs(t, err, proc.ErrQuit)
	case <-time.After(time.Minute):
		t.Fatal("Start goes on")
	}
	_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	require.ErrorIs(t, err, syscall.ECHILD)
}
