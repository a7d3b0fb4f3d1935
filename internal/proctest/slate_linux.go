package proctest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"example.com/futures/executor"
	"example.com/futures/internal/carry"
)

// A Slate is a handle as those of package ipc are, reduced to what travels: a file in memory
// that all who have the handle read and write. It is safe for concurrent use.
type Slate struct {
	mu    sync.Mutex // guards the fields below
	id    carry.ID
	fd    int
	open  bool
	marks int // it is travelling, for so many receivers
}

// ErrWiped reports a Slate that is closed.
var ErrWiped = errors.New("proctest: the slate is closed")

func init() { executor.RegisterError("proctest.ErrWiped", ErrWiped) }

// NewSlate returns one with text on it.
func NewSlate(text string) *Slate {
	fd, err := unix.MemfdCreate("slate", unix.MFD_CLOEXEC)
	if err != nil {
		panic(err)
	}
	s := &Slate{fd: fd, open: true}
	_, _ = rand.Read(s.id[:])
	if err := s.Write(text); err != nil {
		panic(err)
	}
	return s
}

// Write replaces the text.
func (s *Slate) Write(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return ErrWiped
	}
	if err := unix.Ftruncate(s.fd, int64(len(text))); err != nil {
		return err
	}
	_, err := unix.Pwrite(s.fd, []byte(text), 0)
	return err
}

// Read returns the text.
func (s *Slate) Read() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return "", ErrWiped
	}
	b := make([]byte, 1<<10)
	n, err := unix.Pread(s.fd, b, 0)
	return string(b[:max(n, 0)]), err
}

// Close lets go of the file.
func (s *Slate) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return nil
	}
	s.open = false
	return unix.Close(s.fd)
}

// CarryID, Export and Exported make a Slate a carry.Handle.
func (s *Slate) CarryID() carry.ID { return s.id }

func (s *Slate) Export() ([]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return nil, ErrWiped
	}
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s.marks++
	return []int{fd}, nil
}

func (s *Slate) Exported() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks--
}

// GobEncode writes the ID of a Slate that travels.
func (s *Slate) GobEncode() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks == 0 {
		return nil, fmt.Errorf("%w: a slate", executor.ErrNotPortable)
	}
	return s.id[:], nil
}

// GobDecode claims what came along.
func (s *Slate) GobDecode(b []byte) error {
	if len(b) != len(s.id) {
		return errors.New("proctest: not a slate")
	}
	fds, ok, err := carry.Claim(carry.ID(b))
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: a slate without its descriptor", executor.ErrNotPortable)
	}
	s.id, s.fd, s.open = carry.ID(b), fds[0], true
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	return nil
}
