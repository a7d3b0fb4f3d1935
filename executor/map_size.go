package executor

import (
	"math"
	"runtime"
	"time"

	"example.com/futures/internal/wire"
)

// How a Map without WithChunk sizes its chunks: so that one takes about chunkTime,
// which makes the cost of handing it over small and still spreads the work evenly.
// The first chunks are single items, and each is at most chunkGrowth times as long as
// one that was measured. chunkMax is where the cost of a chunk is lost in that of its
// items, however cheap they are, and what is in flight still fits into a cache.
const (
	chunkTime   = 500 * time.Microsecond
	chunkGrowth = 4
	chunkMax    = 1 << 14
	flightTime  = 200 * time.Microsecond // of work that a worker has, in chunks of a given size
	flightMax   = 64
	batchTime   = 20 * chunkTime // a batch that fills more slowly has a slow input
)

// How often a worker shows what it has done of a chunk: a stretch of items after
// another, see chunk.publish, and how often it wakes a consumer who waits for that.
const (
	stretchTime = 200 * time.Nanosecond
	tellTime    = 20 * time.Microsecond
	patience    = time.Millisecond // of a consumer who waits; then he is told at once
)

// capacity returns how many workers ex may have. An executor says so by a method
// Capacity; otherwise it is taken to use the processors of this machine.
func capacity(ex Executor) int {
	if c, ok := ex.(interface{ Capacity() int }); ok {
		return max(1, c.Capacity())
	}
	return runtime.GOMAXPROCS(0)
}

// A pace is how a chunk is sized, by what was measured before.
type pace struct {
	size    int // items
	stretch int // items between two publications
	tell    int // items between two wake-ups of a consumer who waits
	flight  int // chunks in flight that keep a worker busy
}

// buffer returns how many inputs may be ahead of the consumer.
func (r *mapRun[A, R]) buffer() int {
	if r.task.opts.buffer > 0 {
		return r.task.opts.buffer
	}
	chunks := max(r.pace.flight, 2) * (r.workers + 1)
	if r.pace.size > math.MaxInt/chunks {
		return math.MaxInt
	}
	return r.pace.size * chunks
}

// measure sizes the next chunks by how long c took, and what is taken ahead by how
// many workers there may be by now.
func (r *mapRun[A, R]) measure(c *chunk[A, R]) {
	r.workers = capacity(r.ex)
	each := max(1, time.Duration(c.took.Load())/time.Duration(len(c.args)))
	r.pace.stretch = max(1, int(stretchTime/each))
	r.pace.tell = max(1, int(tellTime/each))
	if size := r.task.opts.chunk; size > 0 {
		r.pace.flight = min(int(flightTime/(each*time.Duration(size))), flightMax)
		return
	}
	n := min(int(chunkTime/each), chunkGrowth*len(c.args), chunkMax)
	if r.task.opts.buffer > 0 {
		n = min(n, r.task.opts.buffer/(2*r.workers))
	}
	r.pace.size = max(1, n)
}

// aim sets how many inputs the batch takes before there is anything to decide, and
// makes room for them. The batch is not full, and neither is the buffer.
func (r *mapRun[A, R]) aim() {
	want := max(r.filled+1, min(r.pace.size, r.buffer()-r.ahead))
	if r.filled == 0 {
		r.batch = r.buffers(min(want, chunkMax))
		r.watchInput(want)
	} else if r.filled == len(r.batch.args) {
		more := make([]wire.Box[A], min(want, 2*r.filled))
		copy(more, r.batch.args)
		r.batch = buffers[A, R]{args: more, results: make([]wire.Box[R], len(more))}
	}
	r.enough = min(want, len(r.batch.args))
}

// watchInput has a timer tell when the batch, which is to be one of several inputs,
// takes long to fill. Its inputs would wait for those that do not come, so chunks are
// single items again then, and with them what is taken ahead.
func (r *mapRun[A, R]) watchInput(want int) {
	if want == 1 || r.task.opts.chunk > 0 {
		return
	}
	r.inputSlow.Store(false) // of the batch before
	if r.inputTimer == nil {
		r.inputTimer = time.AfterFunc(batchTime, func() { r.inputSlow.Store(true) })
	} else {
		r.inputTimer.Reset(batchTime)
	}
}

// buffers are what a chunk keeps its items in. A run uses them again and again: fresh
// memory costs more than a cheap call does.
type buffers[A, R any] struct {
	args    []wire.Box[A]
	results []wire.Box[R]
}

// buffers returns room for n items or more.
func (r *mapRun[A, R]) buffers(n int) buffers[A, R] {
	if last := len(r.spare) - 1; last >= 0 {
		b := r.spare[last]
		r.spare = r.spare[:last]
		if len(b.args) >= n {
			return b
		}
	}
	return buffers[A, R]{make([]wire.Box[A], n), make([]wire.Box[R], n)}
}
