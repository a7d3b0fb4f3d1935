package carry_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/futures/internal/carry"
	"example.com/futures/internal/proctest"
	"example.com/futures/internal/wire"
)

// sockets returns both ends of a connection: one that waits in the kernel, as a worker's
// does, and one that waits in the poller.
func sockets(t *testing.T) (blocking, polled *carry.Socket) {
	before := proctest.Descriptors()
	t.Cleanup(func() { require.Empty(t, proctest.Opened(before)) })
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.SetNonblock(fds[1], true))
	var ends []*carry.Socket
	for _, fd := range fds {
		s, err := carry.NewSocket(os.NewFile(uintptr(fd), "end"))
		require.NoError(t, err)
		t.Cleanup(func() { s.Drop(); s.Close() })
		ends = append(ends, s)
	}
	return ends[0], ends[1]
}

// files returns n descriptors.
func files(t *testing.T, n int) *carry.Load {
	l := &carry.Load{Items: make([]carry.Item, 1)}
	t.Cleanup(l.Close)
	for range n {
		fd, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		require.NoError(t, err)
		l.Items[0].FDs = append(l.Items[0].FDs, fd)
	}
	return l
}

// Each frame finds its own descriptors, however many there are, and however the bytes are
// cut.
func TestFramesWithFiles(t *testing.T) {
	counts := []int{0, 1, 0, 253, 254, 600, 1, 1, 0, 2000}
	for name, swap := range map[string]bool{"to a poller": false, "to a blocking one": true} {
		t.Run(name, func(t *testing.T) {
			from, to := sockets(t)
			if swap {
				from, to = to, from
			}
			failed := make(chan error, 1)
			go func() {
				w := wire.NewWriter(from)
				var err error
				for i, n := range counts {
					h := wire.Header{Kind: wire.KindArg, Seq: uint64(i), Flags: wire.FlagCarry}
					payload := bytes.Repeat([]byte{byte(i)}, 20_000*i)
					if n == 0 {
						err = errors.Join(err, w.Add(h, payload))
					} else {
						err = errors.Join(err, w.AddLoad(h, payload, files(t, n)))
					}
				}
				failed <- errors.Join(err, w.Flush())
			}()
			r := wire.NewSocketReader(to, to, 1<<20, false)
			for i, n := range counts {
				f, err := r.Next()
				require.NoError(t, err)
				require.Equal(t, uint64(i), f.Seq)
				require.Len(t, f.Payload, 20_000*i)
				if n == 0 {
					require.Nil(t, f.Along)
					continue
				}
				require.Len(t, f.Along.FDs, n)
				require.False(t, f.Along.Lost)
				for _, fd := range f.Along.FDs {
					flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
					require.Zero(t, errno)
					require.EqualValues(t, syscall.FD_CLOEXEC, flags)
				}
				f.Along.Close()
			}
			require.NoError(t, <-failed)
			require.NoError(t, from.Close())
			_, err := r.Next()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// What cannot be sent is said so, and what follows is sent all the same.
func TestTooManyFiles(t *testing.T) {
	from, to := sockets(t)
	w := wire.NewWriter(from)
	h := wire.Header{Kind: wire.KindArg, Flags: wire.FlagCarry}
	err := w.AddLoad(h, nil, files(t, carry.MostFiles+1))
	require.ErrorAs(t, err, new(*carry.UnsentError))
	require.ErrorContains(t, err, "6073 descriptors, and 6072 are the most")
	closed := files(t, 1)
	require.NoError(t, syscall.Close(closed.Items[0].FDs[0]))
	err = w.AddLoad(h, nil, closed)
	require.ErrorAs(t, err, new(*carry.UnsentError))
	require.ErrorIs(t, err, syscall.EBADF)
	require.NoError(t, w.AddLoad(h, nil, files(t, 2)))
	f, err := wire.NewSocketReader(to, to, 1<<20, false).Next()
	require.NoError(t, err)
	require.Len(t, f.Along.FDs, 2)
	f.Along.Close()
	require.NoError(t, to.Close())
	err = w.AddLoad(h, nil, files(t, 1))
	require.ErrorIs(t, err, syscall.EPIPE)
	require.False(t, errors.As(err, new(*carry.UnsentError)))
}

// Where some descriptors of a frame were sent and others cannot be, both sides hear of it.
func TestFilesHalfSent(t *testing.T) {
	from, to := sockets(t)
	l := files(t, 300)
	require.NoError(t, syscall.Close(l.Items[0].FDs[299]))
	w := wire.NewWriter(from)
	err := w.AddLoad(wire.Header{Kind: wire.KindArg, Flags: wire.FlagCarry}, nil, l)
	require.ErrorIs(t, err, syscall.EBADF)
	require.False(t, errors.As(err, new(*carry.UnsentError)))
	_, err = wire.NewSocketReader(to, to, 1<<20, false).Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = from.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// A process that has no room for descriptors misses them, and finds those of the next frame.
func TestLostFiles(t *testing.T) {
	from, to := sockets(t)
	w, r := wire.NewWriter(from), wire.NewSocketReader(to, to, 1<<20, false)
	h := wire.Header{Kind: wire.KindArg, Flags: wire.FlagCarry}
	for _, n := range []int{5, 300, 2} {
		require.NoError(t, w.AddLoad(h, nil, files(t, n)))
	}
	var free [2]int // the lowest numbers that are, which need not follow each other
	for i := range free {
		var err error
		free[i], err = syscall.Dup(0)
		require.NoError(t, err)
	}
	for _, fd := range free {
		require.NoError(t, syscall.Close(fd))
	}
	var was syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	low := was
	low.Cur = uint64(free[1]) + 1 // so there is room for two, and no more
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was)
	for range 2 {
		f, err := r.Next()
		require.NoError(t, err)
		require.True(t, f.Along.Lost)
		f.Along.Close()
	}
	f, err := r.Next()
	require.NoError(t, err)
	require.False(t, f.Along.Lost)
	require.Len(t, f.Along.FDs, 2)
	f.Along.Close()
}

// Reading a frame that nothing comes along with allocates nothing.
func TestReadAllocates(t *testing.T) {
	from, to := sockets(t)
	b := make([]byte, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = from.File.Write(b)
		_, _ = to.Read(b)
	}))
}

// Unpack takes nothing that does not fit, and closes what it does not take.
func FuzzUnpack(f *testing.F) {
	add := func(n int, l carry.Load) { f.Add(l.Append(nil), n) }
	add(2, carry.Load{Items: []carry.Item{{FDs: []int{1}}, {FDs: []int{1}}}})
	add(1, carry.Load{Items: []carry.Item{{FDs: []int{1, 2}}}})
	add(0, carry.Load{Items: []carry.Item{{}}})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		came := &carry.Files{FDs: make([]int, max(n, 0)%64)}
		for i := range came.FDs {
			came.FDs[i] = -1 // which nobody can close
		}
		n = len(came.FDs)
		l, _, err := carry.Unpack(b, came)
		require.Empty(t, came.FDs)
		if err == nil {
			require.Len(t, l.Files(), n)
		} else {
			require.Nil(t, l)
		}
		l.Arrive()
		l.Settle()
	})
}
