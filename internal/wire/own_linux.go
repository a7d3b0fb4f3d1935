package wire

import (
	"strings"
	"syscall"
	"unsafe"
)

// hugeLen is the size of a huge page, as processors have them.
const hugeLen = 2 << 20

// own returns a copy of b, nil if it is empty. Most of what a large copy costs is its
// fresh memory, a page fault for each page of it; so the system is told that it may back
// such memory with huge pages, of which there are few.
func own(b []byte) []byte {
	if len(b) < 2*hugeLen {
		return append([]byte(nil), b...)
	}
	c := unzeroed(len(b))
	first := (uintptr(unsafe.Pointer(&c[0]))+hugeLen-1)&^(hugeLen-1) - uintptr(unsafe.Pointer(&c[0]))
	if rest := (uintptr(len(c)) - first) &^ (hugeLen - 1); rest > 0 {
		_ = syscall.Madvise(c[first:first+rest], syscall.MADV_HUGEPAGE) // it is a wish
	}
	copy(c, b)
	return c
}

// unzeroed returns n bytes that nobody has touched, n being 1 or more: make would zero them,
// and so does slices.Grow. A Builder does not, since it hands out only what was written.
func unzeroed(n int) []byte {
	var b strings.Builder
	b.Grow(n)
	b.WriteByte(0)
	return unsafe.Slice(unsafe.StringData(b.String()), n)
}
