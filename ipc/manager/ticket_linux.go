package manager

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A ticket is what a proxy travels with whose server is somewhere else.
type ticketOf struct {
	token token
	how   dialled
	pin   []byte
	entry []byte
}

// mostTicket is how long one can be.
const mostTicket = 4 << 10

// exportTicket returns memory that has a ticket.
func (c *conn) exportTicket(ctx context.Context, id uint64) (int, error) {
	if c.how == nil {
		return -1, errors.ErrUnsupported
	}
	var b []byte
	err := c.call(ctx, 0, opTicket, func(w *writer) { w.uint(id) }, func(r *reader) error {
		t, entry, pin := r.bytes(), r.bytes(), r.bytes()
		if err := r.end(); err != nil {
			return err
		}
		var w writer
		w.bytes(t)
		w.text(c.how.network)
		w.text(c.how.addr)
		w.bytes(pin)
		w.bytes(entry)
		b = w.b
		return nil
	})
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("manager", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	n, err := unix.Write(fd, b)
	if err == nil && n < len(b) {
		err = unix.ENOSPC
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// readTicket reads one of size bytes.
func readTicket(fd int, size int64) (k ticketOf, err error) {
	if size > mostTicket {
		return k, errBadRequest
	}
	b := make([]byte, size)
	if n, err := unix.Pread(fd, b, 0); err != nil || n < len(b) {
		return k, fmt.Errorf("%w: %w", errBadRequest, err)
	}
	r := reader{b: b}
	t := r.bytes()
	k.how.network, k.how.addr = r.text(), r.text()
	k.pin, k.entry = r.bytes(), r.bytes()
	if err := r.end(); err != nil || len(t) != len(k.token) {
		return k, errBadRequest
	}
	if len(k.pin) == 0 {
		k.pin = nil
	}
	if len(k.entry) == 0 {
		k.entry = nil
	}
	copy(k.token[:], t)
	return k, nil
}

// dial connects with the ticket.
func (k *ticketOf) dial(ctx context.Context) (*conn, error) {
	s, err := connectTicket(ctx, k.how.network, k.how.addr, k.pin, k.entry, Config{})
	if err != nil {
		return nil, err
	}
	c, err := newConn(ctx, s, mostMessage) // its server says what can be sent
	if err == nil {
		keepAlive(s)
		c.how = &k.how
	}
	return c, err
}
