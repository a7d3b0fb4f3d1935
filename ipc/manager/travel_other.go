//go:build !linux

package manager

import (
	"context"
	"errors"
	"io"
	"net"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/wire"
)

// There are no worker processes here, and so proxies do not travel.

func start(context.Context, *Config) (*Manager, error) { return nil, errors.ErrUnsupported }

func (m *Manager) end() {}

// local returns a client's end of a new connection to s, in this process.
func (s *server) local(methods bool) (io.ReadWriteCloser, error) {
	server, client := net.Pipe()
	p := newGuest(s, server)
	p.methods = methods
	s.welcome(p, nil)
	return piped{client}, nil
}

func (h *handle) export() ([]int, error) { return nil, errors.ErrUnsupported }

func (p *guest) adopt(f wire.Frame) error { return errBadRequest }

func imported(_ place, _ string, fds []int) (*handle, error) {
	carry.CloseAll(fds)
	return nil, errors.ErrUnsupported
}
