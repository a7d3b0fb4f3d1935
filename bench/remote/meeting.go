package remote

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A Meeting is where calls that run at the same time wait for one another: so each is in a
// worker of its own.
type Meeting struct {
	dir      string
	listener *net.UnixListener
	came     []net.Conn
	close    sync.Once
}

// tooLate ends a meeting that does not come about.
const tooLate = 30 * time.Second

// NewMeeting opens a meeting. Whoever opened it closes it.
func NewMeeting() (*Meeting, error) {
	dir, err := os.MkdirTemp("", "meet")
	if err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		_ = os.RemoveAll(dir) // what cannot be removed is the system's to clean
		return nil, err
	}
	return &Meeting{dir: dir, listener: l}, nil
}

// Address is what Attend takes, in any process.
func (m *Meeting) Address() string { return m.listener.Addr().String() }

// Wait waits until n have come. They stay until Close.
func (m *Meeting) Wait(n int) error {
	if err := m.listener.SetDeadline(time.Now().Add(tooLate)); err != nil {
		return err
	}
	for len(m.came) < n {
		c, err := m.listener.Accept()
		if err != nil {
			return fmt.Errorf("%d of %d workers have come: %w", len(m.came), n, err)
		}
		m.came = append(m.came, c)
	}
	return nil
}

// Close lets go all who have come. It may be called twice.
func (m *Meeting) Close() {
	m.close.Do(func() {
		_ = m.listener.Close()
		for _, c := range m.came {
			_ = c.Close()
		}
		_ = os.RemoveAll(m.dir)
	})
}

// Attend comes to a meeting and returns when it is over.
func Attend(address string) error {
	c, err := net.Dial("unix", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(io.Discard, c)
	return err
}
