package proc

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pageLen is the size of a Page in bytes.
const pageLen = 4096

// A Page is memory that a worker and its parent share. It tells the parent, after
// the worker died, how far it had got: what the worker writes there is there, while
// a frame may have been on its way.
//
// The parent offers a call before it writes its frames. The worker takes it before
// it looks at them, and notes each item before it decodes its argument. Both words
// hold the number of the call too, so what is left of one call is not taken for the
// next. The parent believes nothing that it reads here but its own call's number.
type Page struct {
	words *[pageLen / 8]atomic.Uint64
	mem   []byte
}

const (
	callWord = 0      // seq<<1, and 1 if it was taken
	itemWord = 64 / 8 // seq<<32 | items begun; on a cache line of its own
)

// NewPage makes a page and returns it with its file, to be closed when the worker
// has it. Nothing but memory backs it, and nobody can change its size, which could
// crash the other side.
func newPage() (*Page, *os.File, error) {
	fd, err := unix.MemfdCreate("futures-worker", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "page")
	err = unix.Ftruncate(fd, pageLen)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	var p *Page
	if err == nil {
		p, err = mapPage(fd)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("shared memory for a worker: %w", err)
	}
	return p, f, nil
}

func mapPage(fd int) (*Page, error) {
	mem, err := unix.Mmap(fd, 0, pageLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return &Page{words: (*[pageLen / 8]atomic.Uint64)(unsafe.Pointer(&mem[0])), mem: mem}, nil
}

// Offer is the parent's: call seq is about to be sent.
func (p *Page) Offer(seq uint64) { p.words[callWord].Store(seq << 1) }

// Take is the worker's: it takes call seq up, if that is on offer.
func (p *Page) Take(seq uint64) bool { return p.words[callWord].CompareAndSwap(seq<<1, seq<<1|1) }

// Taken reports whether the worker took call seq up.
func (p *Page) Taken(seq uint64) bool { return p.words[callWord].Load() == seq<<1|1 }

// Begin is the worker's: it takes up item i, counted from 0, of call seq.
func (p *Page) Begin(seq uint64, i int) { p.words[itemWord].Store(seq<<32 | uint64(uint32(i+1))) }

// Begun returns how many items of call seq the worker has taken up.
func (p *Page) Begun(seq uint64) int {
	w := p.words[itemWord].Load()
	if w>>32 != seq&(1<<32-1) {
		return 0
	}
	return int(uint32(w))
}

func (p *Page) unmap() { _ = unix.Munmap(p.mem) }
