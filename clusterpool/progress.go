package clusterpool

import (
	"encoding/binary"
	"strings"
	"time"
)

// progressPeriod is how long the outcomes of a chunk's items wait for one another, before
// the client is told of them, who may wait for one.
const progressPeriod = 2 * time.Millisecond

// told is what the client was told of a chunk, and what there is to tell.
type told struct {
	items int    // whose outcomes the client was sent
	bytes int    // of them
	done  int    // items that are done
	outs  []byte // their outcomes; more may be added behind them, and nothing is changed
	timer *time.Timer
}

// progressed notes that the first n items of the chunk are done.
func (a *attempt) progressed(n int) {
	if n == a.head.items { // all are told of at once
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &a.told
	fresh := t.done == t.items
	t.done, t.outs = n, a.outs
	if t.timer == nil {
		t.timer = time.AfterFunc(progressPeriod, a.tellProgress)
	} else if fresh {
		t.timer.Reset(progressPeriod)
	}
}

// tellProgress sends the client what it has not been sent. It may get lost.
func (a *attempt) tellProgress() {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &a.told
	if t.done == t.items {
		return
	}
	outs := t.outs[t.bytes:]
	if len(outs) > a.inline() {
		return
	}
	client, _, _ := strings.Cut(a.id, ".")
	b := appendText(nil, a.id)
	b = binary.LittleEndian.AppendUint64(b, a.rec.token)
	b = binary.AppendUvarint(b, uint64(t.items))
	b = binary.AppendUvarint(b, uint64(t.done-t.items))
	_ = a.nc.Publish(a.names.progress(client), append(b, outs...))
	t.items, t.bytes = t.done, len(t.outs)
}

// endProgress stops it, and returns the outcomes of all items, which are about to be the
// call's record.
func (a *attempt) endProgress() []byte {
	if a.head.items > 1 {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.told.timer != nil {
			a.told.timer.Stop()
		}
		a.told.done, a.told.outs = a.told.items, nil
	}
	return a.outs
}
