package ipc

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// storeLarge writes data to a page or an area for item t, whose number, counted from 1, it
// returns.
func (r *ring) storeLarge(data []byte, t, h uint64) (area uint64, o outcome, err error) {
	if r.paged(len(data)) {
		area = r.choose(0, poolPages, func(item uint64) bool { return item-h >= t-h })
		if area == 0 {
			area = r.own(t)
		} else {
			r.pool[area-1].item.Store(t + 1)
		}
		copy(r.page(area), data)
		return area, done, nil
	}
	area = r.choose(poolPages, poolLen, func(item uint64) bool { return item-h >= t-h && !r.trims(item, h) })
	extent := new(atomic.Uint64)
	switch {
	case r.pipe && (area == 0 || r.overBudget(uint64(len(data)), t, h)):
		return 0, nothing, nil
	case area > 0:
		a := &r.pool[area-1]
		a.item.Store(t + 1)
		a.size.Store(uint64(len(data)))
		extent = &a.extent
	case r.trims(t-r.n, h):
		return 0, busy, nil
	default:
		head, _ := r.slot(t)
		area, extent = r.own(t), (*atomic.Uint64)(unsafe.Pointer(&head.extent))
	}
	if extent.Load() > r.keep(area) {
		r.trim(area, extent) // a taker died before it did
	}
	extent.Store(max(extent.Load(), uint64(len(data))))
	if err := writeAt(r.h.FD, data, r.offset(area)); err != nil {
		return 0, nothing, fmt.Errorf("memory for %d bytes: %w", len(data), err)
	}
	return area, done, nil
}

// paged reports whether an item of n bytes, which is not small, goes to a page.
func (r *ring) paged(n int) bool { return n <= pageLen && r.pages > 0 }

// choose returns the first of the pool, from the one to before the other, that is free for
// item t, counted from 1; 0 if there is none. free says whether it is when it was last used
// for some item.
func (r *ring) choose(from, to int, free func(item uint64) bool) uint64 {
	for i := from; i < to; i++ {
		if item := r.pool[i].item.Load(); item == 0 || free(item-1) {
			return uint64(i) + 1
		}
	}
	return 0
}

// overBudget reports whether there is too much in the areas of a pipe for another n bytes.
func (r *ring) overBudget(n, t, h uint64) bool {
	items, all := 0, n
	for i := poolPages; i < poolLen; i++ {
		if a := &r.pool[i]; a.item.Load()-1-h < t-h {
			items++
			all += a.size.Load()
		}
	}
	return items > 1 && all > pipeBudget
}

// own returns the page or area of the slot of item t.
func (r *ring) own(t uint64) uint64 { return poolLen + t%r.n + 1 }

func (r *ring) page(area uint64) []byte {
	at := r.pages + int(area-1)*pageLen
	return r.h.Body[at : at+pageLen]
}

// trims reports whether somebody may be about to give back memory of the area that item was
// in. He has getLock since before he took it, and it was the last one.
func (r *ring) trims(item, h uint64) bool {
	return item+1 == h && r.getLock.Load() != 0
}

func (r *ring) offset(area uint64) int64 { return r.beyond + int64(area-1)*maxItem }

// keep returns how much memory of an area is kept when its item was taken.
func (r *ring) keep(area uint64) uint64 {
	switch {
	case area <= poolPages+2:
		return 16 << 20
	case area <= poolLen:
		return 1 << 20
	}
	return 0
}

func (r *ring) trim(area uint64, extent *atomic.Uint64) {
	keep := r.keep(area)
	punch(r.h.FD, r.offset(area)+int64(keep), maxItem-int64(keep))
	extent.Store(keep)
}
