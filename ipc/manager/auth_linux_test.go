package manager

import (
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAuthHalfOpen: many hold half a handshake open. An honest client connects at once, the oldest
// make room, and little memory is used.
func TestAuthHalfOpen(t *testing.T) {
	gateLeaks(t)
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < 3000 {
		t.Skipf("%d descriptors are too few", limit.Cur)
	}
	hello := authHello(t)
	for _, half := range []struct {
		name string
		sent []byte
	}{
		{"nothing", nil},
		{"half a hello", hello[:len(hello)/2]},
		{"a hello", hello},
	} {
		t.Run(half.name, func(t *testing.T) {
			network, addr := gateAddr(t, "unix") // TCP would leave thousands of ports behind
			g := gateOpen(t, network, addr, Config{
				AuthKey: gateKey, HandshakeTimeout: 5 * time.Minute, Logger: slog.New(slog.DiscardHandler),
			})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var held []net.Conn
			hold := func(n int) {
				for range n {
					conf := terms{network: network, addr: addr, timeout: 10 * time.Second}
					c, err := conf.dial(t.Context())
					require.NoError(t, err)
					held = append(held, c)
					_, err = c.Write(half.sent)
					require.NoError(t, err)
				}
				if len(half.sent) == len(hello) { // the server has answered, and waits
					for _, c := range held[len(held)-n:] {
						_, err := c.Read(make([]byte, 1))
						require.NoError(t, err)
					}
				}
			}
			defer func() {
				for _, c := range held {
					c.Close()
				}
			}()
			waiting := func() int {
				g.mu.Lock()
				defer g.mu.Unlock()
				return g.waiting.Len()
			}
			hold(1000)
			began := time.Now()
			gateTalk(t, g, Config{AuthKey: gateKey})
			require.Less(t, time.Since(began), 5*time.Second)
			require.Equal(t, 1000, waiting())

			hold(100)
			gateTalk(t, g, Config{AuthKey: gateKey}) // all before it have been accepted
			require.LessOrEqual(t, waiting(), maxUnproven)
			require.GreaterOrEqual(t, waiting(), maxUnproven-1) // the honest one has had a place, too
			runtime.GC()
			runtime.ReadMemStats(&after)
			used := int(after.HeapAlloc+after.StackInuse) - int(before.HeapAlloc+before.StackInuse)
			t.Logf("%d KiB for each of %d", used/waiting()>>10, waiting())
			require.Less(t, used, 128<<20)

			for i, c := range held {
				if i < 1100-maxUnproven { // dropped
					require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
					_, err := io.Copy(io.Discard, c)
					require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "%d is still held", i)
				} else if i > 1100-maxUnproven {
					require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Millisecond/10)))
					_, err := io.Copy(io.Discard, c)
					require.ErrorIs(t, err, os.ErrDeadlineExceeded, "%d was dropped", i)
				}
			}
			gateNone(t, g)
		})
	}
}
