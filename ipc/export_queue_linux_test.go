package ipc

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"example.com/futures/internal/segment"
)

// QueueMemory returns how much memory the queue takes.
func QueueMemory[T any](q *Queue[T]) int64 {
	var st unix.Stat_t
	if err := unix.Fstat(q.h.FD, &st); err != nil {
		panic(err)
	}
	return st.Blocks * 512
}

// QueuePuts returns how many items were ever put.
func QueuePuts[T any](q *Queue[T]) int { return int(q.ring.tail.Load() &^ shut) }

// QueueBody returns the shared memory of the queue.
func QueueBody[T any](q *Queue[T]) []byte { return q.h.Body }

// BreakFile has q read and write a file that is not there, until fn returns.
func BreakFile[T any](q *Queue[T], fn func()) {
	fd := q.h.FD
	q.h.FD = -1
	defer func() { q.h.FD = fd }()
	fn()
}

// OpenAs opens a second handle of q, with another type.
func OpenAs[U, T any](q *Queue[T]) (*Queue[U], error) {
	fds, err := q.h.Export()
	if err != nil {
		return nil, err
	}
	q.h.Exported()
	c, err := newCodec[U](false)
	if err != nil {
		return nil, err
	}
	h, err := segment.Open(fds[0], kindQueue, c.sig, queueSpec)
	if err != nil {
		return nil, err
	}
	return &Queue[U]{object: object{h}, codec: c}, nil
}

// The words of a ring that a test can set.
var (
	RingTail = int(unsafe.Offsetof(ringWords{}.tail))
	RingHead = int(unsafe.Offsetof(ringWords{}.head))
	RingDone = int(unsafe.Offsetof(ringWords{}.done))
	RingPool = int(unsafe.Offsetof(ringWords{}.pool))
	RingSlot = ringHeadLen
)

// SendRaw sends what need not be an encoded value.
func SendRaw[T any](c *Conn[T], flags uint8, b []byte) error {
	p := parcel{flags: flags}
	if len(b) <= inlineLen {
		p.n = copy(p.small[:], b)
	} else {
		p.data = b
	}
	o, err := c.out.tryPut(&p)
	if o != done && err == nil {
		err = ErrFull
	}
	return err
}

// Fresh is fresh.
func Fresh(n int) []byte { return fresh(n) }
