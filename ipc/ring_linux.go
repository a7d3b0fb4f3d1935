package ipc

import (
	"errors"
	"io"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writeAt writes b to the file, at an offset.
func writeAt(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		n = max(n, 0)
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// believed is what is allocated for an item without a look at whether there can be as much.
const believed = 64 << 10

// readAt returns n bytes of the file, n being 1 or more, in memory of their own.
func readAt(fd, n int, off int64) ([]byte, error) {
	if n > believed {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, err
		}
		if st.Blocks < int64(n)/512 {
			return nil, errDamaged
		}
	}
	all := fresh(n)
	for b := all; len(b) > 0; {
		n, err := unix.Pread(fd, b, off)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.ErrUnexpectedEOF
		}
		n = max(n, 0)
		b, off = b[n:], off+int64(n)
	}
	return all, nil
}

// punch gives the memory of a part of the file back. If it cannot, it stays until the file
// goes.
func punch(fd int, off, n int64) {
	_ = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// hugeLen is the size of a huge page, as processors have them.
const hugeLen = 2 << 20

// fresh returns n bytes that are about to be written, all of them: make would zero them,
// which a Builder does not. Most of what large ones cost is a page fault for each page, so
// the system is told that it may use huge pages, of which there are few.
func fresh(n int) []byte {
	var b strings.Builder
	b.Grow(n)
	b.WriteByte(0)
	all := unsafe.Slice(unsafe.StringData(b.String()), n)
	if n >= 2*hugeLen {
		at := uintptr(unsafe.Pointer(&all[0]))
		first := (at+hugeLen-1)&^(hugeLen-1) - at
		if rest := (uintptr(n) - first) &^ (hugeLen - 1); rest > 0 {
			_ = unix.Madvise(all[first:first+rest], unix.MADV_HUGEPAGE) // it is a wish
		}
	}
	return all
}
