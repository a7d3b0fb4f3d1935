package manager

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGateMode: a socket in the file system is its user's only, from the moment that it is there.
func TestGateMode(t *testing.T) {
	gateLeaks(t)
	defer syscall.Umask(syscall.Umask(0)) // the worst
	network, addr := gateAddr(t, "unix")
	var stop atomic.Bool
	var looks atomic.Int32
	seen := make(chan map[fs.FileMode]int)
	go func() {
		modes := map[fs.FileMode]int{}
		for !stop.Load() {
			if info, err := os.Lstat(addr); err == nil {
				modes[info.Mode()]++
				looks.Add(1)
			}
		}
		seen <- modes
	}()
	for i := 0; i < 300 || looks.Load() < 300; i++ {
		g, err := listen(network, addr, Config{})
		require.NoError(t, err)
		runtime.Gosched() // so that a look is had on a single processor, too
		require.NoError(t, g.close())
	}
	stop.Store(true)
	modes := <-seen
	require.Len(t, modes, 1, "%v", modes)
	require.Contains(t, modes, fs.ModeSocket|0o600)
}

// TestGateRemoves: close removes what listen made, from wherever, and nothing else.
func TestGateRemoves(t *testing.T) {
	gateLeaks(t)
	network, addr := gateAddr(t, "unix")
	for _, cfg := range []Config{{}, {AuthKey: gateKey}} {
		g := gateOpen(t, network, addr, cfg)
		require.NoError(t, g.close())
		require.NoFileExists(t, addr)

		g = gateOpen(t, network, addr, cfg)
		require.NoError(t, os.Remove(addr))
		require.NoError(t, g.close())

		g = gateOpen(t, network, addr, cfg)
		require.NoError(t, os.Remove(addr))
		require.NoError(t, os.WriteFile(addr, []byte("mine"), 0o600))
		require.NoError(t, g.close())
		require.FileExists(t, addr)
		_, err := listen(network, addr, cfg)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, "no socket")
		require.NoError(t, os.Remove(addr))

		g = gateOpen(t, network, addr, cfg)
		require.NoError(t, os.Remove(addr))
		g2 := gateOpen(t, network, addr, cfg)
		require.NoError(t, g.close())
		gateTalk(t, g2, cfg)
		require.NoError(t, g2.close())
		require.NoFileExists(t, addr)
	}

	t.Chdir(filepath.Dir(addr))
	g := gateOpen(t, network, "s", Config{})
	gateTalk(t, g, Config{})
	t.Chdir(t.TempDir())
	require.NoError(t, g.close())
	require.NoFileExists(t, addr)
}

// TestGateStale: the socket of a server that was killed stays, until somebody removes it who knows.
func TestGateStale(t *testing.T) {
	gateLeaks(t)
	network, addr := gateAddr(t, "unix")
	ln, err := net.Listen(network, addr)
	require.NoError(t, err)
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_, err = listen(network, addr, Config{})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NotContains(t, err.Error(), "gone")
	ln.Close()
	_, err = listen(network, addr, Config{})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorContains(t, err, "server that is gone")
	require.FileExists(t, addr)
	require.NoError(t, os.Remove(addr))
	g := gateOpen(t, network, addr, Config{})
	gateTalk(t, g, Config{})
}

// gateAs runs fn as another user, on a thread that ends with it.
func gateAs(tb testing.TB, uid uintptr, fn func()) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("only root can be somebody else")
	}
	done := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread() // and never unlocked
		const same = ^uintptr(0)
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, uid, same)
		if errno == 0 {
			fn()
		}
		done <- errno
	}()
	require.Zero(tb, <-done)
}

// TestGateOtherUser: even where the mode of a plain socket would let others in, they are told apart
// by what the system says about them; on both sides.
func TestGateOtherUser(t *testing.T) {
	const nobody = 65534
	network, addr := gateAddr(t, "unix")
	require.NoError(t, os.Chmod(filepath.Dir(addr), 0o777)) //nolint:gosec // as /tmp
	log := new(gateLog)
	g := gateOpen(t, network, addr, Config{Logger: log.logger()})
	var err error
	var s *session
	gateAs(t, nobody, func() { _, err = connect(t.Context(), network, addr, Config{}) })
	require.ErrorIs(t, err, syscall.EACCES)

	require.NoError(t, os.Chmod(addr, 0o666)) //nolint:gosec // the mistake that is made here
	gateAs(t, nobody, func() { _, err = connect(t.Context(), network, addr, Config{}) })
	require.Error(t, err)
	gateTalk(t, g, Config{})
	gateNone(t, g)
	require.Contains(t, log.String(), "it is user 65534")
	require.NoError(t, g.close())

	gateAs(t, nobody, func() { g = gateOpen(t, network, addr, Config{}) })
	_, err = connect(t.Context(), network, addr, Config{})
	require.ErrorIs(t, err, ErrAuth)
	require.ErrorContains(t, err, "it is user 65534")
	require.NoError(t, g.close())

	// A key is a proof for any user.
	gateAs(t, nobody, func() { g = gateOpen(t, network, addr, Config{AuthKey: gateKey}) })
	gateTalk(t, g, Config{AuthKey: gateKey})
	require.NoError(t, g.close())
	g = gateOpen(t, network, addr, Config{AuthKey: gateKey})
	require.NoError(t, os.Chmod(addr, 0o666)) //nolint:gosec // to be asked for the key by others
	gateAs(t, nobody, func() { s, err = connect(t.Context(), network, addr, Config{AuthKey: gateKey}) })
	require.NoError(t, err)
	gateHear(t, g, s)
}

// TestGatePeer: what the system knows about the peer of a unix socket.
func TestGatePeer(t *testing.T) {
	for _, family := range []string{"unix", "abstract"} {
		network, addr := gateAddr(t, family)
		g := gateOpen(t, network, addr, Config{AuthKey: gateKey})
		c, err := connect(t.Context(), network, addr, Config{AuthKey: gateKey})
		require.NoError(t, err)
		who, err := peerOf(c.raw)
		require.NoError(t, err)
		require.Equal(t, peer{pid: os.Getpid(), uid: os.Getuid()}, who)
		gateHear(t, g, c)
	}
}
